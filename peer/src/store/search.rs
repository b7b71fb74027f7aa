//! Full-text search: an index of the words of all messages (FTS5), made behind the commits.
//!
//! A message is found by its words: each word that is searched for must be the beginning of one of
//! its, whatever case and accents. Which conversation a message is part of is a token of the index
//! too, so that a search in one conversation reads nothing of the others.
//!
//! A commit does not wait for the index. Rows up to a mark stand in it; [`index_some`] moves the
//! mark on when nothing else is due, and a search looks through what is behind it. A message
//! that is erased or changed leaves the index in the same transaction, by triggers of the schema.

use std::time::Duration;

use parlor_common::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::ReadError;
use super::schema::TOKENIZER;

/// How many messages are indexed in one transaction: a few milliseconds.
const BATCH: u32 = 500;

/// How long nothing was committed before what was is indexed.
const QUIET: Duration = Duration::from_millis(50);

/// Where it never gets quiet, a batch is indexed this often all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many batches are indexed at the end of an engine, at most.
const CLOSING_BATCHES: u32 = 20;

/// No more different words than these are looked for.
const MAX_WORDS: u32 = 64;

/// A word's beginning that so few words have is searched for as those words, which the index gives
/// newest first and only as many as are wanted. What more words have is merged first: a tenth of a
/// second where it stands in a million messages. See [`expansion`].
const MAX_EXPANSION: usize = 64;

/// So many messages that are not indexed yet are looked through at once.
const CHUNK: u32 = 1000;

/// Where nothing that was searched for is a word, such as `:-)`, the newest this many messages of
/// the conversation are looked through.
const MAX_SCANNED: u32 = 100_000;

/// When the index is to be brought up to date.
#[derive(Debug)]
pub(super) struct Indexing {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    UpToDate,
    /// Something was committed, or is not known to be indexed; since when is not known yet.
    Behind {
        latest: Option<Timestamp>,
    },
    Due {
        at: Timestamp,
        latest: Timestamp,
    },
}

impl Indexing {
    /// Of a database of which nothing is known.
    pub(super) const fn new() -> Self {
        Self { state: State::Behind { latest: None } }
    }

    /// Something was committed.
    pub(super) const fn written(&mut self) {
        self.state = match self.state {
            State::UpToDate => State::Behind { latest: None },
            State::Due { latest, .. } => State::Behind { latest: Some(latest) },
            State::Behind { latest } => State::Behind { latest },
        };
    }

    /// When a batch is due.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::Due { at, .. } => Some(at),
            State::UpToDate | State::Behind { .. } => None,
        }
    }

    /// Whether a batch is due now.
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        if let State::Behind { latest } = self.state {
            let latest = latest.unwrap_or(now + PATIENCE);
            self.state = State::Due { at: latest.min(now + QUIET), latest };
        }
        self.poll_timeout().is_some_and(|due| due <= now)
    }

    /// A batch was indexed.
    pub(super) fn indexed(&mut self, now: Timestamp, progress: Progress) {
        self.state = match progress {
            Progress::UpToDate => State::UpToDate,
            Progress::More => State::Due { at: now, latest: now + PATIENCE },
        };
    }
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// There are messages that are not in it.
    More,
    /// Every message is in it.
    UpToDate,
}

/// Brings the index some messages further, in the order of their rows.
pub(super) fn index_some(db: &mut Connection) -> rusqlite::Result<Progress> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = indexed_up_to(&transaction)?;
    let sql = "SELECT max(id), count(*) FROM \
               (SELECT id FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2)";
    let (to, count) = transaction.query_one(sql, (from, BATCH), |row| {
        Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, u32>(1)?))
    })?;
    let Some(to) = to else { return Ok(Progress::UpToDate) };
    transaction.execute(
        "INSERT INTO search (rowid, person, text) \
         SELECT id, person, text FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id",
        (from, to),
    )?;
    transaction.execute("UPDATE search_progress SET up_to = ?1", [to])?;
    transaction.commit()?;
    Ok(if count < BATCH { Progress::UpToDate } else { Progress::More })
}

/// Indexes before the end what is not indexed yet, as far as it takes no time that anybody notices.
/// Nothing depends on it: a search looks through the rest, and the next engine goes on.
pub(super) fn index_before_closing(db: &mut Connection) {
    for _ in 0..CLOSING_BATCHES {
        match index_some(db) {
            Ok(Progress::More) => {}
            Ok(Progress::UpToDate) => return,
            Err(error) => return tracing::warn!(%error, "the search is not up to date"),
        }
    }
}

