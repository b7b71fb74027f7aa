//! A scenario that fails is made as short as it can be: delta debugging over its steps, then over
//! what is in them.

use std::time::Duration;

use crate::scenario::Scenario;
use crate::step::Step;

/// The shortest scenario found that still fails.
pub(crate) fn shrink(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    loop {
        let before = best.clone();
        drop_steps(&mut best, &fails);
        simplify_steps(&mut best, &fails);
        if best == before {
            return best;
        }
    }
}

/// Leaves out half of the steps, a quarter, … one, wherever it fails without them.
fn drop_steps(best: &mut Scenario, fails: &impl Fn(&Scenario) -> bool) {
    let mut size = best.steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let mut shorter = best.clone();
            shorter.steps.drain(at..(at + size).min(best.steps.len()));
            if fails(&shorter) {
                *best = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
}

/// Takes smaller numbers, step by step, wherever it still fails.
fn simplify_steps(best: &mut Scenario, fails: &impl Fn(&Scenario) -> bool) {
    for at in 0..best.steps.len() {
        while let Some(smaller) = smaller(&best.steps[at]) {
            let mut simpler = best.clone();
            simpler.steps[at] = smaller;
            if !fails(&simpler) {
                break;
            }
            *best = simpler;
        }
    }
}

/// The same with half of it.
fn smaller(step: &Step) -> Option<Step> {
    match step {
        Step::Send { from, to, count } if *count > 1 => {
            Some(Step::Send { from, to, count: count / 2 })
        }
        Step::Wait(time) if *time > Duration::from_millis(1) => {
            Some(Step::Wait(Duration::from_millis(u64::try_from(time.as_millis()).ok()? / 2)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::Cast;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let send = |count| Step::Send { from: "alice", to: "bob", count };
        let mut steps = vec![Step::Join; 40];
        steps.insert(7, send(64));
        steps.insert(30, Step::KillAll);
        let scenario = Scenario { seed: 1, cast: Cast::Pair, latency: (1, 1), apart: false, steps };
        let fails = |scenario: &Scenario| {
            let sends = scenario
                .steps
                .iter()
                .position(|step| matches!(step, Step::Send { count, .. } if *count >= 5));
            let kills = scenario.steps.iter().position(|step| *step == Step::KillAll);
            sends.zip(kills).is_some_and(|(sends, kills)| sends < kills)
        };
        assert_eq!(shrink(&scenario, fails).steps, [send(8), Step::KillAll]);
    }
}
