//! The verifier: rows in, in the order of their numbers, and the first that does not fit.

use thiserror::Error;

use super::{ANCHOR, AuditEvent, Claim, Head, Row};

/// What a sound trail comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verified {
    /// How many rows there are, the anchor not counted.
    pub rows: u64,
    /// The newest.
    pub head: Head,
}

/// The trail is not what the server wrote.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Broken {
    /// A row's hash is not that of what is in it after the row before.
    #[error("row {seq} is not as it was written")]
    Edited {
        /// The row.
        seq: u64,
    },
    /// A number is left out.
    #[error("row {seq} is missing")]
    Missing {
        /// The first that is missing.
        seq: u64,
    },
    /// The rows before the first are gone, and no cut that the server made says so.
    #[error("the rows before row {seq} were removed, and not by the server")]
    BadStart {
        /// The first row that is there.
        seq: u64,
    },
    /// The newest row is not the one that the server wrote last.
    #[error("the trail ends with row {last}, but row {written} was written last")]
    BadEnd {
        /// The newest row that is there, 0 if there is none.
        last: u64,
        /// What the server wrote last.
        written: u64,
    },
    /// The note that says which row is the newest is gone.
    #[error("nothing says which row was written last")]
    NoHead,
    /// The head that somebody kept is not in the trail.
    #[error(
        "the head {0} is not in this trail: it was written anew or cut off \
         (or that row is older than what is kept)"
    )]
    HeadNotFound(Claim),
}

/// Verifies a trail row by row.
#[derive(Debug)]
pub struct Chain {
    last: Head,
    rows: u64,
    anchor: Option<Head>,
    /// What the newest cut in the chain says is left.
    cut: Option<String>,
    claim: Option<Claim>,
    found: bool,
}

impl Chain {
    /// Starts before the first row. The trail must contain `claim`, if there is one.
    pub fn new(claim: Option<Claim>) -> Self {
        let mut chain =
            Self { last: Head::default(), rows: 0, anchor: None, cut: None, claim, found: false };
        chain.advance(Head::default());
        chain
    }

