//! Plants' uplinks and the kernel that they are in: a site that dials and one that is dialled, changes that somebody else
//! makes, and an agent that is killed in the middle of its own.
//!
//! `alpha` operates the plants `north`, whose router dials into the gateway, and `south`, whose router is dialled by name;
//! both have the same subnet. Its member `user-a` is operator of both. As in the main job nothing is mocked.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::steps::{Steps, equal, wait_for};

use scene::{OTHER, Scene};

mod foreign;
mod scene;

/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long it may take until an endpoint is dialled where it is now: what WireGuard makes of a handshake that is never
/// repeated, 135 s, and a look every 30 s, and [`PATIENCE`].
const STALE: Duration = Duration::from_secs(135 + 30 + 90);

/// The agent dies this long after it was told of a change, one time after the other.
const DEATHS: [u64; 10] = [0, 40, 80, 120, 160, 220, 300, 400, 550, 800];

/// Plays the scenario in a fresh folder.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = set_up(&mut steps, folder).and_then(|mut scene| {
        let played = play_steps(&mut steps, &mut scene);
        if played.is_err() {
            println!("{}", scene.gateway.logs());
        }
        played
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
    }
    outcome
}

fn set_up(steps: &mut Steps, folder: &Path) -> Result<Scene> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let title = format!("a user, a plant that dials, and one that is dialled by name (Linux {})", release.trim());
    steps.step(&title, || Scene::build(folder))
}

fn play_steps(steps: &mut Steps, scene: &mut Scene) -> Result<()> {
    steps.step("the name does not resolve: the interface waits, the other plant is up", || wait_for_the_name(scene))?;
    steps.step("the name resolves: the gateway dials", || dial(scene))?;
    steps.step("the endpoint moves: its name is looked up again, and it is dialled there", || follow(scene))?;
    steps.step("what somebody else changes is repaired and told", || foreign::play(scene))?;
    steps.step("the agent is killed in the middle of changes: the kernel ends up the same", || die(scene))?;
    Ok(())
}

/// Requirements: C4, D1, D2.
fn wait_for_the_name(scene: &mut Scene) -> Result<Vec<String>> {
    scene.start()?;
    scene.link_north()?;
    scene.connect_user()?;
    wait_for("north answers", PATIENCE, || scene.ping("north"))?;
    wait_for("north is up, and south never was", PATIENCE, || {
        equal("north", scene.seen("north")?, "host up".to_owned())?;
        equal("south", scene.seen("south")?, "dial never".to_owned())
    })?;
    let log = scene.gateway.logs();
    ensure!(log.contains("south.example:51900 cannot be looked up"), "{log}");
    ensure!(scene.ping("south").is_err(), "south answers already");
    Ok(vec![scene.seen("north")?, scene.seen("south")?])
}

/// Requirements: C4, D2.
fn dial(scene: &mut Scene) -> Result<Vec<String>> {
    scene.resolve_south(scene::SOUTH)?;
    scene.link_south()?;
    wait_for("south answers", PATIENCE, || scene.ping("south"))?;
    wait_for("south is up", PATIENCE, || equal("south", scene.seen("south")?, "dial up".to_owned()))?;
    let endpoint = scene.endpoint_of_south()?;
    equal("its endpoint", &*endpoint, "198.18.12.2:51900")?;
    Ok(vec![format!("south is dialled at {endpoint}")])
}

/// Requirements: D2.
fn follow(scene: &mut Scene) -> Result<Vec<String>> {
    scene.move_south()?;
    ensure!(scene.ping("south").is_err(), "south answers where it is not");
    let started = std::time::Instant::now();
    scene.resolve_south(OTHER)?;
    wait_for("south answers again", STALE, || scene.ping("south"))?;
    let endpoint = scene.endpoint_of_south()?;
    equal("its endpoint", &*endpoint, "198.18.12.3:51900")?;
    Ok(vec![format!("south is dialled at {endpoint} after {} s", started.elapsed().as_secs())])
}

/// Two states, one after the other; an agent that is killed while it makes one of the other leaves what the next one makes
/// the same of.
///
/// Requirements: E3, G3.
fn die(scene: &mut Scene) -> Result<Vec<String>> {
    let mut undisturbed = Vec::new();
    for _ in 0..2 {
        let revision = scene.next_state()?;
        scene.gateway.applied(revision)?;
        undisturbed.push(scene.settled()?);
    }
    ensure!(undisturbed[0] != undisturbed[1], "the states are the same");
    let mut lines = Vec::new();
    for (number, milliseconds) in DEATHS.into_iter().enumerate() {
        let revision = scene.next_state()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        scene.gateway.kill();
        let before = scene.configuration()?;
        scene.gateway.start_agent(revision)?;
        let expected = &undisturbed[number % 2];
        wait_for("the kernel is as after an undisturbed change", PATIENCE, || {
            equal("the kernel", &scene.settled()?, expected)
        })?;
        let was = if before == *expected { "complete" } else { "not complete" };
        lines.push(format!("killed after {milliseconds} ms: the change was {was}"));
    }
    wait_for("south answers", PATIENCE, || scene.ping("south")).context("after all that")?;
    Ok(lines)
}
