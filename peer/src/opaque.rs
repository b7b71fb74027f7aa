//! The client's half of OPAQUE (RFC 9807): Ristretto255, 3DH, SHA-512, Argon2id. Bytes in, bytes
//! out.
//!
//! opaque-ke stands on an older generation of traits than everything else here; this file is the
//! only one that knows. Both `finish` functions run Argon2id: they take a tenth of a second or
//! more, and 64 MiB or more.

use std::fmt;

use argon2::{Algorithm, Argon2, Version};
use opaque_ke::errors::ProtocolError;
use opaque_ke::{
    ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialResponse, Identifiers, RegistrationResponse,
};
use parlor_common::id::Username;
use parlor_common::identity::ServerKey;
use parlor_common::wire::rendezvous::Argon2Params;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// What both sides bind a login to, before the connection's exporter.
const LOGIN_CONTEXT: &[u8] = b"parlor/v1/login";

/// The suite. The server must name the same one.
#[derive(Debug)]
struct Suite;

impl opaque_ke::CipherSuite for Suite {
    type OprfCs = opaque_ke::Ristretto255;
    type KeyExchange = opaque_ke::TripleDh<opaque_ke::Ristretto255, sha2_10::Sha512>;
    type Ksf = Argon2<'static>;
}

/// Why a registration or a login went no further.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpaqueError {
    /// The server's message is malformed, or not one that a server makes.
    #[error("the rendezvous sent a malformed message")]
    Malformed,
    /// The server asks for a weaker hardening of the password than is safe, or for one that would
    /// exhaust this machine.
    #[error("the rendezvous asks for an unacceptable hardening of the password")]
    UnacceptableArgon2,
    /// The password is wrong, or there is no such account, or the server is not the one that the
    /// account was registered at: the protocol does not say which.
    #[error("wrong password, or no such account")]
    WrongPassword,
}

impl From<ProtocolError> for OpaqueError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::WrongPassword,
            ProtocolError::LibraryError(_)
            | ProtocolError::SerializationError
            | ProtocolError::SizeError { .. }
            | ProtocolError::ReflectedValueError
            | ProtocolError::Custom(_) => Self::Malformed,
        }
    }
}

/// Both sides' names, which OPAQUE binds.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The account's name: the client's identity.
    pub name: &'a Username,
    /// The server's key: the server's identity.
    pub server: &'a ServerKey,
}

impl<'a> Parties<'a> {
    fn identifiers(&self) -> Identifiers<'a> {
        let client = Some(self.name.as_str().as_bytes());
        Identifiers { client, server: Some(self.server.as_bytes().as_slice()) }
    }
}

/// 64 bytes that only the password opens, the same at each login: what the client keeps at the
/// server is sealed under it.
pub struct ExportKey(Zeroizing<[u8; Self::LEN]>);

impl ExportKey {
    /// The length in bytes.
    pub const LEN: usize = 64;

    /// Takes the key, and erases where it was.
    fn take(bytes: &mut [u8]) -> Self {
        let mut key = Zeroizing::new([0; Self::LEN]);
        key.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
        bytes.zeroize();
        Self(key)
    }

    /// The key, to derive others from and nothing else.
    pub fn expose_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportKey").finish_non_exhaustive()
    }
}

/// A registration between its two flights.
pub struct Registration {
    state: ClientRegistration<Suite>,
    password: Zeroizing<Vec<u8>>,
}

impl Registration {
    /// The first flight (RFC 9807 §5.2.1), 32 bytes.
    pub fn start(password: &[u8], rng: &mut dyn CryptoRng) -> Result<(Self, Vec<u8>), OpaqueError> {
        let started = ClientRegistration::start(&mut OldRng(rng), password)?;
        let password = Zeroizing::new(password.to_vec());
        Ok((Self { state: started.state, password }, started.message.serialize().to_vec()))
    }

