//! What the server does by itself: what has had its time is removed each hour, old rows of the
//! audit trail each day, and each day its head is logged, for `audit verify --head`. What is left
//! in the files of envelopes that were acknowledged is overwritten within a minute.

use std::time::Duration;

use parlor_common::time::Timestamp;

use super::query::{Answer, Query, Tidying};
use super::{Pending, Server};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When it was done last.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    tidied: Option<Timestamp>,
    cut: Option<Timestamp>,
    /// When the first envelope was erased since the files were scrubbed.
    erased: Option<Timestamp>,
}

impl Housekeeping {
    /// Envelopes were erased.
    pub(super) fn erased(&mut self, now: Timestamp) {
        self.erased.get_or_insert(now);
    }

    /// Whether the files are to be scrubbed, which they then are.
    fn take_scrub(&mut self, now: Timestamp) -> bool {
        self.erased.take_if(|at| now.distance(*at) >= MINUTE).is_some()
    }
}

impl Server {
    /// When [`Server::handle_timeout`] has something to do; absent: at once.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let tidy = self.housekeeping.tidied? + HOUR;
        let scrub = self.housekeeping.erased.map(|at| at + MINUTE);
        Some(scrub.map_or(tidy, |scrub| scrub.min(tidy)))
    }

    /// Some time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let hourly = is_due(self.housekeeping.tidied, HOUR, now);
        if hourly {
            self.tidy(now);
        }
        if self.housekeeping.take_scrub(now) || hourly {
            self.query(Query::Scrub, Pending::Nothing);
        }
    }

    fn tidy(&mut self, now: Timestamp) {
        self.housekeeping.tidied = Some(now);
        let daily = is_due(self.housekeeping.cut, DAY, now);
        let before = |days: u32| now - DAY.saturating_mul(days);
        let audit_before = daily.then(|| before(self.params.limits.audit_days));
        let envelopes_before = before(self.params.limits.mailbox_days);
        let tidying = Tidying { at: now, audit_before, envelopes_before };
        self.query(Query::Tidy(Box::new(tidying)), Pending::Tidied);
        if daily {
            self.housekeeping.cut = Some(now);
            self.ask_audit_head();
        }
    }

    /// Has the head of the audit trail logged.
    pub(super) fn ask_audit_head(&mut self) {
        self.query(Query::AuditAfter { seq: u64::MAX, limit: 0 }, Pending::AuditHead);
    }

    pub(super) fn tidied(answer: &Answer) {
        if let Answer::Tidied(tidied) = answer {
            tracing::debug!(?tidied, "removed what has had its time");
        }
    }

    pub(super) fn log_audit_head(answer: &Answer) {
        if let Answer::Audit(page) = answer
            && let Some(head) = page.head
        {
            tracing::info!(%head, "audit head");
        }
    }
}

/// Whether it is time again. A clock that was put back does not put it off.
fn is_due(last: Option<Timestamp>, every: Duration, now: Timestamp) -> bool {
    last.is_none_or(|last| now.distance(last) >= every)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, Request};

    use super::super::testing::World;
    use super::*;
    use crate::admin::{AdminAnswer, AdminRequest};
    use crate::limits::Limits;
    use crate::store::Store;

    fn events(world: &mut World) -> Vec<String> {
        world.trail().into_iter().map(|row| row.event).collect()
    }

    fn pass(world: &mut World, time: Duration) {
        world.wait(time);
        world.server.handle_timeout(world.now);
        world.settle();
    }

    fn invitations(world: &mut World) -> usize {
        let answer = world.admin(AdminRequest::InviteList { after: None });
        let AdminAnswer::Invitations(list) = answer else { panic!("{answer:?}") };
        list.len()
    }

    #[test]
    fn old_rows_of_the_audit_trail_go() {
        let mut world = World::limited(Limits { audit_days: 10, ..Limits::default() });
        world.register("alice", 1);
        pass(&mut world, Duration::ZERO);
        pass(&mut world, DAY * 10);
        assert_eq!(events(&mut world), ["registered"]);
        pass(&mut world, DAY);
        assert_eq!(events(&mut world), ["anchor", "audit_cut"]);
    }

    #[test]
    fn they_go_once_a_day_and_what_has_expired_each_hour() {
        let mut world = World::limited(Limits { audit_days: 1, ..Limits::default() });
        pass(&mut world, Duration::ZERO);
        world.admin(AdminRequest::InviteCreate { uses: 1, days: 1 });
        pass(&mut world, DAY * 31);
        assert_eq!((invitations(&mut world), events(&mut world).len()), (1, 2));
        world.admin(AdminRequest::InviteCreate { uses: 1, days: 1 });
        for _ in 0..23 {
            pass(&mut world, HOUR);
        }
        assert_eq!((invitations(&mut world), events(&mut world).len()), (1, 3));
    }

    #[test]
    fn a_clock_that_was_put_back_puts_nothing_off() {
        let mut world = World::new();
        world.server.handle_timeout(world.now + DAY * 30);
        world.settle();
        world.server.handle_timeout(world.now);
        assert!(world.server.poll_output().is_some());
    }

    #[test]
    fn what_was_acknowledged_is_out_of_the_files_a_minute_later() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).unwrap();
        let mut world = World::over(store, Limits::default());
        let log = || std::fs::metadata(folder.path().join("db-wal")).unwrap().len();
        pass(&mut world, Duration::ZERO);
        assert_eq!(log(), 0);
        let alice = world.register("alice", 1);
        world.call::<Done>(alice, &Request::EnvelopeAck { ids: vec![1] });
        let start = world.now;
        assert_eq!(world.server.poll_timeout(), Some(start + MINUTE));
        // What else is acknowledged puts nothing off.
        pass(&mut world, MINUTE / 2);
        world.call::<Done>(alice, &Request::EnvelopeAck { ids: vec![1] });
        assert_eq!(world.server.poll_timeout(), Some(start + MINUTE));
        assert!(log() > 0);
        pass(&mut world, MINUTE / 2);
        assert_eq!(log(), 0);
        assert_eq!(world.server.poll_timeout(), Some(start + HOUR));
    }

    #[test]
    fn nothing_is_done_before_its_time() {
        let mut world = World::new();
        assert_eq!(world.server.poll_timeout(), None);
        world.server.handle_timeout(world.now);
        assert!(world.server.poll_output().is_some());
        world.settle();
        assert_eq!(world.server.poll_timeout(), Some(world.now + HOUR));
        world.server.handle_timeout(world.now + HOUR / 2);
        assert!(world.server.poll_output().is_none());
    }
}