/// The row up to which messages are indexed.
fn indexed_up_to(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT up_to FROM search_progress")?.query_one([], |row| row.get(0))
}

/// A search in the conversation with a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// The person's number.
    pub(super) person: i64,
    /// What is searched for.
    pub(super) words: &'a str,
    /// Only rows before this one.
    pub(super) before: i64,
    /// How many, at most.
    pub(super) limit: u32,
}

impl Search<'_> {
    /// The newest rows that are found, newest first.
    pub(super) fn run(self, db: &Connection) -> Result<Vec<i64>, ReadError> {
        // One state of the index and of what is not in it yet.
        let transaction = db.unchecked_transaction()?;
        prepare(db)?;
        let words = words_of(db, self.words)?;
        let rows = if words.is_empty() { self.scan(db)? } else { self.find(db, &words)? };
        transaction.commit()?;
        Ok(rows)
    }

    fn find(self, db: &Connection, words: &[String]) -> rusqlite::Result<Vec<i64>> {
        let up_to = indexed_up_to(db)?;
        let mut rows = self.find_behind(db, words, up_to)?;
        let missing = self.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        if missing > 0 {
            let query = self.index_query(db, words)?;
            let sql = "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid < ?2 \
                       ORDER BY rowid DESC LIMIT ?3";
            let before = self.before.min(up_to.saturating_add(1));
            rows.extend(rows_of(db, sql, (query, before, missing))?);
        }
        Ok(rows)
    }

    /// What is found among the messages that are not indexed: a chunk at a time is indexed in
    /// memory by the same tokenizer, newest first.
    fn find_behind(
        self,
        db: &Connection,
        words: &[String],
        up_to: i64,
    ) -> rusqlite::Result<Vec<i64>> {
        let query = all_of(words.iter().map(|word| prefix(word)));
        let (mut rows, mut before) = (Vec::new(), self.before);
        while let Some(first) = self.take_chunk(db, up_to, before)? {
            let limit = self.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            let sql = "SELECT rowid FROM temp.search_chunk WHERE search_chunk MATCH ?1 \
                       ORDER BY rowid DESC LIMIT ?2";
            rows.extend(rows_of(db, sql, (&query, limit))?);
            before = first;
            if u32::try_from(rows.len()).is_ok_and(|found| found >= self.limit) {
                break;
            }
        }
        Ok(rows)
    }

    /// Indexes the conversation's part of the next chunk in memory, in place of the one before.
    /// Gives the chunk's first row.
    fn take_chunk(self, db: &Connection, up_to: i64, before: i64) -> rusqlite::Result<Option<i64>> {
        clear_chunk(db)?;
        let sql = "SELECT min(id) FROM (SELECT id FROM messages WHERE id > ?1 AND id < ?2 \
                   ORDER BY id DESC LIMIT ?3)";
        let first: Option<i64> =
            db.prepare_cached(sql)?.query_one((up_to, before, CHUNK), |row| row.get(0))?;
        let insert = "INSERT INTO temp.search_chunk (rowid, text) SELECT id, text FROM messages \
                      WHERE id >= ?1 AND id < ?2 AND person = ?3 ORDER BY id";
        db.prepare_cached(insert)?.execute((first.unwrap_or(before), before, self.person))?;
        Ok(first)
    }

    /// The query for the index, in the language of FTS5: every word stands in quotes.
    fn index_query(self, db: &Connection, words: &[String]) -> rusqlite::Result<String> {
        let mut terms = vec![format!("person : \"{}\"", self.person)];
        for word in words {
            terms.push(match expansion(db, word)? {
                Some(all) => format!("text : ({})", any_of(all.iter().map(|term| quoted(term)))),
                None => format!("text : {}", prefix(word)),
            });
        }
        Ok(all_of(terms))
    }

    /// Looks through the newest messages for these very characters.
    fn scan(self, db: &Connection) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT id FROM (SELECT id, text FROM messages WHERE person = ?1 AND id < ?2 \
                   AND text <> '' ORDER BY place DESC LIMIT ?3) WHERE instr(text, ?4) > 0 LIMIT ?5";
        rows_of(db, sql, (self.person, self.before, MAX_SCANNED, self.words.trim(), self.limit))
    }
}

