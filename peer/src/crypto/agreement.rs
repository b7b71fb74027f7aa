//! Two devices agree on a secret, one of them offline: the pattern of Signal's PQXDH over
//! ffdhe3072 and ML-KEM-768.
//!
//! | | initiator's | responder's |
//! | --- | --- | --- |
//! | DH1 | identity key | signed prekey |
//! | DH2 | ephemeral key | identity key |
//! | DH3 | ephemeral key | signed prekey |
//! | DH4 | ephemeral key | one-time prekey, where there is one |
//! | KEM | encapsulates | KEM half of the one-time pair, or of the signed one |
//!
//! The secret is derived from all of them and from the hash of the transcript: version, suite, and
//! both sides' names, keys and devices in their roles, so that a session can neither be replayed
//! between other people nor reflected. DH2 and the KEM secret hide from others who the initiator
//! is.

use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::{FirstHeader, Header, IV_LEN};
use parlor_common::id::{DeviceId, SessionId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::prekey::{DhPublicBytes, PrekeyPair, PrekeyUse, VerifiedBundle};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::aead::AeadKey;
use super::group::{KeyPair, OutOfRange, PublicValue, SharedSecret};
use super::kdf::{self, Key};
use super::kem::{self, KemShared, MalformedKemKey};
use super::prekey::LocalPrekeys;
use super::ratchet::Ratchet;
use super::session::{Role, Session};
use super::transcript::{Exchange, sender_context, transcript_hash};
use super::{aead, padding};

/// A device and whose it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Party {
    /// The account's name.
    pub name: Username,
    /// The account's key.
    pub account_key: AccountKey,
    /// The device, as in the account's list.
    pub device: DeviceEntry,
}

/// This device.
#[derive(Debug)]
pub struct LocalParty {
    /// What others know of it.
    pub party: Party,
    /// Its identity key pair; the public half is in the device entry.
    pub dh: KeyPair,
}

/// Why there was no agreement.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AgreementError {
    /// A public value is out of range, or a KEM key is none.
    #[error("a key of the other side is malformed")]
    MalformedKey,
    /// The first message is not authentic, or is another device's.
    #[error("the first message was refused")]
    Refused,
    /// The other side is this very device.
    #[error("a device has no session with itself")]
    WithItself,
    /// The bundle is not of the device that was given with it.
    #[error("the bundle is another device's")]
    WrongDevice,
    /// The prekeys given are not the ones that the first message names.
    #[error("the first message is for other prekeys")]
    WrongPrekeys,
}

impl From<OutOfRange> for AgreementError {
    fn from(_: OutOfRange) -> Self {
        Self::MalformedKey
    }
}

impl From<MalformedKemKey> for AgreementError {
    fn from(_: MalformedKemKey) -> Self {
        Self::MalformedKey
    }
}

/// Starts a session with the device of a bundle. Its first messages carry what the other side
/// needs for [`accept`].
///
/// From `rng`, in this order: the ephemeral secret and the first ratchet secret
/// ([`Secret::generate`](super::group::Secret::generate)), 32 bytes to be encapsulated, and the IV
/// of the sealed sender.
pub fn initiate(
    us: &LocalParty,
    them: &Party,
    bundle: &VerifiedBundle,
    rng: &mut dyn CryptoRng,
) -> Result<Session, AgreementError> {
    if them.device != *bundle.device() {
        return Err(AgreementError::WrongDevice);
    }
    check_apart(us, them)?;
    let identity = PublicValue::try_from(&them.device.dh)?;
    let signed = PublicValue::try_from(&bundle.signed().dh)?;
    let one_time = bundle.one_time().map(|pair| PublicValue::try_from(&pair.dh)).transpose()?;

    let ephemeral = KeyPair::generate(rng);
    let ratchet = KeyPair::generate(rng);
    let (ciphertext, kem) = kem::encapsulate(&bundle.of_kem().kem, rng)?;
    let exchange = Exchange {
        ephemeral: ephemeral.public().to_bytes(),
        signed: dh_half(bundle.signed()),
        one_time: bundle.one_time().map(dh_half),
        kem: (bundle.of_kem().kem.clone(), ciphertext),
    };
    let shared = Shared {
        dh1: us.dh.agree(&signed),
        dh2: ephemeral.agree(&identity),
        dh3: ephemeral.agree(&signed),
        dh4: one_time.map(|key| ephemeral.agree(&key)),
        kem,
    };
    let agreed = Agreed::new(&shared, &us.party, them, &exchange);
    let context = sender_context(agreed.session_id(), them, &exchange);
    let key = kdf::sender_key(&shared.dh2, &shared.kem, &context);
    let first = FirstHeader {
        sealed_sender: seal_sender(&us.party, &key, rng)?,
        ephemeral: exchange.ephemeral,
        signed_prekey: exchange.signed.0,
        one_time_prekey: exchange.one_time.map(|(id, _)| id),
        kem: exchange.kem.1,
    };
    let ratchet = Ratchet::initiator(&agreed.root(), ratchet, &signed);
    Ok(agreed.into_session(Role::Initiator, them.device.id, Some(first), ratchet))
}

/// The outcome of a first message.
#[derive(Debug)]
pub struct Accepted {
    /// Who says to have sent it. The session is with the holder of that device entry's DH key;
    /// that the entry is on the list of that account is for the caller to check.
    pub sender: Party,
    /// The session. It is worth keeping once it has opened the envelope that it came from.
    pub session: Session,
}

