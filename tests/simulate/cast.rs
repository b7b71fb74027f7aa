//! Who is in a scenario. Worlds in which they are registered and know each other are made once.

use std::sync::Mutex;

use harness::world::Prepared;
use harness::{Stage, World};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::step::Home;

/// The people of a scenario and their homes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cast {
    /// Two, who have a session.
    Pair,
    /// Two, who have not said a word yet.
    Strangers,
    /// Two, one of whom has a second home, which receives.
    TwoHomes,
    /// Three, all contacts of each other.
    Three,
    /// Four, all contacts of each other.
    Four,
}

/// All casts.
const CASTS: [Cast; 5] = [Cast::Pair, Cast::Strangers, Cast::TwoHomes, Cast::Three, Cast::Four];

impl Cast {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..20) {
            0..9 => Self::Pair,
            9..11 => Self::Strangers,
            11..15 => Self::TwoHomes,
            15..18 => Self::Three,
            _ => Self::Four,
        }
    }

    /// The people, each called like the first home.
    pub(crate) const fn people(self) -> &'static [Home] {
        match self {
            Self::Pair | Self::Strangers | Self::TwoHomes => &["alice", "bob"],
            Self::Three => &["alice", "bob", "carol"],
            Self::Four => &["alice", "bob", "carol", "dave"],
        }
    }

    /// The homes.
    pub(crate) const fn homes(self) -> &'static [Home] {
        match self {
            Self::TwoHomes => &["alice", "phone", "bob"],
            Self::Pair | Self::Strangers | Self::Three | Self::Four => self.people(),
        }
    }

    /// Whose home it is.
    pub(crate) fn owner(home: Home) -> Home {
        if home == "phone" { "alice" } else { home }
    }

    /// The home at which a person receives.
    pub(crate) fn receives(self, person: Home) -> Home {
        if self == Self::TwoHomes && person == "alice" { "phone" } else { person }
    }

    /// A home, and somebody whom it can write to.
    pub(crate) fn draw_talk(self, rng: &mut StdRng) -> (Home, Home) {
        let from = draw(self.homes(), rng);
        (from, self.draw_other(from, rng))
    }

    /// Somebody whom a home can write to.
    pub(crate) fn draw_other(self, from: Home, rng: &mut StdRng) -> Home {
        let people = self.people().iter().copied();
        let others: Vec<Home> = people.filter(|name| *name != Self::owner(from)).collect();
        draw(&others, rng)
    }

    fn make(self) -> Prepared {
        let mut world = World::new(1);
        let people = self.people();
        for name in people {
            world.register(name);
        }
        for (place, one) in people.iter().enumerate() {
            for other in people.iter().skip(place + 1) {
                world.befriend(one, other);
            }
        }
        if self == Self::TwoHomes {
            world.login("alice", "phone");
            world.is_online("phone");
        }
        if self != Self::Strangers {
            self.greet(&mut world);
        }
        world.run_until_quiet();
        world.prepare()
    }

    /// Everybody says something to everybody.
    fn greet(self, world: &mut World) {
        for from in self.homes() {
            let others = self.people().iter().filter(|name| **name != Self::owner(from));
            for to in others {
                world.says(from, to, &format!("hello {to}, from {from}"));
            }
        }
        for home in self.homes() {
            world.all_delivered(home);
        }
    }
}

/// One of several.
pub(crate) fn draw<T: Copy>(all: &[T], rng: &mut impl Rng) -> T {
    all[rng.random_range(0..all.len())]
}

/// The worlds that scenarios start from.
pub(crate) struct Worlds(Vec<(Cast, Mutex<Prepared>)>);

impl Worlds {
    pub(crate) fn prepare() -> Self {
        Self(CASTS.into_iter().map(|cast| (cast, Mutex::new(cast.make()))).collect())
    }

    /// A world of its own for a scenario.
    pub(crate) fn world(&self, cast: Cast, seed: u64) -> World {
        let found = self.0.iter().find(|(known, _)| *known == cast);
        let (_, prepared) = found.expect("all casts are prepared");
        prepared.lock().expect("nobody panics with it").world(seed)
    }
}
