//! Who has which devices: looked up by anybody with an account, changed after a fresh login.

use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::{DeviceId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    AccountChange, Devices, ErrorCode, ErrorReply, Event, KnownDevice, MAX_DEVICE_NAME, User,
};

use super::account::changed_meanwhile;
use super::bus::{Audience, Notice};
use super::connections::Identity;
use super::output::Asker;
use super::query::{Answer, ListChange, NamedDevice, Origin, Query};
use super::reply::{Handled, done, malformed, ok, refusal, unavailable};
use super::{After, Server};
use crate::audit::{AuditEvent, Reason};

impl Server {
    pub(super) fn user_get(&mut self, asker: Asker, name: Username) -> Handled {
        self.identity(asker)?;
        self.ask(asker, Query::Devices { name }, After::UserGet)
    }

    pub(super) fn user_got(answer: Answer) -> Handled {
        let Answer::Devices(devices) = answer else { return Err(unavailable()) };
        let devices = devices.ok_or_else(unknown_user)?;
        ok(User { devices: *devices })
    }

    /// Adds this connection's device to the account whose password was just proved here.
    pub(super) fn device_add(
        &mut self,
        asker: Asker,
        devices: SignedDeviceList,
        now: Timestamp,
    ) -> Handled {
        let (name, origin) = (self.fresh_login(asker, now)?, self.origin(asker, now)?);
        let query = Query::Devices { name: name.clone() };
        self.ask(asker, query, After::DeviceAddCheck { name, origin, devices: Box::new(devices) })
    }

    pub(super) fn device_add_check(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        devices: SignedDeviceList,
        answer: Answer,
    ) -> Handled {
        let known = Self::list_in_force(&name, answer)?;
        let account_key = known.list().account_key;
        let device = self.device(asker)?;
        let devices = next_list(devices, &known)?;
        let expected = |entry| known.list().devices.contains(entry) || entry.key == device;
        if devices.device(&device).is_none() || !devices.list().devices.iter().all(expected) {
            return Err(bad_list("the list may add this connection's device and no other"));
        }
        let entry = origin.entry(AuditEvent::DeviceAdded).of(name.clone());
        let entry = entry.because(Reason::Device(DeviceId::of(&device)));
        let change = ListChange { after: known.mark().hash, devices, entry };
        let identity = Identity { name, account_key };
        self.ask(asker, Query::ReplaceDevices(Box::new(change)), After::DeviceAddDone(identity))
    }

    /// Takes devices off the account whose password was just proved here.
    pub(super) fn device_remove(
        &mut self,
        asker: Asker,
        devices: SignedDeviceList,
        now: Timestamp,
    ) -> Handled {
        let (name, origin) = (self.own_fresh_login(asker, now)?, self.origin(asker, now)?);
        let query = Query::Devices { name: name.clone() };
        let devices = Box::new(devices);
        self.ask(asker, query, After::DeviceRemoveCheck { name, origin, devices })
    }

    pub(super) fn device_remove_check(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        devices: SignedDeviceList,
        answer: Answer,
    ) -> Handled {
        let known = Self::list_in_force(&name, answer)?;
        let devices = next_list(devices, &known)?;
        let kept = |entry| known.list().devices.contains(entry);
        if devices.device(&self.device(asker)?).is_none()
            || !devices.list().devices.iter().all(kept)
        {
            return Err(bad_list("the list may take devices off, but not this connection's own"));
        }
        let removed =
            known.list().devices.iter().find(|known| devices.device(&known.key).is_none());
        let removed = removed.ok_or_else(|| bad_list("the list takes no device off"))?;
        let entry = origin.entry(AuditEvent::DeviceRemoved).of(name.clone());
        let entry = entry.because(Reason::Device(removed.id));
        let change = ListChange { after: known.mark().hash, devices, entry };
        self.ask(asker, Query::ReplaceDevices(Box::new(change)), After::DeviceRemoveDone(name))
    }

    pub(super) fn device_removed(
        &mut self,
        asker: Asker,
        name: Username,
        answer: Answer,
    ) -> Handled {
        let Answer::Replaced(replaced) = answer else { return Err(unavailable()) };
        let devices = replaced.ok_or_else(changed_meanwhile)?;
        self.publish(Notice::CutOff { devices, change: AccountChange::DeviceRemoved });
        self.tell_list_changed(asker, name);
        done()
    }