    /// The number of the last row that was taken, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last.seq
    }

    /// Takes the next row.
    pub fn feed(&mut self, row: &Row) -> Result<(), Broken> {
        if self.rows == 0 && self.anchor.is_none() && row.event == ANCHOR {
            return self.start_at(row);
        }
        self.check_number(row.seq)?;
        let hash = row.hash_after(&self.last.hash);
        if hash.to_string() != row.hash {
            return Err(Broken::Edited { seq: row.seq });
        }
        if row.event == AuditEvent::AuditCut.as_str() {
            self.cut.clone_from(&row.reason);
        }
        self.rows += 1;
        self.advance(Head { seq: row.seq, hash });
        Ok(())
    }

    /// Ends the trail, whose newest row must be the one that was written last: `head`.
    pub fn finish(self, head: Option<Head>) -> Result<Verified, Broken> {
        if self.cut != self.anchor.map(|anchor| anchor.to_string()) {
            let first = self.last.seq.saturating_sub(self.rows).saturating_add(1);
            return Err(Broken::BadStart { seq: first });
        }
        let written =
            head.or_else(|| (self.rows == 0).then_some(self.last)).ok_or(Broken::NoHead)?;
        if written.seq != self.last.seq {
            return Err(Broken::BadEnd { last: self.last.seq, written: written.seq });
        }
        if written != self.last {
            return Err(Broken::Edited { seq: self.last.seq });
        }
        match self.claim {
            Some(claim) if !self.found => Err(Broken::HeadNotFound(claim)),
            Some(_) | None => Ok(Verified { rows: self.rows, head: self.last }),
        }
    }

    /// An anchor's hash covers what is there no more; the newest cut must name it.
    fn start_at(&mut self, row: &Row) -> Result<(), Broken> {
        let edited = Broken::Edited { seq: row.seq };
        let anchor = row.head().ok_or_else(|| edited.clone())?;
        if *row != Row::anchor(&anchor) {
            return Err(edited);
        }
        self.anchor = Some(anchor);
        self.advance(anchor);
        Ok(())
    }

    fn check_number(&self, seq: u64) -> Result<(), Broken> {
        let next = self.last.seq.saturating_add(1);
        if seq == next {
            return Ok(());
        }
        if self.last.seq == 0 {
            Err(Broken::BadStart { seq })
        } else {
            Err(Broken::Missing { seq: next })
        }
    }

    fn advance(&mut self, to: Head) {
        self.last = to;
        self.found |= self.claim.is_some_and(|claim| {
            claim.hash == to.hash && claim.seq.is_none_or(|seq| seq == to.seq)
        });
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::time::Timestamp;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::audit::{Entry, Reason, RowHash};

    /// A trail in memory, as the store keeps it.
    #[derive(Clone, Debug, Default)]
    struct Trail {
        rows: Vec<Row>,
        head: Option<Head>,
    }

    impl Trail {
        fn append(&mut self, entry: &Entry) {
            let row = Row::following(&self.head.unwrap_or_default(), entry);
            self.head = row.head();
            self.rows.push(row);
        }

        fn of(entries: &[Entry]) -> Self {
            let mut trail = Self::default();
            for entry in entries {
                trail.append(entry);
            }
            trail
        }

        /// Removes all rows before the one at `index` and cuts that one down.
        fn cut(&mut self, index: usize) {
            let anchor = self.rows[index].head().unwrap();
            let cut = Entry::new(AuditEvent::AuditCut, Timestamp::from_millis(99));
            self.append(&cut.because(Reason::Cut(anchor)));
            self.rows.drain(..index);
            self.rows[0] = Row::anchor(&anchor);
        }

        fn verify(&self) -> Result<Verified, Broken> {
            self.verify_with(None)
        }

        fn verify_with(&self, claim: Option<Claim>) -> Result<Verified, Broken> {
            let mut chain = Chain::new(claim);
            self.rows.iter().try_for_each(|row| chain.feed(row))?;
            chain.finish(self.head)
        }
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let event = prop::sample::select(AuditEvent::ALL)
            .prop_filter("written by cuts", |event| *event != AuditEvent::AuditCut);
        let account = prop::option::of("[a-z]{3,8}");
        let source = prop::option::of(any::<std::net::IpAddr>());
        (event, 1..1000_u64, account, source).prop_map(|(event, at, account, source)| {
            let account = account.map(|name| name.parse().unwrap());
            Entry { event, at: Timestamp::from_millis(at), account, source, reason: None }
        })
    }

    fn trail() -> impl Strategy<Value = Trail> {
        let cut = prop::option::of(any::<Index>());
        (prop::collection::vec(entry(), 2..12), cut).prop_map(|(entries, cut)| {
            let mut trail = Trail::of(&entries);
            if let Some(index) = cut {
                trail.cut(index.index(trail.rows.len()));
            }
            trail
        })
    }

    /// Changes one field of a row.
    fn edit(row: &mut Row, field: usize) {
        let other = |text: &Option<String>| match text {
            Some(text) if !text.is_empty() => Some(String::new()),
            Some(_) => None,
            None => Some(String::new()),
        };
        match field % 7 {
            0 => row.at = Timestamp::from_millis(row.at.as_millis() ^ 1),
            1 => row.event.push('x'),
            2 => row.account = other(&row.account),
            3 => row.source = other(&row.source),
            4 => row.reason = other(&row.reason),
            5 => row.seq ^= 1,
            _ => row.hash = row.hash.replace(|c: char| c == row_digit(row), "g"),
        }
    }

    fn row_digit(row: &Row) -> char {
        row.hash.chars().next().unwrap()
    }

    proptest! {
        #[test]
        fn a_trail_as_it_was_written_is_sound(trail in trail()) {
            let verified = trail.verify().unwrap();
            prop_assert_eq!(Some(verified.head), trail.head);
            for row in &trail.rows {
                let Head { seq, hash } = row.head().unwrap();
                for seq in [Some(seq), None] {
                    let claim = Claim { seq, hash };
                    prop_assert!(trail.verify_with(Some(claim)).is_ok());
                }
            }
        }

        #[test]
        fn a_removed_row_is_noticed(mut trail in trail(), index: Index) {
            trail.rows.remove(index.index(trail.rows.len()));
            prop_assert!(trail.verify().is_err());
        }

        #[test]
        fn an_edited_row_is_noticed(mut trail in trail(), index: Index, field: usize) {
            let at = index.index(trail.rows.len());
            edit(&mut trail.rows[at], field);
            prop_assert!(trail.verify().is_err());
        }

        #[test]
        fn an_edited_row_with_the_right_hash_is_noticed(mut trail in trail(), index: Index) {
            let at = index.index(trail.rows.len() - 1);
            let previous = if at == 0 { Head::default() } else { trail.rows[at - 1].head().unwrap() };
            let mut row = trail.rows[at].clone();
            row.event = "logged_in_too".to_owned();
            row.hash = row.hash_after(&previous.hash).to_string();
            trail.rows[at] = row;
            prop_assert!(trail.verify().is_err());
        }

        #[test]
        fn swapped_rows_are_noticed(mut trail in trail(), one: Index, other: Index) {
            let (one, other) = (one.index(trail.rows.len()), other.index(trail.rows.len()));
            prop_assume!(one != other);
            trail.rows.swap(one, other);
            prop_assert!(trail.verify().is_err());
            // As one who renumbers them would leave it.
            let (seq, other_seq) = (trail.rows[one].seq, trail.rows[other].seq);
            trail.rows[one].seq = other_seq;
            trail.rows[other].seq = seq;
            prop_assert!(trail.verify().is_err());
        }

        #[test]
        fn an_inserted_row_is_noticed(mut trail in trail(), index: Index, entry in entry()) {
            let at = index.index(trail.rows.len() + 1);
            let before = if at == 0 { Head::default() } else { trail.rows[at - 1].head().unwrap() };
            trail.rows.insert(at, Row::following(&before, &entry));
            prop_assert!(trail.verify().is_err());
            for (row, seq) in trail.rows.iter_mut().zip(1..) {
                row.seq = seq;
            }
            prop_assert!(trail.verify().is_err());
        }

        #[test]
        fn an_end_that_was_cut_off_is_noticed(mut trail in trail(), index: Index) {
            trail.rows.truncate(index.index(trail.rows.len()));
            prop_assert!(trail.verify().is_err());
            // The note was moved too: only who kept the head notices.
            let kept = trail.head.unwrap();
            trail.head = trail.rows.last().and_then(Row::head);
            let claim = Claim { seq: Some(kept.seq), hash: kept.hash };
            prop_assert!(trail.verify_with(Some(claim)).is_err());
        }

        #[test]
        fn a_start_that_the_server_did_not_cut_is_noticed(mut trail in trail(), index: Index) {
            let at = index.index(trail.rows.len());
            prop_assume!(trail.rows[at].event != ANCHOR);
            let anchor = trail.rows[at].head().unwrap();
            trail.rows.drain(..at);
            let rest = trail.clone();
            trail.rows[0] = Row::anchor(&anchor);
            prop_assert!(trail.verify().is_err());
            prop_assert!(at == 0 || rest.verify().is_err());
        }

        #[test]
        fn a_trail_that_was_written_anew_lacks_the_head_that_was_logged(
            trail in trail(), others in prop::collection::vec(entry(), 12..16)
        ) {
            let anew = Trail::of(&others);
            prop_assume!(anew.rows[0] != trail.rows[0]);
            let Head { seq, hash } = trail.head.unwrap();
            prop_assert!(anew.verify().is_ok());
            for seq in [Some(seq), None] {
                let claim = Claim { seq, hash };
                let found = anew.verify_with(Some(claim));
                prop_assert_eq!(found, Err(Broken::HeadNotFound(claim)));
            }
        }
    }

    fn three() -> Trail {
        Trail::of(&[1, 2, 3].map(|at| Entry::new(AuditEvent::LoggedIn, Timestamp::from_millis(at))))
    }

    #[test]
    fn what_is_wrong_is_named() {
        let broken = |spoil: fn(&mut Trail)| {
            let mut trail = three();
            spoil(&mut trail);
            trail.verify().unwrap_err()
        };
        assert_eq!(broken(|t| t.rows[1].event.push('x')), Broken::Edited { seq: 2 });
        assert_eq!(broken(|t| t.rows[1].seq = 3), Broken::Missing { seq: 2 });
        assert_eq!(broken(|t| drop(t.rows.remove(1))), Broken::Missing { seq: 2 });
        assert_eq!(broken(|t| drop(t.rows.remove(0))), Broken::BadStart { seq: 2 });
        assert_eq!(broken(|t| drop(t.rows.pop())), Broken::BadEnd { last: 2, written: 3 });
        assert_eq!(broken(|t| t.rows.clear()), Broken::BadEnd { last: 0, written: 3 });
        assert_eq!(broken(|t| t.head = None), Broken::NoHead);
        assert_eq!(
            broken(|t| t.head = Some(Head { seq: 3, hash: RowHash::default() })),
            Broken::Edited { seq: 3 }
        );
    }

    #[test]
    fn a_cut_that_is_named_no_more_is_noticed() {
        let mut trail = three();
        trail.cut(1);
        assert_eq!(trail.verify().unwrap().rows, 2);
        // An older anchor is put back, with the rows after it.
        let mut back = three();
        back.cut(0);
        let row = Row::following(
            &back.head.unwrap(),
            &Entry::new(AuditEvent::AuditCut, Timestamp::default()),
        );
        back.head = row.head();
        back.rows.push(row);
        assert_eq!(back.verify(), Err(Broken::BadStart { seq: 2 }));
    }

    #[test]
    fn an_empty_trail_is_sound_until_a_head_is_asked_for() {
        assert_eq!(Trail::default().verify().unwrap(), Verified { rows: 0, head: Head::default() });
        let claim = Claim { seq: Some(1), hash: RowHash::new([1; 32]) };
        assert!(Trail::default().verify_with(Some(claim)).is_err());
    }
}
