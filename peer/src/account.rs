//! Registration, and login on a new device, step by step: values and requests in and out. The
//! caller owns the connection, and runs the slow steps where they block nobody.
//!
//! ```text
//! NewDevice::generate ── its key is the TLS identity of the connection
//! Registering::start  ── register.start  ──► RegisterStarted
//! Registering::finish ── register.finish ──► Done            (slow: Argon2id)
//! LoggingIn::start    ── login.start     ──► LoginStarted
//! LoggingIn::finish   ── login.finish    ──► LoggedIn        (slow: Argon2id)
//! Pending::open       ── device.add      ──► Done
//! ```
//! The account key exists here for the moment in which it signs a device list, and is erased.

mod password;
mod recovery;
pub mod sealed;

use parlor_common::Blob;
use parlor_common::device_list::{
    DeviceEntry, DeviceList, DeviceListError, MAX_DEVICES, SignedDeviceList, VerifiedDeviceList,
};
use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, AccountSecret, DeviceSecret, ServerKey};
use parlor_common::link::ServerAddress;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{self, LoggedIn, LoginStarted, RegisterStarted, Request};
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

pub use password::{Password, PasswordError};
pub use recovery::{ParseRecoveryCodeError, RecoveryCode};
pub use sealed::BadBox;

use crate::crypto::group::KeyPair;
use crate::node::record::Identity;
use crate::opaque::{ExportKey, Login, OpaqueError, Parties, Registration};
use sealed::Opener;

/// Why there is no account, or none on this device.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AccountError {
    /// The sealed account key does not open, though the password was right.
    #[error("{0}; ask whoever runs the rendezvous, or use the recovery code")]
    BadBox(#[from] BadBox),
    /// The device list that was served does not hold for the account.
    #[error("the rendezvous served devices that do not hold: {0}")]
    DeviceList(#[from] DeviceListError),
    /// The link pins no key.
    #[error("the link has no server key: use one that starts with parlor://KEY@")]
    NoServerKey,
    /// The password exchange ended.
    #[error(transparent)]
    Opaque(#[from] OpaqueError),
    /// The account has as many devices as an account may have.
    #[error("the account has {MAX_DEVICES} devices, which is the most; remove one first")]
    TooManyDevices,
}

/// Where an account is: its name, and the server with the key that the person's link pins.
#[derive(Clone, Debug)]
struct Place {
    name: Username,
    server: ServerAddress,
    key: ServerKey,
}

impl Place {
    fn new(name: Username, server: ServerAddress) -> Result<Self, AccountError> {
        let key = server.key.ok_or(AccountError::NoServerKey)?;
        Ok(Self { name, server, key })
    }

    const fn parties(&self) -> Parties<'_> {
        Parties { name: &self.name, server: &self.key }
    }
}

/// The keys of a device that belongs to no account yet.
#[derive(Debug)]
pub struct NewDevice {
    key: DeviceSecret,
    dh: KeyPair,
}

impl NewDevice {
    /// Draws a device's keys. `rng` must be the operating system's generator.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self { key: DeviceSecret::from_seed(&seed), dh: KeyPair::generate(rng) }
    }

    /// The device's key, to connect with: registration and login count for this device only.
    pub const fn key(&self) -> &DeviceSecret {
        &self.key
    }

    fn entry(&self, now: Timestamp) -> DeviceEntry {
        DeviceEntry::new(self.key.public(), self.dh.public().to_bytes(), now)
    }

    /// The identity that this device has once the account's list names it.
    fn belonging_to(
        self,
        place: Place,
        account: AccountKey,
        devices: SignedDeviceList,
    ) -> Identity {
        Identity {
            name: place.name,
            server: place.server,
            account_key: account,
            devices,
            device: self.key,
            dh: self.dh,
        }
    }
}

/// A registration that has started.
#[derive(Debug)]
pub struct Registering {
    place: Place,
    device: NewDevice,
    opaque: Registration,
}

/// What a registration makes: an identity to be stored, and a code to be written down.
#[derive(Debug)]
pub struct NewAccount {
    /// Who this device is from now on.
    pub identity: Identity,
    /// To be shown once, on standard error, and never stored.
    pub recovery_code: RecoveryCode,
}

impl Registering {
    /// Starts to register `name` at `server`, with `device` as its first device.
    pub fn start(
        name: Username,
        server: ServerAddress,
        device: NewDevice,
        password: &Password,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Request), AccountError> {
        let place = Place::new(name, server)?;
        let (opaque, message) = Registration::start(password.expose_bytes(), rng)?;
        let request = Request::RegisterStart {
            name: place.name.clone(),
            message: Blob(message),
            ticket: None,
        };
        Ok((Self { place, device, opaque }, request))
    }

