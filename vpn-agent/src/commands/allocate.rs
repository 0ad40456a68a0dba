//! `vpn-agent allocate`: a desired state with its ledger completed.

use std::fs;

use anyhow::anyhow;
use vpn_agent::{addressing::Allocations, cli::Allocate, config::Config, document::Document, state::State};

/// The document with its ledger completed.
pub fn allocate(command: &Allocate) -> anyhow::Result<Document> {
    let config = Config::read(&command.config)?;
    let name = command.file.display();
    let text = fs::read(&command.file).map_err(|error| anyhow!("{name}: {error}"))?;
    let state = State::parse(&text).map_err(|problems| anyhow!("{name}: not valid:\n{problems}"))?;
    config.check_state(&state).map_err(|problems| anyhow!("{name}: not valid:\n{problems}"))?;
    let before = if command.local { Allocations::read(&config.allocations_file())? } else { Allocations::default() };
    before.allocated(&state, &config).map_err(|error| anyhow!("{name}: {error}"))
}
