//! What lies on the way: hops, and how large a packet may be.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::steps::equal;

use super::{
    Family,
    network::{PLANTS_MTU, ROUTER, USERS_MTU, path_mtu},
    scene::Scene,
};

/// Bytes of an ICMP echo header.
const ECHO: u64 = 8;

/// How `traceroute` may ask: by UDP, by ICMP, by TCP.
const PROBES: [&str; 3] = ["", "-I", "-T -p 80"];

/// `traceroute` shows the gateway, and then what lies behind it, all under addresses that users can write.
/// Requirements: A6.
pub fn hops(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["south", "store"] {
            let expected = hops_to(scene, plant, family)?;
            let device = scene.device(plant, family)?;
            for probe in PROBES {
                let line = format!("traceroute {} {probe} -n -q 1 -w 5 -m 8 {device}", family.option());
                let said = scene.user("user-a").run(&line)?;
                // A title, and then a line for each hop: number, address, time.
                let found: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
                equal(format!("{line}\n{said}\nhops"), &found, &expected.iter().map(|hop| &**hop).collect())?;
            }
            lines.push(format!("{plant}: {}", expected.join(", ")));
        }
    }
    Ok(lines)
}

/// A packet that may not be fragmented and is one byte too large: the gateway says how large it may be.
/// Requirements: A6.
pub fn too_big(scene: &Scene) -> Result<Vec<String>> {
    let user = scene.user("user-a");
    let mut lines = Vec::new();
    for family in Family::BOTH {
        let device = scene.device("south", family)?;
        let gateway = scene.gateway_address(family);
        let fits = PLANTS_MTU - family.header() - ECHO;
        user.run(&format!("ping -n -c 1 -W 5 -M do -s {fits} {device}"))?;
        let before = scene.verdict("too-big")?;
        let output = user.output(&format!("ping -n -c 1 -W 5 -M do -s {} {device}", fits + 1))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = match family {
            Family::V4 => format!("From {gateway} icmp_seq=1 Frag needed and DF set (mtu = {PLANTS_MTU})"),
            Family::V6 => format!("From {gateway} icmp_seq=1 Packet too big: mtu={PLANTS_MTU}"),
        };
        ensure!(!output.status.success() && said.contains(&expected), "expected \"{expected}\" in\n{said}");
        equal("packets that were too big", scene.verdict("too-big")? - before, 1)?;
        lines.push(expected);
    }
    Ok(lines)
}

/// `tracepath` finds the path's MTU, and at which hop, and as many hops back as there.
/// Requirements: A6.
pub fn mtu(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "store"] {
            let mtu = path_mtu(plant);
            let expected = hops_to(scene, plant, family)?;
            let device = scene.device(plant, family)?;
            let line = format!("tracepath {} -n -m 8 {device}", family.option());
            let said = scene.user("user-a").run(&line)?;
            // Several lines for a hop, the last of which is of the host that is there: "2:  10.128.1.1  0.897ms".
            let answers = said
                .lines()
                .filter_map(|line| line.trim().split_once(": "))
                .filter_map(|(hop, rest)| Some((hop.parse::<usize>().ok()?, rest.split_whitespace().next()?)));
            let found: Vec<&str> = answers.collect::<BTreeMap<_, _>>().into_values().collect();
            equal(format!("{line}\n{said}\nhops"), &found, &expected.iter().map(|hop| &**hop).collect())?;
            // The gateway says so, at the hop behind it.
            let smaller = format!("pmtu {PLANTS_MTU}");
            let discovered = said.lines().any(|line| line.contains(&expected[0]) && line.ends_with(&smaller));
            equal(format!("{line}\n{said}\ndiscovery"), discovered, mtu < USERS_MTU)?;
            let hops = expected.len();
            let resume = said.lines().last().context("tracepath said nothing")?.trim();
            equal(format!("{line}\n{said}\nresult"), resume, &format!("Resume: pmtu {mtu} hops {hops} back {hops}"))?;
            lines.push(format!("{device} at {plant}: {resume}"));
        }
    }
    Ok(lines)
}

/// The gateway, the router on site if there is one, and the device.
fn hops_to(scene: &Scene, plant: &str, family: Family) -> Result<Vec<String>> {
    let mut hops = vec![scene.gateway_address(family)];
    if plant != "store" {
        hops.push(scene.virtual_address(plant, family, ROUTER)?);
    }
    hops.push(scene.device(plant, family)?);
    Ok(hops.iter().map(ToString::to_string).collect())
}
