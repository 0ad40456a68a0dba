//! `vpn-collector`, see [`vpn_collector::cli`].

use std::process::ExitCode;

use clap::Parser as _;
use vpn_collector::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpn-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}
