//! What changes an account: a new password, a new key, its end. Each needs a fresh login on the
//! connection that asks, and is told to the account's other devices.

use parlor_common::Blob;
use parlor_common::device_list::{SignedDeviceList, VerifiedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    AccountChange, Argon2Params, ErrorReply, Event, RegisterStarted, Rekeying,
};
use rand::CryptoRng;

use super::bus::Notice;
use super::connections::Identity;
use super::devices::bad_list;
use super::exchange::{Exchange, bad_opaque, no_exchange};
use super::output::Asker;
use super::query::{Answer, Deleted, Origin, PasswordChange, Query, Rekey};
use super::registration::check_box;
use super::reply::{Handled, done, ok, unavailable, unknown_device};
use super::{After, Server};
use crate::audit::AuditEvent;
use crate::opaque::{CredentialId, finish_registration};

impl Server {
    /// First flight of a new password: under a new credential identifier, so that nothing of the
    /// old record helps against the new.
    pub(super) fn password_start(
        &mut self,
        asker: Asker,
        message: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        let name = self.fresh_login(asker, now)?;
        let credential = CredentialId::draw(rng);
        let started = self.params.opaque.start_registration(message, &credential);
        let message = started.map_err(|_| bad_opaque())?.into();
        self.begin(asker, Exchange::Password { name, credential });
        ok(RegisterStarted { message, argon2: Argon2Params::DEFAULT })
    }

    /// Last flight of a new password.
    pub(super) fn password_finish(
        &mut self,
        asker: Asker,
        upload: &[u8],
        account_box: Blob,
        now: Timestamp,
    ) -> Handled {
        let Some(Exchange::Password { name, credential }) = self.take_exchange(asker) else {
            return Err(no_exchange("password.start"));
        };
        if self.fresh_login(asker, now)? != name {
            return Err(no_exchange("password.start"));
        }
        check_box(&account_box)?;
        let record = finish_registration(upload).map_err(|_| bad_opaque())?;
        let (argon2, origin) = (Argon2Params::DEFAULT, self.origin(asker, now)?);
        let change =
            PasswordChange { name: name.clone(), credential, record, argon2, account_box, origin };
        self.ask(asker, Query::ChangePassword(Box::new(change)), After::PasswordFinish { name })
    }

    pub(super) fn password_changed(
        &mut self,
        asker: Asker,
        name: Username,
        answer: &Answer,
    ) -> Handled {
        let Answer::PasswordChanged(changed) = answer else { return Err(unavailable()) };
        if !changed {
            return Err(unknown_device());
        }
        let change = AccountChange::Password;
        self.tell_other_devices(asker, name, Event::AccountChanged { change });
        done()
    }

    /// The account that this connection speaks for and has just logged in to.
    pub(super) fn own_fresh_login(
        &self,
        asker: Asker,
        now: Timestamp,
    ) -> Result<Username, ErrorReply> {
        let name = self.fresh_login(asker, now)?;
        if self.identity(asker)?.name == name { Ok(name) } else { Err(unknown_device()) }
    }

    /// A new account key.
    pub(super) fn account_rekey(
        &mut self,
        asker: Asker,
        rekeying: Rekeying,
        now: Timestamp,
    ) -> Handled {
        let name = self.own_fresh_login(asker, now)?;
        check_box(&rekeying.account_box)?;
        check_box(&rekeying.recovery_box)?;
        let query = Query::Devices { name: name.clone() };
        let origin = self.origin(asker, now)?;
        self.ask(asker, query, After::RekeyCheck { name, origin, rekeying: Box::new(rekeying) })
    }

    pub(super) fn rekey_check(
        &mut self,
        asker: Asker,
        (name, origin): (Username, Origin),
        rekeying: Rekeying,
        answer: Answer,
    ) -> Handled {
        let known = Self::list_in_force(&name, answer)?;
        let Rekeying { devices, account_box, recovery_box } = rekeying;
        let devices = rekeyed_list(devices, &known, self.device(asker)?)?;
        let identity = Identity { name, account_key: devices.list().account_key };
        let after = known.mark().hash;
        let rekey = Rekey { after, devices, account_box, recovery_box, origin };
        self.ask(asker, Query::Rekey(Box::new(rekey)), After::RekeyDone(identity))
    }

    pub(super) fn rekeyed(&mut self, asker: Asker, identity: Identity, answer: Answer) -> Handled {
        let Answer::Replaced(replaced) = answer else { return Err(unavailable()) };
        let devices = replaced.ok_or_else(changed_meanwhile)?;
        self.publish(Notice::CutOff { devices, change: AccountChange::Rekeyed });
        let name = identity.name.clone();
        self.sign_in(asker.conn, identity);
        self.publish(Notice::DevicesChanged { name });
        done()
    }

    /// The end of an account.
    pub(super) fn account_delete(&mut self, asker: Asker, now: Timestamp) -> Handled {
        let name = self.own_fresh_login(asker, now)?;
        let entry = self.origin(asker, now)?.entry(AuditEvent::AccountDeleted).of(name.clone());
        let query = Query::DeleteAccount { name: name.clone(), entry: Box::new(entry) };
        self.ask(asker, query, After::Deleted(name))
    }

    pub(super) fn account_deleted(
        &mut self,
        asker: Asker,
        name: &Username,
        answer: Answer,
    ) -> Handled {
        let Answer::Deleted(deleted) = answer else { return Err(unavailable()) };
        let mut deleted = deleted.ok_or_else(unknown_device)?;
        // The asking device hears it by the reply.
        let device = self.device(asker)?;
        deleted.devices.retain(|key| *key != device);
        self.sign_out(asker.conn);
        self.tell_deleted(name, *deleted);
        done()
    }

    /// Cuts a deleted account's devices off, and shows it to its contacts as gone.
    pub(super) fn tell_deleted(&mut self, name: &Username, deleted: Deleted) {
        let Deleted { devices, mutual } = deleted;
        self.publish(Notice::CutOff { devices, change: AccountChange::Deleted });
        for contact in mutual.contacts {
            self.tell_gone(&contact.name, name, mutual.list_version);
        }
    }
}

pub(super) fn changed_meanwhile() -> ErrorReply {
    bad_list("the device list has changed meanwhile; fetch it and try again")
}

/// Checks the first list under a new key: it follows the one in force, is signed by another key
/// than that, and has this connection's device alone.
fn rekeyed_list(
    devices: SignedDeviceList,
    known: &VerifiedDeviceList,
    device: DeviceKey,
) -> Result<VerifiedDeviceList, ErrorReply> {
    let key = devices.claimed_account_key();
    if key == known.list().account_key {
        return Err(bad_list("a new account key is another than the one before"));
    }
    let devices = devices
        .verify(&known.list().name, &key)
        .map_err(|error| bad_list(&error.to_string()))?;
    let list = devices.list();
    let next = known.list().version.checked_add(1) == Some(list.version);
    if !next || list.previous != Some(known.list().hash()) {
        return Err(bad_list("the device list does not follow the one in force; fetch that first"));
    }
    let alone = list.devices.iter().all(|entry| entry.key == device);
    if known.device(&device).is_none() || !alone {
        return Err(bad_list("the first list under a new key has this connection's device alone"));
    }
    Ok(devices)
}
