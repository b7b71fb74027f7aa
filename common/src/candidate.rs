//! Addresses that a peer may be reached at (candidates, in the terms of RFC 8445), and the signed
//! offer of them to one device.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::encoding::Fields;
use crate::id::{DeviceId, Username};
use crate::identity::{BadSignature, DeviceKey, DeviceSecret, Label, Signature};
use crate::time::Timestamp;

/// An offer names at most this many candidates: nobody's word makes a peer a scanner.
pub const MAX_CANDIDATES: usize = 16;

/// An offer is good for this long either way: clocks differ, replays age.
pub const OFFER_LIFETIME: Duration = Duration::from_secs(60);

/// How an address was learned.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    /// An address of an own interface.
    Host,
    /// The address that the rendezvous observed.
    ServerReflexive,
    /// A kind that this version does not know; it is ignored.
    #[serde(other)]
    Unknown,
}

/// An address to try.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Candidate {
    /// How it was learned.
    pub kind: CandidateKind,
    /// IP address and UDP port.
    pub address: SocketAddr,
}

/// Marks one attempt of one side; an answer names the offer that it answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct OfferId(pub u64);

/// What an offer says, before it is signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OfferBody {
    /// The offer's own id, random.
    pub id: OfferId,
    /// The offer that this one answers, if it is an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<OfferId>,
    /// Who offers.
    pub from: Username,
    /// The one device that it is for.
    pub to: DeviceId,
    /// When it was made.
    pub at: Timestamp,
    /// Where the sender may be reached, best first.
    pub candidates: Vec<Candidate>,
}

/// A signed offer as it travels: unchecked until [`Offer::verify`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Offer {
    body: OfferBody,
    signer: DeviceKey,
    signature: Signature,
}

/// Why an offer was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OfferError {
    /// Its signature does not hold.
    #[error("the offer's signature does not hold")]
    BadSignature,
    /// It is older, or from later, than [`OFFER_LIFETIME`].
    #[error("the offer is not of this minute")]
    Expired,
    /// It has more than [`MAX_CANDIDATES`].
    #[error("the offer has too many candidates")]
    TooManyCandidates,
    /// It is for another device.
    #[error("the offer is for another device")]
    WrongRecipient,
}

impl From<BadSignature> for OfferError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

impl Offer {
    /// Signs an offer as `device`.
    pub fn sign(body: OfferBody, device: &DeviceSecret) -> Self {
        let signature = device.sign(Label::Offer, &body.fields());
        Self { body, signer: device.public(), signature }
    }

    /// The device that claims to have signed; whether it is one of the sender's is for the
    /// recipient to know.
    pub fn claimed_signer(&self) -> DeviceKey {
        self.signer
    }

    /// Checks that the offer is for device `to`, of this minute, and that its signature holds.
    pub fn verify(self, to: DeviceId, now: Timestamp) -> Result<OfferBody, OfferError> {
        if self.body.to != to {
            return Err(OfferError::WrongRecipient);
        }
        if self.body.candidates.len() > MAX_CANDIDATES {
            return Err(OfferError::TooManyCandidates);
        }
        if self.body.at.distance(now) > OFFER_LIFETIME {
            return Err(OfferError::Expired);
        }
        self.signer.verify(Label::Offer, &self.body.fields(), &self.signature)?;
        Ok(self.body)
    }
}

impl OfferBody {
    fn fields(&self) -> Fields {
        let fields = Fields::new()
            .number(self.id.0)
            .optional(self.answers.map(|id| id.0.to_be_bytes()))
            .field(self.from.as_str())
            .field(self.to.0)
            .number(self.at.as_millis());
        let candidates = self.candidates.iter();
        candidates.fold(fields, |fields, candidate| {
            let kind = match candidate.kind {
                CandidateKind::Host => "host",
                CandidateKind::ServerReflexive => "server_reflexive",
                CandidateKind::Unknown => "unknown",
            };
            fields.field(kind).field(candidate.address.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(candidates: usize, at: Timestamp) -> (Offer, DeviceId) {
        let secret = DeviceSecret::from_seed(&[1; 32]);
        let to = DeviceId([9; 16]);
        let address = "192.0.2.1:4433".parse().unwrap();
        let candidate = Candidate { kind: CandidateKind::Host, address };
        let body = OfferBody {
            id: OfferId(1),
            answers: None,
            from: "alice".parse().unwrap(),
            to,
            at,
            candidates: vec![candidate; candidates],
        };
        (Offer::sign(body, &secret), to)
    }

    #[test]
    fn an_offer_is_for_one_device_and_one_minute() {
        let at = Timestamp::from_millis(100_000);
        let (offer, to) = offer(MAX_CANDIDATES, at);
        assert!(offer.clone().verify(to, at + OFFER_LIFETIME).is_ok());
        assert!(offer.clone().verify(to, at - OFFER_LIFETIME).is_ok());
        let late = at + OFFER_LIFETIME + Duration::from_millis(1);
        assert_eq!(offer.clone().verify(to, late), Err(OfferError::Expired));
        let other = DeviceId([8; 16]);
        assert_eq!(offer.verify(other, at), Err(OfferError::WrongRecipient));
    }

    #[test]
    fn too_many_candidates_or_a_changed_one_are_refused() {
        let at = Timestamp::from_millis(100_000);
        let (many, to) = offer(MAX_CANDIDATES + 1, at);
        assert_eq!(many.verify(to, at), Err(OfferError::TooManyCandidates));
        let (mut changed, to) = offer(1, at);
        changed.body.candidates[0].address = "198.51.100.7:22".parse().unwrap();
        assert_eq!(changed.verify(to, at), Err(OfferError::BadSignature));
    }
}
