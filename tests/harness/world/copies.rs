//! Copies of profiles: put back in place of the original, or in a thief's hands.

use parlor::crypto::agreement::{LocalParty, Party, accept};
use parlor::crypto::prekey::LocalPrekeys;
use parlor::crypto::session::Session;
use parlor::node::record::Start;
use parlor::store::Store;
use parlor_common::envelope::Envelope;
use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{PrekeyBundle, PrekeyUse};
use parlor_common::time::Timestamp;

use super::World;

/// What somebody has who copied a profile's folder, and its key with it.
pub struct Copy {
    store: Store,
}

impl World {
    /// Copies a peer's profile as it is now.
    pub fn copy(&self, home: &str) -> Copy {
        Copy { store: self.peer(home).store().copy_in_memory().unwrap() }
    }

    /// Puts a copy in the place of a peer's profile, and starts it.
    pub fn restore(&mut self, home: &str, copy: &Copy) {
        if self.is_up(home) {
            self.kill(home);
        }
        let id = self.id(home);
        self.peers[id.0].put_back(copy.store.copy_in_memory().unwrap());
        self.boot(id);
    }

    /// Starts a copy of a peer's profile beside the original, under another home.
    pub fn restore_beside(&mut self, home: &str, copy: &Copy, other: &str) {
        let identity = self.peer(home).store().reader().identity().unwrap();
        self.move_in(other, identity);
        self.restore(other, copy);
    }
}

impl Copy {
    /// The profile.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The bundle that the device gave when the copy was taken, without a one-time pair.
    pub fn bundle(&self, device: &DeviceSecret) -> PrekeyBundle {
        let start = self.store.copy_in_memory().unwrap().load().unwrap();
        let pairs = start.prekeys.iter().map(|(_, stored)| LocalPrekeys::decode(stored).unwrap());
        let newest = pairs.filter(|pair| pair.used == PrekeyUse::Signed);
        let signed = newest.max_by_key(|pair| pair.made_at).unwrap().sign(device);
        PrekeyBundle { device: device.public(), signed, one_time: None }
    }

    /// Whether the keys in the copy open an envelope: those of its sessions, and of the sessions
    /// that its prekeys accept.
    pub fn opens(&self, envelope: &Envelope, date: Timestamp) -> bool {
        let start = self.store.copy_in_memory().unwrap().load().unwrap();
        let mut sessions =
            start.sessions.iter().map(|stored| Session::decode(&stored.state).unwrap());
        let by_session = sessions.any(|mut session| session.open_at_once(envelope, date).is_ok());
        by_session || opens_by_prekeys(start, envelope, date)
    }
}

fn opens_by_prekeys(start: Start, envelope: &Envelope, date: Timestamp) -> bool {
    let Some(first) = &envelope.header().first else { return false };
    let decoded = |id: u32| {
        let found = start.prekeys.iter().find(|(known, _)| *known == id);
        found.map(|(_, stored)| LocalPrekeys::decode(stored).unwrap())
    };
    let Some(signed) = decoded(first.signed_prekey) else { return false };
    let one_time = match first.one_time_prekey.map(decoded) {
        Some(None) => return false,
        found => found.flatten(),
    };
    let identity = start.identity;
    let devices = identity.devices.verify(&identity.name, &identity.account_key).unwrap();
    let device = devices.device(&identity.device.public()).unwrap().clone();
    let party = Party { name: identity.name, account_key: identity.account_key, device };
    let us = LocalParty { party, dh: identity.dh };
    let accepted = accept(&us, &signed, one_time.as_ref(), envelope.header());
    accepted.is_ok_and(|mut accepted| accepted.session.open_at_once(envelope, date).is_ok())
}
