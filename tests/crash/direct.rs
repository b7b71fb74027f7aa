//! The two run side by side; who was killed is back soon.

use std::time::Duration;

use crate::chance::{Chance, Moment};
use crate::process::Part;
use crate::stage::Stage;

/// Nothing more happens by itself when nothing was said for so long.
const QUIET: Duration = Duration::from_secs(2);

const PEOPLE: [Part; 2] = [Part::Alice, Part::Bob];

/// Messages both ways and kills, until there were enough of both.
pub fn hold(stage: &mut Stage, chance: &mut Chance) -> anyhow::Result<()> {
    PEOPLE.into_iter().try_for_each(|person| stage.start(person))?;
    while chance.kills_left > 0 || chance.messages_left > 0 {
        let victim = chance.victim();
        round(stage, chance, victim)?;
        if chance.once_in(2) {
            stage.is_settled()?;
        }
    }
    the_end(stage)
}

/// Everything arrives, the histories are whole, and the conversation goes on.
fn the_end(stage: &mut Stage) -> anyhow::Result<()> {
    stage.is_settled()?;
    stage.is_whole()?;
    PEOPLE.into_iter().try_for_each(|person| stage.says(person, &[10]))?;
    stage.is_settled()?;
    stage.is_whole()
}

fn round(stage: &mut Stage, chance: &mut Chance, victim: Part) -> anyhow::Result<()> {
    let moment = chance.moment();
    stage.note(&format!("{victim:?} is to be killed: {moment:?}"));
    match moment {
        Moment::MidBurst => {
            let written = all_write(stage, chance, &PEOPLE)?;
            stage.observe(chance.number(0..=3 * written), QUIET)?;
        }
        Moment::JustQueued => {
            all_write(stage, chance, &PEOPLE)?;
            PEOPLE.into_iter().try_for_each(|person| stage.is_answered(person))?;
        }
        Moment::AtStart => {
            chance.kill(stage, victim)?;
            stage.start(victim)?;
            stage.observe(chance.number(0..=3), QUIET)?;
        }
        Moment::CatchingUp => {
            chance.kill(stage, victim)?;
            let written = others_write(stage, chance, victim)?;
            stage.start(victim)?;
            let seen = chance.number(1..=written.max(1));
            match victim {
                Part::Rendezvous => stage.observe(seen, QUIET)?,
                person => stage.observe_messages(person, seen, QUIET)?,
            }
        }
    }
    chance.kill(stage, victim)?;
    if chance.once_in(2) {
        others_write(stage, chance, victim)?;
    }
    stage.start(victim)
}

/// Everybody else writes, and has it saved. How many messages that were.
fn others_write(stage: &mut Stage, chance: &mut Chance, victim: Part) -> anyhow::Result<usize> {
    let others: Vec<_> = PEOPLE.into_iter().filter(|person| *person != victim).collect();
    let written = all_write(stage, chance, &others)?;
    others.into_iter().try_for_each(|person| stage.is_answered(person))?;
    Ok(written)
}

fn all_write(stage: &mut Stage, chance: &mut Chance, who: &[Part]) -> anyhow::Result<usize> {
    let mut written = 0;
    for person in who {
        let burst = chance.burst();
        written += burst.len();
        stage.says(*person, &burst)?;
    }
    Ok(written)
}
