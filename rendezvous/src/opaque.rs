//! The server's half of OPAQUE (RFC 9807): Ristretto255, 3DH, SHA-512. Bytes in, bytes out.
//!
//! opaque-ke stands on an older generation of traits than everything else here; this file is the
//! only one that knows. The server never sees a password, and runs no Argon2: that is the client's.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use opaque_ke::{
    CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest,
    RegistrationUpload, ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup,
};
use parlor_common::Blob;
use parlor_common::id::Username;
use parlor_common::identity::ServerKey;
use rand::CryptoRng;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// What both sides bind a login to, before the connection's exporter.
const LOGIN_CONTEXT: &[u8] = b"parlor/v1/login";
/// Marks the keyed hash that stands in for a credential identifier where there is no account.
const UNKNOWN_NAME: &[u8] = b"parlor/v1/unknown-name";
/// Marks the keyed hash that stands in for a recovery box where there is no account.
const UNKNOWN_BOX: &[u8] = b"parlor/v1/unknown-box";
/// The size in bytes of a recovery box, as clients make them.
const RECOVERY_BOX: usize = 80;

/// The suite. The client must name the same one.
#[derive(Debug)]
struct Suite;

impl opaque_ke::CipherSuite for Suite {
    type OprfCs = opaque_ke::Ristretto255;
    type KeyExchange = opaque_ke::TripleDh<opaque_ke::Ristretto255, sha2_10::Sha512>;
    type Ksf = argon2::Argon2<'static>;
}

/// An OPAQUE message or record was refused. Nobody is told which or why.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("an OPAQUE message was refused")]
pub struct OpaqueError;

/// 32 random bytes drawn at each registration: the OPRF key of an account hangs on them, and not
/// on its name, so that starting a registration for a taken name evaluates nothing of its owner's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CredentialId(pub [u8; 32]);

/// OPAQUE's registration record, 192 bytes: what a password is checked against.
#[derive(Clone, Eq, PartialEq)]
pub struct Record(pub Vec<u8>);

impl CredentialId {
    /// Draws one.
    pub fn draw(rng: &mut dyn CryptoRng) -> Self {
        let mut id = Self([0; 32]);
        rng.fill_bytes(&mut id.0);
        id
    }
}

/// What the server has of the account that somebody logs in to.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// An account.
    Account {
        /// Its credential identifier.
        credential: &'a CredentialId,
        /// Its record.
        record: &'a Record,
    },
    /// An account that is shut: its answers are as before, and no password is right.
    Shut {
        /// Its credential identifier.
        credential: &'a CredentialId,
    },
    /// No account.
    Nobody,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

/// What a login is bound to beyond the password: both identities and the TLS connection.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The account's name: the client's identity.
    pub name: &'a Username,
    /// The server's key: the server's identity.
    pub server: &'a ServerKey,
    /// 32 bytes exported from the TLS connection.
    pub exporter: &'a [u8; 32],
}

impl Binding<'_> {
    fn context(&self) -> Vec<u8> {
        [LOGIN_CONTEXT, self.exporter].concat()
    }

    fn parameters<'a>(&'a self, context: &'a [u8]) -> ServerLoginParameters<'a, 'a> {
        let client = Some(self.name.as_str().as_bytes());
        let server = Some(self.server.as_bytes().as_slice());
        ServerLoginParameters {
            context: Some(context),
            identifiers: Identifiers { client, server },
        }
    }
}

/// The server's long-term OPAQUE secrets: OPRF seed and key pair. Whoever loses them loses every
/// account; whoever steals them with the database can try passwords offline.
pub struct OpaqueSetup {
    setup: ServerSetup<Suite>,
    /// What the answers for names that nobody has are derived from.
    unknown: Hmac<Sha256>,
    /// A record of nobody, parsed in the place of one that is not there.
    decoy: Record,
}

impl fmt::Debug for OpaqueSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaqueSetup").finish_non_exhaustive()
    }
}

