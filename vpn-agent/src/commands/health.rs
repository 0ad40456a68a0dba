//! `vpn-agent health` and `vpn-agent pick`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::Timestamp;
use vpn_agent::{
    config::Config,
    health::{self, Health, Known, probe},
    pick::{self, Client},
};

use super::input;

/// Prints what this gateway publishes. Fails if it is not healthy, as a load balancer's check wants it.
pub async fn health(config: &Config) -> anyhow::Result<ExitCode> {
    let (known, unknown) = match Known::read(config) {
        Ok(known) => (known, None),
        Err(error) => (Known::default(), Some(error)),
    };
    let latency_ms = probe::measure(&config.health.probes).await;
    let mut health = health::collect(config, &known, &latency_ms).await;
    // Packets pass by what the maps hold, whatever the file says.
    health.problems.extend(unknown);
    crate::print(&crate::json(&health)?)?;
    Ok(if health.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the gateways for a client, the best first.
pub fn pick(client: &Path, fleet: &[PathBuf]) -> anyhow::Result<()> {
    let client: Client = input::file(client)?;
    let fleet = fleet.iter().map(|file| input::file::<Health>(file)).collect::<anyhow::Result<Vec<_>>>()?;
    crate::print(&crate::json(&pick::pick(&fleet, &client, Timestamp::now()))?)?;
    Ok(())
}
