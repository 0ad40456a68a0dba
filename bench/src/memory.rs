//! Memory in the kernel, as the kernel accounts for it.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use vpn_agent::datapath::layout_dir;
use vpn_ebpf_common::names::{FLOWS, PEERS, RELEASED, ROUTES, USAGE};

use crate::{
    report::{Figure, Report},
    scene::Scene,
};

/// Measures what one flow, one peer and one route take. Flows and peers take it when the maps are made, for as many as
/// there may be; routes as they come.
pub fn measure(report: &Report, scene: &Scene) -> Result<()> {
    let per = |maps: &[&str], count: u32| -> Result<f64> {
        let bytes = maps.iter().map(|map| taken(scene, map)).sum::<Result<u64>>()?;
        Ok(bytes as f64 / f64::from(count))
    };
    report.add(&Figure::new("flow.bytes", per(&[FLOWS], scene.flows_max)?, "bytes"));
    // With the accounts.
    report.add(&Figure::new("peer.bytes", per(&[PEERS, USAGE, RELEASED], scene.topology.peers)?, "bytes"));
    report.add(&Figure::new("route.bytes", per(&[ROUTES], scene.topology.routes())?, "bytes"));
    Ok(())
}

/// Bytes of a map.
fn taken(scene: &Scene, map: &str) -> Result<u64> {
    let data = MapData::from_pin(layout_dir(scene.pins.path()).join("maps").join(map))?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("a map has `memlock`")?;
    Ok(bytes.trim().parse()?)
}