impl OpaqueSetup {
    /// Draws new secrets.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::new(ServerSetup::new(&mut OldRng(rng)))
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §2)")]
    fn new(setup: ServerSetup<Suite>) -> Self {
        let key = Zeroizing::new(setup.serialize());
        let unknown = Hmac::new_from_slice(&key).expect("any length is taken");
        let decoy = Record([setup.keypair().public().serialize().as_slice(), &[0; 160]].concat());
        Self { setup, unknown, decoy }
    }

    /// The secrets as bytes, to be kept and nothing else.
    pub fn expose_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.setup.serialize().to_vec())
    }

    /// Takes secrets that were kept.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpaqueError> {
        ServerSetup::deserialize(bytes).map(Self::new).map_err(|_| OpaqueError)
    }

    /// Answers the first flight of a registration (RFC 9807 §5.2.1).
    pub fn start_registration(
        &self,
        request: &[u8],
        credential: &CredentialId,
    ) -> Result<Vec<u8>, OpaqueError> {
        let request = RegistrationRequest::deserialize(request).map_err(|_| OpaqueError)?;
        let started = ServerRegistration::<Suite>::start(&self.setup, request, &credential.0);
        Ok(started.map_err(|_| OpaqueError)?.message.serialize().to_vec())
    }

    /// Answers the first flight of a login (RFC 9807 §6.2.2). Without an account the answer is made
    /// from a fake record (§10.9): of the same shape, at the same cost.
    pub fn start_login(
        &self,
        account: Known<'_>,
        request: &[u8],
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Vec<u8>, PendingLogin), OpaqueError> {
        let request = CredentialRequest::deserialize(request).map_err(|_| OpaqueError)?;
        // All of this is done for everybody, so that an account takes as long as none.
        let unknown = self.credential_of_unknown(binding.name);
        let (credential, record) = match account {
            Known::Account { credential, record } => (credential, Some(record)),
            Known::Shut { credential } => (credential, None),
            Known::Nobody => (&unknown, None),
        };
        let bytes = record.unwrap_or(&self.decoy);
        let parsed = ServerRegistration::deserialize(&bytes.0).map_err(|_| OpaqueError)?;
        let record = record.map(|_| parsed);
        let context = binding.context();
        let parameters = binding.parameters(&context);
        let rng = &mut OldRng(rng);
        let started =
            ServerLogin::start(rng, &self.setup, record, request, &credential.0, parameters)
                .map_err(|_| OpaqueError)?;
        Ok((started.message.serialize().to_vec(), PendingLogin(Box::new(started.state))))
    }

    /// The same bytes for the same name, always, as an account's are.
    fn credential_of_unknown(&self, name: &Username) -> CredentialId {
        CredentialId(self.of_unknown(UNKNOWN_NAME, name, 0))
    }

    /// What a recovery box of a name that nobody has looks like: 80 bytes, the same for the same
    /// name, always, as an account's are.
    pub fn box_of_unknown(&self, name: &Username) -> Blob {
        let parts = (0..3).flat_map(|part| self.of_unknown(UNKNOWN_BOX, name, part));
        Blob(parts.take(RECOVERY_BOX).collect())
    }

    fn of_unknown(&self, label: &[u8], name: &Username, part: u8) -> [u8; 32] {
        let mac = self.unknown.clone().chain_update(label).chain_update([part]);
        mac.chain_update(name.as_str()).finalize().into_bytes().into()
    }
}

/// Takes the last flight of a registration (RFC 9807 §5.2.3) as a record.
pub fn finish_registration(upload: &[u8]) -> Result<Record, OpaqueError> {
    let upload = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| OpaqueError)?;
    Ok(Record(ServerRegistration::finish(upload).serialize().to_vec()))
}

/// A login between its two flights.
pub struct PendingLogin(Box<ServerLogin<Suite>>);

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin").finish_non_exhaustive()
    }
}

impl PendingLogin {
    /// Judges the last flight (RFC 9807 §6.2.4): the password was right, on this connection.
    pub fn finish(self, message: &[u8], binding: &Binding<'_>) -> Result<(), OpaqueError> {
        let message = CredentialFinalization::deserialize(message).map_err(|_| OpaqueError)?;
        let context = binding.context();
        let finished = self.0.finish(message, binding.parameters(&context));
        finished.map(|_| ()).map_err(|_| OpaqueError)
    }
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

/// The client's half, as a client writes it, but for an Argon2id that takes no time.
#[cfg(test)]
pub(crate) mod client {
    use opaque_ke::{
        ClientLogin, ClientLoginFinishParameters, ClientRegistration,
        ClientRegistrationFinishParameters, CredentialResponse, RegistrationResponse,
    };

