//! The plant behind an Ethernet interface of the gateway host.

use std::fs;

use anyhow::{Result, ensure};

use crate::{namespace::run, steps::equal};

use super::{
    Family,
    network::{self, DEVICE, ETHERNET},
    scene::Scene,
};

/// Settings of the kernel by which it would forward packets itself.
const FORWARDING: [&str; 3] = ["ipv4/ip_forward", "ipv4/conf/store0.10/forwarding", "ipv6/conf/all/forwarding"];

/// The device is found by ARP and neighbour discovery with the first packet, and the kernel forwards nothing.
pub fn find_device(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        let device = scene.device("store", family)?;
        run(&format!("ip {} neigh flush dev {ETHERNET}", family.option()))?;
        let before = scene.verdict("neighbour")?;
        scene.user("user-a").run(&format!("ping -n -c 1 -W 5 {device}"))?;
        ensure!(scene.verdict("neighbour")? > before, "nothing of neighbour discovery was counted");
        let real = network::real(family, DEVICE);
        let entry = run(&format!("ip neigh show {real} dev {ETHERNET}"))?;
        ensure!(entry.contains("lladdr"), "the neighbour {real} was not found: {entry:?}");
        lines.push(entry);
    }
    for setting in FORWARDING {
        let value = fs::read_to_string(format!("/proc/sys/net/{setting}"))?;
        equal(setting, value.trim(), "0")?;
    }
    Ok(lines)
}
