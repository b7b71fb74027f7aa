//! Agreements from first to last, and a conversation.

use std::time::Duration;

use parlor_common::device_list::DeviceEntry;
use parlor_common::envelope::Envelope;
use parlor_common::id::DeviceId;
use parlor_common::identity::{AccountSecret, DeviceSecret};
use parlor_common::prekey::{PrekeyBundle, PrekeyUse};
use parlor_common::time::Timestamp;
use serde_json::{Value, json};

use super::{Script, VectorError, hex};
use crate::crypto::agreement::{LocalParty, Party, accept, initiate};
use crate::crypto::group::{KeyPair, PublicValue, Secret};
use crate::crypto::kdf::{self, Key};
use crate::crypto::prekey::LocalPrekeys;
use crate::crypto::ratchet::Ratchet;
use crate::crypto::session::{Role, Session};
use crate::crypto::transcript::{Exchange, sender_context, transcript_hash};

const AT: Timestamp = Timestamp::from_millis(1_764_000_000_000);
const MISSING: VectorError = VectorError::Unsound("a draw is missing");

/// Somebody with one device.
struct Person {
    json: Value,
    device: DeviceSecret,
    local: LocalParty,
}

impl Person {
    fn new(name: &str, script: &mut Script) -> Result<Self, VectorError> {
        let (account_seed, device_seed) = (script.bytes(), script.bytes());
        let device = DeviceSecret::from_seed(&device_seed);
        let dh = KeyPair::generate(script);
        let party = Party {
            name: name.parse().map_err(|_| VectorError::Unsound("no name"))?,
            account_key: AccountSecret::from_seed(&account_seed).public(),
            device: DeviceEntry::new(device.public(), dh.public().to_bytes(), AT),
        };
        let json = json!({
            "name": name,
            "account_seed": hex(account_seed),
            "device_seed": hex(device_seed),
            "dh_secret": hex(dh.secret().expose_bytes()),
            "added_at": AT.as_millis(),
        });
        Ok(Self { json, device, local: LocalParty { party, dh } })
    }
}

pub(super) fn agreements() -> Result<Value, VectorError> {
    let mut script = Script::new(6);
    let (alice, bob) = (Person::new("alice", &mut script)?, Person::new("bob", &mut script)?);
    let signed = LocalPrekeys::generate(77, PrekeyUse::Signed, AT, &mut script);
    let one_time = LocalPrekeys::generate(78, PrekeyUse::OneTime, AT, &mut script);
    let with = agreement(&alice, &bob, &signed, Some(&one_time), &mut script)?;
    let without = agreement(&alice, &bob, &signed, None, &mut script)?;
    Ok(json!({ "cases": [with, without] }))
}

fn secrets(pair: &LocalPrekeys) -> Value {
    json!({
        "id": pair.id,
        "made_at": pair.made_at.as_millis(),
        "dh_secret": hex(pair.dh.expose_bytes()),
        "kem_seed": hex(pair.kem.expose_bytes()),
    })
}

fn agreement(
    alice: &Person,
    bob: &Person,
    signed: &LocalPrekeys,
    one_time: Option<&LocalPrekeys>,
    script: &mut Script,
) -> Result<Value, VectorError> {
    let bundle = PrekeyBundle {
        device: bob.device.public(),
        signed: signed.sign(&bob.device),
        one_time: one_time.map(|pair| pair.sign(&bob.device)),
    };
    let verified = bundle.clone().verify(&bob.local.party.device, None, AT);
    let verified = verified.map_err(|_| VectorError::Unsound("a bundle"))?;
    script.take();
    let mut session = initiate(&alice.local, &bob.local.party, &verified, script)?;
    let plaintext = b"hello, bob";
    let envelope = session.seal(plaintext, Timestamp::default(), script)?;
    let draws = script.take();
    let [ephemeral, ratchet, randomness, iv_sender, iv] = draws.as_slice() else {
        return Err(MISSING);
    };

    let inner = Inner::new(alice, bob, (signed, one_time), ephemeral, ratchet, &envelope)?;
    if inner.session_id != envelope.header().session.0 {
        return Err(VectorError::Unsound("the session id"));
    }
    let accepted = accept(&bob.local, signed, one_time, envelope.header())?;
    let mut bobs = accepted.session;
    if bobs.open(&envelope, None, AT).ok().as_deref() != Some(plaintext) {
        return Err(VectorError::Unsound("the first message does not open"));
    }
    let first = envelope.header().first.as_ref().ok_or(MISSING)?;
    let mut case = json!({
        "initiator": alice.json,
        "responder": bob.json,
        "signed": secrets(signed),
        "one_time": one_time.map(secrets),
        "bundle": serde_json::to_string(&bundle).unwrap_or_default(),
        "ephemeral_secret": hex(ephemeral),
        "kem_randomness": hex(randomness),
        "ratchet_secret": hex(ratchet),
        "kem_ciphertext": hex(&first.kem),
        "iv_sender": hex(iv_sender),
        "sealed_sender": hex(&first.sealed_sender),
        "first_iv": hex(iv),
        "first_plaintext": hex(plaintext),
        "first_header": hex(envelope.header_bytes()),
        "first_envelope": hex(envelope.as_bytes()),
    });
    if let (Some(case), Value::Object(inner)) = (case.as_object_mut(), inner.json) {
        case.extend(inner);
    }
    Ok(case)
}

