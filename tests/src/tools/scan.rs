//! `nmap`: a curious user at a plant of their own, and at one that is none of theirs.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use vpn_agent::datapath::read::Maps as _;

use crate::{
    background::Background,
    device::{HTTP_PORT, MODBUS_PORT, UDP_PORT},
    steps::{equal, wait_for},
};

use super::{
    Family, PATIENCE,
    network::{ARCHIVE, IPERF_PORT, ROUTER},
    scene::Scene,
    servers::authority,
};

/// All ports of TCP.
const ALL_PORTS: u64 = 65_535;
/// Probes in a second. An emulated machine can take so many.
const RATE: u64 = 2_500;
/// Ports of TCP that a device has.
const OPEN: [u16; 3] = [HTTP_PORT, MODBUS_PORT, IPERF_PORT];
/// Some that it has not.
const CLOSED: [u16; 2] = [22, 443];
/// Bytes in a second of the transfer that goes on beside a scan.
const TRANSFER_RATE: u64 = 500_000;

/// A scan of a device finds what it serves, and that it has nothing else.
pub fn of_own_plant(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        let device = scene.device("north", family)?;
        let some = OPEN.iter().chain(&CLOSED).map(ToString::to_string).collect::<Vec<_>>().join(",");
        for (kind, closed) in [("-sT", "conn-refused"), ("-sS", "reset")] {
            let said = nmap(scene, "user-a", &format!("{kind} -p {some}"), device)?;
            let expected = OPEN.map(|port| (port, ("open", "syn-ack"))).into_iter();
            let expected = expected.chain(CLOSED.map(|port| (port, ("closed", closed)))).collect();
            equal(format!("{said}\nports"), ports(&said, "/tcp"), expected)?;
        }
        let said = nmap(scene, "user-a", &format!("-sS -p 1-300,{MODBUS_PORT},{IPERF_PORT}"), device)?;
        let expected = OPEN.map(|port| (port, ("open", "syn-ack"))).into();
        equal(format!("{said}\nports"), ports(&said, "/tcp"), expected)?;
        let others = said.lines().find(|line| line.starts_with("Not shown: ")).unwrap_or_default();
        equal(format!("{said}\nother ports"), others, "Not shown: 299 closed tcp ports (reset)")?;
        let said = nmap(scene, "user-a", &format!("-sU -p {UDP_PORT},{}", UDP_PORT + 1), device)?;
        let expected = [(UDP_PORT, ("open", "udp-response")), (UDP_PORT + 1, ("closed", "port-unreach"))].into();
        equal(format!("{said}\nports"), ports(&said, "/udp"), expected)?;
        lines.push(format!("{device}: TCP {OPEN:?} open, 299 closed; UDP {UDP_PORT} open, {} closed", UDP_PORT + 1));
    }
    Ok(lines)
}

/// A scan of a plant that the user may not reach gets the reason, and each of its probes is on record.
/// Requirements: B2, F5.
pub fn of_foreign_plant(scene: &Scene) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::BOTH {
        let device = scene.device("south", family)?;
        let before = scene.refused("user-b")?;
        let said = nmap(scene, "user-b", &format!("-sS -p {HTTP_PORT},{MODBUS_PORT},22"), device)?;
        let expected = [HTTP_PORT, MODBUS_PORT, 22].map(|port| (port, ("filtered", "admin-prohibited"))).into();
        equal(format!("{said}\nports"), ports(&said, "/tcp"), expected)?;
        let from = format!(" admin-prohibited from {} ", scene.gateway_address(family));
        equal(format!("{said}\nanswers of the gateway"), said.matches(&from).count(), 3)?;
        equal("refused packets on record", scene.refused("user-b")? - before, sent(&said)?)?;
        lines.push(format!("{device}: 3 ports{from}"));
    }
    Ok(lines)
}

