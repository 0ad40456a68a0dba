//! What a kill in the middle of a change leaves: whatever it is, the next run brings the kernel and the files to where an
//! undisturbed one had brought them.
//!
//! A gateway is a child process: all of an agent but its API, and WireGuard, which not every kernel has. Its changes are a
//! round that leads back to where it began. One child makes them undisturbed, which says what is right after each; then
//! strace writes down the system calls that have an effect, and in which step they are made. From then on a child is
//! killed when it is about to make one of these calls. The next child has to bring everything to where that change was to
//! lead, and is itself killed in the change after that.
//!
//! Between two of these calls nothing but PEERS changes, one word at a time.

mod after;
mod agent;
mod child;
mod round;
mod strace;

use std::{collections::BTreeSet, time::Duration};

use self::{
    after::Scene,
    child::Child,
    round::{Change, round},
    strace::{Place, Trace, Tracer, has_strace, kill_at},
};
use crate::namespace::in_new_namespace;

/// How long something goes on that waits for nothing.
const REST: Duration = Duration::from_millis(500);

/// Requirements: A3, B4, C5, G2, G3.
#[test]
fn a_gateway_that_is_killed_in_a_change_ends_up_where_it_was_to() {
    if !has_strace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    in_new_namespace(async {
        let scene = Scene::build(folder.path()).await;
        let round = round();
        let mut child = Child::start(&scene.folder);
        let mut expected = Vec::new();
        // What was given once stays, so the first time is another.
        for time in 0..2 {
            for number in 0..round.len() {
                child.make(number);
                let after = scene.settled().await;
                if time == 1 {
                    expected.push(after);
                }
            }
        }
        assert!(expected.windows(2).all(|two| two[0] != two[1]), "each change makes a difference");

        let mut places = Vec::new();
        for (number, expected) in expected.iter().enumerate() {
            child = child.again(&scene.folder);
            scene.settled().await;
            let trace = Trace::start(&child);
            child.make(number);
            scene.becomes(expected, "traced").await;
            places.push(trace.places(&|places| one_in_each_step(&places, number)));
        }
        for (places, (name, change)) in places.iter().zip(&round) {
            let steps: BTreeSet<_> = places.iter().map(|place| &*place.step).collect();
            let expected: &[&str] = match change {
                Change::Single(_) => &["accept", "fill", "idle"],
                Change::Whole(_) => &["accept", "withdraw", "give", "plants", "fill", "idle"],
            };
            assert!(expected.iter().all(|step| steps.contains(step)), "{name}: {steps:?}");
        }

        let mut killed = 0;
        for at in 0..places.iter().map(Vec::len).max().unwrap() {
            for (number, (name, _)) in round.iter().enumerate() {
                let before = &expected[(number + round.len() - 1) % round.len()];
                let after = &expected[number];
                let Some(place) = places[number].get(at) else {
                    child.make(number);
                    scene.becomes(after, name).await;
                    continue;
                };
                let when = format!("{name}, killed at {place}");
                scene.settled().await;
                let killer = Tracer::attach(&mut kill_at(place), &child);
                let revision = child.revision;
                if let Some(said) = child.try_make(number)
                    && !child.ends_within(REST)
                {
                    // What a run does differs a little from one to the next.
                    drop(killer);
                    child.revision = said;
                    scene.becomes(after, &when).await;
                    continue;
                }
                killed += 1;
                child = child.again(&scene.folder);
                // Whatever was accepted is in force. If it was not, whoever has asked asks again.
                if child.revision == revision {
                    assert_eq!(place.step, "accept", "{when}: it is not in force");
                    scene.becomes(before, &when).await;
                    child.make(number);
                }
                scene.becomes(after, &when).await;
            }
        }
        let all: usize = places.iter().map(Vec::len).sum();
        eprintln!("killed {killed} times at {all} places");
        assert!(killed * 4 >= all * 3, "killed {killed} times at {all} places");
    });
}

/// Requirements: E3, G3.
#[test]
fn a_gateway_that_is_killed_at_its_first_start_ends_up_where_it_was_to() {
    if !has_strace() {
        return;
    }
    let mut places = Vec::new();
    let mut expected = None;
    let folder = tempfile::tempdir().unwrap();
    in_new_namespace(async {
        let scene = Scene::build(folder.path()).await;
        let mut child = Child::spawn(&scene.folder);
        let trace = Trace::start(&child);
        assert!(child.begin());
        expected = Some(scene.settled().await);
        places = trace.places(&|places| some(&places, 6));
    });
    let Some(expected) = expected else { return };
    assert!(places.len() >= 6, "{places:?}");
    let mut killed = 0;
    for place in &places {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let scene = Scene::build(folder.path()).await;
            let mut child = Child::spawn(&scene.folder);
            let killer = Tracer::attach(&mut kill_at(place), &child);
            if !child.begin() || child.ends_within(REST) {
                killed += 1;
            }
            drop(killer);
            let _child = child.again(&scene.folder);
            scene.becomes(&expected, &format!("killed at {place}")).await;
        });
    }
    eprintln!("killed {killed} times at {} places", places.len());
    assert!(killed * 4 >= places.len() * 3, "killed {killed} times at {} places", places.len());
}

/// The first one, one between, or the last one, by the number of the change.
fn one_in_each_step(places: &[Place], number: usize) -> Vec<Place> {
    let steps = places.chunk_by(|one, other| one.step == other.step);
    steps.map(|step| step[[0, step.len() / 2, step.len() - 1][number % 3]].clone()).collect()
}

/// So many, evenly.
fn some(places: &[Place], count: usize) -> Vec<Place> {
    places.iter().step_by((places.len() / count).max(1)).cloned().collect()
}