/// Makes the recipient's side of a session from the header of a first message, with the prekeys
/// that the header names. The caller sees to it that each ephemeral key is accepted once.
pub fn accept(
    us: &LocalParty,
    signed: &LocalPrekeys,
    one_time: Option<&LocalPrekeys>,
    header: &Header,
) -> Result<Accepted, AgreementError> {
    let first = header.first.as_ref().ok_or(AgreementError::Refused)?;
    check_prekeys(first, signed, one_time)?;
    let ephemeral = refuse(PublicValue::try_from(&first.ephemeral))?;
    let ratchet = refuse(PublicValue::try_from(&header.ratchet))?;
    let kem_secret = &one_time.unwrap_or(signed).kem;
    let (signed_pair, one_time_pair) = (signed.dh_pair(), one_time.map(LocalPrekeys::dh_pair));
    let exchange = Exchange {
        ephemeral: first.ephemeral.clone(),
        signed: (signed.id, signed_pair.public().to_bytes()),
        one_time: one_time
            .zip(one_time_pair.as_ref())
            .map(|(prekeys, pair)| (prekeys.id, pair.public().to_bytes())),
        kem: (kem_secret.public(), first.kem.clone()),
    };

    let (dh2, kem) = (us.dh.agree(&ephemeral), kem_secret.decapsulate(&first.kem));
    let context = sender_context(header.session, &us.party, &exchange);
    let key = kdf::sender_key(&dh2, &kem, &context);
    let sender = open_sender(&first.sealed_sender, &key)?;
    check_apart(us, &sender)?;
    let identity = refuse(PublicValue::try_from(&sender.device.dh))?;

    let shared = Shared {
        dh1: signed_pair.agree(&identity),
        dh2,
        dh3: signed_pair.agree(&ephemeral),
        dh4: one_time_pair.map(|pair| pair.agree(&ephemeral)),
        kem,
    };
    let agreed = Agreed::new(&shared, &sender, &us.party, &exchange);
    if !bool::from(agreed.session_id().0.ct_eq(&header.session.0)) {
        return Err(AgreementError::Refused);
    }
    let ratchet = Ratchet::responder(&agreed.root(), &signed_pair, ratchet);
    let session = agreed.into_session(Role::Responder, sender.device.id, None, ratchet);
    Ok(Accepted { sender, session })
}

/// The shared secrets, by the names of PQXDH (§3.3).
struct Shared {
    dh1: SharedSecret,
    dh2: SharedSecret,
    dh3: SharedSecret,
    dh4: Option<SharedSecret>,
    kem: KemShared,
}

/// What both sides arrive at.
struct Agreed {
    secret: Key,
    transcript: [u8; 32],
}

impl Agreed {
    fn new(shared: &Shared, initiator: &Party, responder: &Party, exchange: &Exchange) -> Self {
        let transcript = transcript_hash(initiator, responder, exchange);
        let Shared { dh1, dh2, dh3, dh4, kem } = shared;
        let shared = [dh1, dh2, dh3].into_iter().chain(dh4);
        Self { secret: kdf::agreed_secret(shared, kem, &transcript), transcript }
    }

    fn session_id(&self) -> SessionId {
        kdf::session_id(&self.secret)
    }

    fn root(&self) -> Key {
        kdf::root_key(&self.secret)
    }

    fn into_session(
        self,
        role: Role,
        peer: DeviceId,
        first: Option<FirstHeader>,
        ratchet: Ratchet,
    ) -> Session {
        Session::new(&self.secret, self.transcript, role, peer, first, ratchet)
    }
}

fn check_apart(us: &LocalParty, them: &Party) -> Result<(), AgreementError> {
    let us = &us.party.device;
    let apart = us.key != them.device.key && us.dh != them.device.dh;
    if apart { Ok(()) } else { Err(AgreementError::WithItself) }
}

fn check_prekeys(
    first: &FirstHeader,
    signed: &LocalPrekeys,
    one_time: Option<&LocalPrekeys>,
) -> Result<(), AgreementError> {
    let named =
        first.signed_prekey == signed.id && first.one_time_prekey == one_time.map(|pair| pair.id);
    let for_their_use = signed.used == PrekeyUse::Signed
        && one_time.is_none_or(|pair| pair.used == PrekeyUse::OneTime);
    if named && for_their_use { Ok(()) } else { Err(AgreementError::WrongPrekeys) }
}

fn dh_half(pair: &PrekeyPair) -> (u32, DhPublicBytes) {
    (pair.id, pair.dh.clone())
}

fn refuse(value: Result<PublicValue, OutOfRange>) -> Result<PublicValue, AgreementError> {
    value.map_err(|_| AgreementError::Refused)
}

/// IV, ciphertext and tag of the padded JSON form: names of different lengths look alike.
fn seal_sender(
    sender: &Party,
    key: &AeadKey,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, AgreementError> {
    let json = serde_json::to_vec(sender).map_err(|_| AgreementError::MalformedKey)?;
    let mut iv = [0; IV_LEN];
    rng.fill_bytes(&mut iv);
    let mut sealed = iv.to_vec();
    padding::pad(&json, &mut sealed);
    aead::seal_in_place(key, &iv, &[], &mut sealed, IV_LEN);
    Ok(sealed)
}

fn open_sender(sealed: &[u8], key: &AeadKey) -> Result<Party, AgreementError> {
    let (iv, sealed) = sealed.split_first_chunk().ok_or(AgreementError::Refused)?;
    let padded = aead::open(key, iv, &[], sealed).map_err(|_| AgreementError::Refused)?;
    let json = padding::unpad(padded).ok_or(AgreementError::Refused)?;
    let sender: Party = serde_json::from_slice(&json).map_err(|_| AgreementError::Refused)?;
    let derived = sender.device.id == DeviceId::of(&sender.device.key);
    if derived { Ok(sender) } else { Err(AgreementError::Refused) }
}

#[cfg(test)]
mod tests;
