//! `vpn-agent site-config`.

use std::path::PathBuf;

use clap::Args;

use super::CONFIG;
use crate::id::PlantId;

/// The configuration of a plant's WireGuard router, on the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SiteConfig {
    /// The plant
    pub plant: PlantId,
    /// Make a new key pair for the site, and put the private key into the configuration, which is shown once
    ///
    /// The change that the desired state needs for it is printed as JSON: to standard error, or where `--out` takes
    /// the configuration, to standard output. Until it is made, the site's old key counts.
    #[arg(long, conflicts_with = "peer_only")]
    pub new_key: bool,
    /// Put the private key of this file into the configuration, and destroy the file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_key", "peer_only"])]
    pub key: Option<PathBuf>,
    /// Print the section of this gateway alone, for `--region-peers` on another one
    #[arg(long)]
    pub peer_only: bool,
    /// Add what `--peer-only` printed on the gateways of other regions
    #[arg(long, value_name = "FILE", conflicts_with = "peer_only")]
    pub region_peers: Vec<PathBuf>,
    /// Write the configuration to this new file (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}
