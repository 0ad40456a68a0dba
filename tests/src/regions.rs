//! Several regions: two gateways with one server identity, a plant that is linked to both, and a user who goes on with
//! the same profile when one of them fails.
//!
//! `alpha` operates the plants `north` and `south`, which have the same subnet, and its member `user-a` is operator of
//! both. As in the main job nothing is mocked.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    accounts,
    device::{blob, exchange},
    download::Download,
    gateway::Clickhouse,
    steps::{Steps, equal, wait_for},
};

use scene::{BLOB, EU, Hosts, Region, Scene, US};
use ways::{Way, Ways};

mod client;
mod scene;
mod ways;

/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes in a second of the download that is under way when a region fails.
const RATE: &str = "100k";
/// How much of it has arrived then, at least.
const BEFORE_FAILURE: u64 = 200_000;

/// Plays the scenario in a fresh folder, against an empty store.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path, clickhouse: &Clickhouse) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = set_up(&mut steps, folder, clickhouse).and_then(|mut scene| {
        let played = play_steps(&mut steps, &mut scene);
        if played.is_err() {
            for region in [&scene.eu, &scene.us] {
                println!("=== {}\n{}", region.gateway.host().name, region.gateway.account());
            }
        }
        played
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
    }
    outcome
}

fn set_up(steps: &mut Steps, folder: &Path, clickhouse: &Clickhouse) -> Result<Scene> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let title = format!("two gateways, two plants, a user, and the Internet (Linux {})", release.trim());
    let hosts = steps.step(&title, || Hosts::build(folder, clickhouse))?;
    let started = steps.step("agents and collectors of both regions start, with one state", || {
        let scene = hosts.start(folder, clickhouse)?;
        let found = same_in_both(&scene)?;
        Ok((scene, found))
    });
    Ok(started?.0)
}

fn play_steps(steps: &mut Steps, scene: &mut Scene) -> Result<()> {
    steps.step("the user connects to the first region, the sites to theirs", || connect(scene))?;
    steps.step("the user works at north through the first region", || work_in_eu(scene))?;
    steps
        .step("the first region fails during a download; the profile works through the second", || fail_over(scene))?;
    steps.step("through the second, replies come back through the second", || work_in_us(scene))?;
    steps.step("the user loses north while the first region is down", || lose_role(scene))?;
    steps.step("the first region comes back, and has caught up", || come_back(scene))?;
    steps.step("the user gets north back, in both regions", || regain_role(scene))?;
    steps.step("the audit names the region, to the byte as the kernels and the tools", || compare(scene))?;
    Ok(())
}

/// What a profile and a site's configuration are made of is the same everywhere.
///
/// Requirements: E1, E3.
fn same_in_both(Scene { eu, us, .. }: &Scene) -> Result<Vec<String>> {
    let key = eu.shown("wg-users public-key")?;
    equal("the server's public key", &us.shown("wg-users public-key")?, &key)?;
    // A region that was down may know those who are gone or not.
    let peers = |region: &Region| {
        let active = region.directory.peers.iter().filter(|peer| peer.active);
        active.map(|peer| (peer.user.clone(), peer.id, peer.address, peer.address6)).collect::<Vec<_>>()
    };
    equal("peers of the second region", peers(us), peers(eu))?;
    equal("plants of the second region", &us.directory.plants, &eu.directory.plants)?;
    let peers = eu.directory.peers.iter().map(|peer| format!("{}: {}", peer.user, peer.address));
    let plants = eu.directory.plants.iter().flat_map(|plant| {
        plant.subnets.iter().map(move |subnet| format!("{}: {} is {}", plant.plant, subnet.real, subnet.virtual_))
    });
    Ok([format!("server key: {key}")].into_iter().chain(peers).chain(plants).collect())
}

/// Requirements: E4.
fn connect(scene: &Scene) -> Result<()> {
    scene.link_sites()?;
    for (plant, best) in [("south", US), ("north", EU)] {
        wait_for("the client is led to the region that reaches its plant best", PATIENCE, || {
            equal(plant, &*scene.lead(plant)?, best)
        })?;
    }
    scene.user.connect()?;
    // The first packet waits for the handshake; what follows is measured.
    wait_for("the tunnels are up", PATIENCE, || ping(scene, "north"))?;
    Ok(())
}