/// Makes what a search needs in memory, once for a connection: an index of a few texts, the words
/// in it, and the words of the whole index.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.search_chunk \
         USING fts5(text, content = '', detail = none, tokenize = '{TOKENIZER}'); \
         CREATE VIRTUAL TABLE IF NOT EXISTS temp.search_chunk_words \
         USING fts5vocab(temp, search_chunk, row); \
         CREATE VIRTUAL TABLE IF NOT EXISTS temp.search_words \
         USING fts5vocab(main, search, instance);"
    ))
}

fn clear_chunk(db: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO temp.search_chunk (search_chunk) VALUES ('delete-all')";
    db.prepare_cached(sql)?.execute([]).map(drop)
}

/// The different words of a text, folded, as the tokenizer finds them: it is asked itself.
fn words_of(db: &Connection, text: &str) -> rusqlite::Result<Vec<String>> {
    clear_chunk(db)?;
    let insert = "INSERT INTO temp.search_chunk (rowid, text) VALUES (1, ?1)";
    db.prepare_cached(insert)?.execute([text])?;
    let sql = "SELECT term FROM temp.search_chunk_words LIMIT ?1";
    let mut query = db.prepare_cached(sql)?;
    let words = query.query_map([MAX_WORDS], |row| row.get(0))?.collect();
    drop(query);
    clear_chunk(db)?;
    words
}

/// All words of the index that begin with `word`, unless they are many. It goes from word to word:
/// each is looked up after the one before, so that the messages with it are not read.
fn expansion(db: &Connection, word: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let sql = "SELECT term FROM temp.search_words WHERE term >= ?1 LIMIT 1";
    let mut next = db.prepare_cached(sql)?;
    let (mut words, mut from) = (Vec::new(), word.to_owned());
    while let Some(found) = next.query_row([&from], |row| row.get::<_, String>(0)).optional()? {
        if !found.starts_with(word) {
            break;
        }
        if words.len() == MAX_EXPANSION {
            return Ok(None);
        }
        // No word holds this character: the next one is the first after.
        from = format!("{found}\u{1}");
        words.push(found);
    }
    if words.is_empty() {
        words.push(word.to_owned());
    }
    Ok(Some(words))
}

/// A text as FTS5 takes it for a string, whatever it holds.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn prefix(word: &str) -> String {
    format!("{}*", quoted(word))
}

fn all_of(terms: impl IntoIterator<Item = String>) -> String {
    terms.into_iter().collect::<Vec<_>>().join(" AND ")
}

fn any_of(terms: impl IntoIterator<Item = String>) -> String {
    terms.into_iter().collect::<Vec<_>>().join(" OR ")
}

