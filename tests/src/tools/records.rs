//! The audit of all that the tools did.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use vpn_agent::datapath::read::Maps as _;

use crate::steps::{equal, wait_for};

use super::{PATIENCE, scene::Scene};

/// Flows and refusals by user, plant, and address family.
const SUMMARY: &str = "SELECT user, if(verdict = 'forwarded', plant, '') AS plant, source LIKE '%:%' AS v6, \
     countIf(verdict = 'forwarded') AS flows, sum(bytes_to_plant + bytes_to_user) AS bytes, sum(packets_refused) AS refused \
     FROM audit.accesses GROUP BY ALL ORDER BY ALL";

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Row {
    user: String,
    plant: String,
    v6: u8,
    flows: u64,
    bytes: u64,
    refused: u64,
}

/// ClickHouse holds what the kernel has counted, although the collector comes last.
/// Requirements: F3, F4, F5.
pub fn compare(scene: &mut Scene) -> Result<Vec<String>> {
    let maps = scene.gateway.maps()?;
    let mut expected = BTreeMap::<(String, String, u8), [u64; 3]>::new();
    for (key, flow) in maps.flows()? {
        let plant = match flow.plant {
            0 => "(gateway)",
            plant => &scene.directory.plant(plant).context("a plant without a name")?.plant,
        };
        let user = &scene.directory.peer(key.peer).context("a peer without a name")?.user;
        let v6 = u8::from(!key.addressed.is_v4());
        let [flows, bytes, _] = expected.entry((user.clone(), plant.to_owned(), v6)).or_default();
        *flows += 1;
        *bytes += flow.to_plant.bytes + flow.to_user.bytes;
    }
    let refused: u64 = ["user-a", "user-b"].into_iter().map(|user| scene.refused(user)).sum::<Result<u64>>()?;
    scene.gateway.start_collector()?;
    let rows = wait_for("the audit has every flow and every refusal", PATIENCE, || {
        let rows = scene.audit.rows::<Row>(SUMMARY)?;
        let found = rows.iter().filter(|row| row.flows > 0);
        let found =
            found.map(|row| ((row.user.clone(), row.plant.clone(), row.v6), [row.flows, row.bytes, 0])).collect();
        equal("flows", found, expected.clone())?;
        equal("refused packets", rows.iter().map(|row| row.refused).sum::<u64>(), refused)?;
        Ok(rows)
    })?;
    ensure!(rows.iter().any(|row| row.v6 == 1 && row.flows > 0), "no flow by IPv6");
    scene.gateway.stop_collector()?;
    let line = |Row { user, plant, v6, flows, bytes, refused }: &Row| {
        let family = if *v6 == 1 { "IPv6" } else { "IPv4" };
        match flows {
            0 => format!("{user}, {family}: {refused} packets refused"),
            _ => format!("{user} at {plant}, {family}: {flows} flows, {bytes} bytes"),
        }
    };
    Ok(rows.iter().map(line).collect())
}
