//! Changes that somebody else makes in the kernel.

use anyhow::{Context as _, Result, ensure};

use super::{PATIENCE, scene::Scene};
use crate::{
    namespace::run,
    steps::{equal, wait_for},
};

/// Each is made by a tool, found, set right, and told; nothing else is touched.
///
/// Requirements: G3.
pub fn play(scene: &mut Scene) -> Result<Vec<String>> {
    let stranger = scene.stranger.public_key.clone();
    let key_file = scene.stranger.private_key_file().to_owned();
    let (user, north) = (scene.user.public_key.clone(), scene.north.router.public_key.clone());
    let south = scene.south.router.public_key.clone();
    run("ip link add wg-other type wireguard")?;
    run(&format!("wg set wg-other peer {stranger} allowed-ips 100.64.0.0/16"))?;
    let before = scene.configuration()?;
    let peer = scene.directory.peers.first().context("no peer")?.address;

    let rows = [
        (format!("wg set wg-users peer {user} remove"), format!("wg-users: no peer {user}")),
        (
            format!("wg set wg-users peer {stranger} allowed-ips {peer}/32"),
            format!("wg-users: a peer that is nobody's, {stranger}"),
        ),
        (format!("wg set wg-users peer {user} persistent-keepalive 7"), "with a keepalive of 7 s".to_owned()),
        (format!("wg set wg-users peer {user} preshared-key {key_file}"), "with a preshared key".to_owned()),
        ("wg set wg-users listen-port 40000".to_owned(), "wg-users: the UDP port 40000".to_owned()),
        ("wg set wg-users fwmark 7".to_owned(), "wg-users: the firewall mark 0x7".to_owned()),
        ("ip link set wg-users mtu 1300".to_owned(), "wg-users: the MTU 1300".to_owned()),
        (
            format!("wg set wgp-1 peer {north} allowed-ips 10.99.0.0/24"),
            format!("wgp-1: peer {north} with allowed IPs 10.99.0.0/24"),
        ),
        (
            format!("wg set wgp-1 peer {stranger} allowed-ips 192.168.1.0/24"),
            format!("wgp-1: a peer that is nobody's, {stranger}"),
        ),
        (format!("wg set wgp-1 private-key {key_file}"), format!("wgp-1: the key of {stranger}")),
        ("ip link set wgp-1 down".to_owned(), "wgp-1: down".to_owned()),
        (format!("wg set wgp-2 peer {south} persistent-keepalive off"), "with a keepalive of 0 s".to_owned()),
        ("ip link del wgp-1".to_owned(), "wgp-1: there is no such interface".to_owned()),
        ("ip link del wgp-2".to_owned(), "wgp-2: there is no such interface".to_owned()),
        ("ip link del wg-users".to_owned(), "wg-users: there is no such interface".to_owned()),
    ];
    let mut lines = Vec::new();
    for (command, expected) in rows {
        let told = |scene: &Scene| -> Result<usize> {
            Ok(scene.repairs()?.iter().filter(|(text, _)| text.contains(&expected)).map(|(_, times)| times).sum())
        };
        let times = told(scene)?;
        run(&command)?;
        wait_for(&format!("{command}: repaired and told"), PATIENCE, || {
            ensure!(told(scene)? > times, "{expected}: not told: {:?}", scene.repairs()?);
            equal("the kernel", &scene.settled()?, &before)
        })?;
        lines.push(expected);
    }
    let other = run("wg show wg-other allowed-ips")?;
    ensure!(other.contains(&stranger) && other.contains("100.64.0.0/16"), "not ours, and touched: {other}");
    run("ip link del wg-other")?;
    for plant in ["north", "south"] {
        wait_for("everything works again", PATIENCE, || scene.ping(plant))?;
    }
    Ok(lines)
}