fn rows_of(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use parlor_common::id::Username;

    use super::*;
    use crate::node::record::{Change, ReceivedMessage};
    use crate::store::fixture::{name, queue, queued, receive, received, store};
    use crate::store::{HistoryPage, Store};

    const MINUTE: Timestamp = Timestamp::from_millis(60_000);

    /// A store with these messages of bob, in this order.
    fn with(texts: &[&str]) -> Store {
        let mut store = store();
        let changes: Vec<_> =
            (1..).zip(texts).map(|(number, text)| from_bob(number, text)).collect();
        store.commit(changes).unwrap();
        store
    }

    fn from_bob(number: u32, text: &str) -> Change {
        receive(ReceivedMessage { text: text.to_owned(), ..received(number) })
    }

    fn index_all(store: &mut Store) {
        while store.index_some().unwrap() == Progress::More {}
    }

    fn found_with(store: &Store, contact: &Username, words: &str) -> Vec<String> {
        let found = store.reader().history(contact, 50, Some(words)).unwrap();
        found.into_iter().map(|message| message.text).collect()
    }

    fn found(store: &Store, words: &str) -> Vec<String> {
        found_with(store, &name("bob"), words)
    }

    /// Whether the index holds what it should, and nothing else.
    fn is_sound(store: &Store) -> bool {
        let sql = "INSERT INTO search (search, rank) VALUES ('integrity-check', 1)";
        store.database.lock().db.execute(sql, []).is_ok()
    }

    /// Runs a check before the messages are indexed, and after.
    fn either_way(texts: &[&str], check: impl Fn(&Store)) {
        let mut store = with(texts);
        check(&store);
        index_all(&mut store);
        assert_eq!(indexed_up_to(&store.database.lock().db), Ok(texts.len().try_into().unwrap()));
        assert!(is_sound(&store));
        check(&store);
    }

    fn erase(store: &Store, row: i64) {
        store.flush().unwrap();
        for sql in [
            "DELETE FROM unprinted WHERE message = ?1",
            "DELETE FROM opened WHERE message = ?1",
            "DELETE FROM messages WHERE id = ?1",
        ] {
            store.database.lock().db.execute(sql, [row]).unwrap();
        }
    }

    #[test]
    fn every_word_must_be_the_beginning_of_one_and_case_and_accents_do_not_matter() {
        let texts =
            ["The CAFÉ is open", "Cafe\u{301} nearby", "open cafeteria", "nothing", "Ελλάδα ÜBER"];
        either_way(&texts, |store| {
            assert_eq!(found(store, "cafe"), [texts[0], texts[1], texts[2]]);
            assert_eq!(found(store, "ca OPEN"), [texts[0], texts[2]]);
            assert_eq!(found(store, "café, open!"), [texts[0], texts[2]]);
            assert_eq!(found(store, "feteria"), Vec::<String>::new());
            assert_eq!(found(store, "o"), [texts[0], texts[2]]);
            assert_eq!(found(store, "ελλ uber"), [texts[4]]);
            assert_eq!(found(store, "open missing"), Vec::<String>::new());
        });
    }

    #[test]
    fn what_is_typed_is_never_syntax() {
        let texts = ["a AND b", "near(x) NOT y", "person 1", "c\"d", "text : *", "e-mail"];
        either_way(&texts, |store| {
            assert_eq!(found(store, "AND"), [texts[0]]);
            assert_eq!(found(store, "NOT near("), [texts[1]]);
            assert_eq!(found(store, "person:1"), [texts[2]]);
            assert_eq!(found(store, "\"c"), [texts[3]]);
            assert_eq!(found(store, "text* OR"), Vec::<String>::new());
            assert_eq!(found(store, "mail e"), [texts[5]]);
            assert_eq!(found(store, "{x} ^y + \0"), [texts[1]]);
            assert_eq!(found(store, &"word ".repeat(20_000)), Vec::<String>::new());
            assert_eq!(found(store, &"x".repeat(100_000)), Vec::<String>::new());
        });
    }

    #[test]
    fn where_no_word_is_searched_for_it_is_these_very_characters() {
        either_way(&["sure :-)", "50 %", "plain"], |store| {
            assert_eq!(found(store, ":-)"), ["sure :-)"]);
            assert_eq!(found(store, " % "), ["50 %"]);
            assert_eq!(found(store, "\\"), Vec::<String>::new());
            assert_eq!(found(store, "🎈"), Vec::<String>::new());
            assert_eq!(found(store, "").len(), 3);
        });
    }

    #[test]
    fn a_search_stays_in_its_conversation() {
        let mut store = with(&["hello", "other"]);
        let mut to_carol = queued(1);
        to_carol.to = name("carol");
        "hello carol".clone_into(&mut to_carol.text);
        store.commit([queue(to_carol)]).unwrap();
        for _ in 0..2 {
            assert_eq!(found(&store, "hello"), ["hello"]);
            assert_eq!(found_with(&store, &name("carol"), "hello"), ["hello carol"]);
            assert_eq!(found_with(&store, &name("dave"), "hello"), Vec::<String>::new());
            // The number of the person is a word of another column.
            assert_eq!(found(&store, "1"), Vec::<String>::new());
            index_all(&mut store);
        }
    }

    #[test]
    fn the_newest_are_found_whether_indexed_or_not_and_in_pages() {
        let many: Vec<String> =
            (1..=2 * CHUNK + 9).map(|number| format!("w{number} all")).collect();
        let texts: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut store = with(&texts);
        let len = i64::try_from(texts.len()).unwrap();
        let page = |store: &Store, before: i64, limit: u32| {
            let page = HistoryPage { limit, before: Some(before), search: Some("all") };
            let found = store.reader().page(&name("bob"), &page).unwrap();
            found.into_iter().map(|message| message.row).collect::<Vec<_>>()
        };
        let hundred: Vec<_> =
            many.iter().filter(|text| text.starts_with("w100")).cloned().collect();
        assert_eq!(hundred.len(), 11);
        let check = |store: &Store| {
            assert_eq!(found(store, "all").len(), 50);
            assert_eq!(found(store, "w7").len(), 50, "more words begin with this than are tried");
            assert_eq!(found(store, "w100 all"), hundred);
            assert_eq!(page(store, len + 1, 2), [len - 1, len]);
            assert_eq!(page(store, 1500, 3), [1497, 1498, 1499]);
            assert_eq!(page(store, 3, 3), [1, 2]);
            assert_eq!(page(store, i64::MAX, 4000).len(), texts.len());
            assert_eq!(page(store, len, 0), Vec::<i64>::new());
        };
        check(&store);
        assert_eq!(store.index_some().unwrap(), Progress::More);
        assert_eq!(indexed_up_to(&store.database.lock().db), Ok(BATCH.into()));
        check(&store);
        index_all(&mut store);
        assert!(is_sound(&store));
        check(&store);
    }

    #[test]
    fn what_is_erased_or_changed_leaves_the_index_at_once() {
        let mut store = with(&["secret one", "secret two", "three"]);
        index_all(&mut store);
        erase(&store, 1);
        store
            .database
            .lock()
            .db
            .execute("UPDATE messages SET text = 'now' WHERE id = 2", [])
            .unwrap();
        assert!(is_sound(&store));
        assert_eq!(found(&store, "secret"), Vec::<String>::new());
        assert_eq!(found(&store, "now"), ["now"]);
        let sql = "SELECT count(*) FROM search_data WHERE instr(block, CAST('secret' AS BLOB))";
        let holding: u32 = store.database.lock().db.query_one(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(holding, 0, "the word itself is gone");
        // What is not indexed yet has nothing to leave.
        store.commit([from_bob(4, "late"), from_bob(5, "later")]).unwrap();
        erase(&store, 4);
        index_all(&mut store);
        assert!(is_sound(&store));
        assert_eq!(found(&store, "late"), ["later"]);
    }

    #[test]
    fn a_row_that_takes_the_number_of_one_that_was_erased_is_indexed() {
        let mut store = with(&["one", "two"]);
        index_all(&mut store);
        erase(&store, 2);
        store.commit([from_bob(3, "three")]).unwrap();
        assert_eq!(found(&store, "three"), ["three"]);
        index_all(&mut store);
        assert!(is_sound(&store));
        assert_eq!(found(&store, "t"), ["three"]);
    }

    #[test]
    fn a_batch_is_due_when_it_is_quiet_and_once_a_second_when_it_never_is() {
        let mut store = with(&["one"]);
        store.handle_timeout(MINUTE).unwrap();
        let up_to = |store: &Store| indexed_up_to(&store.database.lock().db).unwrap();
        let step = QUIET / 2;
        let mut now = MINUTE;
        for number in 2.. {
            store.commit([from_bob(number, "more")]).unwrap();
            now = now + step;
            store.handle_timeout(now).unwrap();
            if up_to(&store) > 0 {
                break;
            }
        }
        assert_eq!(now, MINUTE + PATIENCE);
        store.commit([from_bob(1000, "last")]).unwrap();
        store.handle_timeout(now).unwrap();
        store.handle_timeout(now + QUIET).unwrap();
        assert_eq!(found(&store, "last"), ["last"]);
        assert!(is_sound(&store) && up_to(&store) > 40);
    }

    #[test]
    fn the_index_is_used() {
        let store = with(&["one"]);
        let reader = store.reader();
        let db = &reader.db;
        let plan = |sql: &str| -> String {
            let mut query = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = query.query_map([], |row| row.get::<_, String>(3)).unwrap();
            steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
        };
        let search = plan(
            "SELECT rowid FROM search WHERE search MATCH 'x' AND rowid < 9 ORDER BY rowid DESC LIMIT 5",
        );
        assert!(
            search.contains("SCAN search VIRTUAL TABLE INDEX") && !search.contains("TEMP B-TREE"),
            "{search}"
        );
        let behind =
            plan("SELECT id FROM messages WHERE id > 1 AND id < 9 ORDER BY id DESC LIMIT 5");
        assert!(behind.contains("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{behind}");
        assert!(!behind.contains("TEMP B-TREE"), "{behind}");
    }
}
