//! `ping`, small and larger than any packet.

use anyhow::{Context as _, Result, ensure};
use vpn_ebpf_common::flow::Traffic;

use crate::{
    namespace::Namespace,
    steps::{equal, wait_for},
};

use super::{Family, PATIENCE, account::Moved, counter::Counter, scene::Scene};

/// Echo requests of one run.
const COUNT: u64 = 5;
/// Bytes of data that `ping` sends unless it is told otherwise.
const SMALL: u64 = 56;
/// Bytes of data that no path takes in one packet.
const LARGE: u64 = 8_000;
/// Bytes of the ICMP header of an echo message.
const HEADER: u64 = 8;

/// Every device under both families; every packet is counted once each way, to the byte.
pub fn small(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "south", "store"] {
            let device = scene.device(plant, family)?;
            let before = scene.moved("user-a", device, family.icmp())?;
            lines.push(format!("{device} at {plant}: {}", ping(scene.user("user-a"), SMALL, &device.to_string())?));
            let moved = scene.moved("user-a", device, family.icmp())?.since(&before);
            let one_way = Traffic { packets: COUNT, bytes: COUNT * (family.header() + HEADER + SMALL) };
            equal(format!("flow to {device}"), moved, Moved { to_plant: one_way, to_user: one_way })?;
        }
    }
    Ok(lines)
}

/// Echo messages in fragments, of which every one is counted, by the accounts of who sent and received them.
pub fn large(scene: &Scene) -> Result<Vec<String>> {
    let user = scene.user("user-a");
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "store"] {
            let (device, lan) = (scene.device(plant, family)?, &scene.lan(plant).host);
            // Some are lost while both sides learn how large a fragment may be.
            wait_for("both sides know the path's MTU", PATIENCE, || {
                user.run(&format!("ping -n -q -c 1 -W 2 -s {LARGE} {device}"))
            })?;
            let look = || {
                let made = Counter::FragmentsMade.of(user, family)?;
                let [arrived, back] =
                    [Counter::FragmentsReceived.of(lan, family)?, Counter::FragmentsReceived.of(user, family)?];
                Ok::<_, anyhow::Error>(([made, arrived, back], scene.moved("user-a", device, family.icmp())?))
            };
            let (counted, flow) = look()?;
            let summary = ping(user, LARGE, &device.to_string())?;
            let (counted_after, flow_after) = look()?;
            let [made, arrived, back] = std::array::from_fn(|at| counted_after[at] - counted[at]);
            ensure!(made > COUNT, "{made} fragments for {COUNT} requests");
            equal(format!("fragments that reached {device}"), arrived, made)?;
            let traffic = |fragments| Traffic {
                packets: fragments,
                bytes: COUNT * (HEADER + LARGE) + fragments * family.fragment_header(),
            };
            let expected = Moved { to_plant: traffic(made), to_user: traffic(back) };
            equal(format!("flow to {device}"), flow_after.since(&flow), expected)?;
            lines.push(format!("{device} at {plant}: {summary}; {made} fragments out, {back} back"));
        }
    }
    Ok(lines)
}

/// Pings a few times, and gives the line with the result; without loss.
fn ping(host: &Namespace, size: u64, target: &str) -> Result<String> {
    let said = host.run(&format!("ping -n -c {COUNT} -i 0.2 -W 5 -s {size} {target}"))?;
    let summary = said.lines().find(|line| line.contains("packets transmitted")).context(said.clone())?;
    let expected = format!("{COUNT} packets transmitted, {COUNT} received, 0% packet loss");
    ensure!(summary.starts_with(&expected), "{said}");
    equal("answers", said.matches(" bytes from ").count() as u64, COUNT)?;
    Ok(expected)
}
