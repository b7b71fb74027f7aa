//! A rendezvous that shows people other device lists, or other prekeys, than there are.

use std::collections::BTreeMap;

use parlor::account::LoggingIn;
use parlor::crypto::group::KeyPair;
use parlor::node::record::Identity;
use parlor::opaque::{Parties, Registration};
use parlor_common::Blob;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::PrekeyBundle;
use parlor_common::wire::rendezvous::{
    self, Done, LoggedIn, LoginStarted, RegisterStarted, Request,
};
use serde_json::Value;

use super::World;
use super::peer::PeerId;
use crate::stage::password_of;

/// What is shown to whom in place of somebody's device list or prekeys.
#[derive(Default)]
pub(super) struct Lies {
    lists: BTreeMap<(PeerId, String), Value>,
    /// Whose prekeys are replaced, and by which bundle.
    bundles: BTreeMap<PeerId, Value>,
}

impl Lies {
    /// What a peer is told in place of a reply or an event.
    pub(super) fn tell(&self, to: PeerId, payload: Vec<u8>) -> Vec<u8> {
        let mine: Vec<_> = self.lists.iter().filter(|((peer, _), _)| *peer == to).collect();
        if mine.is_empty() && !self.bundles.contains_key(&to) {
            return payload;
        }
        let mut json: Value = serde_json::from_slice(&payload).unwrap();
        for ((_, name), list) in mine {
            show_presence(&mut json, name, list);
            show_devices(&mut json, name, list);
        }
        if let (Some(bundle), true) = (self.bundles.get(&to), json["ok"]["bundles"].is_array()) {
            json["ok"]["bundles"] = Value::Array(vec![bundle.clone()]);
        }
        serde_json::to_vec(&json).unwrap()
    }
}

/// Presence, in a reply or in an event, names the version of the list that is shown.
fn show_presence(json: &mut Value, name: &str, list: &Value) {
    let version = list["list"]["version"].clone();
    let contacts = json.pointer_mut("/ok/contacts").and_then(Value::as_array_mut);
    for presence in contacts.into_iter().flatten() {
        if presence["name"] == name && presence.get("list_version").is_some() {
            presence["list_version"] = version.clone();
        }
    }
    if json["event"] == "presence" && json["name"] == name {
        json["list_version"] = version;
    }
}

/// The reply to a look-up.
fn show_devices(json: &mut Value, name: &str, list: &Value) {
    if json.pointer("/ok/devices/list/name").is_some_and(|found| found == name) {
        json["ok"]["devices"] = list.clone();
    }
}

impl World {
    /// From now on, whenever `home` asks about the account that this list names, the rendezvous
    /// shows this list.
    pub fn serves_instead(&mut self, home: &str, list: &SignedDeviceList) {
        let (id, list) = (self.id(home), serde_json::to_value(list).unwrap());
        let name = list["list"]["name"].as_str().unwrap().to_owned();
        self.server.lies.lists.insert((id, name), list);
    }

    /// From now on, whenever `home` asks for anybody's prekeys, the rendezvous serves this bundle.
    pub fn serves_prekeys(&mut self, home: &str, bundle: &PrekeyBundle) {
        let (id, bundle) = (self.id(home), serde_json::to_value(bundle).unwrap());
        self.server.lies.bundles.insert(id, bundle);
    }

    /// From now on the rendezvous is honest.
    pub fn serves_the_truth(&mut self) {
        self.server.lies.lists.clear();
        self.server.lies.bundles.clear();
    }

    /// The list that an account has by what one of its peers has stored.
    pub fn own_list(&self, home: &str) -> SignedDeviceList {
        self.store(home).reader().identity().unwrap().devices
    }

    /// The next list of an account as somebody makes it who has the password and no device of it: it
    /// adds a device by password alone, and nobody has published it.
    pub fn ghost_list(&mut self, name: &str) -> SignedDeviceList {
        let device = self.new_device();
        let mut visitor = self.visit(device.key().public());
        let (account, server) = (name.parse().unwrap(), self.server());
        let password = super::visitor::secret(&password_of(name));
        let (logging_in, request) =
            LoggingIn::start(account, server, &password, &mut self.rng).unwrap();
        let started: LoginStarted = self.ask(&mut visitor, &request).unwrap();
        let (request, pending) =
            logging_in.finish(&started, visitor.exporter(), &mut self.rng).unwrap();
        let logged_in: LoggedIn = self.ask(&mut visitor, &request).unwrap();
        let date = self.date();
        let (account, _) = pending.open(logged_in).unwrap();
        let (request, _) = account.add_device(device, date).unwrap();
        self.leave(visitor);
        let Request::DeviceAdd { devices } = request else { panic!("it adds a device") };
        devices
    }
}

impl World {
    /// Registers an account whose account key the story holds, as nobody should, with one device
    /// that becomes a running peer called like it.
    pub fn register_with_key(&mut self, name: &str, account: &AccountSecret) {
        let device = self.new_device();
        let device = DeviceSecret::from_seed(&device.key().expose_seed());
        let mut visitor = self.visit(device.public());
        let (server, date, password) = (self.server(), self.date(), password_of(name));
        let name: Username = name.parse().unwrap();
        let (opaque, message) = Registration::start(password.as_bytes(), &mut self.rng).unwrap();
        let request =
            Request::RegisterStart { name: name.clone(), message: Blob(message), ticket: None };
        let started: RegisterStarted = self.ask(&mut visitor, &request).unwrap();
        let parties = Parties { name: &name, server: &server.key.unwrap() };
        let (message, argon2) = (&started.message.0, started.argon2);
        let (upload, _) = opaque.finish(message, parties, argon2, &mut self.rng).unwrap();
        let dh = KeyPair::generate(&mut self.rng);
        let entry = DeviceEntry::new(device.public(), dh.public().to_bytes(), date);
        let list = DeviceList::first(name.clone(), account.public(), entry, date);
        let devices = list.sign(account, None);
        let request = Request::RegisterFinish(Box::new(rendezvous::Registration {
            upload: Blob(upload),
            devices: devices.clone(),
            account_box: Blob(vec![1; 80]),
            recovery_box: Blob(vec![1; 80]),
        }));
        let Done {} = self.ask(&mut visitor, &request).unwrap();
        self.leave(visitor);
        let (home, account_key) = (name.to_string(), account.public());
        self.move_in(&home, Identity { name, server, account_key, devices, device, dh });
    }
}