fn work_in_eu(scene: &mut Scene) -> Result<Vec<String>> {
    let lines = work(scene, |scene| (&scene.eu, &scene.us), "north")?;
    refused(scene, "south")?;
    wait_for("the refusal is on record", PATIENCE, || denied(scene, &scene.eu, "south", "no-plant"))?;
    Ok(lines)
}

/// Uses a plant through a region. Its packets, both ways, are those that this region has counted; the other one has
/// nothing to do with it.
///
/// Requirements: E2.
fn work(scene: &mut Scene, regions: impl Fn(&Scene) -> (&Region, &Region), plant: &'static str) -> Result<Vec<String>> {
    let (router, own) = match plant {
        "north" => (&scene.north.router, [198, 18, 11, 2]),
        _ => (&scene.south.router, [198, 18, 12, 2]),
    };
    let ways = Ways::watch(&router.namespace, own.into())?;
    let (region, other) = regions(scene);
    let (name, addresses) = (region.gateway.host().region, [region.address, other.address]);
    let before = region.packets(plant)?;
    let device = scene.device(plant)?;
    let user = scene.user.namespace();

    let between = scene.between(name, plant)?;
    user.run(&format!("busybox ping -c 3 -W 5 {device}"))?;
    let (sent, received) = exchange(user, device, plant, 20)?;
    let done = Download::start(user, &scene.folder, plant, device)?.finish()?;
    ensure!(fs::read(&done.file)? == blob(plant, BLOB), "the content of {plant} is another");
    // The last acknowledgement is on its way.
    thread::sleep(Duration::from_secs(1));

    let after = regions(scene).0.packets(plant)?;
    let [to, from] = [after[0] - before[0], after[1] - before[1]];
    let expected = BTreeMap::from([(Way::From(addresses[0]), to), (Way::To(addresses[0]), from)]);
    let mut found = ways.finish()?;
    if scene.has_failed {
        // What the device of the download that broke off still sends again. Nothing of it arrives.
        found.remove(&Way::To(scene.eu.address));
    }
    equal("packets by peer of the router", found, expected)?;
    scene.reported.extend([between.ping(3, 56), between.datagrams(20, sent, received), between.http(&done)]);
    fs::remove_file(&done.file)?;
    Ok(vec![format!("{device} at {plant}: {to} packets out by {name}, {from} back; none by the other region")])
}

/// The host of the region fails, and its name leads to the other one from then on.
///
/// Requirements: A4, E1, E4.
fn fail_over(scene: &mut Scene) -> Result<Vec<String>> {
    let device = scene.device("north")?;
    // A user who sees nothing come gives up after a while.
    let options = ["--limit-rate", RATE, "--speed-time", "5", "--speed-limit", "1"];
    let user = scene.user.namespace().clone();
    let download = Download::start_of("blob", &options, &user, &scene.folder, "north", device)?;
    wait_for("the download runs", PATIENCE, || {
        let size = download.size();
        ensure!(size > BEFORE_FAILURE, "{size} bytes so far");
        Ok(())
    })?;
    scene.eu.gateway.kill();
    scene.eu.set_uplink("down")?;
    scene.has_failed = true;
    wait_for("the client is led to the region that is left", PATIENCE, || equal("region", &*scene.lead("north")?, US))?;
    let took = scene.user.retry(device, PATIENCE)?;
    let (well, first) = download.end()?;
    ensure!(!well, "the download was over before the region failed");

    // Its kernel has counted at least what has arrived.
    let counted = scene.eu.packets("north")?;
    let resumed =
        Download::start_of("blob", &["--continue-at", "-"], &user, &scene.folder, "north", device)?.finish()?;
    equal("bytes of both parts", first.body + resumed.body, BLOB as u64)?;
    ensure!(fs::read(&resumed.file)? == blob("north", BLOB), "the content of north is another");
    equal("packets in the region that failed", scene.eu.packets("north")?, counted)?;
    let between = scene.between(scene.us.gateway.host().region, "north")?;
    scene.reported.push(between.http(&resumed));
    fs::remove_file(&resumed.file)?;
    Ok(vec![
        format!("the client works again {:.1} s after it has begun to look the name up again", took.as_secs_f64()),
        format!("{} bytes by the first region, the other {} by the second", first.body, resumed.body),
    ])
}