    /// Lets the other devices and the contacts of an account know that its device list has changed.
    pub(super) fn tell_list_changed(&mut self, asker: Asker, name: Username) {
        self.tell_other_devices(asker, name.clone(), Event::NewDevice {});
        self.publish(Notice::DevicesChanged { name });
    }

    pub(super) fn device_list(&mut self, asker: Asker) -> Handled {
        let name = self.name(asker)?;
        self.ask(asker, Query::NamedDevices { name: name.clone() }, After::DeviceList(name))
    }

    pub(super) fn devices_listed(&self, name: &Username, answer: Answer) -> Handled {
        let Answer::NamedDevices(named) = answer else { return Err(unavailable()) };
        let online = self.present.devices(name);
        let known = |NamedDevice { key, name }| KnownDevice {
            device: DeviceId::of(&key),
            name,
            online: online.contains(&key),
        };
        ok(Devices { devices: named.into_iter().map(known).collect() })
    }

    pub(super) fn device_name(&mut self, asker: Asker, device: DeviceId, label: String) -> Handled {
        let name = self.name(asker)?;
        if label.len() > MAX_DEVICE_NAME || label.chars().any(char::is_control) {
            return Err(malformed("a device's name is a line of at most 64 bytes"));
        }
        let query =
            Query::NameDevice { name, device, label: Some(label).filter(|it| !it.is_empty()) };
        self.ask(asker, query, After::DeviceName)
    }

    pub(super) fn device_named(answer: &Answer) -> Handled {
        let Answer::DeviceNamed(named) = answer else { return Err(unavailable()) };
        if !named {
            return Err(refusal(ErrorCode::UnknownDevice, "the account has no such device"));
        }
        done()
    }

    /// An account's list, as the store answered.
    pub(super) fn list_in_force(
        name: &Username,
        answer: Answer,
    ) -> Result<VerifiedDeviceList, ErrorReply> {
        let Answer::Devices(known) = answer else { return Err(unavailable()) };
        let known = *known.ok_or_else(unknown_user)?;
        let account_key = known.claimed_account_key();
        known.verify(name, &account_key).map_err(|error| {
            tracing::error!(%name, %error, "a stored device list does not verify");
            unavailable()
        })
    }

    pub(super) fn device_added(
        &mut self,
        asker: Asker,
        identity: Identity,
        answer: &Answer,
    ) -> Handled {
        let Answer::Replaced(Some(_)) = answer else {
            return Err(not_replaced(answer));
        };
        let name = identity.name.clone();
        self.sign_in(asker.conn, identity);
        self.tell_list_changed(asker, name);
        done()
    }

    /// Lets an account's other devices know of something that this one did.
    pub(super) fn tell_other_devices(&mut self, asker: Asker, name: Username, event: Event) {
        let device = self.connections.get(asker.conn).map(|connection| connection.device);
        let audience = device.map_or(Audience::Everyone, Audience::Others);
        self.publish_event(name, audience, event);
    }
}

/// Checks the list that is to follow `known`: the next version, by the same account key.
fn next_list(
    devices: SignedDeviceList,
    known: &VerifiedDeviceList,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let (name, key) = (&known.list().name, &known.list().account_key);
    let devices = devices.verify(name, key).map_err(|error| bad_list(&error.to_string()))?;
    devices.check_follows(known).map_err(|error| bad_list(&error.to_string()))?;
    check_is_next(&devices, known)?;
    if devices.cosigner().is_some_and(|key| known.device(&key).is_none()) {
        return Err(bad_list(
            "a device list is cosigned by a device of the list before, or by none",
        ));
    }
    Ok(devices)
}

/// Checks that a list is of the next version after the one in force, and names it.
pub(super) fn check_is_next(
    devices: &VerifiedDeviceList,
    known: &VerifiedDeviceList,
) -> Result<(), ErrorReply> {
    let (list, known) = (devices.list(), known.mark());
    let next = known.version.checked_add(1) == Some(list.version);
    if next && list.previous == Some(known.hash) {
        return Ok(());
    }
    Err(bad_list("the device list does not follow the one in force; fetch that first"))
}