    /// Hardens the password and makes the account: its key, its first device list, its boxes. Slow.
    /// The profile is to be written before the request leaves, and put in force when it is done.
    pub fn finish(
        self,
        started: &RegisterStarted,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, NewAccount), AccountError> {
        let Self { place, device, opaque } = self;
        let (upload, export) =
            opaque.finish(&started.message.0, place.parties(), started.argon2, rng)?;
        let account = new_account_secret(rng);
        let recovery_code = RecoveryCode::generate(rng);
        let list = DeviceList::first(place.name.clone(), account.public(), device.entry(now), now);
        let registration = rendezvous::Registration {
            upload: Blob(upload),
            devices: list.sign(&account, None),
            account_box: sealed::seal(&account, &place.name, Opener::Password(&export), rng),
            recovery_box: sealed::seal(
                &account,
                &place.name,
                Opener::Recovery(&recovery_code),
                rng,
            ),
        };
        let list = registration.devices.clone();
        let identity = device.belonging_to(place, account.public(), list);
        let request = Request::RegisterFinish(Box::new(registration));
        Ok((request, NewAccount { identity, recovery_code }))
    }
}

fn new_account_secret(rng: &mut dyn CryptoRng) -> AccountSecret {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut_slice());
    AccountSecret::from_seed(&seed)
}

/// A login that has started.
#[derive(Debug)]
pub struct LoggingIn {
    place: Place,
    device: NewDevice,
    opaque: Login,
}

impl LoggingIn {
    /// Starts to log in as `name` at `server`, on `device`, which is to become the account's newest.
    pub fn start(
        name: Username,
        server: ServerAddress,
        device: NewDevice,
        password: &Password,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Request), AccountError> {
        let place = Place::new(name, server)?;
        let (opaque, message) = Login::start(password.expose_bytes(), rng)?;
        let request = Request::LoginStart { name: place.name.clone(), message: Blob(message) };
        Ok((Self { place, device, opaque }, request))
    }

    /// Hardens the password and proves it. Slow. `exporter` is what the connection exports for
    /// logins; a wrong password shows here, and nothing more is then to be sent.
    pub fn finish(
        self,
        started: &LoginStarted,
        exporter: &[u8; 32],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Request, Pending), AccountError> {
        let Self { place, device, opaque } = self;
        let (message, export) =
            opaque.finish(&started.message.0, place.parties(), exporter, started.argon2, rng)?;
        let request = Request::LoginFinish { message: Blob(message) };
        Ok((request, Pending { place, device, export }))
    }
}

/// A login that was proven: the rendezvous' answer to it opens the account.
#[derive(Debug)]
pub struct Pending {
    place: Place,
    device: NewDevice,
    export: ExportKey,
}

impl Pending {
    /// Opens the account key, checks the account's devices by it, and adds this one. The profile
    /// is to be written before the request leaves, and put in force when it is done.
    pub fn open(
        self,
        logged_in: LoggedIn,
        now: Timestamp,
    ) -> Result<(Request, Identity), AccountError> {
        let Self { place, device, export } = self;
        let (account, known) = open_account(logged_in, &place.name, &export)?;
        let devices = with_device(&known, device.entry(now), now)?.sign(&account, None);
        let identity = device.belonging_to(place, account.public(), devices.clone());
        Ok((Request::DeviceAdd { devices }, identity))
    }
}

/// The account key, and the devices that it signed.
fn open_account(
    logged_in: LoggedIn,
    name: &Username,
    export: &ExportKey,
) -> Result<(AccountSecret, VerifiedDeviceList), AccountError> {
    let LoggedIn { account_box, devices } = logged_in;
    let account = sealed::open(&account_box, name, Opener::Password(export))?;
    let devices = devices.verify(name, &account.public())?;
    Ok((account, devices))
}

