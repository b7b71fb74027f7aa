//! Work that would block a turn for milliseconds: it leaves the node as [`Work`] and comes back
//! as [`WorkDone`].

use std::sync::Arc;

use parlor_common::envelope::Envelope;
use parlor_common::id::{DeviceId, SessionId};
use parlor_common::identity::DeviceSecret;
use parlor_common::prekey::{PrekeyPair, VerifiedBundle};
use rand::CryptoRng;

use super::input::Source;
use crate::crypto::agreement::{self, Accepted, AgreementError, LocalParty, Party};
use crate::crypto::prekey::LocalPrekeys;
use crate::crypto::session::{Session, Step, Stride, Turn, Turned};

/// Exponentiations to be computed, of a millisecond or two each.
#[derive(Debug)]
pub enum Work {
    /// Start a session with the device of a bundle.
    Initiate {
        /// This device.
        us: Arc<LocalParty>,
        /// The other one.
        them: Box<Party>,
        /// The other one's bundle.
        bundle: Box<VerifiedBundle>,
    },
    /// Make the recipient's side of a session.
    Accept {
        /// This device.
        us: Arc<LocalParty>,
        /// How the envelope came.
        source: Source,
        /// The first message.
        envelope: Box<Envelope>,
        /// The signed pair that it names.
        signed: Arc<LocalPrekeys>,
        /// The one-time pair that it names.
        one_time: Option<Arc<LocalPrekeys>>,
    },
    /// Compute what an envelope with a new ratchet key needs.
    Turn {
        /// How the envelope came.
        source: Source,
        /// The envelope.
        envelope: Box<Envelope>,
        /// What is to be computed.
        turn: Turn,
    },
    /// Make the next step of a session's ratchet ready.
    Stride {
        /// The other device.
        device: DeviceId,
        /// The session.
        session: SessionId,
        /// What is to be computed.
        stride: Stride,
    },
    /// Sign pairs of prekeys for the rendezvous.
    SignPrekeys {
        /// This device's key.
        device: Arc<DeviceSecret>,
        /// The signed pair, if it is to be given.
        signed: Option<Arc<LocalPrekeys>>,
        /// One-time pairs.
        one_time: Vec<Arc<LocalPrekeys>>,
    },
}

/// What came of work.
#[derive(Debug)]
pub enum WorkDone {
    /// Of [`Work::Initiate`].
    Initiated {
        /// The other device.
        device: DeviceId,
        /// The session.
        session: Result<Box<Session>, AgreementError>,
    },
    /// Of [`Work::Accept`].
    Accepted {
        /// How the envelope came.
        source: Source,
        /// The first message, which the session has not opened yet.
        envelope: Box<Envelope>,
        /// Sender and session.
        accepted: Result<Box<Accepted>, AgreementError>,
    },
    /// Of [`Work::Turn`].
    Turned {
        /// How the envelope came.
        source: Source,
        /// The envelope.
        envelope: Box<Envelope>,
        /// What was computed.
        turned: Turned,
    },
    /// Of [`Work::Stride`].
    Strode {
        /// The other device.
        device: DeviceId,
        /// The session.
        session: SessionId,
        /// The step.
        step: Box<Step>,
    },
    /// Of [`Work::SignPrekeys`].
    PrekeysSigned {
        /// The signed pair.
        signed: Option<Box<PrekeyPair>>,
        /// One-time pairs.
        one_time: Vec<PrekeyPair>,
    },
}

impl Work {
    /// Does the work; it takes milliseconds, and belongs off the loop.
    pub fn run(self, rng: &mut dyn CryptoRng) -> WorkDone {
        match self {
            Self::Initiate { us, them, bundle } => {
                let session = agreement::initiate(&us, &them, &bundle, rng).map(Box::new);
                WorkDone::Initiated { device: them.device.id, session }
            }
            Self::Accept { us, source, envelope, signed, one_time } => {
                let header = envelope.header();
                let mut accepted = agreement::accept(&us, &signed, one_time.as_deref(), header);
                if let Ok(Accepted { session, .. }) = &mut accepted
                    && let Some(stride) = session.stride()
                {
                    // The answer needs a step: it should not have to wait for it.
                    session.prepare(stride.run(rng));
                }
                WorkDone::Accepted { source, accepted: accepted.map(Box::new), envelope }
            }
            Self::Turn { source, envelope, turn } => {
                WorkDone::Turned { source, envelope, turned: turn.run() }
            }
            Self::Stride { device, session, stride } => {
                WorkDone::Strode { device, session, step: Box::new(stride.run(rng)) }
            }
            Self::SignPrekeys { device, signed, one_time } => WorkDone::PrekeysSigned {
                signed: signed.map(|pair| Box::new(pair.sign(&device))),
                one_time: one_time.iter().map(|pair| pair.sign(&device)).collect(),
            },
        }
    }
}
