//! A case: what happens in a conversation, and what must come of it.

use std::time::Duration;

use parlor::crypto::session::{OpenError, Turned};
use parlor_common::envelope::Envelope;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::prepared::Prepared;
use crate::side::{MAX_SKIP, Side};
use crate::tally::Tally;

/// Opened messages that are at hand to come again.
const REMEMBERED: usize = 64;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A message, on its way or opened.
#[derive(Clone)]
struct Mail {
    /// The side that it is for.
    to: usize,
    /// How many its sender sealed before it.
    number: u32,
    text: Vec<u8>,
    envelope: Envelope,
}

/// What happens next.
#[derive(Clone, Copy)]
enum Happening {
    /// A side sends a few messages.
    Sends,
    /// A side sends many, of which few arrive.
    Babbles,
    /// What was sent first arrives.
    Arrives,
    /// Something that was sent arrives.
    Overtakes,
    Lost,
    /// Something that was opened arrives again.
    Again,
    /// Something that was sent arrives with a bit flipped, and is still on its way.
    Forged,
    /// A side makes its next step ready.
    Prepares,
    Restarts,
    /// A side's date jumps.
    Jumps,
}

/// How often each of them happens, in a conversation that is calm and in one with long gaps, which
/// every twentieth is.
const CALM: [(Happening, u32); 9] = [
    (Happening::Sends, 20),
    (Happening::Arrives, 20),
    (Happening::Overtakes, 25),
    (Happening::Lost, 5),
    (Happening::Again, 5),
    (Happening::Forged, 2),
    (Happening::Prepares, 10),
    (Happening::Restarts, 4),
    (Happening::Jumps, 3),
];
const GAPPY: [(Happening, u32); 6] = [
    (Happening::Babbles, 10),
    (Happening::Overtakes, 14),
    (Happening::Again, 2),
    (Happening::Prepares, 4),
    (Happening::Restarts, 2),
    (Happening::Jumps, 1),
];

/// See the [module](self).
pub struct Talk {
    seed: u64,
    rng: StdRng,
    /// Alice, who initiated, and Bob.
    sides: [Side; 2],
    on_their_way: Vec<Mail>,
    opened: Vec<Mail>,
    tally: Tally,
}

impl Talk {
    /// Holds the conversation of a seed.
    pub fn hold(seed: u64, prepared: &[Prepared]) -> Tally {
        let mut rng = StdRng::seed_from_u64(seed);
        let Prepared { alice, bob, first } = &prepared[rng.random_range(0..prepared.len())];
        let heard = u32::from(first.is_none());
        let sides = [Side::new(alice, 1, heard), Side::new(bob, heard, heard)];
        let first =
            first.clone().map(|envelope| Mail { to: 1, number: 0, text: b"hi".to_vec(), envelope });
        let on_their_way = first.into_iter().collect();
        let (opened, tally) = (Vec::new(), Tally::default());
        let mut talk = Self { seed, rng, sides, on_their_way, opened, tally };
        talk.storm();
        talk.calm_down();
        talk.talk_on();
        std::mem::take(&mut talk.tally)
    }

    fn storm(&mut self) {
        let is_gappy = self.seed.is_multiple_of(20);
        let (odds, count) = if is_gappy { (&GAPPY[..], 40..90) } else { (&CALM[..], 10..60) };
        for _ in 0..self.rng.random_range(count) {
            self.wait();
            let happening = self.draw(odds);
            self.happen(happening);
        }
    }

    /// Messages follow each other closely, or after the time in which a step is due.
    fn wait(&mut self) {
        let millis = if self.rng.random_bool(0.06) { 900..1500 } else { 0..30 };
        let pause = Duration::from_millis(self.rng.random_range(millis));
        self.sides.iter_mut().for_each(|side| side.wait(pause));
    }

    fn draw(&mut self, odds: &[(Happening, u32)]) -> Happening {
        let all = odds.iter().map(|(_, odds)| odds).sum();
        let mut drawn = self.rng.random_range(0..all);
        for (happening, odds) in odds {
            match drawn.checked_sub(*odds) {
                Some(rest) => drawn = rest,
                None => return *happening,
            }
        }
        unreachable!("less than all of them was drawn")
    }

    fn happen(&mut self, happening: Happening) {
        let side = self.rng.random_range(0..2);
        match happening {
            Happening::Sends => {
                for _ in 0..self.rng.random_range(1..5) {
                    if self.would_send(side) {
                        self.send(side);
                    }
                }
            }
            Happening::Babbles => self.babble(side),
            Happening::Arrives => self.arrive(0),
            Happening::Overtakes => {
                let place = self.place();
                self.arrive(place);
            }
            Happening::Lost => {
                let place = self.place();
                if place < self.on_their_way.len() {
                    self.on_their_way.remove(place);
                }
            }
            Happening::Again => self.arrive_again(),
            Happening::Forged => self.forge(),
            Happening::Prepares => {
                self.sides[side].prepare(&mut self.rng);
            }
            Happening::Restarts => {
                self.sides[side].restart();
                self.tally.restarts += 1;
            }
            Happening::Jumps => self.jump(side),
        }
    }

    fn place(&mut self) -> usize {
        self.rng.random_range(0..self.on_their_way.len().max(1))
    }

    /// Whether an honest side would send a message: not before it has heard where it did not
    /// start, and no further ahead than the other side can follow, with one more.
    fn would_send(&self, from: usize) -> bool {
        let [here, there] = [&self.sides[from], &self.sides[1 - from]];
        let may_speak = from == 0 || here.heard.next > 0;
        may_speak && here.sent - there.heard.next < MAX_SKIP
    }

