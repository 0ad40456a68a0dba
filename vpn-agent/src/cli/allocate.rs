//! `vpn-agent allocate`.

use std::path::PathBuf;

use clap::Args;

use super::CONFIG;

/// Print a desired state with its ledger completed: every certificate, plant and subnet has its numbers and addresses
///
/// For gateways that follow one state, so that all of them give the same. The same input always gives the same output,
/// and what the ledger has stays as it is, also of what is gone.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Allocate {
    /// The file with the desired state
    pub file: PathBuf,
    /// Take over first what this gateway has given by itself before
    #[arg(long)]
    pub local: bool,
    /// The configuration file, for the pools
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}