fn with_device(
    known: &VerifiedDeviceList,
    device: DeviceEntry,
    now: Timestamp,
) -> Result<DeviceList, AccountError> {
    let next = known.with_device(device, now);
    if next.devices.len() > MAX_DEVICES {
        return Err(AccountError::TooManyDevices);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use parlor_common::link::Link;
    use parlor_common::prekey::DhPublicBytes;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::opaque::server::Server;

    const EXPORTER: [u8; 32] = [4; 32];

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
        fn log_in(&mut self, with: &str) -> Result<(Pending, bool), AccountError> {
            let device = NewDevice::generate(&mut self.rng);
            let Place { name, server, .. } = place();
            let (logging_in, request) =
                LoggingIn::start(name, server, device, &password(with), &mut self.rng)?;
            let Request::LoginStart { message, .. } = request else { panic!() };
            let place = place();
            let (reply, judge) =
                self.server.start_login(&message.0, place.parties(), &EXPORTER, &mut self.rng);
            let started = LoginStarted { message: Blob(reply), argon2: Server::ARGON2 };
            let (request, pending) = logging_in.finish(&started, &EXPORTER, &mut self.rng)?;
            let Request::LoginFinish { message } = request else { panic!() };
            Ok((pending, judge(&message.0)))
        }

        fn logged_in(&self, devices: SignedDeviceList) -> LoggedIn {
            LoggedIn { account_box: self.registration.account_box.clone(), devices }
        }
    }

    #[test]
    fn who_registers_can_log_in_on_a_second_device() {
        let mut world = registered();
        let first = &world.account.identity;
        let list = world.registration.devices.clone();
        assert_eq!(first.devices, list);
        let verified = list.clone().verify(&place().name, &first.account_key).unwrap();
        assert_eq!(verified.newest().unwrap().key, first.device.public());
        assert_eq!(verified.newest().unwrap().dh, first.dh.public().to_bytes());

        let (pending, accepted) = world.log_in("sesame").unwrap();
        assert!(accepted);
        let now = Timestamp::from_millis(2000);
        let (request, second) = pending.open(world.logged_in(list), now).unwrap();
        let Request::DeviceAdd { devices } = request else { panic!() };
        assert_eq!(second.devices, devices);
        let next = devices.verify(&place().name, &second.account_key).unwrap();
        assert_eq!(next.check_follows(&verified), Ok(()));
        assert_eq!((next.list().version, next.list().devices.len()), (2, 2));
        assert_eq!(next.newest().unwrap().key, second.device.public());
        assert_eq!(second.account_key, world.account.identity.account_key);

        assert_eq!(
            world.log_in("Sesame").unwrap_err(),
            AccountError::Opaque(OpaqueError::WrongPassword)
        );
    }

    #[test]
    fn the_recovery_code_opens_the_account_key() {
        let world = registered();
        let code = world.account.recovery_code.expose_text().parse().unwrap();
        let sealed = &world.registration.recovery_box;
        let account = sealed::open(sealed, &place().name, Opener::Recovery(&code)).unwrap();
        assert_eq!(account.public(), world.account.identity.account_key);
    }

    #[test]
    fn a_rendezvous_cannot_slip_in_a_device_or_another_account() {
        let mut world = registered();
        let export = world.log_in("sesame").unwrap().0.export;
        let (name, honest) = (place().name, world.registration.devices.clone());
        let open = |logged_in| open_account(logged_in, &name, &export).map(|_| ());
        assert_eq!(open(world.logged_in(honest.clone())), Ok(()));

        let other = AccountSecret::from_seed(&[66; 32]);
        let entry = NewDevice::generate(&mut world.rng).entry(Timestamp::default());
        let list = DeviceList::first(name.clone(), other.public(), entry, Timestamp::default());
        let swapped = world.logged_in(list.sign(&other, None));
        let wrong = AccountError::DeviceList(DeviceListError::WrongAccount);
        assert_eq!(open(swapped), Err(wrong));

        let mut swapped = world.logged_in(honest);
        swapped.account_box = world.registration.recovery_box.clone();
        assert_eq!(open(swapped), Err(AccountError::BadBox(BadBox)));
    }

    #[test]
    fn an_account_takes_no_more_devices_than_it_may_have() {
        let (account, now) = (AccountSecret::from_seed(&[7; 32]), Timestamp::from_millis(1));
        let mut seeds = 1..;
        let mut entry = || {
            let key = DeviceSecret::from_seed(&[seeds.next().unwrap(); 32]).public();
            DeviceEntry::new(key, DhPublicBytes(Box::new([1; 384])), now)
        };
        let name = place().name;
        let mut list = DeviceList::first(name.clone(), account.public(), entry(), now);
        for _ in 1..MAX_DEVICES {
            let known = list.sign(&account, None).verify(&name, &account.public()).unwrap();
            list = with_device(&known, entry(), now).unwrap();
        }
        let full = list.sign(&account, None).verify(&name, &account.public()).unwrap();
        assert_eq!(with_device(&full, entry(), now), Err(AccountError::TooManyDevices));
    }

    #[test]
    fn a_link_without_a_server_key_is_refused_before_anything_is_sent() {
        let mut server = place().server;
        server.key = None;
        let rng = &mut StdRng::seed_from_u64(5);
        let device = NewDevice::generate(rng);
        let refused = Registering::start(place().name, server, device, &password("sesame"), rng);
        assert_eq!(refused.unwrap_err(), AccountError::NoServerKey);
    }
}