    fn send(&mut self, from: usize) {
        let number = self.sides[from].sent;
        let len = self.rng.random_range(0..600);
        let text = format!("{from} {number} ").into_bytes().into_iter().cycle().take(20 + len);
        let text: Vec<u8> = text.collect();
        let (envelope, stepped) = self.sides[from].seal(&text, &mut self.rng);
        self.tally.sealed += 1;
        self.tally.steps += u64::from(stepped);
        self.on_their_way.push(Mail { to: 1 - from, number, text, envelope });
    }

    fn babble(&mut self, from: usize) {
        for _ in 0..self.rng.random_range(200..1000) {
            if self.would_send(from) {
                self.send(from);
                if self.rng.random_bool(0.99) {
                    self.on_their_way.pop();
                }
            }
        }
    }

    fn arrive(&mut self, place: usize) {
        if place < self.on_their_way.len() {
            let mail = self.on_their_way.remove(place);
            self.deliver(mail);
        }
    }

    /// A message arrives for the first time: it opens, unless its key had to be given up.
    fn deliver(&mut self, mail: Mail) {
        let Mail { to, number, .. } = mail;
        let is_expected = self.sides[to].heard.expects(number);
        let is_late = number < self.sides[to].heard.next;
        let before = self.sides[to].session.encode();
        match self.open(&mail) {
            Ok(text) => {
                assert!(is_expected, "{number} opened a second time, or too late");
                assert_eq!(text, mail.text);
                let side = &mut self.sides[to];
                side.heard.opened(number, side.date);
                self.tally.opened += 1;
                self.tally.opened_late += u64::from(is_late);
                self.look(to);
                self.remember(mail);
            }
            Err(error) => {
                assert!(!is_expected, "{number} did not open: {error}");
                assert!(matches!(error, OpenError::Refused), "given up: {error}");
                assert_eq!(self.sides[to].session.encode(), before);
            }
        }
    }

    /// Opens an envelope. What a turn needs is computed elsewhere: the side may speak meanwhile.
    fn open(&mut self, mail: &Mail) -> Result<Vec<u8>, OpenError> {
        let turned = match self.try_open(mail, None) {
            Err(OpenError::NeedsTurn(turn)) => turn.run(),
            tried => return tried,
        };
        self.tally.turns += 1;
        if self.would_send(mail.to) && self.rng.random_bool(0.2) {
            self.send(mail.to);
        }
        self.try_open(mail, Some(turned))
    }

    fn try_open(&mut self, mail: &Mail, turned: Option<Turned>) -> Result<Vec<u8>, OpenError> {
        let side = &mut self.sides[mail.to];
        let opened = side.session.open(&mail.envelope, turned, side.date)?;
        Ok(opened.to_vec())
    }

    /// A side's state is within its bounds.
    fn look(&mut self, side: usize) {
        let side = &self.sides[side];
        self.tally.longest = self.tally.longest.max(side.stored_len());
        self.tally.most_kept = self.tally.most_kept.max(side.heard.kept.len());
    }

    fn remember(&mut self, mail: Mail) {
        if self.opened.len() < REMEMBERED {
            return self.opened.push(mail);
        }
        let place = self.rng.random_range(0..REMEMBERED);
        self.opened[place] = mail;
    }

    fn arrive_again(&mut self) {
        if self.opened.is_empty() {
            return;
        }
        let mail = self.opened[self.rng.random_range(0..self.opened.len())].clone();
        let before = self.sides[mail.to].session.encode();
        let Err(error) = self.open(&mail) else { panic!("{} opened twice", mail.number) };
        let side = &self.sides[mail.to];
        // Of a chain of which keys were given up it cannot be told which they were.
        let is_told = matches!(error, OpenError::Duplicate)
            || matches!(error, OpenError::Refused) && side.heard.given_up > 0;
        assert!(is_told, "a duplicate: {error}");
        assert_eq!(side.session.encode(), before);
        self.tally.duplicates += 1;
    }

    fn forge(&mut self) {
        let place = self.place();
        let Some(Mail { to, envelope, .. }) = self.on_their_way.get(place) else { return };
        let mut bytes = envelope.as_bytes().to_vec();
        let bit = self.rng.random_range(0..8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(forged) = Envelope::parse(bytes) else { return };
        let side = &mut self.sides[*to];
        let before = side.session.encode();
        let opened = side.session.open_at_once(&forged, side.date);
        assert!(opened.is_err(), "bit {bit} was flipped");
        assert_eq!(side.session.encode(), before, "bit {bit} was flipped");
        self.tally.forged += 1;
    }

    fn jump(&mut self, side: usize) {
        let days = [1, 29, 31, 365][self.rng.random_range(0..4)];
        let side = &mut self.sides[side];
        let back = self.rng.random_bool(0.5);
        side.date = if back { side.date - DAY * days } else { side.date + DAY * days };
        self.tally.jumps += 1;
    }

    /// Some of what is still on its way arrives, in any order; the rest is lost.
    fn calm_down(&mut self) {
        while !self.on_their_way.is_empty() {
            let place = self.place();
            if self.rng.random_bool(0.5) {
                self.arrive(place);
            } else {
                self.on_their_way.remove(place);
            }
        }
    }

    /// Both talk on: a round trip that each of them starts.
    fn talk_on(&mut self) {
        for from in [0, 1, 1, 0] {
            self.wait();
            if self.rng.random_bool(0.3) {
                self.sides[from].prepare(&mut self.rng);
            }
            self.send(from);
            while !self.on_their_way.is_empty() {
                self.arrive(0);
            }
            assert_eq!(self.sides[1 - from].heard.next, self.sides[from].sent);
        }
        let given_up = self.sides.iter().map(|side| side.heard.given_up).sum::<u64>();
        self.tally.given_up += given_up;
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this case again: --seed {} --cases 1", self.seed);
        }
    }
}
