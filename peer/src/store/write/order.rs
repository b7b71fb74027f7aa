//! Where a message stands in its conversation.
//!
//! Messages of a writer stand in the order of their numbers within an incarnation, and one
//! incarnation's before those of the next; otherwise in the order in which they came here.

use parlor_common::id::MessageId;
use parlor_common::identity::AccountKey;

use super::Writer;

/// How far apart messages stand that come one after the other: what comes late finds room between.
const STEP_BITS: u32 = 20;

/// So many incarnations that follow each other are looked through.
const MAX_CHAIN: usize = 64;

/// The place of a message that comes last, by its row.
pub(super) const fn last_place(row: i64) -> i64 {
    row.saturating_mul(1 << STEP_BITS)
}

impl Writer<'_> {
    /// Remembers which incarnation of a writer another one follows, as its first message says. What
    /// came of the earlier one after something of the later one gets its place before that.
    pub(super) fn put_order(
        &mut self,
        person: i64,
        writer: AccountKey,
        id: MessageId,
        after: Option<MessageId>,
    ) -> rusqlite::Result<()> {
        let Some(after) = after.filter(|after| after.incarnation() != id.incarnation()) else {
            return Ok(());
        };
        let incarnation = self.incarnation(writer, id.incarnation())?;
        let previous = self.incarnation(writer, after.incarnation())?;
        let sql = "INSERT INTO follows VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let is_news = self.run(sql, (incarnation, person, previous))? > 0;
        if is_news {
            self.followers.clear();
        }
        match self.first_place(person, incarnation)? {
            Some(first) if is_news => self.move_before(person, previous, first),
            Some(_) | None => Ok(()),
        }
    }

    /// Moves what came of an incarnation, and of those that it follows, before this place.
    fn move_before(
        &mut self,
        person: i64,
        mut incarnation: i64,
        mut place: i64,
    ) -> rusqlite::Result<()> {
        for _ in 0..MAX_CHAIN {
            let sql = "UPDATE messages SET place = ?1 - 1 \
                       WHERE incarnation = ?2 AND person = ?3 AND place > ?1";
            self.run(sql, (place, incarnation, person))?;
            let sql = "SELECT previous FROM follows WHERE incarnation = ?1 AND person = ?2";
            let Some(previous) = self.find(sql, (incarnation, person))? else { break };
            (incarnation, place) = (previous, place.saturating_sub(1));
        }
        Ok(())
    }

    /// The place of a message that comes now: the last; or that of the first that should come after
    /// it and came already, where numbers decide; or just before it, if it is of another
    /// incarnation. `number` is its number where something of its own may have come before it.
    pub(super) fn place(
        &mut self,
        person: i64,
        incarnation: i64,
        number: Option<i64>,
        row: i64,
    ) -> rusqlite::Result<i64> {
        if let Some(number) = number
            && let Some(next) = self.next_place(person, incarnation, number)?
        {
            return Ok(next);
        }
        let follower = self.follower(person, incarnation)?;
        let first = follower.map(|follower| self.first_place(person, follower)).transpose()?;
        Ok(first.flatten().map_or_else(|| last_place(row), |first| first.saturating_sub(1)))
    }

    /// The place of what came first of an incarnation; or, if nothing did, of those that follow it.
    fn first_place(&mut self, person: i64, mut incarnation: i64) -> rusqlite::Result<Option<i64>> {
        for _ in 0..MAX_CHAIN {
            let first = self.next_place(person, incarnation, i64::MIN)?;
            if first.is_some() {
                return Ok(first);
            }
            let Some(follower) = self.follower(person, incarnation)? else { break };
            incarnation = follower;
        }
        Ok(None)
    }

    /// The place of the first message of an incarnation with a higher number.
    fn next_place(
        &self,
        person: i64,
        incarnation: i64,
        number: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT min(place) FROM messages \
                   WHERE incarnation = ?1 AND number > ?2 AND person = ?3";
        let params = (incarnation, number, person);
        self.db.prepare_cached(sql)?.query_row(params, |row| row.get(0))
    }

    fn follower(&mut self, person: i64, incarnation: i64) -> rusqlite::Result<Option<i64>> {
        if let Some(known) = self.followers.get(&(person, incarnation)) {
            return Ok(*known);
        }
        let sql = "SELECT incarnation FROM follows WHERE previous = ?1 AND person = ?2 \
                   ORDER BY incarnation LIMIT 1";
        let found = self.find(sql, (incarnation, person))?;
        self.followers.insert((person, incarnation), found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use crate::node::record::ReceivedMessage;
    use crate::store::Store;
    use crate::store::fixture::{id, name, queue, queued, receive, received, store};

    use super::*;

    /// Message `number` of bob's incarnation, perhaps with the last one of the incarnation before.
    fn of(incarnation: u8, number: u32, after: Option<MessageId>) -> ReceivedMessage {
        let id = id(incarnation, number.into());
        ReceivedMessage { id, after, text: format!("{incarnation}.{number}"), ..received(number) }
    }

    fn texts(store: &Store) -> Vec<String> {
        let history = store.reader().history(&name("bob"), 50, None).unwrap();
        history.into_iter().map(|message| message.text).collect()
    }

    #[test]
    fn what_comes_late_stands_where_it_was_written() {
        let mut store = store();
        let came = [of(2, 1, None), of(2, 5, None)];
        store.commit(came.map(receive)).unwrap();
        store.commit(&[queue(queued(1))]).unwrap();
        for number in [4, 2, 3, 7, 6] {
            store.commit(&[receive(of(2, number, None))]).unwrap();
        }
        assert_eq!(texts(&store), ["2.1", "2.2", "2.3", "2.4", "2.5", "out 1", "2.6", "2.7"]);
    }

    #[test]
    fn what_comes_late_in_any_order_stands_where_it_was_written() {
        let mut store = store();
        for number in [5, 2, 4, 1, 3] {
            store.commit(&[receive(of(2, number, None))]).unwrap();
        }
        assert_eq!(texts(&store), ["2.1", "2.2", "2.3", "2.4", "2.5"]);
    }

    #[test]
    fn an_incarnation_stands_before_the_one_that_says_to_follow_it() {
        let mut store = store();
        // The newest came first, then the oldest, which the one between has named.
        let came = [
            of(4, 1, Some(id(3, 9))),
            of(4, 2, None),
            of(3, 9, Some(id(2, 7))),
            of(2, 7, None),
            of(2, 6, None),
            of(3, 8, None),
        ];
        for message in came {
            store.commit(&[receive(message)]).unwrap();
        }
        assert_eq!(texts(&store), ["2.6", "2.7", "3.8", "3.9", "4.1", "4.2"]);
    }

    #[test]
    fn what_came_before_it_was_known_which_incarnation_it_is_of_finds_its_place_then() {
        let mut store = store();
        let came = [of(3, 2, None), of(2, 6, None), of(2, 7, None), of(3, 1, Some(id(2, 7)))];
        for message in came {
            store.commit([receive(message)]).unwrap();
        }
        assert_eq!(texts(&store), ["2.6", "2.7", "3.1", "3.2"]);
    }

    #[test]
    fn what_came_before_all_that_tells_its_place_finds_it_in_the_end() {
        let mut store = store();
        // The newest first; then the oldest, of which nobody knows yet that they are.
        let came = [
            of(5, 1, Some(id(4, 1))),
            of(2, 1, None),
            of(3, 1, Some(id(2, 1))),
            of(4, 1, Some(id(3, 1))),
        ];
        for message in came {
            store.commit([receive(message)]).unwrap();
        }
        assert_eq!(texts(&store), ["2.1", "3.1", "4.1", "5.1"]);
    }

    #[test]
    fn incarnations_in_a_circle_end_the_search() {
        let mut store = store();
        let came = [of(2, 1, Some(id(3, 1))), of(3, 1, Some(id(2, 1))), of(3, 2, None)];
        store.commit(came.map(receive)).unwrap();
        assert_eq!(texts(&store).len(), 3);
    }
}
