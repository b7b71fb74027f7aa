//! Two devices agree on a secret, one of them offline: the pattern of Signal's X3DH over
//! ffdhe3072.
//!
//! | | initiator's | responder's |
//! | --- | --- | --- |
//! | DH1 | identity key | signed prekey |
//! | DH2 | ephemeral key | identity key |
//! | DH3 | ephemeral key | signed prekey |
//! | DH4 | ephemeral key | one-time prekey, where there is one |
//!
//! The secret is derived from all of them and from the hash of the transcript: version, suite, and
//! both sides' names, keys and devices in their roles, so that a session can neither be replayed
//! between other people nor reflected. DH2 alone hides from others who the initiator is.

use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::{FirstHeader, Header, IV_LEN};
use parlor_common::id::{DeviceId, SessionId, Username};
use parlor_common::identity::AccountKey;
use parlor_common::prekey::{Prekey, PrekeyKind, VerifiedBundle};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::aead::AeadKey;
use super::group::{KeyPair, OutOfRange, PublicValue, SharedSecret};
use super::kdf::{self, Key};
use super::prekey::LocalPrekey;
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
    /// A prekey has the id 0, or a public value is out of range.
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

/// Starts a session with the device of a bundle. Its first messages carry what the other side
/// needs for [`accept`].
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
    let signed = public_half(bundle.signed_prekey())?;
    let one_time = bundle.one_time_prekey().map(public_half).transpose()?;

    let ephemeral = KeyPair::generate(rng);
    let exchange = Exchange {
        ephemeral: ephemeral.public().to_bytes(),
        signed: (bundle.signed_prekey().id, bundle.signed_prekey().key.clone()),
        one_time: bundle.one_time_prekey().map(|prekey| (prekey.id, prekey.key.clone())),
    };
    let shared = Shared {
        dh1: us.dh.agree(&signed),
        dh2: ephemeral.agree(&identity),
        dh3: ephemeral.agree(&signed),
        dh4: one_time.map(|key| ephemeral.agree(&key)),
    };
    let agreed = Agreed::new(&shared, &us.party, them, &exchange);
    let context = sender_context(agreed.session_id(), them, &exchange);
    let first = FirstHeader {
        sealed_sender: seal_sender(&us.party, &kdf::sender_key(&shared.dh2, &context), rng)?,
        ephemeral: exchange.ephemeral,
        signed_prekey: exchange.signed.0,
        one_time_prekey: exchange.one_time.map(|(id, _)| id),
    };
    Ok(agreed.into_session(Role::Initiator, them.device.id, Some(first)))
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
    signed: &LocalPrekey,
    one_time: Option<&LocalPrekey>,
    header: &Header,
) -> Result<Accepted, AgreementError> {
    let first = header.first.as_ref().ok_or(AgreementError::Refused)?;
    check_prekeys(first, signed, one_time)?;
    let ephemeral = refuse(PublicValue::try_from(&first.ephemeral))?;
    let exchange = Exchange {
        ephemeral: first.ephemeral.clone(),
        signed: (signed.id, signed.pair.public().to_bytes()),
        one_time: one_time.map(|prekey| (prekey.id, prekey.pair.public().to_bytes())),
    };

    let dh2 = us.dh.agree(&ephemeral);
    let context = sender_context(header.session, &us.party, &exchange);
    let sender = open_sender(&first.sealed_sender, &kdf::sender_key(&dh2, &context))?;
    check_apart(us, &sender)?;
    let identity = refuse(PublicValue::try_from(&sender.device.dh))?;

    let shared = Shared {
        dh1: signed.pair.agree(&identity),
        dh2,
        dh3: signed.pair.agree(&ephemeral),
        dh4: one_time.map(|prekey| prekey.pair.agree(&ephemeral)),
    };
    let agreed = Agreed::new(&shared, &sender, &us.party, &exchange);
    if !bool::from(agreed.session_id().0.ct_eq(&header.session.0)) {
        return Err(AgreementError::Refused);
    }
    let session = agreed.into_session(Role::Responder, sender.device.id, None);
    Ok(Accepted { sender, session })
}

/// The shared secrets, by the names of X3DH (§3.3).
struct Shared {
    dh1: SharedSecret,
    dh2: SharedSecret,
    dh3: SharedSecret,
    dh4: Option<SharedSecret>,
}

/// What both sides arrive at.
struct Agreed {
    secret: Key,
    transcript: [u8; 32],
}

impl Agreed {
    fn new(shared: &Shared, initiator: &Party, responder: &Party, exchange: &Exchange) -> Self {
        let transcript = transcript_hash(initiator, responder, exchange);
        let Shared { dh1, dh2, dh3, dh4 } = shared;
        let shared = [dh1, dh2, dh3].into_iter().chain(dh4);
        Self { secret: kdf::agreed_secret(shared, &transcript), transcript }
    }