/// What is computed on the way and never leaves a device.
struct Inner {
    session_id: [u8; 16],
    json: Value,
}

impl Inner {
    fn new(
        alice: &Person,
        bob: &Person,
        (signed, one_time): (&LocalPrekeys, Option<&LocalPrekeys>),
        ephemeral: &[u8],
        ratchet: &[u8],
        envelope: &Envelope,
    ) -> Result<Self, VectorError> {
        let first = envelope.header().first.as_ref().ok_or(MISSING)?;
        let (ephemeral, ratchet) = (pair(ephemeral)?, pair(ratchet)?);
        let (signed_dh, one_time_dh) = (signed.dh_pair(), one_time.map(LocalPrekeys::dh_pair));
        let kem_secret = &one_time.unwrap_or(signed).kem;
        let kem = kem_secret.decapsulate(&first.kem);
        let exchange = Exchange {
            ephemeral: first.ephemeral.clone(),
            signed: (signed.id, signed_dh.public().to_bytes()),
            one_time: one_time
                .zip(one_time_dh.as_ref())
                .map(|(pair, dh)| (pair.id, dh.public().to_bytes())),
            kem: (kem_secret.public(), first.kem.clone()),
        };
        let mut shared = vec![
            alice.local.dh.agree(signed_dh.public()),
            ephemeral.agree(bob.local.dh.public()),
            ephemeral.agree(signed_dh.public()),
        ];
        shared.extend(one_time_dh.as_ref().map(|dh| ephemeral.agree(dh.public())));
        let (us, them) = (&alice.local.party, &bob.local.party);
        let transcript = transcript_hash(us, them, &exchange);
        let secret = kdf::agreed_secret(shared.iter(), &kem, &transcript);
        let session_id = kdf::session_id(&secret);
        let context = sender_context(session_id, them, &exchange);
        let dh2 = shared.get(1).ok_or(MISSING)?;
        let root = kdf::root_key(&secret);
        let (root_after, chain) = kdf::ratchet_keys(&root, &ratchet.agree(signed_dh.public()));
        let json = json!({
            "kem_secret": hex(kem.expose_bytes()),
            "transcript": hex(transcript),
            "secret": hex(secret.as_slice()),
            "session_id": hex(session_id.0),
            "context": hex(context),
            "sender_key": hex(kdf::sender_key(dh2, &kem, &context).expose_bytes()),
            "root_after": hex(root_after.as_slice()),
            "sending_chain": hex(chain.as_slice()),
        });
        Ok(Self { session_id: session_id.0, json })
    }
}

fn pair(secret: &[u8]) -> Result<KeyPair, VectorError> {
    let bytes = secret.try_into().map_err(|_| MISSING)?;
    Ok(KeyPair::of(Secret::from_bytes(bytes).ok_or(MISSING)?))
}

/// Who does something in a conversation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Initiator,
    Responder,
}

use Side::{Initiator, Responder};

/// What happens in a conversation.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A message is sent, that many seconds after the one before. It takes a step if one is due.
    Sends(Side, u64),
    /// The other side's message arrives: its place among those that were sent.
    Gets(Side, usize),
}

use Happening::{Gets, Sends};