    use super::*;

    type Export = Vec<u8>;

    fn hardening() -> argon2::Argon2<'static> {
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
    }

    /// A registration between its flights.
    pub(crate) struct Registering(Box<ClientRegistration<Suite>>);

    /// A login between its flights.
    pub(crate) struct LoggingIn(Box<ClientLogin<Suite>>);

    pub(crate) fn start_registration(
        password: &str,
        rng: &mut dyn CryptoRng,
    ) -> (Vec<u8>, Registering) {
        let start = ClientRegistration::start(&mut OldRng(rng), password.as_bytes()).unwrap();
        (start.message.serialize().to_vec(), Registering(Box::new(start.state)))
    }

    impl Registering {
        /// The upload and the export key.
        pub(crate) fn finish(
            self,
            password: &str,
            response: &[u8],
            name: &Username,
            server: &ServerKey,
            rng: &mut dyn CryptoRng,
        ) -> (Vec<u8>, Export) {
            let response = RegistrationResponse::deserialize(response).unwrap();
            let (client, server) = (name.as_str().as_bytes(), server.as_bytes().as_slice());
            let identifiers = Identifiers { client: Some(client), server: Some(server) };
            let ksf = hardening();
            let parameters = ClientRegistrationFinishParameters::new(identifiers, Some(&ksf));
            let (rng, password) = (&mut OldRng(rng), password.as_bytes());
            let finish = self.0.finish(rng, password, response, parameters).unwrap();
            (finish.message.serialize().to_vec(), finish.export_key.to_vec())
        }
    }

    pub(crate) fn start_login(password: &str, rng: &mut dyn CryptoRng) -> (Vec<u8>, LoggingIn) {
        let start = ClientLogin::start(&mut OldRng(rng), password.as_bytes()).unwrap();
        (start.message.serialize().to_vec(), LoggingIn(Box::new(start.state)))
    }

    impl LoggingIn {
        /// The last message and the export key; nothing where the password is wrong.
        pub(crate) fn finish(
            self,
            password: &str,
            response: &[u8],
            binding: &Binding<'_>,
            rng: &mut dyn CryptoRng,
        ) -> Option<(Vec<u8>, Export)> {
            let response = CredentialResponse::deserialize(response).unwrap();
            let (context, ksf) = (binding.context(), hardening());
            let identifiers = binding.parameters(&context).identifiers;
            let parameters =
                ClientLoginFinishParameters::new(Some(&context), identifiers, Some(&ksf));
            let (rng, password) = (&mut OldRng(rng), password.as_bytes());
            let finish = self.0.finish(rng, password, response, parameters).ok()?;
            Some((finish.message.serialize().to_vec(), finish.export_key.to_vec()))
        }
    }

