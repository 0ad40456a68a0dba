//! `ping`, small and larger than any packet.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use vpn_ebpf_common::flow::Traffic;

use crate::{
    namespace::Namespace,
    steps::{equal, wait_for},
};

use super::{Family, PATIENCE, account::Moved, counter::Counter, scene::Scene};

/// Echo requests to each device.
const COUNT: u64 = 5;
/// Bytes of data that `ping` sends unless it is told otherwise.
const SMALL: u64 = 56;
/// Bytes of data that no path takes in one packet.
const LARGE: u64 = 8_000;
/// Bytes of the ICMP header of an echo message.
const HEADER: u64 = 8;

/// Every device under both families; every packet is counted once each way, to the byte.
/// Requirements: A6.
pub fn small(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "south", "store"] {
            let device = scene.device(plant, family)?;
            let before = scene.moved("user-a", device, family.icmp())?;
            lines.push(format!("{device} at {plant}: {}", ping(scene.user("user-a"), SMALL, device)?));
            let moved = scene.moved("user-a", device, family.icmp())?.since(&before);
            let one_way = Traffic { packets: COUNT, bytes: COUNT * (family.header() + HEADER + SMALL) };
            equal(format!("flow to {device}"), moved, Moved { to_plant: one_way, to_user: one_way })?;
        }
    }
    Ok(lines)
}

/// Echo messages in fragments, of which every one is counted, by the accounts of who sent and received them.
/// Requirements: A6.
pub fn large(scene: &Scene) -> Result<Vec<String>> {
    let user = scene.user("user-a");
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "store"] {
            let device = scene.device(plant, family)?;
            // Some are lost while both sides learn how large a fragment may be.
            wait_for("both sides know the path's MTU", PATIENCE, || {
                user.run(&format!("ping -n -q -c 1 -W 2 -s {LARGE} {device}"))
            })?;
            // A fragment that overtakes the first of its packet on an emulated machine's many queues is dropped.
            let (answered, [made, back]) =
                wait_for("all fragments arrive", PATIENCE, || ping_in_fragments(scene, plant, device))?;
            lines.push(format!("{device} at {plant}: {answered}; {made} fragments out, {back} back"));
        }
    }
    Ok(lines)
}

/// Pings with fragments, and gives what was answered and how many fragments that took each way.
fn ping_in_fragments(scene: &Scene, plant: &str, device: IpAddr) -> Result<(String, [u64; 2])> {
    let family = Family::of(device);
    let (user, lan) = (scene.user("user-a"), &scene.lan(plant).host);
    let look = || {
        let fragments = [
            Counter::FragmentsMade.of(user, family)?,
            Counter::FragmentsReceived.of(lan, family)?,
            Counter::FragmentsReceived.of(user, family)?,
        ];
        Ok::<_, anyhow::Error>((fragments, scene.moved("user-a", device, family.icmp())?))
    };
    let (fragments, flow) = look()?;
    let answered = ping(user, LARGE, device)?;
    let (fragments_after, flow_after) = look()?;
    let [made, arrived, back] = std::array::from_fn(|at| fragments_after[at] - fragments[at]);
    ensure!(made > COUNT, "{made} fragments for {COUNT} requests");
    equal(format!("fragments that reached {device}"), arrived, made)?;
    let traffic = |fragments| Traffic {
        packets: fragments,
        bytes: COUNT * (HEADER + LARGE) + fragments * family.fragment_header(),
    };
    let expected = Moved { to_plant: traffic(made), to_user: traffic(back) };
    equal(format!("flow to {device}"), flow_after.since(&flow), expected)?;
    Ok((answered, [made, back]))
}

/// Pings a few times; every request is answered. One at a time: of several, `ping` does not wait for a late last one.
fn ping(host: &Namespace, size: u64, target: IpAddr) -> Result<String> {
    for _ in 0..COUNT {
        let said = host.run(&format!("ping -n -c 1 -W 10 -s {size} {target}"))?;
        let answer = format!("{} bytes from {target}: icmp_seq=1 ", HEADER + size);
        equal(format!("{said}\nanswers"), said.matches(&answer).count(), 1)?;
        ensure!(said.contains("1 packets transmitted, 1 received, 0% packet loss"), "{said}");
    }
    Ok(format!("{COUNT} of {COUNT} requests of {size} bytes answered"))
}