/// Why a list was not put in force.
pub(super) fn not_replaced(answer: &Answer) -> ErrorReply {
    let settled = matches!(answer, Answer::Replaced(_));
    if settled { changed_meanwhile() } else { unavailable() }
}

pub(super) fn bad_list(message: &str) -> ErrorReply {
    refusal(ErrorCode::BadDeviceList, message)
}

pub(super) fn unknown_user() -> ErrorReply {
    refusal(ErrorCode::UnknownUser, "nobody has that name here")
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, Presence, Present, Request};

    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, secret, verified,
    };
    use super::super::{CloseReason, ConnId};
    use super::*;

    /// Alice with device 1, and device 2 with a fresh login.
    fn logged_in() -> (World, ConnId) {
        let mut world = World::new();
        world.register("alice", 1);
        let new = world.connect(2);
        world.login(new, "alice", PASSWORD).unwrap();
        (world, new)
    }

    #[test]
    fn a_new_list_must_follow_and_add_this_device_only() {
        let (mut world, new) = logged_in();
        world.register("bob", 4);
        let first = verified("alice", first_list("alice", 1));
        let sign =
            |list: parlor_common::device_list::DeviceList| list.sign(&account("alice"), None);
        let good = first.with_device(entry(2), world.now);
        let mut skipping = good.clone();
        skipping.version = 3;
        let mut unchained = good.clone();
        unchained.previous = Some(good.hash());
        let mut with_another = good.clone();
        with_another.devices.push(entry(3));
        let refused = [
            sign(first.list().clone()),
            sign(first.with_device(entry(3), world.now)),
            sign(skipping),
            sign(unchained),
            sign(with_another),
            good.clone().sign(&account("mallory"), None),
        ];
        for devices in refused {
            let code = world.refused(new, &Request::DeviceAdd { devices });
            assert_eq!(code, ErrorCode::BadDeviceList);
        }
        world.call::<Done>(new, &Request::DeviceAdd { devices: sign(good.clone()) });
        // The same again does not follow what is in force now.
        let again = world.refused(new, &Request::DeviceAdd { devices: sign(good) });
        assert_eq!(again, ErrorCode::BadDeviceList);
    }

    #[test]
    fn of_two_lists_that_follow_the_same_one_only_the_first_is_taken() {
        let (mut world, new) = logged_in();
        let other = world.connect(3);
        world.login(other, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let add = |device: u8| {
            let devices = first.with_device(entry(device), first.list().at);
            let request = Request::DeviceAdd { devices: devices.sign(&account("alice"), None) };
            serde_json::to_vec(&request).unwrap()
        };
        // Both are judged by the same list before either is stored.
        let (one, two) = (world.send(new, &add(2)), world.send(other, &add(3)));
        world.settle();
        assert_eq!(world.reply::<Done>(new, one), Ok(Done {}));
        let refused = world.reply::<Done>(other, two).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadDeviceList);
    }

    #[test]
    fn a_device_that_belongs_to_somebody_else_is_not_added() {
        let (mut world, _) = logged_in();
        let bob = world.register("bob", 4);
        world.login(bob, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let devices = first.with_device(entry(4), world.now).sign(&account("alice"), None);
        let refused = world.refused(bob, &Request::DeviceAdd { devices });
        assert_eq!(refused, ErrorCode::BadDeviceList);
    }

    #[test]
    fn contacts_hear_of_a_new_list() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Present>(bob, &Request::PresenceWatch {});
        let new = world.connect(3);
        world.login(new, "alice", PASSWORD).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let next = first.with_device(entry(3), world.now);
        let devices = next.sign(&account("alice"), Some(&secret(1)));
        world.call::<Done>(new, &Request::DeviceAdd { devices });
        let presence = Presence { name: name("alice"), online: true, list_version: 2 };
        assert_eq!(world.events(bob), [Event::Presence(presence)]);
        assert_eq!(world.events(alice), [Event::NewDevice {}]);
    }

    #[test]
    fn strangers_look_nobody_up_and_unknown_names_are_told_to_the_others() {
        let mut world = World::new();
        let stranger = world.connect(1);
        let look_up = Request::UserGet { name: name("ghost") };
        assert_eq!(world.refused(stranger, &look_up), ErrorCode::UnknownDevice);
        let alice = world.register("alice", 2);
        assert_eq!(world.refused(alice, &look_up), ErrorCode::UnknownUser);
    }

    /// Alice with devices 1 and 3, both connected.
    fn two_devices(world: &mut World) -> (ConnId, ConnId) {
        let first = world.register("alice", 1);
        let second = world.connect(3);
        world.login(second, "alice", PASSWORD).unwrap();
        let devices = verified("alice", first_list("alice", 1)).with_device(entry(3), world.now);
        let devices = devices.sign(&account("alice"), Some(&secret(1)));
        world.call::<Done>(second, &Request::DeviceAdd { devices });
        world.events(first);
        world.events(second);
        (first, second)
    }

    fn without(world: &mut World, conn: ConnId, device: u8) -> Request {
        let user: User = world.call(conn, &Request::UserGet { name: name("alice") });
        let known = verified("alice", user.devices);
        let next = known.without(&[DeviceId::of(&secret(device).public())], world.now);
        Request::DeviceRemove { devices: next.sign(&account("alice"), Some(&secret(1))) }
    }

    #[test]
    fn a_removed_device_is_cut_off_at_once_and_stays_out() {
        let mut world = World::new();
        let (first, second) = two_devices(&mut world);
        let remove = without(&mut world, first, 3);
        assert_eq!(world.refused(first, &remove), ErrorCode::LoginNeeded);
        world.login(first, "alice", PASSWORD).unwrap();
        world.call::<Done>(first, &remove);
        let change = AccountChange::DeviceRemoved;
        assert_eq!(world.events(second), [Event::AccountChanged { change }]);
        assert_eq!(world.closed(second), Some(CloseReason::CutOff));
        let second = world.connect(3);
        assert_eq!(world.refused(second, &Request::ContactList {}), ErrorCode::UnknownDevice);
        assert_eq!(world.audited("device_removed"), 1);
        // What it sends after that is answered like a stranger's, and another account may have it.
        world.try_register(second, "carol", first_list("carol", 3)).unwrap();
    }

    #[test]
    fn a_list_that_removes_keeps_this_device_and_adds_none() {
        let mut world = World::new();
        let (first, second) = two_devices(&mut world);
        world.login(first, "alice", PASSWORD).unwrap();
        let own = without(&mut world, first, 1);
        assert_eq!(world.refused(first, &own), ErrorCode::BadDeviceList);
        let nothing = without(&mut world, first, 9);
        assert_eq!(world.refused(first, &nothing), ErrorCode::BadDeviceList);
        let user: User = world.call(first, &Request::UserGet { name: name("alice") });
        let mut swapped = verified("alice", user.devices).without(&[], world.now);
        swapped.devices.pop();
        swapped.devices.push(entry(9));
        let devices = swapped.sign(&account("alice"), Some(&secret(1)));
        let refused = world.refused(first, &Request::DeviceRemove { devices });
        assert_eq!(refused, ErrorCode::BadDeviceList);
        assert_eq!(world.closed(second), None);
    }

    #[test]
    fn devices_have_names_for_their_owner() {
        let mut world = World::new();
        let (first, second) = two_devices(&mut world);
        let device = DeviceId::of(&secret(3).public());
        let call = |name: &str| Request::DeviceName { device, name: name.to_owned() };
        world.call::<Done>(first, &call("the laptop"));
        world.disconnect(second);
        let Devices { devices } = world.call(first, &Request::DeviceList {});
        let named: Vec<_> = devices
            .iter()
            .map(|known| (known.device == device, known.name.as_deref(), known.online))
            .collect();
        assert!(named.contains(&(true, Some("the laptop"), false)), "{named:?}");
        assert!(named.contains(&(false, None, true)), "{named:?}");
        world.call::<Done>(first, &call(""));
        let Devices { devices } = world.call(first, &Request::DeviceList {});
        assert!(devices.iter().all(|known| known.name.is_none()));
        for bad in ["a\nb", &"x".repeat(65)] {
            assert_eq!(world.refused(first, &call(bad)), ErrorCode::Malformed);
        }
        let bob = world.register("bob", 2);
        assert_eq!(world.refused(bob, &call("mine")), ErrorCode::UnknownDevice);
    }
}
