//! An earlier device vouches for the newest list of its account, after the fact.

use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::ErrorReply;

use super::devices::{bad_list, not_replaced};
use super::output::Asker;
use super::query::{Answer, ListChange, Origin, Query};
use super::reply::{Handled, done};
use super::{After, Server};
use crate::audit::AuditEvent;

impl Server {
    /// Takes the list in force with the signature of this connection's device.
    pub(super) fn device_cosign(
        &mut self,
        asker: Asker,
        devices: SignedDeviceList,
        now: Timestamp,
    ) -> Handled {
        let (name, origin) = (self.name(asker)?, self.origin(asker, now)?);
        let query = Query::Devices { name: name.clone() };
        let devices = Box::new(devices);
        self.ask(asker, query, After::DeviceCosignCheck { name, origin, devices })
    }

    pub(super) fn device_cosign_check(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        devices: SignedDeviceList,
        answer: Answer,
    ) -> Handled {
        let known = Self::list_in_force(&name, answer)?;
        let devices = cosigned_list(devices, &known, self.device(asker)?)?;
        // The same list follows itself: another that came between is not overwritten.
        let entry = origin.entry(AuditEvent::DeviceConfirmed).of(name.clone());
        let change = ListChange { after: known.mark().hash, devices, entry };
        self.ask(asker, Query::ReplaceDevices(Box::new(change)), After::DeviceCosignDone(name))
    }

    pub(super) fn device_cosigned(
        &mut self,
        asker: Asker,
        name: Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::Replaced(Some(_)) = answer else { return Err(not_replaced(answer)) };
        self.tell_list_changed(asker, name);
        done()
    }
}

/// Checks that `devices` is the list in force with its first cosignature: by the asking device,
/// which must have been there before the newest one.
fn cosigned_list(
    devices: SignedDeviceList,
    known: &VerifiedDeviceList,
    device: DeviceKey,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let (name, key) = (&known.list().name, &known.list().account_key);
    let devices = devices.verify(name, key).map_err(|error| bad_list(&error.to_string()))?;
    if devices.mark() != known.mark() {
        return Err(bad_list("this is not the device list in force; fetch that first"));
    }
    if known.cosigner().is_some() {
        return Err(bad_list("an earlier device has signed this list already"));
    }
    let newest = known.newest().is_some_and(|newest| newest.key == device);
    if newest || known.device(&device).is_none() || devices.cosigner() != Some(device) {
        return Err(bad_list("a list is signed by an earlier device than its newest, for itself"));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{
        Done, ErrorCode, Event, Presence, Present, Request, User,
    };

    use super::super::ConnId;
    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, secret, verified,
    };
    use super::*;

    /// Alice's second device joins by password alone; its list.
    fn join(world: &mut World) -> (ConnId, VerifiedDeviceList) {
        let new = world.connect(3);
        world.login(new, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let devices = first.with_device(entry(3), world.now).sign(&account("alice"), None);
        world.call::<Done>(new, &Request::DeviceAdd { devices: devices.clone() });
        (new, verified("alice", devices))
    }

    fn cosign(list: &VerifiedDeviceList, device: u8) -> Request {
        Request::DeviceCosign { devices: list.cosigned(&secret(device)).signed().clone() }
    }

    #[test]
    fn an_earlier_device_signs_and_everybody_hears() {
        let (mut world, alice, bob) = World::friends();
        let (new, list) = join(&mut world);
        world.call::<Present>(bob, &Request::PresenceWatch {});
        for conn in [alice, bob, new] {
            world.events(conn);
        }
        world.call::<Done>(alice, &cosign(&list, 1));
        let presence = Presence { name: name("alice"), online: true, list_version: 2 };
        assert_eq!(world.events(bob), [Event::Presence(presence)]);
        assert_eq!(world.events(new), [Event::NewDevice {}]);
        assert_eq!(world.events(alice), []);
        let user: User = world.call(bob, &Request::UserGet { name: name("alice") });
        assert_eq!(user.devices, *list.cosigned(&secret(1)).signed());
        assert_eq!(world.refused(alice, &cosign(&list, 1)), ErrorCode::BadDeviceList, "once");
    }

    #[test]
    fn nobody_else_signs_and_nothing_else_is_taken() {
        let (mut world, alice, bob) = World::friends();
        let (new, list) = join(&mut world);
        let first = verified("alice", first_list("alice", 1));
        let other =
            verified("alice", first.with_device(entry(4), world.now).sign(&account("alice"), None));
        let plain = Request::DeviceCosign { devices: list.signed().clone() };
        for (conn, request) in [
            (new, cosign(&list, 3)),
            (new, cosign(&list, 1)),
            (bob, cosign(&list, 2)),
            (alice, cosign(&list, 3)),
            (alice, cosign(&first, 1)),
            (alice, cosign(&other, 1)),
            (alice, plain),
        ] {
            assert_eq!(world.refused(conn, &request), ErrorCode::BadDeviceList);
        }
        let stranger = world.connect(9);
        assert_eq!(world.refused(stranger, &cosign(&list, 1)), ErrorCode::UnknownDevice);
        world.call::<Done>(alice, &cosign(&list, 1));
    }

    #[test]
    fn a_first_device_has_nobody_to_sign_for() {
        let (mut world, alice, _) = World::friends();
        let first = verified("alice", first_list("alice", 1));
        assert_eq!(world.refused(alice, &cosign(&first, 1)), ErrorCode::BadDeviceList);
    }

    #[test]
    fn a_new_list_bears_no_strangers_cosignature() {
        let mut world = World::new();
        world.register("alice", 1);
        let new = world.connect(3);
        world.login(new, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        for cosigner in [3, 8] {
            let list = first.with_device(entry(3), world.now);
            let devices = list.sign(&account("alice"), Some(&secret(cosigner)));
            let refused = world.refused(new, &Request::DeviceAdd { devices });
            assert_eq!(refused, ErrorCode::BadDeviceList);
        }
    }
}