/// Messages are counted from 0 in the order in which they are sent.
const CONVERSATION: &[Happening] = &[
    Sends(Initiator, 0), // 0: the first chain
    Sends(Initiator, 0), // 1
    Sends(Initiator, 0), // 2
    Gets(Responder, 1),  // overtakes 0
    Gets(Responder, 1),  // again: refused
    Sends(Responder, 2), // 3: the responder's first step
    Gets(Responder, 0),  // late
    Gets(Initiator, 3),  // the initiator's turn
    Sends(Initiator, 2), // 4: a step; 2 is still on its way
    Sends(Initiator, 0), // 5
    Gets(Responder, 5),  // a turn that leaves 2 and 4 behind
    Sends(Responder, 0), // 6: lazy, on the old chain: its last step was just now
    Gets(Responder, 4),  // of this chain
    Gets(Responder, 2),  // of the chain before
    Gets(Responder, 2),  // again: refused
    Sends(Responder, 2), // 7: the step that was due
    Gets(Initiator, 7),  // overtakes 6 of the chain before
    Gets(Initiator, 6),  // which still opens
    Gets(Initiator, 3),  // again, of a chain long gone: refused
    Sends(Initiator, 2), // 8: a step
    Sends(Initiator, 2), // 9: no answer, no step
    Gets(Responder, 8),  // the last turn
    Gets(Responder, 9),
];

pub(super) fn conversation() -> Result<Value, VectorError> {
    let mut script = Script::new(7);
    let (agreed, transcript) = (Key::new(script.bytes()), script.bytes());
    let root = kdf::root_key(&agreed);
    let (first, signed) = (Secret::generate(&mut script), Secret::generate(&mut script));
    let mut talk = Talk::new(&agreed, transcript, &first, &signed)?;
    let mut steps = Vec::new();
    for happening in CONVERSATION {
        steps.push(match *happening {
            Sends(side, pause) => talk.sends(side, pause, steps.len(), &mut script)?,
            Gets(side, message) => talk.gets(side, message)?,
        });
    }
    Ok(json!({
        "root0": hex(root.as_slice()),
        "session_id": hex(kdf::session_id(&agreed).0),
        "transcript": hex(transcript),
        "initiator_first_secret": hex(first.expose_bytes()),
        "responder_signed_secret": hex(signed.expose_bytes()),
        "steps": steps,
    }))
}

/// Both sides, and what was sent.
struct Talk {
    initiator: Session,
    responder: Session,
    timer: Timestamp,
    /// Each envelope, and the place of its step.
    sent: Vec<(Envelope, usize)>,
}

impl Talk {
    fn new(
        agreed: &Key,
        transcript: [u8; 32],
        first: &Secret,
        signed: &Secret,
    ) -> Result<Self, VectorError> {
        let root = kdf::root_key(agreed);
        let (first, signed) = (KeyPair::of(first.copy()), KeyPair::of(signed.copy()));
        let theirs = PublicValue::try_from(&first.public().to_bytes())?;
        let session = |role, ratchet| {
            Session::new(agreed, transcript, role, DeviceId([0; 16]), None, ratchet)
        };
        let responder = Ratchet::responder(&root, &signed, theirs);
        let initiator = Ratchet::initiator(&root, first, signed.public());
        Ok(Self {
            initiator: session(Role::Initiator, initiator),
            responder: session(Role::Responder, responder),
            timer: Timestamp::default(),
            sent: Vec::new(),
        })
    }

    fn side(&mut self, side: Side) -> &mut Session {
        match side {
            Initiator => &mut self.initiator,
            Responder => &mut self.responder,
        }
    }

    fn sends(
        &mut self,
        side: Side,
        pause: u64,
        place: usize,
        script: &mut Script,
    ) -> Result<Value, VectorError> {
        self.timer = self.timer + Duration::from_secs(pause);
        let (timer, number) = (self.timer, self.sent.len());
        let plaintext = format!("message {number}");
        script.take();
        let session = self.side(side);
        let due = session.misses_step(timer);
        if due && let Some(stride) = session.stride() {
            session.prepare(stride.run(script));
        }
        let step_secret = script.take().pop();
        let envelope = session.seal(plaintext.as_bytes(), timer, script)?;
        let iv = script.take().pop().ok_or(MISSING)?;
        let json = json!({
            "by": word(side),
            "op": "send",
            "step_secret": step_secret.map(hex),
            "iv": hex(iv),
            "plaintext": hex(plaintext),
            "envelope": hex(envelope.as_bytes()),
        });
        self.sent.push((envelope, place));
        Ok(json)
    }

    fn gets(&mut self, side: Side, message: usize) -> Result<Value, VectorError> {
        let (envelope, place) = self.sent.get(message).cloned().ok_or(MISSING)?;
        let opened = self.side(side).open_at_once(&envelope, AT);
        Ok(json!({ "by": word(side), "op": "receive", "message": place, "opens": opened.is_ok() }))
    }
}

const fn word(side: Side) -> &'static str {
    match side {
        Initiator => "initiator",
        Responder => "responder",
    }
}
