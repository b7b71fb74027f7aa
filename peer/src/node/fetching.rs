//! This device's mailbox at the rendezvous: what waits there is fetched in groups, in order, and
//! acknowledged once it is saved. The next group is asked for when the one before is done with, so
//! that no more is in memory than one.

use std::collections::BTreeSet;
use std::time::Duration;

use parlor_common::envelope::Envelope;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Envelopes, Request};

use super::Node;
use super::input::{Now, Source};
use super::server::Purpose;

/// What was refused is asked for again after this time.
const RETRY: Duration = Duration::from_secs(10);

/// How far this device is with its mailbox.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// The greatest number that was fetched on this connection.
    after: u64,
    stage: Stage,
    /// Whether something new was announced since a group was asked for.
    again: bool,
    /// After a refusal: when it is asked for again.
    retry_at: Option<Timestamp>,
    /// Numbers of the group that came last that are not done with.
    open: BTreeSet<u64>,
    /// Numbers that are, and are acknowledged at the end of the turn.
    settled: Vec<u64>,
    /// Whether some were left there, to be looked at later.
    left: bool,
    /// Whether that is to be soon.
    soon: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// All has been fetched.
    #[default]
    Idle,
    /// A group was asked for.
    Asked,
    /// A group came, and the next was not asked for.
    Came,
    /// A group was refused, or not answered.
    Failed,
}

impl Fetching {
    /// A group is wanted. Returns after which number it is to be asked for, if that is now.
    fn want(&mut self) -> Option<u64> {
        if self.stage != Stage::Idle {
            self.again = true;
            return None;
        }
        self.stage = Stage::Asked;
        self.again = false;
        Some(self.after)
    }

    /// A group came, with these numbers.
    fn came(&mut self, ids: impl Iterator<Item = u64>) {
        self.open.extend(ids);
        self.stage = if self.open.is_empty() { Stage::Idle } else { Stage::Came };
        self.after = self.open.last().copied().unwrap_or_default().max(self.after);
    }

    /// An envelope is done with.
    pub(super) fn settle(&mut self, id: u64) {
        if self.open.remove(&id) {
            self.settled.push(id);
        }
    }

    /// An envelope cannot be judged yet, or not be answered: it is left where it is.
    pub(super) fn put_off(&mut self, id: u64) {
        self.left |= self.open.remove(&id);
    }

    /// What was left is to be looked at again soon.
    pub(super) fn look_again(&mut self) {
        self.soon = true;
    }

    /// The group that was asked for does not come.
    pub(super) fn failed(&mut self) {
        self.stage = Stage::Failed;
    }

    /// When a group is to be asked for again.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Whether something is to be acknowledged, or to be fetched next.
    pub(super) fn is_due(&self) -> bool {
        !self.settled.is_empty() || self.is_done() || self.stage == Stage::Failed
    }

    /// Whether the group that came is done with.
    fn is_done(&self) -> bool {
        self.stage == Stage::Came && self.open.is_empty()
    }

    /// The connection is gone: what was not acknowledged comes again.
    pub(super) fn disconnected(&mut self) {
        *self = Self::default();
    }
}

impl Node {
    /// Fetches what waits at the rendezvous.
    pub(super) fn fetch_envelopes(&mut self) {
        if self.rendezvous.is_signed_in()
            && let Some(after) = self.fetching.want()
        {
            self.ask(Request::EnvelopeGet { after }, Purpose::Envelopes);
        }
    }

    /// A contact or a device is new: what was left for that is looked at again.
    pub(super) fn fetch_left(&mut self) {
        if std::mem::take(&mut self.fetching.left) {
            self.fetching.after = 0;
            self.fetch_envelopes();
        }
    }

    /// A group of envelopes. Returns whether there was one: if not, all have been fetched.
    pub(super) fn handle_envelopes(
        &mut self,
        Envelopes { envelopes }: Envelopes,
        now: Now,
    ) -> bool {
        let some = !envelopes.is_empty();
        self.fetching.came(envelopes.iter().map(|waiting| waiting.id));
        for waiting in envelopes {
            match Envelope::parse(waiting.envelope.0) {
                Ok(envelope) => {
                    self.handle_envelope(Source::Mailbox(waiting.id), envelope, None, now);
                }
                Err(error) => {
                    tracing::debug!(%error, "what waited at the rendezvous is no envelope");
                    self.fetching.settle(waiting.id);
                }
            }
        }
        if !some && self.fetching.again {
            self.fetch_envelopes();
        }
        some
    }

    /// Asks again for what was refused, if that is due.
    pub(super) fn retry_fetching(&mut self, now: Now) {
        if self.fetching.retry_at.take_if(|at| *at <= now.timer).is_some() {
            self.fetch_left();
            self.fetch_envelopes();
        }
    }

    /// Acknowledges what is saved with this turn, and goes on fetching where all is done with.
    pub(super) fn acknowledge_envelopes(&mut self, now: Now) {
        if self.fetching.stage == Stage::Failed {
            self.fetching.stage = Stage::Idle;
            self.fetching.soon = true;
        }
        if std::mem::take(&mut self.fetching.soon) {
            self.fetching.retry_at.get_or_insert(now.timer + RETRY);
        }
        let ids = std::mem::take(&mut self.fetching.settled);
        if !self.rendezvous.is_signed_in() {
            return;
        }
        if !ids.is_empty() {
            self.ask(Request::EnvelopeAck { ids }, Purpose::Nothing);
        }
        if self.fetching.is_done() {
            self.fetching.stage = Stage::Idle;
            self.fetch_envelopes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_group_is_asked_for_when_the_last_one_is_done_with() {
        let mut fetching = Fetching::default();
        assert_eq!((fetching.want(), fetching.want()), (Some(0), None));
        fetching.came([3, 5].into_iter());
        assert_eq!(fetching.want(), None);
        fetching.settle(3);
        fetching.settle(3);
        fetching.settle(9);
        assert_eq!((fetching.want(), &fetching.settled), (None, &vec![3]));
        assert!(fetching.is_due() && !fetching.is_done());
        fetching.settle(5);
        assert!(fetching.is_done());
        fetching.stage = Stage::Idle;
        assert_eq!(fetching.want(), Some(5));
        fetching.came(std::iter::empty());
        assert_eq!(fetching.want(), Some(5));
    }

    #[test]
    fn what_was_left_is_fetched_again_after_a_new_connection() {
        let mut fetching = Fetching::default();
        fetching.want();
        fetching.came([3].into_iter());
        assert!(!fetching.is_due());
        fetching.put_off(3);
        assert!(fetching.is_due() && fetching.left && fetching.settled.is_empty());
        fetching.disconnected();
        assert_eq!(fetching.want(), Some(0));
    }

    #[test]
    fn what_was_refused_can_be_asked_for_again() {
        let mut fetching = Fetching::default();
        fetching.want();
        fetching.failed();
        assert!(fetching.is_due());
        assert_eq!(fetching.want(), None, "not at once");
        fetching.stage = Stage::Idle;
        assert_eq!(fetching.want(), Some(0));
    }
}