    fn session_id(&self) -> SessionId {
        kdf::session_id(&self.secret)
    }

    fn into_session(self, role: Role, peer: DeviceId, first: Option<FirstHeader>) -> Session {
        Session::new(&self.secret, self.transcript, role, peer, first)
    }
}

fn check_apart(us: &LocalParty, them: &Party) -> Result<(), AgreementError> {
    let us = &us.party.device;
    let apart = us.key != them.device.key && us.dh != them.device.dh;
    if apart { Ok(()) } else { Err(AgreementError::WithItself) }
}

fn check_prekeys(
    first: &FirstHeader,
    signed: &LocalPrekey,
    one_time: Option<&LocalPrekey>,
) -> Result<(), AgreementError> {
    let named = first.signed_prekey == signed.id
        && first.one_time_prekey == one_time.map(|prekey| prekey.id);
    let of_their_kind = signed.kind == PrekeyKind::Signed
        && one_time.is_none_or(|prekey| prekey.kind == PrekeyKind::OneTime);
    if named && of_their_kind { Ok(()) } else { Err(AgreementError::WrongPrekeys) }
}

fn public_half(prekey: &Prekey) -> Result<PublicValue, AgreementError> {
    // An envelope says "none" by the id 0.
    if prekey.id == 0 {
        return Err(AgreementError::MalformedKey);
    }
    Ok(PublicValue::try_from(&prekey.key)?)
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
    let sealed = aead::seal_in_place(key, &iv, &[], padding::pad(&json));
    Ok([&iv, sealed.as_slice()].concat())
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
mod tests {
    use parlor_common::envelope::Envelope;
    use parlor_common::prekey::DhPublicBytes;

    use super::*;
    use crate::crypto::fixture::{ALICE, BOB, CAROL, FIRST, flipped, rng};

    fn accepted(us: &LocalParty, envelope: &Envelope) -> Result<Accepted, AgreementError> {
        accept(us, &BOB.signed, Some(&BOB.one_time), envelope.header())
    }

    fn refusal(us: &LocalParty, envelope: &Envelope) -> AgreementError {
        accepted(us, envelope).unwrap_err()
    }

    fn first_from(us: &LocalParty, them: &Party) -> Envelope {
        let mut session = initiate(us, them, &BOB.bundle(true), &mut rng()).unwrap();
        session.seal(b"hello", &mut rng()).unwrap()
    }

    #[test]
    fn both_sides_arrive_at_the_same_session() {
        for with_one_time in [true, false] {
            let bundle = BOB.bundle(with_one_time);
            let mut alice = initiate(&ALICE.local, BOB.party(), &bundle, &mut rng()).unwrap();
            let first = alice.seal(b"hello", &mut rng()).unwrap();
            let one_time = with_one_time.then_some(&BOB.one_time);
            let accepted = accept(&BOB.local, &BOB.signed, one_time, first.header()).unwrap();
            assert_eq!(accepted.sender, *ALICE.party());
            let mut bob = accepted.session;
            assert_eq!((alice.id(), alice.transcript()), (bob.id(), bob.transcript()));
            assert_eq!((alice.role(), bob.role()), (Role::Initiator, Role::Responder));
            assert_eq!(
                (alice.peer(), bob.peer()),
                (BOB.party().device.id, ALICE.party().device.id)
            );
            assert_eq!(&*bob.open(&first).unwrap(), b"hello");
            let answer = bob.seal(b"hello yourself", &mut rng()).unwrap();
            assert_eq!(&*alice.open(&answer).unwrap(), b"hello yourself");
        }
    }

    #[test]
    fn every_session_is_another() {
        let rng = &mut rng();
        let mut start = || initiate(&ALICE.local, BOB.party(), &BOB.bundle(true), rng).unwrap();
        let (one, two) = (start(), start());
        assert_ne!(one.id(), two.id());
        assert_ne!(one.transcript(), two.transcript());
    }

    #[test]
    fn a_changed_first_header_is_refused() {
        // Every byte of the small fields, and samples of the keys and of the sealed sender.
        let small = (0..18).chain(402..412);
        let sampled =
            (18..402).step_by(31).chain((412..FIRST.envelope.header_bytes().len() - 4).step_by(41));
        for byte in small.chain(sampled) {
            if let Some(changed) = flipped(&FIRST.envelope, 8 * byte + byte % 8) {
                assert!(accepted(&BOB.local, &changed).is_err(), "byte {byte}");
            }
        }
    }

    #[test]
    fn a_first_message_is_for_one_person_under_one_name_only() {
        assert_eq!(refusal(&CAROL.local, &FIRST.envelope), AgreementError::Refused);
        // Bob's very keys, under another name; and his name, device and prekeys with another secret.
        let renamed = BOB.local_with("robert", &BOB.local.dh);
        assert_eq!(refusal(&renamed, &FIRST.envelope), AgreementError::Refused);
        let without = BOB.local_with("bob", &CAROL.local.dh);
        assert_eq!(refusal(&without, &FIRST.envelope), AgreementError::Refused);
        // Alice was told another name for Bob's keys.
        let misled = first_from(&ALICE.local, &renamed.party);
        assert_eq!(refusal(&BOB.local, &misled), AgreementError::Refused);
    }

    #[test]
    fn nobody_passes_for_another_without_the_identity_key() {
        let mallory = ALICE.local_with("alice", &CAROL.local.dh);
        let forged = first_from(&mallory, BOB.party());
        assert_eq!(refusal(&BOB.local, &forged), AgreementError::Refused);
    }

    #[test]
    fn a_first_message_is_accepted_with_the_prekeys_it_names_only() {
        let header = FIRST.envelope.header();
        let with = |signed, one_time| accept(&BOB.local, signed, one_time, header).unwrap_err();
        assert_eq!(with(&BOB.signed, None), AgreementError::WrongPrekeys);
        assert_eq!(with(&BOB.one_time, Some(&BOB.one_time)), AgreementError::WrongPrekeys);
        assert_eq!(with(&BOB.signed, Some(&BOB.signed)), AgreementError::WrongPrekeys);
        // The same ids, other keys.
        assert_eq!(with(&CAROL.signed, Some(&BOB.one_time)), AgreementError::Refused);
        assert_eq!(with(&BOB.signed, Some(&CAROL.one_time)), AgreementError::Refused);
        let following = Header { first: None, ..header.clone() };
        let refused = accept(&BOB.local, &BOB.signed, None, &following).unwrap_err();
        assert_eq!(refused, AgreementError::Refused);
    }

    #[test]
    fn public_values_out_of_range_are_refused_wherever_they_come_from() {
        let mut one = [0; DhPublicBytes::LEN];
        one[DhPublicBytes::LEN - 1] = 1;
        let one = DhPublicBytes(Box::new(one));

        let mut header = FIRST.envelope.header().clone();
        header.first.as_mut().unwrap().ephemeral = one.clone();
        let refused = accept(&BOB.local, &BOB.signed, Some(&BOB.one_time), &header).unwrap_err();
        assert_eq!(refused, AgreementError::Refused);

        let mut sender = ALICE.local_with("alice", &ALICE.local.dh);
        sender.party.device.dh = one.clone();
        let refused = refusal(&BOB.local, &first_from(&sender, BOB.party()));
        assert_eq!(refused, AgreementError::Refused);

        let mut them = BOB.party().clone();
        them.device.dh = one;
        let bundle = BOB.bundle.clone().verify(&them.device, them.device.added_at).unwrap();
        let refused = initiate(&ALICE.local, &them, &bundle, &mut rng()).unwrap_err();
        assert_eq!(refused, AgreementError::MalformedKey);
    }

    #[test]
    fn a_bundle_is_used_for_its_own_device_and_never_for_oneself() {
        let with = |us, them| initiate(us, them, &BOB.bundle(true), &mut rng()).unwrap_err();
        assert_eq!(with(&ALICE.local, CAROL.party()), AgreementError::WrongDevice);
        assert_eq!(with(&BOB.local, BOB.party()), AgreementError::WithItself);
    }

    #[test]
    fn the_sender_is_hidden_and_names_of_all_lengths_look_alike() {
        let sealed = |name| {
            let us = ALICE.local_with(name, &ALICE.local.dh);
            let header = first_from(&us, BOB.party()).header().clone();
            header.first.unwrap().sealed_sender
        };
        let (short, long) = (sealed("ali"), sealed("alice.with.a.name.of.32.letters."));
        assert_eq!(short.len(), long.len());
        let bytes = FIRST.envelope.as_bytes();
        let device = &ALICE.party().device;
        for part in [b"alice".as_slice(), device.key.as_bytes(), device.dh.as_ref()] {
            assert!(!bytes.windows(part.len()).any(|window| window == part));
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let accepted = accepted(&BOB.local, &FIRST.envelope).unwrap();
        let printed = format!("{:?}", accepted.session);
        assert!(printed.starts_with("Session { id: "), "{printed}");
        assert!(printed.ends_with(", .. }"), "{printed}");
        assert!(!format!("{:?}", BOB.local).contains("secret"));
    }
}
