//! Random packets, through the programs in the kernel and through their reference model: both must do the same with each
//! of them, and have the same in their maps afterwards. Needs root.
//!
//! `VPN_FUZZ_PACKETS` is how many things happen in each of the tests, nearly all of them packets: 200,000 unless it says
//! otherwise. `VPN_FUZZ_SEED` is the seed of the first case. A case that fails says how to run it again.

use std::{collections::BTreeMap, env, fmt::Write as _};

use vpn_tests::{
    by_hand,
    model::Capacities,
    pair::Pair,
    scenario::{Scenario, Step},
    skip,
};

/// How many things happen in one case. Each begins with empty maps.
const STEPS: usize = 2_000;
/// After so many the maps are compared, and at the end.
const COMPARED: usize = 200;

/// Requirements: A6, C1, D4.
#[test]
fn random_packets_with_room_for_everything() {
    fuzz("random_packets_with_room_for_everything", Capacities::LARGE);
}

/// Requirements: F8.
#[test]
fn random_packets_with_little_room() {
    fuzz("random_packets_with_little_room", Capacities { flows: 12, closed: 3, denied: 6 });
}

fn fuzz(test: &str, capacities: Capacities) {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
        Err(_) => default,
    };
    let steps = if skip::quick() { 20_000 } else { 200_000 };
    let cases = number("VPN_FUZZ_PACKETS", steps).div_ceil(STEPS as u64);
    let first = number("VPN_FUZZ_SEED", 1);
    let mut pair = Pair::new(capacities, by_hand::topology());
    let mut verdicts = BTreeMap::new();
    for seed in first..first + cases {
        let Err((steps, problem)) = case(&mut pair, seed, &mut verdicts) else {
            continue;
        };
        let again =
            format!("again: VPN_FUZZ_SEED={seed} VPN_FUZZ_PACKETS=1 cargo test -p vpn-tests --test fuzz {test}");
        if replayed(&mut pair, &steps).is_ok() {
            panic!("seed {seed}, and not when the same steps are taken again: {problem}\n{again}");
        }
        let (steps, problem) = shrunk(&mut pair, steps, problem);
        let mut text = String::new();
        for step in &steps {
            writeln!(text, "- {step:?}").expect("text in memory");
        }
        panic!("seed {seed}, with as few steps as still show it:\n{text}{problem}\n{again}");
    }
    println!("{test}: {cases} cases, {verdicts:?}");
}

/// Plays one case. If something is not the same, gives all that happened until then, and what is not the same.
fn case(pair: &mut Pair, seed: u64, verdicts: &mut BTreeMap<&'static str, u64>) -> Result<(), (Vec<Step>, String)> {
    let mut scenario = Scenario::new(seed);
    let mut steps = Vec::new();
    pair.clear();
    for number in 1..=STEPS {
        let step = scenario.next(pair.model());
        steps.push(step.clone());
        let result = pair.step(&step).and_then(|outcome| {
            if number % COMPARED == 0 {
                pair.compare()?;
            }
            Ok(outcome)
        });
        match result {
            Ok(Some(outcome)) => {
                *verdicts.entry(outcome.verdict.label()).or_default() += 1;
                if let Step::Packet(packet) = step {
                    scenario.saw(packet, outcome);
                }
            }
            Ok(None) => {}
            Err(problem) => return Err((steps, problem)),
        }
    }
    Ok(())
}

/// Leaves out what is not needed for something not to be the same.
fn shrunk(pair: &mut Pair, mut steps: Vec<Step>, mut problem: String) -> (Vec<Step>, String) {
    let mut size = steps.len().div_ceil(2);
    loop {
        let mut start = 0;
        while start < steps.len() {
            let end = (start + size).min(steps.len());
            let fewer = [&steps[..start], &steps[end..]].concat();
            match replayed(pair, &fewer) {
                Err(still) => (steps, problem) = (fewer, still),
                Ok(()) => start = end,
            }
        }
        if size == 1 {
            return (steps, problem);
        }
        size = size.div_ceil(2);
    }
}

fn replayed(pair: &mut Pair, steps: &[Step]) -> Result<(), String> {
    pair.step(&Step::Install(Box::new(by_hand::topology())))?;
    pair.clear();
    for step in steps {
        pair.step(step)?;
    }
    pair.compare()
}
