//! Runs scripts of many seeds; shortens one that fails; says what was covered, and asserts that it is no less than before.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::script::Script;
use super::world::State;

/// Tries to shorten a script that fails.
const TRIES: usize = 400;

/// How many seeds run by default.
const SEEDS: u64 = 300;

/// Of the states that are listed, those that so many seeds need not reach.
const UNREACHED: usize = 50;

/// The seeds to run: `SEED` alone, or the first `SEEDS`.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1)
}

#[test]
fn simulation_of_many_seeds() {
    let mut covered = HashSet::new();
    for seed in seeds() {
        let script = Script::draw(seed);
        match catch_unwind(AssertUnwindSafe(|| script.run())) {
            Ok(world) => covered.extend(world.covered),
            Err(panic) => {
                let short = shortened(script, &text_of(panic.as_ref()));
                eprintln!("the setup: {:?}\nthe clients: {:?}, {:?}", short.setup, short.clients, short.several);
                for action in &short.actions {
                    eprintln!("    {action:?}");
                }
                eprintln!(
                    "then: {}",
                    short.drains.map_or("all leave".to_owned(), |micros| format!("a drain of {micros} µs"))
                );
                eprintln!("again: SEED={seed} cargo test -p sse-fast-server --lib simulation -- --nocapture");
                let _ = catch_unwind(AssertUnwindSafe(|| short.run()));
                std::panic::resume_unwind(panic);
            }
        }
    }
    let unreached = report(&covered);
    let is_enough = seeds().end - seeds().start >= SEEDS;
    assert!(!is_enough || unreached <= UNREACHED, "the scripts reach less than they did: {unreached} states never");
}

/// How a failure begins, without the numbers that a shorter script changes.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    text.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect()
}

/// The same script without what is not needed to make it fail in the same way.
fn shortened(mut script: Script, failure: &str) -> Script {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let fails = |script: &Script| {
        catch_unwind(AssertUnwindSafe(|| script.run())).is_err_and(|panic| text_of(panic.as_ref()) == failure)
    };
    let mut tries = 0;
    let mut part = (script.actions.len() / 2).max(1);
    loop {
        let mut at = 0;
        let before = script.actions.len();
        while at < script.actions.len() && tries < TRIES {
            let mut shorter = script.clone();
            shorter.actions.drain(at..(at + part).min(script.actions.len()));
            tries += 1;
            if fails(&shorter) { script = shorter } else { at += part }
        }
        if tries >= TRIES || part == 1 && script.actions.len() == before {
            break;
        }
        part = (part / 2).max(1);
    }
    std::panic::set_hook(hook);
    script
}

/// Says how many states and transitions were covered, and which states never were; how many these are.
fn report(covered: &HashSet<(State, State)>) -> usize {
    let states: HashSet<State> = covered.iter().map(|(_, after)| *after).filter(|state| state[5] < 3).collect();
    let mut never = Vec::new();
    for (on_lag, patience) in (0..3).flat_map(|on_lag| (0..3).map(move |patience| (on_lag, patience))) {
        for stage in 0..4 {
            // One whose socket is full catches up with nothing.
            for (flow, progress) in [(0, 0), (0, 1), (1, 0)] {
                for half_closed in 0..2 {
                    // One that has shut its side and has everything is gone at once.
                    if half_closed == 0 || flow == 1 || progress == 1 {
                        never.push([0, flow, half_closed, progress, stage, on_lag, patience]);
                    }
                }
            }
        }
        for half_closed in 0..2 {
            never.push([1, 1, half_closed, 0, 0, on_lag, patience]);
        }
        never.push([2, 0, 0, 0, 0, on_lag, patience]);
    }
    let listed = never.len();
    never.retain(|state| !states.contains(state));
    eprintln!(
        "{} states, {} transitions; of {listed} states that were listed {} never:",
        states.len(),
        covered.len(),
        never.len()
    );
    let unreached = never.len();
    for [phase, flow, half_closed, progress, stage, on_lag, patience] in never {
        eprintln!(
            "    {} {} {} {} {} {} {}",
            ["open", "finishing", "lingering"][usize::from(phase)],
            ["writable", "full"][usize::from(flow)],
            ["both-ways", "half-closed"][usize::from(half_closed)],
            ["walked", "catching-up"][usize::from(progress)],
            ["idle", "queued", "resting", "walking"][usize::from(stage)],
            ["skip", "latest", "disconnect"][usize::from(on_lag)],
            ["impatient", "patient", "lossless"][usize::from(patience)],
        );
    }
    unreached
}