fn work_in_us(scene: &mut Scene) -> Result<Vec<String>> {
    let mut lines = work(scene, |scene| (&scene.us, &scene.eu), "north")?;
    wait_for("south answers", PATIENCE, || ping(scene, "south"))?;
    lines.extend(work(scene, |scene| (&scene.us, &scene.eu), "south")?);
    Ok(lines)
}

fn lose_role(scene: &mut Scene) -> Result<()> {
    // The region that is down never sees this one, nor the colleague who is in it alone.
    let state = scene.state(2, "viewer", &["colleague"])?;
    scene.us.gateway.write_state(&state)?;
    scene.us.gateway.applied(2)?;
    let state = scene.state(3, "viewer", &["successor"])?;
    scene.us.gateway.write_state(&state)?;
    scene.eu.gateway.write_state(&state)?;
    scene.us.directory = scene.us.gateway.applied(3)?;
    refused(scene, "north")?;
    ping(scene, "south")?;
    Ok(())
}

/// The state has changed while the region was down. It enforces the present one before it takes part again.
///
/// Requirements: B4, E3.
fn come_back(scene: &mut Scene) -> Result<()> {
    scene.eu.directory = scene.eu.gateway.start_agent(3)?;
    same_in_both(scene)?;
    scene.eu.gateway.start_collector()?;
    scene.eu.set_uplink("up")?;
    scene.has_failed = false;
    wait_for("the client is led back", PATIENCE, || equal("region", &*scene.lead("north")?, EU))?;
    scene.user.disconnect()?;
    scene.user.connect()?;
    wait_for("the region that came back refuses north, and says so", PATIENCE, || {
        refused(scene, "north")?;
        denied(scene, &scene.eu, "north", "no-route")
    })
}

fn regain_role(scene: &mut Scene) -> Result<Vec<String>> {
    let state = scene.state(4, "operator", &["successor"])?;
    for region in [&mut scene.eu, &mut scene.us] {
        region.gateway.write_state(&state)?;
        region.directory = region.gateway.applied(4)?;
    }
    same_in_both(scene)?;
    wait_for("north answers", PATIENCE, || ping(scene, "north"))?;
    work(scene, |scene| (&scene.eu, &scene.us), "north")
}

fn compare(scene: &mut Scene) -> Result<Vec<String>> {
    let rows = wait_for("ClickHouse has every flow as the kernels have it", PATIENCE, || {
        let rows = scene.audit.flows()?;
        let kernels = [&scene.eu, &scene.us]
            .map(|region| Ok::<_, anyhow::Error>((region.gateway.host(), &region.directory, region.flows()?)));
        accounts::compare_with_kernels(&kernels.into_iter().collect::<Result<Vec<_>>>()?, &rows)?;
        Ok(rows)
    })?;
    let matched = accounts::compare_with_tools(&scene.reported, &rows)?;
    let mut lines =
        vec![format!("{} flows, of which {matched} are of curl, ping and the UDP client, to the byte", rows.len())];
    for region in [&scene.eu, &scene.us] {
        let host = region.gateway.host();
        let own = rows.iter().filter(|row| (&*row.region, &*row.gateway) == (host.region, host.name));
        let (flows, bytes) =
            own.fold((0, 0), |(flows, bytes), row| (flows + 1, bytes + row.bytes_to_plant + row.bytes_to_user));
        ensure!(flows > 0, "no flow in {}", host.region);
        lines.push(format!("{}, {}: {flows} flows, {bytes} bytes", host.region, host.name));
    }
    Ok(lines)
}

fn ping(scene: &Scene, plant: &str) -> Result<String> {
    let device = scene.device(plant)?;
    scene.user.namespace().run(&format!("busybox ping -c 1 -W 2 {device}"))
}

fn refused(scene: &Scene, plant: &str) -> Result<()> {
    let output = scene.user.namespace().output(&format!("busybox ping -c 1 -W 2 {}", scene.device(plant)?))?;
    ensure!(!output.status.success(), "{plant} answered");
    Ok(())
}

/// The audit has a refusal by this region.
fn denied(scene: &Scene, region: &Region, plant: &str, verdict: &str) -> Result<()> {
    let rows = scene.audit.denials()?;
    let region = region.gateway.host().region;
    let is_it = |row: &Value| row["region"] == region && row["plant"] == plant && row["verdict"] == verdict;
    ensure!(rows.iter().any(is_it), "no row of {plant} with {verdict} in {region}: {rows:#?}");
    Ok(())
}
