//! Work that would block a turn for milliseconds: it leaves the node as [`Work`] and comes back
//! as [`WorkDone`].

use std::sync::Arc;

use parlor_common::envelope::Envelope;
use parlor_common::id::DeviceId;
use parlor_common::prekey::VerifiedBundle;
use rand::CryptoRng;

use super::input::LinkId;
use crate::crypto::agreement::{self, Accepted, AgreementError, LocalParty, Party};
use crate::crypto::prekey::LocalPrekey;
use crate::crypto::session::Session;

/// An agreement to be computed: four or five exponentiations.
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
        /// The link that the envelope came on.
        link: LinkId,
        /// The first message.
        envelope: Box<Envelope>,
        /// The signed prekey that it names.
        signed: Arc<LocalPrekey>,
        /// The one-time prekey that it names.
        one_time: Option<Arc<LocalPrekey>>,
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
        /// The link that the envelope came on.
        link: LinkId,
        /// The first message, which the session has not opened yet.
        envelope: Box<Envelope>,
        /// Sender and session.
        accepted: Result<Box<Accepted>, AgreementError>,
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
            Self::Accept { us, link, envelope, signed, one_time } => {
                let header = envelope.header();
                let accepted = agreement::accept(&us, &signed, one_time.as_deref(), header);
                WorkDone::Accepted { link, accepted: accepted.map(Box::new), envelope }
            }
        }
    }
}
