//! What an account's owner does to it, on a device that is stopped meanwhile.

use parlor::account::{LoggingIn, OpenAccount};
use parlor::node::record::Change;
use parlor::opaque::ExportKey;
use parlor_common::id::DeviceId;
use parlor_common::identity::DeviceSecret;
use parlor_common::wire::rendezvous::{Done, LoggedIn, LoginStarted, Request};

use super::World;
use super::visitor::Visitor;
use crate::Stage;
use crate::stage::password_of;

impl World {
    /// Logs in again on the device of `home`.
    fn fresh_login(&mut self, home: &str) -> (Visitor, DeviceSecret, OpenAccount, ExportKey) {
        let device = DeviceSecret::from_seed(&self.device(home).expose_seed());
        let mut visitor = self.visit(device.public());
        let (name, server) = (self.name(home), self.server());
        let password = super::visitor::secret(&password_of(name.as_str()));
        let (logging_in, request) =
            LoggingIn::start(name, server, &password, &mut self.rng).unwrap();
        let started: LoginStarted = self.ask(&mut visitor, &request).unwrap();
        let (request, pending) =
            logging_in.finish(&started, visitor.exporter(), &mut self.rng).unwrap();
        let logged_in: LoggedIn = self.ask(&mut visitor, &request).unwrap();
        let (account, export) = pending.open(logged_in).unwrap();
        (visitor, device, account, export)
    }

    /// `home` takes another home off its account.
    pub fn removes_device(&mut self, home: &str, other: &str) {
        let other = DeviceId::of(&self.device(other).public());
        self.stop(home);
        let (mut visitor, device, account, _) = self.fresh_login(home);
        let date = self.date();
        let (request, devices) = account.remove_device(other, &device, date).unwrap();
        let Done {} = self.ask(&mut visitor, &request).unwrap();
        self.commit(home, Change::PutOwnDevices(Box::new(devices)));
        self.leave(visitor);
        self.start(home);
    }

    /// `home` gives its account a new key.
    pub fn rekeys(&mut self, home: &str) {
        self.stop(home);
        let (mut visitor, device, account, export) = self.fresh_login(home);
        let date = self.date();
        let (request, rekeyed) = account.rekey(&device, &export, date, &mut self.rng).unwrap();
        self.commit(home, Change::PutRekeying(Box::new(rekeyed.devices)));
        let Done {} = self.ask(&mut visitor, &request).unwrap();
        self.commit(home, Change::AdoptRekeying);
        self.leave(visitor);
        self.start(home);
    }

    /// `home` deletes its account.
    pub fn deletes_account(&mut self, home: &str) {
        self.stop(home);
        let (mut visitor, ..) = self.fresh_login(home);
        let Done {} = self.ask(&mut visitor, &Request::AccountDelete {}).unwrap();
        self.leave(visitor);
    }
}
