//! Any tool works as on site: what technicians run, through translated addresses of both families.
//!
//! `alpha` operates the plants `north`, `south` and `store`, and its member `user-a` is operator of all. `user-b` of
//! `beta` is operator at `north` only. All three plants are 192.168.1.0/24 and fd00:1::/64; users write the virtual
//! addresses. As in the main job nothing is mocked.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use vpn_agent::config::Pools;

use crate::{
    audit::Audit,
    gateway::{Clickhouse, Gateway},
    namespace::run,
    steps::{Steps, wait_for},
};

use family::Family;
use network::Network;
use scene::Scene;

mod account;
mod attempts;
mod counter;
mod ethernet;
mod family;
mod intrusion;
mod network;
mod path;
mod ping;
mod records;
mod scan;
mod scene;
mod servers;
mod services;
mod throughput;

/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays the scenario in a fresh folder, against an empty store.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path, clickhouse: &Clickhouse) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = set_up(&mut steps, folder, clickhouse).and_then(|mut scene| {
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

fn play_steps(steps: &mut Steps, scene: &mut Scene) -> Result<()> {
    steps.step("ping", || ping::small(scene))?;
    steps.step("curl", || servers::http(scene))?;
    steps.step("mbpoll", || servers::modbus(scene))?;
    steps.step("UDP, and ports that are closed", || servers::udp(scene))?;
    // Before anybody has learned how large a packet may be.
    steps.step("iperf3 by TCP", || throughput::tcp(scene))?;
    steps.step("iperf3 by UDP", || throughput::udp(scene))?;
    steps.step("traceroute", || path::hops(scene))?;
    steps.step("ping with packets that are too big", || path::too_big(scene))?;
    steps.step("tracepath", || path::mtu(scene))?;
    steps.step("ping with fragments", || ping::large(scene))?;
    steps.step("a device behind Ethernet is found", || ethernet::find_device(scene))?;
    steps.step("services of the gateway itself, and nothing else of it", || services::reach(scene))?;
    steps.step("no plant can open a connection to a user", || intrusion::attempt(scene))?;
    steps.step("nmap over a part of a subnet", || scan::sweep(scene))?;
    steps.step("nmap at a plant of one's own", || scan::of_own_plant(scene))?;
    steps.step("nmap at a plant of others", || scan::of_foreign_plant(scene))?;
    steps.step("nmap over all ports of it, while others work", || scan::of_all_ports(scene))?;
    steps.step("the audit has all of it", || records::compare(scene))?;
    Ok(())
}

fn set_up(steps: &mut Steps, folder: &Path, clickhouse: &Clickhouse) -> Result<Scene> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let title = format!("two users, two plants behind WireGuard, one behind a VLAN (Linux {})", release.trim());
    let (network, _) = steps.step(&title, || Ok((Network::build(folder)?, Vec::new())))?;
    let mut gateway = Gateway::configure(
        folder,
        clickhouse,
        &format!("[plants]\nmtu = {}\n\n{}", network::PLANTS_MTU, services::settings()),
    )?;
    gateway.write_state(&state(&network))?;
    let (directory, _) = steps.step("the agent reaches all three", || Ok((gateway.start_agent(1)?, Vec::new())))?;
    let scene = Scene { folder: folder.to_owned(), gateway, directory, network, audit: Audit::new(clickhouse.url()) };
    steps.step("users and site routers connect", || connect(&scene))?;
    Ok(scene)
}

fn connect(scene: &Scene) -> Result<()> {
    let pools = Pools::default();
    let key = run("wg show wg-users public-key")?;
    let port = run("wg show wg-users listen-port")?.parse()?;
    for (user, peer) in [("user-a", &scene.network.user_a), ("user-b", &scene.network.user_b)] {
        network::apply_profile(peer, &pools, scene.tunnel_addresses(user)?, &key, port)?;
    }
    for (name, site) in [("north", &scene.network.north), ("south", &scene.network.south)] {
        let id = scene.plant(name)?.id;
        let key = run(&format!("wg show wgp-{id} public-key"))?;
        site.apply(&pools, &key, run(&format!("wg show wgp-{id} listen-port"))?.parse()?)?;
    }
    // The first packet waits for the handshake; what follows is measured.
    for (user, plant) in [("user-a", "north"), ("user-a", "south"), ("user-a", "store"), ("user-b", "north")] {
        for family in Family::BOTH {
            let device = scene.device(plant, family)?;
            wait_for("the tunnels are up", PATIENCE, || {
                scene.user(user).run(&format!("ping -n -q -c 1 -W 2 {device}"))
            })?;
        }
    }
    Ok(())
}

fn state(network: &Network) -> Value {
    let plant = |name: &str, uplink: Value| {
        json!({
            "id": name, "organisation": "alpha", "portfolio": "alpha-solar", "subnets": network::SUBNETS,
            "uplink": uplink,
        })
    };
    json!({
        "revision": 1,
        "organisations": [{ "id": "alpha" }, { "id": "beta" }],
        "portfolios": [{ "id": "alpha-solar", "organisation": "alpha" }],
        "plants": [
            plant("north", json!({ "kind": "host", "public_key": network.north.router.public_key })),
            plant("south", json!({ "kind": "host", "public_key": network.south.router.public_key })),
            plant("store", json!({ "kind": "interface", "interface": network::ETHERNET })),
        ],
        "users": [{ "id": "user-a" }, { "id": "user-b" }],
        "memberships": [
            { "user": "user-a", "organisation": "alpha", "kind": "member", "access": "all" },
            { "user": "user-b", "organisation": "beta", "kind": "member", "access": "all" },
        ],
        "roles": [
            { "user": "user-a", "role": "operator", "on": { "portfolio": "alpha-solar" } },
            { "user": "user-b", "role": "operator", "on": { "plant": "north" } },
        ],
        "cooperations": [{ "partner": "beta", "on": { "plant": "north" } }],
        "certificates": [
            { "id": "certificate-a", "user": "user-a", "public_key": network.user_a.public_key },
            { "id": "certificate-b", "user": "user-b", "public_key": network.user_b.public_key },
        ],
    })
}
