//! Plants' uplinks and the kernel that they are in: a site that dials, one that is dialled, and an organisation's tunnel to
//! them; changes that somebody else makes in the kernel; and an agent that is killed in the middle of its own.
//!
//! `alpha` operates the plants `north`, whose router dials into the gateway, and `south`, whose router is dialled by name;
//! both have the same subnet. Its member `user-a` is operator of both, and its control room has a certificate for one of
//! them at a time. As in the main job nothing is mocked.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    capture::Capture,
    lab::DEVICE,
    steps::{Steps, equal, wait_for},
};

use round::ROUND;
use scene::Scene;

mod foreign;
mod round;
mod scene;

/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Plays the scenario in a fresh folder.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = set_up(&mut steps, folder).and_then(|mut scene| {
        let played = play_steps(&mut steps, &mut scene);
        if played.is_err() {
            println!("{}", scene.gateway.account());
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
    let title = format!("a user, a control room, two sites, and the agent (Linux {})", release.trim());
    steps.step(&title, || Scene::build(folder))
}

fn play_steps(steps: &mut Steps, scene: &mut Scene) -> Result<()> {
    steps.step("a site's name does not resolve: its interface waits", || wait_for_the_name(scene))?;
    steps.step("a site dials in with the file that the gateway has made for it", || host(scene))?;
    steps.step("the control room reaches the plant of its certificate, and no other", || organisation(scene))?;
    steps.step("the gateway dials the other site, whose name resolves now", || dial(scene))?;
    steps.step("the control room's certificate gets another plant", || other_plant(scene))?;
    steps.step("what somebody else changes is repaired and told", || foreign::change(scene))?;
    steps.step("what somebody else deletes is made again and told", || foreign::delete(scene))?;
    steps.step("changes that nothing disturbs", || undisturbed(scene))?;
    steps.step("the agent is killed in some of them: the kernel ends up the same", || die(scene))?;
    Ok(())
}

/// Requirements: C4, D2.
fn wait_for_the_name(scene: &mut Scene) -> Result<Vec<String>> {
    wait_for("the name is looked up", PATIENCE, || {
        let log = scene.gateway.logs();
        ensure!(log.contains("south.example:51900 cannot be looked up"), "{log}");
        Ok(())
    })?;
    let seen = [scene.seen("north")?, scene.seen("south")?];
    equal("what is seen", &seen, &["host never".to_owned(), "dial never".to_owned()])?;
    // It is looked up again after some seconds, during the next steps.
    scene.resolve_south(scene::SOUTH)?;
    Ok(seen.into())
}

/// The key pair and the file come from the gateway; on site there is `wg-quick`, and a router that forwards. The device
/// sees users as the gateway sends them, so nothing translates between.
///
/// Requirements: C4, D1.
fn host(scene: &mut Scene) -> Result<Vec<String>> {
    scene.link_north()?;
    scene.user.connect()?;
    wait_for("north answers", PATIENCE, || scene.user.ping("north"))?;
    let capture = Capture::start(&scene.north.lan, |_, packet| {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        address(12).filter(|_| packet[0] >> 4 == 4 && address(16) == Some(DEVICE))
    })?;
    scene.user.ping("north")?;
    let sources: BTreeSet<_> = capture.finish()?.into_iter().collect();
    let [_, _, c, d] = scene.user.tunnel.octets();
    equal("who is seen at the device", sources, BTreeSet::from([Ipv4Addr::new(100, 80, c, d)]))?;
    wait_for("north is up", PATIENCE, || equal("north", scene.seen("north")?, "host up".to_owned()))?;
    Ok(vec![scene.seen("north")?])
}

/// Requirements: D3.
fn organisation(scene: &mut Scene) -> Result<()> {
    scene.room.connect()?;
    wait_for("north answers", PATIENCE, || scene.room.ping("north"))?;
    ensure!(scene.room.ping("south").is_err(), "south answers");
    Ok(())
}

/// The customer's endpoint is there already, and gets the section that the gateway has for it.
///
/// Requirements: C4, D2.
fn dial(scene: &mut Scene) -> Result<Vec<String>> {
    scene.link_south()?;
    wait_for("south answers", PATIENCE, || scene.user.ping("south"))?;
    wait_for("south is up", PATIENCE, || equal("south", scene.seen("south")?, "dial up".to_owned()))?;
    let endpoint = scene.endpoint_of_south()?;
    equal("its endpoint", &*endpoint, "198.18.12.2:51900")?;
    Ok(vec![format!("south is dialled at {endpoint}")])
}

/// Requirements: D3.
fn other_plant(scene: &mut Scene) -> Result<()> {
    let certificate = scene.certificate_of_room("south");
    scene.change(&json!([{ "change": "revoke-certificate", "id": certificate["id"] }, certificate]))?;
    ensure!(scene.room.ping("north").is_err(), "north answers");
    wait_for("south answers", PATIENCE, || scene.room.ping("south"))?;
    Ok(())
}

/// Notes what each of them leads to.
fn undisturbed(scene: &mut Scene) -> Result<()> {
    let start = scene.settled()?;
    for number in 0..ROUND {
        let before = scene.expected.last().unwrap_or(&start).clone();
        scene.make(number)?;
        let after = wait_for("nothing is left to do", PATIENCE, || scene.settled())?;
        ensure!(after != before, "change {number} makes no difference");
        scene.expected.push(after);
    }
    equal("what they lead back to", scene.expected.last(), Some(&start))
}

/// In a change that goes the quick path, and in one that does not; a start takes its time here. What natively is killed in
/// every step has no WireGuard.
///
/// Requirements: A3, E3, G3.
fn die(scene: &mut Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (number, step) in [Some("fill"), None, Some("plants"), None].into_iter().enumerate() {
        let Some(step) = step else {
            scene.make(number)?;
            becomes(scene, number)?;
            continue;
        };
        let before = scene.configuration()?;
        scene.die_in(number, step)?;
        let left = scene.configuration()?;
        let was_accepted = scene.start_again(number)?;
        becomes(scene, number)?;
        let left = match left {
            left if left == before => "as before",
            left if left == scene.expected[number] => "as it shall be",
            _ => "in between",
        };
        lines.push(format!("change {number}, killed in {step}: accepted: {was_accepted}; WireGuard was {left}"));
    }
    for plant in ["north", "south"] {
        wait_for("everything works as before", PATIENCE, || scene.user.ping(plant))?;
    }
    Ok(lines)
}

fn becomes(scene: &Scene, number: usize) -> Result<()> {
    wait_for("the kernel is as after an undisturbed change", PATIENCE, || {
        equal("the kernel", &scene.settled()?, &scene.expected[number])
    })
}
