//! The two are never up together: everything goes by way of the rendezvous' mailboxes.

use std::time::Duration;

use anyhow::ensure;

use crate::chance::{Chance, Moment};
use crate::process::Part;
use crate::stage::Stage;

/// Nothing more happens by itself when nothing was said for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Everything has been delivered, and that is known on both sides, after so many turns at most.
const TURNS: usize = 12;

/// Turns, in which one of the two is there, and kills, until there were enough.
pub fn hold(stage: &mut Stage, chance: &mut Chance) -> anyhow::Result<()> {
    for who in [Part::Bob, Part::Alice] {
        // Nobody can write to somebody who has left no prekeys yet.
        stage.start(who)?;
        stage.is_quiet(QUIET)?;
        stage.stop(who)?;
    }
    let mut who = Part::Alice;
    while chance.kills_left > 0 || chance.messages_left > 0 {
        turn(stage, chance, who)?;
        who = other(who);
    }
    who = settle(stage, who)?;
    whole(stage)?;
    for _ in 0..2 {
        stage.start(who)?;
        stage.says(who, &[10])?;
        stage.is_sent(who)?;
        stage.stop(who)?;
        who = other(who);
    }
    settle(stage, who)?;
    whole(stage)?;
    let by = &stage.tally.by_carrier;
    ensure!(by.keys().all(|carrier| carrier == "mailbox"), "messages came by {by:?}");
    Ok(())
}

const fn other(who: Part) -> Part {
    match who {
        Part::Alice => Part::Bob,
        Part::Bob | Part::Rendezvous => Part::Alice,
    }
}

/// One of the two comes, receives, writes, and goes by `kill -9`; and so may the rendezvous.
fn turn(stage: &mut Stage, chance: &mut Chance, who: Part) -> anyhow::Result<()> {
    stage.start(who)?;
    let before = stage.is_owed(who)?;
    for _ in 0..chance.number(0..=2) {
        let victim = if chance.once_in(4) { Part::Rendezvous } else { who };
        let moment = chance.moment();
        stage.note(&format!("{victim:?} is to be killed: {moment:?}"));
        match moment {
            Moment::AtStart => stage.observe(chance.number(0..=3), QUIET)?,
            Moment::CatchingUp => {
                let seen = chance.number(1..=before.max(1));
                stage.observe_messages(who, seen, QUIET)?;
            }
            Moment::MidBurst => {
                let burst = chance.burst();
                stage.says(who, &burst)?;
                stage.observe(chance.number(0..=2 * burst.len()), QUIET)?;
            }
            Moment::JustQueued => {
                stage.says(who, &chance.burst())?;
                stage.is_answered(who)?;
            }
        }
        chance.kill(stage, victim)?;
        stage.start(victim)?;
    }
    stage.says(who, &chance.burst())?;
    if chance.once_in(2) {
        stage.is_sent(who)?;
    } else {
        stage.is_answered(who)?;
    }
    chance.kill(stage, who)
}

/// Turns without kills, until everything is known to be delivered. Gives whose turn is next.
fn settle(stage: &mut Stage, mut who: Part) -> anyhow::Result<Part> {
    for _ in 0..TURNS {
        stage.start(who)?;
        stage.is_sent(who)?;
        // What it got is acknowledged by then.
        stage.is_quiet(QUIET)?;
        stage.stop(who)?;
        who = other(who);
        if stage.all_is_delivered() {
            return Ok(who);
        }
    }
    anyhow::bail!("after {TURNS} turns not everything is known to be delivered")
}

fn whole(stage: &mut Stage) -> anyhow::Result<()> {
    for who in [Part::Alice, Part::Bob] {
        stage.start(who)?;
        stage.is_whole()?;
        stage.stop(who)?;
    }
    Ok(())
}
