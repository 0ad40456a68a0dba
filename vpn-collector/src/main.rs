//! `vpn-collector`, see [`vpn_collector::cli`].

use clap::Parser as _;
use vpn_collector::cli::Cli;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Cli::parse().run().await
}