    /// Both flights of a registration; `exchange` carries the first to the server.
    pub(crate) fn register(
        password: &str,
        name: &Username,
        server: &ServerKey,
        rng: &mut dyn CryptoRng,
        exchange: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> (Vec<u8>, Export) {
        let (message, state) = start_registration(password, rng);
        state.finish(password, &exchange(message), name, server, rng)
    }

    /// Both flights of a login; nothing where the client notices that the password is wrong.
    pub(crate) fn login(
        password: &str,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
        exchange: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Option<(Vec<u8>, Export)> {
        let (message, state) = start_login(password, rng);
        state.finish(password, &exchange(message), binding, rng)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const SERVER: ServerKey = ServerKey::from_bytes([3; 32]);
    const CREDENTIAL: CredentialId = CredentialId([4; 32]);

    fn setup() -> (OpaqueSetup, StdRng, Username) {
        let mut rng = StdRng::from_seed([1; 32]);
        (OpaqueSetup::generate(&mut rng), rng, "alice".parse().unwrap())
    }

    fn registered(setup: &OpaqueSetup, name: &Username, rng: &mut StdRng) -> (Record, Vec<u8>) {
        let exchange = |message: Vec<u8>| setup.start_registration(&message, &CREDENTIAL).unwrap();
        let (upload, export) = client::register("correct horse", name, &SERVER, rng, exchange);
        (finish_registration(&upload).unwrap(), export)
    }

    #[test]
    fn the_right_password_opens_what_registration_sealed() {
        let (setup, mut rng, name) = setup();
        let (record, sealed_under) = registered(&setup, &name, &mut rng);
        assert_eq!(record.0.len(), 192);
        // The secrets survive their file.
        let setup = OpaqueSetup::from_bytes(&setup.expose_bytes()).unwrap();
        let binding = Binding { name: &name, server: &SERVER, exporter: &[5; 32] };
        let (mut pending, mut server_rng) = (None, StdRng::from_seed([2; 32]));
        let exchange = |message: Vec<u8>| {
            let account = Known::Account { record: &record, credential: &CREDENTIAL };
            let started = setup.start_login(account, &message, &binding, &mut server_rng);
            let (message, login) = started.unwrap();
            pending = Some(login);
            message
        };
        let (last, export) = client::login("correct horse", &binding, &mut rng, exchange).unwrap();
        assert_eq!(pending.unwrap().finish(&last, &binding), Ok(()));
        assert_eq!(export, sealed_under);
    }

    #[test]
    fn a_login_holds_on_its_own_connection_only() {
        let (setup, mut rng, name) = setup();
        let (record, _) = registered(&setup, &name, &mut rng);
        let binding = Binding { name: &name, server: &SERVER, exporter: &[5; 32] };
        let elsewhere = Binding { exporter: &[6; 32], ..binding };
        let mut server_rng = StdRng::from_seed([2; 32]);
        let exchange = |message: Vec<u8>| {
            let account = Known::Account { record: &record, credential: &CREDENTIAL };
            setup.start_login(account, &message, &elsewhere, &mut server_rng).unwrap().0
        };
        assert!(client::login("correct horse", &binding, &mut rng, exchange).is_none());
    }

    #[test]
    fn an_unknown_name_answers_like_a_known_one() {
        let (setup, mut rng, name) = setup();
        let (record, _) = registered(&setup, &name, &mut rng);
        let ghost: Username = "ghost".parse().unwrap();
        let binding = Binding { name: &name, server: &SERVER, exporter: &[5; 32] };
        let nobody = Binding { name: &ghost, ..binding };
        let mut server_rng = StdRng::from_seed([2; 32]);
        let (mut known, mut unknown, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let exchange = |message: Vec<u8>| {
            let account = Known::Account { record: &record, credential: &CREDENTIAL };
            known = setup.start_login(account, &message, &binding, &mut server_rng).unwrap().0;
            let mut fake =
                || setup.start_login(Known::Nobody, &message, &nobody, &mut server_rng).unwrap().0;
            (unknown, again) = (fake(), fake());
            unknown.clone()
        };
        assert!(client::login("correct horse", &nobody, &mut rng, exchange).is_none());
        assert_eq!((known.len(), unknown.len()), (320, 320));
        // The evaluated element, 32 bytes, is that of one OPRF key however often it is asked.
        assert_eq!(unknown[..32], again[..32]);
        assert_ne!(unknown[..32], known[..32]);
        assert_ne!(unknown, again);
    }

    #[test]
    fn other_bytes_are_refused() {
        let (setup, mut rng, name) = setup();
        let binding = Binding { name: &name, server: &SERVER, exporter: &[5; 32] };
        for bytes in [&[][..], &[0; 32], &[0xff; 32], &[0xff; 96], &[1; 1000]] {
            assert!(setup.start_registration(bytes, &CREDENTIAL).is_err());
            assert!(finish_registration(bytes).is_err());
            assert!(setup.start_login(Known::Nobody, bytes, &binding, &mut rng).is_err());
            assert!(OpaqueSetup::from_bytes(bytes).is_err());
        }
    }
}
