//! Changes that somebody else makes in the kernel.

use anyhow::{Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use rustix::process::Signal;
use vpn_agent::datapath::layout_dir;
use vpn_ebpf_common::{names, plant::Plant};

use super::{
    PATIENCE,
    scene::{OTHER, Scene},
};
use crate::{
    namespace::run,
    steps::{equal, wait_for},
};

/// Each is found, set right, and told; what is not the gateway's is not touched.
///
/// Requirements: G3.
pub fn change(scene: &mut Scene) -> Result<Vec<String>> {
    let (stranger, key_file) = (&scene.stranger, &scene.stranger_key_file);
    let (user, room) = (&scene.user.peer.public_key, &scene.room.peer.public_key);
    let (north, south) = (&scene.north_key, &scene.south.router.public_key);
    run("ip link add wg-other type wireguard")?;
    run(&format!("wg set wg-other peer {stranger} allowed-ips 100.64.0.0/16"))?;
    let rows = [
        (format!("wg set wg-users peer {room} remove"), format!("wg-users: no peer {room}")),
        (
            format!("wg set wg-users peer {stranger} allowed-ips {}/32", scene.user.tunnel),
            format!("wg-users: a peer that is nobody's, {stranger}"),
        ),
        (
            format!("wg set wg-users peer {user} persistent-keepalive 7"),
            format!("wg-users: peer {user} with a keepalive of 7 s"),
        ),
        (
            format!("wg set wg-users peer {user} preshared-key {key_file}"),
            format!("wg-users: peer {user} with a preshared key"),
        ),
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
        // Not there where it is a peer: that would go with it.
        (format!("wg set wgp-2 private-key {key_file}"), format!("wgp-2: the key of {stranger}")),
        ("ip link set wgp-1 down".to_owned(), "wgp-1: down".to_owned()),
        (
            format!("wg set wgp-2 peer {south} persistent-keepalive off"),
            format!("wgp-2: peer {south} with a keepalive of 0 s"),
        ),
    ];
    let before = scene.settled()?;
    // What is changed while the agent repairs something else there may be repaired with that, and is not told.
    scene.gateway.signal_agent(Signal::STOP)?;
    for (command, _) in &rows {
        run(command)?;
    }
    forget_plants(scene)?;
    scene.gateway.signal_agent(Signal::CONT)?;
    let expected: Vec<_> =
        rows.into_iter().map(|(_, expected)| expected).chain(["PLANTS: missing".to_owned()]).collect();
    wait_for("all is told and repaired", PATIENCE, || {
        scene.told(&expected)?;
        equal("the kernel", &scene.settled()?, &before)
    })?;
    let other = run("wg show wg-other allowed-ips")?;
    ensure!(other.contains(stranger) && other.contains("100.64.0.0/16"), "not ours, and touched: {other}");
    run("ip link del wg-other")?;
    work(scene)?;
    Ok(expected)
}

/// Interfaces, one of them while the endpoint behind it moves, and with it its name.
///
/// Requirements: D2, G3.
pub fn delete(scene: &mut Scene) -> Result<Vec<String>> {
    let before = scene.settled()?;
    scene.move_south()?;
    scene.resolve_south(OTHER)?;
    let mut expected = Vec::new();
    scene.gateway.signal_agent(Signal::STOP)?;
    for name in ["wgp-1", "wgp-2", "wg-users"] {
        run(&format!("ip link del {name}"))?;
        expected.push(format!("{name}: there is no such interface"));
    }
    scene.gateway.signal_agent(Signal::CONT)?;
    wait_for("all is told and made again", PATIENCE, || {
        scene.told(&expected)?;
        equal("the kernel", &scene.settled()?, &before)
    })?;
    work(scene)?;
    let endpoint = scene.endpoint_of_south()?;
    equal("the endpoint of south", &*endpoint, "198.18.12.3:51900")?;
    expected.push(format!("south is dialled at {endpoint}"));
    Ok(expected)
}

fn work(scene: &Scene) -> Result<()> {
    // Who has lost a session finds out within some minutes, or begins anew.
    scene.restart_north()?;
    scene.user.connect()?;
    scene.room.connect()?;
    for plant in ["north", "south"] {
        wait_for("everything works again", PATIENCE, || scene.user.ping(plant))?;
    }
    wait_for("the control room works again", PATIENCE, || scene.room.ping("south"))?;
    Ok(())
}

/// Takes every plant out of the map that leads to them.
fn forget_plants(scene: &Scene) -> Result<()> {
    let pin = layout_dir(scene.gateway.host().pin_dir.as_ref()).join("maps").join(names::PLANTS);
    let mut plants: HashMap<_, u32, Plant> = Map::from_map_data(MapData::from_pin(pin)?)?.try_into()?;
    for ifindex in plants.keys().collect::<Result<Vec<_>, _>>()? {
        plants.remove(&ifindex)?;
    }
    Ok(())
}
