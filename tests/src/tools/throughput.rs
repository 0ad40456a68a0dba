//! `iperf3`: as much as goes through, by TCP and UDP, both ways; and what it reports beside what the kernel has counted.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vpn_ebpf_common::{flow::Traffic, protocol};

use crate::steps::equal;

use super::{Family, account::Moved, counter::Counter, network::path_mtu, scene::Scene};

/// Bytes of one run by TCP.
const TCP_BYTES: u64 = 3_000_000;
/// Bytes of one run by UDP.
const UDP_BYTES: u64 = 500_000;
/// What a run by UDP sends in a second; less than an emulated machine can take, so that nothing is lost.
const UDP_RATE: &str = "6M";

/// Bytes of a TCP header without and with all options.
const TCP_HEADER: (u64, u64) = (20, 60);
/// Bytes of a UDP header.
const UDP_HEADER: u64 = 8;
/// Bytes that iperf3 exchanges besides, on its control connection.
const CONTROL: u64 = 16_384;
/// Datagrams besides those that are measured.
const EXTRA: u64 = 16;

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Large transfers by TCP. No packet is ever too big for a tunnel, since both ends were told so when they connected.
/// Requirements: A6.
pub fn tcp(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for plant in ["north", "store"] {
            for way in [Way::Up, Way::Down] {
                let lan = &scene.lan(plant).host;
                let too_big =
                    || Ok::<_, anyhow::Error>((scene.verdict("too-big")?, Counter::TooBigReceived.of(lan, family)?));
                let before = too_big()?;
                let (end, moved) = run(scene, plant, family, way, &format!("-n {TCP_BYTES}"), protocol::TCP)?;
                equal("packets that were too big for a tunnel", too_big()?, before)?;
                let number = |sum: &str, name: &str| end[sum][name].as_u64().with_context(|| format!("{sum}: {end}"));
                let (sent, received) = (number("sum_sent", "bytes")?, number("sum_received", "bytes")?);
                ensure!(sent >= TCP_BYTES, "only {sent} bytes were sent");
                check_tcp(moved, plant, family, received, sent, number("sum_sent", "retransmits")?)?;
                lines.push(line(plant, family, way, received, moved));
            }
        }
    }
    Ok(lines)
}

/// At least the payload with the smallest headers in the fewest packets; at most all that was sent with the largest.
fn check_tcp(moved: Traffic, plant: &str, family: Family, received: u64, sent: u64, retransmits: u64) -> Result<()> {
    let Traffic { packets, bytes } = moved;
    let (least, most) = (family.header() + TCP_HEADER.0, family.header() + TCP_HEADER.1);
    ensure!(bytes >= received + packets * least, "{bytes} bytes in {packets} packets for {received} of payload");
    let fewest = received.div_ceil(path_mtu(plant) - least);
    ensure!(packets >= fewest, "{packets} packets for {received} bytes of payload, which take {fewest}");
    let limit = sent + retransmits * path_mtu(plant) + CONTROL + packets * most;
    ensure!(bytes <= limit, "{bytes} bytes in {packets} packets for {sent} of payload, {retransmits} sent again");
    Ok(())
}

/// Datagrams as large as iperf3 makes them by itself, few of which are lost, and if so behind the gateway.
/// Requirements: A6.
pub fn udp(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        for way in [Way::Up, Way::Down] {
            let options = format!("-u -b {UDP_RATE} -n {UDP_BYTES}");
            let (end, moved) = run(scene, "north", family, way, &options, protocol::UDP)?;
            let number = |name: &str| end["sum"][name].as_u64().with_context(|| format!("{name}: {end}"));
            let (sent, bytes, lost) = (number("packets")?, number("bytes")?, number("lost_packets")?);
            ensure!(bytes >= UDP_BYTES && lost <= sent / 10, "{lost} of {sent} datagrams, {bytes} bytes, are lost");
            let size = bytes / sent;
            let payload = moved.bytes - moved.packets * (family.header() + UDP_HEADER);
            let datagrams = sent - lost..=sent + EXTRA;
            ensure!(datagrams.contains(&moved.packets), "{} packets for {datagrams:?} datagrams", moved.packets);
            let limits = datagrams.start() * size..=datagrams.end() * size;
            ensure!(limits.contains(&payload), "{payload} bytes of payload for {limits:?}");
            lines.push(line("north", family, way, bytes, moved));
        }
    }
    Ok(lines)
}

fn run(scene: &Scene, plant: &str, family: Family, way: Way, options: &str, protocol: u8) -> Result<(Value, Traffic)> {
    let device = scene.device(plant, family)?;
    let before = scene.moved("user-a", device, protocol)?;
    let reverse = if way == Way::Down { "-R" } else { "" };
    let line = format!("iperf3 -c {device} {} {options} {reverse} --json", family.option());
    let said = scene.user("user-a").run(&line)?;
    let mut report: Value = serde_json::from_str(&said).with_context(|| format!("{line}: {said}"))?;
    let Moved { to_plant, to_user } = scene.moved("user-a", device, protocol)?.since(&before);
    Ok((report["end"].take(), if way == Way::Up { to_plant } else { to_user }))
}

fn line(plant: &str, family: Family, way: Way, bytes: u64, moved: Traffic) -> String {
    let arrow = if way == Way::Up { "to" } else { "from" };
    format!(
        "{arrow} {plant}, {family:?}: {bytes} bytes; in the kernel {} bytes in {} packets",
        moved.bytes, moved.packets
    )
}
