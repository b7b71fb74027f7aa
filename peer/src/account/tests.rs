//! The steps, with a rendezvous that is only OPAQUE.

use parlor_common::Blob;
use parlor_common::device_list::{DeviceList, VerifiedDeviceList};
use parlor_common::link::Link;
use parlor_common::prekey::DhPublicBytes;
use parlor_common::recovery;
use parlor_common::wire::rendezvous::{
    self, Argon2Params, LoggedIn, LoginStarted, RecoveryStarted, RegisterStarted, Request,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::sealed::Opener;
use super::*;
use crate::opaque::ExportKey;
use crate::opaque::server::Server;

const EXPORTER: [u8; 32] = [4; 32];
const NOW: Timestamp = Timestamp::from_millis(2000);

fn place() -> Place {
    let server: Link = format!("parlor://{}@[::1]:4433", "A".repeat(43)).parse().unwrap();
    Place::new("alice".parse().unwrap(), server.server).unwrap()
}

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

/// A rendezvous that has alice's account.
struct World {
    rng: StdRng,
    server: Server,
    registration: rendezvous::Registration,
    account: NewAccount,
}

fn registered() -> World {
    let mut rng = StdRng::seed_from_u64(1);
    let mut server = Server::new(&mut rng);
    let device = NewDevice::generate(&mut rng);
    let Place { name, server: address, .. } = place();
    let (registering, request) =
        Registering::start(name, address, device, &password("sesame"), &mut rng).unwrap();
    let Request::RegisterStart { message, .. } = request else { panic!() };
    let message = Blob(server.start_registration(&message.0));
    let started = RegisterStarted { message, argon2: Server::ARGON2 };
    let now = Timestamp::from_millis(1000);
    let (request, account) = registering.finish(&started, now, &mut rng).unwrap();
    let Request::RegisterFinish(registration) = request else { panic!() };
    server.finish_registration(&registration.upload.0);
    World { rng, server, registration: *registration, account }
}

impl World {
    fn try_login(
        &mut self,
        with: &str,
        argon2: Argon2Params,
    ) -> Result<(Pending, bool), AccountError> {
        let Place { name, server, .. } = place();
        let (logging_in, request) = LoggingIn::start(name, server, &password(with), &mut self.rng)?;
        let Request::LoginStart { message, .. } = request else { panic!() };
        let place = place();
        let (reply, judge) =
            self.server.start_login(&message.0, place.parties(), &EXPORTER, &mut self.rng);
        let started = LoginStarted { message: Blob(reply), argon2 };
        let (request, pending) = logging_in.finish(&started, &EXPORTER, &mut self.rng)?;
        let Request::LoginFinish { message } = request else { panic!() };
        Ok((pending, judge(&message.0)))
    }

    fn log_in(&mut self, with: &str) -> (OpenAccount, ExportKey) {
        let (pending, accepted) = self.try_login(with, Server::ARGON2).unwrap();
        assert!(accepted);
        pending.open(self.logged_in(self.registration.devices.clone())).unwrap()
    }

    fn logged_in(&self, devices: SignedDeviceList) -> LoggedIn {
        LoggedIn { account_box: self.registration.account_box.clone(), devices }
    }

    fn recover(&self, code: &RecoveryCode) -> Result<(Request, Recovered), AccountError> {
        let Place { name, server, .. } = place();
        let (recovering, request) = Recovering::start(name.clone(), server)?;
        assert_eq!(request, Request::RecoveryStart { name });
        let recovery_box = self.registration.recovery_box.clone();
        recovering.prove(&RecoveryStarted { recovery_box }, code, &EXPORTER)
    }
}

fn verified(devices: SignedDeviceList) -> VerifiedDeviceList {
    let key = devices.claimed_account_key();
    devices.verify(&place().name, &key).unwrap()
}

#[test]
fn who_registers_can_log_in_on_a_second_device() {
    let mut world = registered();
    let first = &world.account.identity;
    let list = world.registration.devices.clone();
    assert_eq!(first.devices, list);
    let known = list.verify(&place().name, &first.account_key).unwrap();
    assert_eq!(known.newest().unwrap().key, first.device.public());
    assert_eq!(known.newest().unwrap().dh, first.dh.public().to_bytes());

    let (account, _) = world.log_in("sesame");
    let device = NewDevice::generate(&mut world.rng);
    let (request, second) = account.add_device(device, NOW).unwrap();
    let Request::DeviceAdd { devices } = request else { panic!() };
    assert_eq!(second.devices, devices);
    let next = devices.verify(&place().name, &second.account_key).unwrap();
    assert_eq!(next.check_follows(&known), Ok(()));
    assert_eq!((next.list().version, next.list().devices.len()), (2, 2));
    assert_eq!(next.newest().unwrap().key, second.device.public());
    assert_eq!(second.account_key, world.account.identity.account_key);

    let refused = world.try_login("Sesame", Server::ARGON2).unwrap_err();
    assert_eq!(refused, AccountError::Opaque(OpaqueError::WrongPassword));
}

#[test]
fn the_recovery_code_opens_the_account_and_a_new_password_follows() {
    let mut world = registered();
    let (request, recovered) = world.recover(&world.account.recovery_code).unwrap();
    let Request::RecoveryFinish { proof } = request else { panic!() };
    let key = world.account.identity.account_key;
    assert!(recovery::check(&key, &place().name, &EXPORTER, &proof).is_ok());

    let account = recovered.open(world.logged_in(world.registration.devices.clone())).unwrap();
    let account = change_password(&mut world, account, "tulip");
    let device = NewDevice::generate(&mut world.rng);
    assert_eq!(account.add_device(device, NOW).unwrap().1.account_key, key);
    world.log_in("tulip");
}

/// Gives the account a new password, which counts from then on.
fn change_password(world: &mut World, account: OpenAccount, to: &str) -> OpenAccount {
    let (changing, request) = account.change_password(&password(to), &mut world.rng).unwrap();
    let Request::PasswordStart { message } = request else { panic!() };
    let message = Blob(world.server.start_registration(&message.0));
    let started = RegisterStarted { message, argon2: Server::ARGON2 };
    let (request, account) = changing.finish(&started, &mut world.rng).unwrap();
    let Request::PasswordFinish { upload, account_box } = request else { panic!() };
    world.server.finish_registration(&upload.0);
    world.registration.account_box = account_box;
    account
}

#[test]
fn a_wrong_recovery_code_opens_nothing() {
    let world = registered();
    let other = RecoveryCode::generate(&mut StdRng::seed_from_u64(8));
    assert_eq!(world.recover(&other).unwrap_err(), AccountError::WrongRecoveryCode);
}

#[test]
fn a_new_password_takes_the_place_of_the_old_one() {
    let mut world = registered();
    let (account, _) = world.log_in("sesame");
    change_password(&mut world, account, "tulip");
    let refused = world.try_login("sesame", Server::ARGON2).unwrap_err();
    assert_eq!(refused, AccountError::Opaque(OpaqueError::WrongPassword));
    let (account, _) = world.log_in("tulip");
    assert_eq!(account.check_is(&world.account.identity), Ok(()));
}

#[test]
fn a_rendezvous_cannot_weaken_what_a_password_is_hardened_with() {
    let mut world = registered();
    let refused = AccountError::Opaque(OpaqueError::UnacceptableArgon2);
    for argon2 in [
        Argon2Params { memory_kib: 8, ..Server::ARGON2 },
        Argon2Params { passes: 1, ..Server::ARGON2 },
        Argon2Params { memory_kib: u32::MAX, ..Server::ARGON2 },
    ] {
        assert_eq!(world.try_login("sesame", argon2).unwrap_err(), refused);
        let (account, _) = world.log_in("sesame");
        let (changing, request) =
            account.change_password(&password("tulip"), &mut world.rng).unwrap();
        let Request::PasswordStart { message } = request else { panic!() };
        let message = Blob(world.server.start_registration(&message.0));
        let started = RegisterStarted { message, argon2 };
        assert_eq!(changing.finish(&started, &mut world.rng).unwrap_err(), refused);

        let (name, server) = (place().name, place().server);
        let device = NewDevice::generate(&mut world.rng);
        let new = password("tulip");
        let (registering, _) =
            Registering::start(name, server, device, &new, &mut world.rng).unwrap();
        assert_eq!(registering.finish(&started, NOW, &mut world.rng).unwrap_err(), refused);
    }
}

#[test]
fn a_device_removes_another_and_signs_that() {
    let mut world = registered();
    let (account, _) = world.log_in("sesame");
    let device = NewDevice::generate(&mut world.rng);
    let (_, second) = account.add_device(device, NOW).unwrap();
    world.registration.devices = second.devices.clone();
    let (account, _) = world.log_in("sesame");
    let first = &world.account.identity.device;
    let (own, other) = (DeviceId::of(&first.public()), DeviceId::of(&second.device.public()));
    let (request, devices) = account.remove_device(other, first, NOW).unwrap();
    assert_eq!(request, Request::DeviceRemove { devices: devices.clone() });
    let devices = verified(devices);
    assert_eq!(devices.cosigner(), Some(first.public()));
    assert_eq!((devices.list().version, devices.newest().unwrap().id), (3, own));

    let refused = account.remove_device(own, first, NOW).unwrap_err();
    assert_eq!(refused, AccountError::ThisDevice);
    let nobody = DeviceId([9; 16]);
    let refused = account.remove_device(nobody, first, NOW).unwrap_err();
    assert_eq!(refused, AccountError::NoSuchDevice(nobody));
}

#[test]
fn a_new_account_key_is_sealed_under_the_same_password_and_a_new_code() {
    let mut world = registered();
    let (account, export) = world.log_in("sesame");
    let seed = world.account.identity.device.expose_seed();
    let device = DeviceSecret::from_seed(&seed);
    let (request, rekeyed) = account.rekey(&device, &export, NOW, &mut world.rng).unwrap();
    let Request::AccountRekey(rekeying) = request else { panic!() };
    assert_eq!(rekeying.devices, rekeyed.devices);
    let devices = verified(rekeyed.devices);
    let key = devices.list().account_key;
    assert_ne!(key, world.account.identity.account_key);
    assert_eq!((devices.list().version, devices.list().devices.len()), (2, 1));
    assert_eq!(devices.newest().unwrap().key, device.public());

    let open = |sealed, opener| sealed::open(sealed, &place().name, opener).unwrap().public();
    assert_eq!(open(&rekeying.account_box, Opener::Password(&export)), key);
    assert_eq!(open(&rekeying.recovery_box, Opener::Recovery(&rekeyed.recovery_code)), key);
    let old = &world.account.recovery_code;
    assert!(sealed::open(&rekeying.recovery_box, &place().name, Opener::Recovery(old)).is_err());
}

#[test]
fn a_rendezvous_cannot_slip_in_a_device_or_another_account() {
    let mut world = registered();
    let (name, honest) = (place().name, world.registration.devices.clone());
    let mut open = |logged_in| {
        let (pending, _) = world.try_login("sesame", Server::ARGON2).unwrap();
        pending.open(logged_in).map(|_| ())
    };
    let account_box = registered().registration.account_box;
    let logged_in = |devices| LoggedIn { account_box: account_box.clone(), devices };
    assert_eq!(open(logged_in(honest.clone())), Ok(()));

    let other = AccountSecret::from_seed(&[66; 32]);
    let entry = NewDevice::generate(&mut StdRng::seed_from_u64(6)).entry(NOW);
    let list = DeviceList::first(name, other.public(), entry, NOW);
    let wrong = AccountError::DeviceList(DeviceListError::WrongAccount);
    assert_eq!(open(logged_in(list.sign(&other, None))), Err(wrong));

    let account_box = registered().registration.recovery_box;
    let swapped = LoggedIn { account_box, devices: honest };
    assert_eq!(open(swapped), Err(AccountError::BadBox(BadBox)));
}

#[test]
fn an_account_of_a_profile_is_known_by_its_key_and_served_no_older_list() {
    let mut world = registered();
    let (account, _) = world.log_in("sesame");
    let device = NewDevice::generate(&mut world.rng);
    let (_, second) = account.add_device(device, NOW).unwrap();
    let (account, _) = world.log_in("sesame");
    let refused = account.check_is(&second).unwrap_err();
    assert_eq!(refused, AccountError::DeviceList(DeviceListError::RolledBack));
    let mut other = registered();
    other.registration.devices = second.devices;
    let (account, _) = other.log_in("sesame");
    assert_eq!(account.check_is(&world.account.identity), Ok(()));
}

#[test]
fn an_account_takes_no_more_devices_than_it_may_have() {
    let (account, now) = (AccountSecret::from_seed(&[7; 32]), Timestamp::from_millis(1));
    let entry = |seed| {
        let key = DeviceSecret::from_seed(&[seed; 32]).public();
        DeviceEntry::new(key, DhPublicBytes(Box::new([1; 384])), now)
    };
    let rng = &mut StdRng::seed_from_u64(7);
    let add = |devices: SignedDeviceList, rng: &mut StdRng| {
        let account = AccountSecret::from_seed(&[7; 32]);
        let account = OpenAccount::new(place(), account, devices).unwrap();
        account.add_device(NewDevice::generate(rng), now)
    };
    let mut list = DeviceList::first(place().name, account.public(), entry(1), now);
    for seed in 2..u8::try_from(MAX_DEVICES).unwrap() {
        let known = list.sign(&account, None).verify(&place().name, &account.public()).unwrap();
        list = known.with_device(entry(seed), now);
    }
    let (_, full) = add(list.sign(&account, None), rng).unwrap();
    assert_eq!(add(full.devices, rng).unwrap_err(), AccountError::TooManyDevices);
}

#[test]
fn a_link_without_a_server_key_is_refused_before_anything_is_sent() {
    let mut server = place().server;
    server.key = None;
    let rng = &mut StdRng::seed_from_u64(5);
    let device = NewDevice::generate(rng);
    let new = password("sesame");
    let refused = Registering::start(place().name, server.clone(), device, &new, rng);
    assert_eq!(refused.unwrap_err(), AccountError::NoServerKey);
    let refused = Recovering::start(place().name, server).unwrap_err();
    assert_eq!(refused, AccountError::NoServerKey);
}