    /// The last flight (§5.2.3), 192 bytes, and the export key.
    pub fn finish(
        self,
        server_message: &[u8],
        parties: Parties<'_>,
        argon2: Argon2Params,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Vec<u8>, ExportKey), OpaqueError> {
        let response = RegistrationResponse::deserialize(server_message)?;
        let ksf = key_stretching(argon2)?;
        let parameters = ClientRegistrationFinishParameters::new(parties.identifiers(), Some(&ksf));
        let rng = &mut OldRng(rng);
        let mut finished = self.state.finish(rng, &self.password, response, parameters)?;
        let key = ExportKey::take(&mut finished.export_key);
        Ok((finished.message.serialize().to_vec(), key))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

/// A login between its flights.
pub struct Login {
    state: ClientLogin<Suite>,
    password: Zeroizing<Vec<u8>>,
}

impl Login {
    /// The first flight, KE1 (RFC 9807 §6.2.1), 96 bytes.
    pub fn start(password: &[u8], rng: &mut dyn CryptoRng) -> Result<(Self, Vec<u8>), OpaqueError> {
        let started = ClientLogin::start(&mut OldRng(rng), password)?;
        let password = Zeroizing::new(password.to_vec());
        Ok((Self { state: started.state, password }, started.message.serialize().to_vec()))
    }

    /// The last flight, KE3 (§6.2.3), 64 bytes, and the export key. `exporter` is what the TLS
    /// connection exports for logins: the login counts on that connection only.
    pub fn finish(
        self,
        server_message: &[u8],
        parties: Parties<'_>,
        exporter: &[u8; 32],
        argon2: Argon2Params,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Vec<u8>, ExportKey), OpaqueError> {
        let response = CredentialResponse::deserialize(server_message)?;
        let ksf = key_stretching(argon2)?;
        let context = [LOGIN_CONTEXT, exporter].concat();
        let parameters =
            ClientLoginFinishParameters::new(Some(&context), parties.identifiers(), Some(&ksf));
        let rng = &mut OldRng(rng);
        let mut finished = self.state.finish(rng, &self.password, response, parameters)?;
        finished.session_key.as_mut_slice().zeroize();
        let key = ExportKey::take(&mut finished.export_key);
        Ok((finished.message.serialize().to_vec(), key))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Argon2id as the account says, if a client may run it so.
fn key_stretching(params: Argon2Params) -> Result<Argon2<'static>, OpaqueError> {
    if !params.is_acceptable() {
        return Err(OpaqueError::UnacceptableArgon2);
    }
    let Argon2Params { memory_kib, passes, lanes } = params;
    let params = argon2::Params::new(memory_kib, passes, lanes, None)
        .map_err(|_| OpaqueError::UnacceptableArgon2)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Today's generator in the clothes of the generation that opaque-ke knows.
struct OldRng<'a>(&'a mut dyn CryptoRng);

impl opaque_ke::rand::RngCore for OldRng<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), opaque_ke::rand::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl opaque_ke::rand::CryptoRng for OldRng<'_> {}

/// The server's half, as small as tests need it.
#[cfg(test)]
pub(crate) mod server {
    use opaque_ke::{
        CredentialFinalization, CredentialRequest, RegistrationRequest, RegistrationUpload,
        ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup,
    };

    use super::{Argon2Params, CryptoRng, LOGIN_CONTEXT, OldRng, Parties, Suite};

    /// A server with at most one account. Its credential identifier is all ones.
    pub(crate) struct Server {
        setup: ServerSetup<Suite>,
        record: Option<ServerRegistration<Suite>>,
    }

    const CREDENTIAL: &[u8] = &[1; 32];

    impl Server {
        pub(crate) const ARGON2: Argon2Params = Argon2Params::DEFAULT;

        pub(crate) fn new(rng: &mut dyn CryptoRng) -> Self {
            Self { setup: ServerSetup::new(&mut OldRng(rng)), record: None }
        }

        pub(crate) fn start_registration(&self, request: &[u8]) -> Vec<u8> {
            let request = RegistrationRequest::deserialize(request).unwrap();
            let started = ServerRegistration::start(&self.setup, request, CREDENTIAL).unwrap();
            started.message.serialize().to_vec()
        }

        pub(crate) fn finish_registration(&mut self, upload: &[u8]) {
            let upload = RegistrationUpload::deserialize(upload).unwrap();
            self.record = Some(ServerRegistration::finish(upload));
        }

        /// Answers a login, and says how to judge its last flight.
        pub(crate) fn start_login(
            &self,
            request: &[u8],
            parties: Parties<'_>,
            exporter: &[u8; 32],
            rng: &mut dyn CryptoRng,
        ) -> (Vec<u8>, impl FnOnce(&[u8]) -> bool + use<>) {
            let request = CredentialRequest::deserialize(request).unwrap();
            let context = [LOGIN_CONTEXT, exporter].concat();
            let (name, server) = (parties.name.clone(), *parties.server);
            let parameters = ServerLoginParameters {
                context: Some(&context),
                identifiers: parties.identifiers(),
            };
            let (record, rng) = (self.record.clone(), &mut OldRng(rng));
            let started =
                ServerLogin::start(rng, &self.setup, record, request, CREDENTIAL, parameters)
                    .unwrap();
            let message = started.message.serialize().to_vec();
            let judge = move |last: &[u8]| {
                let last = CredentialFinalization::deserialize(last).unwrap();
                let parties = Parties { name: &name, server: &server };
                let parameters = ServerLoginParameters {
                    context: Some(&context),
                    identifiers: parties.identifiers(),
                };
                started.state.finish(last, parameters).is_ok()
            };
            (message, judge)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::server::Server;
    use super::*;

    #[test]
    fn a_password_opens_the_export_key_that_it_made_and_another_does_not() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (name, key) = ("alice".parse().unwrap(), ServerKey::from_bytes([5; 32]));
        let parties = Parties { name: &name, server: &key };
        let mut server = Server::new(rng);
        let (registration, first) = Registration::start(b"correct horse", rng).unwrap();
        let reply = server.start_registration(&first);
        let (upload, made) = registration.finish(&reply, parties, Server::ARGON2, rng).unwrap();
        assert_eq!((first.len(), upload.len()), (32, 192));
        server.finish_registration(&upload);

        let exporter = [9; 32];
        let (login, first) = Login::start(b"correct horse", rng).unwrap();
        let (reply, judge) = server.start_login(&first, parties, &exporter, rng);
        let (last, opened) = login.finish(&reply, parties, &exporter, Server::ARGON2, rng).unwrap();
        assert_eq!((first.len(), last.len()), (96, 64));
        assert!(judge(&last));
        assert_eq!(opened.expose_bytes(), made.expose_bytes());

        let (login, first) = Login::start(b"wrong horse", rng).unwrap();
        let (reply, _) = server.start_login(&first, parties, &exporter, rng);
        let refused = login.finish(&reply, parties, &exporter, Server::ARGON2, rng);
        assert_eq!(refused.unwrap_err(), OpaqueError::WrongPassword);

        // Somebody between the two has another TLS connection on each side.
        let (login, first) = Login::start(b"correct horse", rng).unwrap();
        let (reply, _) = server.start_login(&first, parties, &[8; 32], rng);
        let refused = login.finish(&reply, parties, &exporter, Server::ARGON2, rng);
        assert_eq!(refused.unwrap_err(), OpaqueError::WrongPassword);
    }

    #[test]
    fn what_a_server_may_not_ask_or_say_is_refused_before_the_password_is_hardened() {
        let rng = &mut StdRng::seed_from_u64(2);
        let (name, key) = ("alice".parse().unwrap(), ServerKey::from_bytes([5; 32]));
        let parties = Parties { name: &name, server: &key };
        let server = Server::new(rng);
        let weak = Argon2Params { memory_kib: 8, ..Argon2Params::DEFAULT };
        let (registration, first) = Registration::start(b"x", rng).unwrap();
        let reply = server.start_registration(&first);
        let refused = registration.finish(&reply, parties, weak, rng);
        assert_eq!(refused.unwrap_err(), OpaqueError::UnacceptableArgon2);

        for reply in [&[][..], &[0; 64], &[0xff; 64], &[0; 1000]] {
            let (registration, _) = Registration::start(b"x", rng).unwrap();
            let refused = registration.finish(reply, parties, Server::ARGON2, rng);
            assert_eq!(refused.unwrap_err(), OpaqueError::Malformed);
            let (login, _) = Login::start(b"x", rng).unwrap();
            let refused = login.finish(reply, parties, &[0; 32], Server::ARGON2, rng);
            assert_eq!(refused.unwrap_err(), OpaqueError::Malformed);
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let key = ExportKey::take(&mut [7; ExportKey::LEN]);
        let (registration, _) =
            Registration::start(b"hunter2", &mut StdRng::seed_from_u64(3)).unwrap();
        assert_eq!(format!("{key:?} {registration:?}"), "ExportKey { .. } Registration { .. }");
    }
}
