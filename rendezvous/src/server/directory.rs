//! Who has which devices.

use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{ErrorCode, ErrorReply, Event, User};

use super::accounts::bad_list;
use super::connections::Identity;
use super::output::Asker;
use super::query::{Answer, Query};
use super::reply::{Handled, done, ok, refusal, unavailable};
use super::{After, Server};

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
        let connection = self.connections.get(asker.conn).ok_or_else(unavailable)?;
        let name = connection.fresh_login(now).cloned().ok_or_else(|| {
            refusal(
                ErrorCode::LoginNeeded,
                "log in on this connection first: a login is good for five minutes",
            )
        })?;
        let query = Query::Devices { name: name.clone() };
        self.ask(asker, query, After::DeviceAddCheck { name, devices: Box::new(devices) })
    }

    pub(super) fn device_add_check(
        &mut self,
        asker: Asker,
        name: &Username,
        devices: SignedDeviceList,
        answer: Answer,
    ) -> Handled {
        let Answer::Devices(known) = answer else { return Err(unavailable()) };
        let known = *known.ok_or_else(unknown_user)?;
        let account_key = known.claimed_account_key();
        let known = known.verify(name, &account_key).map_err(|error| {
            tracing::error!(%name, %error, "a stored device list does not verify");
            unavailable()
        })?;
        let devices = next_list(devices, &known, self.device(asker)?)?;
        let after = known.list().hash();
        let query = Query::ReplaceDevices { after, devices: Box::new(devices) };
        let identity = Identity { name: name.clone(), account_key };
        self.ask(asker, query, After::DeviceAddDone(identity))
    }

    pub(super) fn device_added(
        &mut self,
        asker: Asker,
        identity: Identity,
        answer: &Answer,
    ) -> Handled {
        let Answer::Replaced(replaced) = answer else { return Err(unavailable()) };
        if !replaced {
            return Err(bad_list("the device list has changed meanwhile; fetch it and try again"));
        }
        let name = identity.name.clone();
        tracing::info!(%name, "device added");
        for other in self.connections.of_account(&name) {
            if other != asker.conn {
                self.tell(other, &Event::NewDevice {});
            }
        }
        self.sign_in(asker.conn, identity);
        self.announce(name);
        done()
    }
}

/// Checks the list that is to follow `known`: the next version, by the same account key, with this
/// device, and with no other that was not there before, so that nobody claims another's.
fn next_list(
    devices: SignedDeviceList,
    known: &VerifiedDeviceList,
    device: DeviceKey,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let (name, key) = (&known.list().name, &known.list().account_key);
    let devices = devices.verify(name, key).map_err(|error| bad_list(&error.to_string()))?;
    devices.check_follows(known).map_err(|error| bad_list(&error.to_string()))?;
    let list = devices.list();
    let next = known.list().version.checked_add(1) == Some(list.version);
    let chained = list.previous == Some(known.list().hash());
    if !next || !chained {
        return Err(bad_list("the device list does not follow the one in force; fetch that first"));
    }
    let expected = |entry| known.list().devices.contains(entry) || entry.key == device;
    if devices.device(&device).is_none() || !list.devices.iter().all(expected) {
        return Err(bad_list("the device list may add this connection's device and no other"));
    }
    Ok(devices)
}

pub(super) fn unknown_user() -> ErrorReply {
    refusal(ErrorCode::UnknownUser, "nobody has that name here")
}