/// All ports at once: each probe is on record, and a transfer of somebody else goes on.
/// Requirements: F5, F8.
pub fn of_all_ports(scene: &Scene) -> Result<Vec<String>> {
    let url = format!("http://{}/archive", authority(scene.device("south", Family::V4)?, HTTP_PORT));
    let file = scene.folder.join("archive");
    let mut curl = scene.user("user-a").command("curl");
    curl.args(["-sS", "--no-buffer", "-m", "120", "--limit-rate", &TRANSFER_RATE.to_string(), "-o"]);
    curl.arg(&file).arg(&url);
    let transfer = Background::start(curl)?;
    let size = || fs::metadata(&file).map_or(0, |file| file.len());
    wait_for("the transfer runs", PATIENCE, || {
        ensure!(size() > 0, "no byte yet");
        Ok(())
    })?;

    let (before, refused) = (size(), [scene.refused("user-a")?, scene.refused("user-b")?]);
    let started = Instant::now();
    let options = format!("-sS -p- --max-retries 0 --min-rate {RATE} --max-rate {RATE}");
    let said = nmap(scene, "user-b", &options, scene.device("south", Family::V4)?)?;
    let (after, seconds) = (size(), started.elapsed().as_secs());
    equal(format!("{said}\nprobes"), sent(&said)?, ALL_PORTS)?;
    equal("probes on record", scene.refused("user-b")? - refused[1], ALL_PORTS)?;
    let further = further(scene)?;
    ensure!(further > ALL_PORTS / 2, "only {further} probes are counted together");

    let least = (seconds * TRANSFER_RATE / 4).min(ARCHIVE - before);
    ensure!(after - before >= least, "the transfer came from {before} to {after} bytes only, in {seconds} s");
    transfer.finish()?;
    equal("bytes of the transfer", size(), ARCHIVE)?;
    equal("refused packets of the other user", scene.refused("user-a")? - refused[0], 0)?;
    Ok(vec![
        format!("{ALL_PORTS} probes in {seconds} s, all on record, {further} of them together with others"),
        format!("user-a's transfer came from {before} to {after} bytes meanwhile, and to its end at {ARCHIVE}"),
    ])
}

/// How many of `user-b`'s refused packets are counted together, as one user fills so many entries a minute and no more.
fn further(scene: &Scene) -> Result<u64> {
    let peer = scene.peer("user-b")?.id;
    let maps = scene.gateway.maps()?;
    let limit = maps.gateway()?.context("a gateway that is configured")?.limits.denials_per_window;
    let mut entries = BTreeMap::<u32, u32>::new();
    let mut further = 0;
    for (key, denial) in maps.denials()?.iter().filter(|(key, _)| key.peer == peer) {
        if key.is_further() {
            further += denial.attempts;
        } else {
            *entries.entry(key.window).or_default() += 1;
        }
    }
    ensure!(entries.values().all(|entries| *entries <= limit), "more than {limit} entries in a minute: {entries:?}");
    Ok(further)
}

/// A sweep over a part of the subnet finds the router and the device, and nothing else.
pub fn sweep(scene: &Scene) -> Result<Vec<String>> {
    let network = scene.device("north", Family::V4)?;
    let said = scene.user("user-a").run(&format!("nmap -n -sn -PE {network}/26"))?;
    let found: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Nmap scan report for ")).collect();
    let expected = [scene.virtual_address("north", Family::V4, ROUTER)?, network].map(|address| address.to_string());
    equal(format!("{said}\nhosts"), &found, &expected.iter().map(|host| &**host).collect())?;
    Ok(vec![format!("{network}/26: {} are up", found.join(" and "))])
}

fn nmap(scene: &Scene, user: &str, options: &str, target: IpAddr) -> Result<String> {
    let family = if target.is_ipv6() { "-6" } else { "" };
    scene.user(user).run(&format!("nmap {family} -n -Pn -v --reason {options} {target}"))
}

/// What nmap found of each port that it lists: state and reason. A row: "22/tcp closed ssh reset ttl 62".
fn ports<'s>(said: &'s str, protocol: &str) -> BTreeMap<u16, (&'s str, &'s str)> {
    let row = |line: &'s str| {
        let mut words = line.split_whitespace();
        let port = words.next()?.strip_suffix(protocol)?.parse().ok()?;
        let state = words.next()?;
        Some((port, (state, words.nth(1)?)))
    };
    said.lines().filter_map(row).collect()
}

/// How many packets nmap has sent.
fn sent(said: &str) -> Result<u64> {
    let count = said.lines().find_map(|line| line.trim().strip_prefix("Raw packets sent: "));
    let count = count.and_then(|line| line.split_whitespace().next()).context("nmap does not say what it sent")?;
    Ok(count.parse()?)
}
