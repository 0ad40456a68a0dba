//! Plays a scenario in the network namespace it is started in, which becomes the gateway's: that of a virtual
//! machine, or one that the demo has made on the host.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Plays a scenario of the VPN gateway. Needs root, kernel WireGuard, and a BPF file system.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// The main job, end to end.
    MainJob {
        /// URL of an empty ClickHouse store.
        #[arg(long)]
        clickhouse: String,
        /// Folder for everything that is written; it must not exist.
        #[arg(long, default_value = "/tmp/main-job")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { scenario } = Arguments::parse();
    let outcome = match scenario {
        Scenario::MainJob { clickhouse, folder } => std::fs::create_dir(&folder)
            .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))
            .and_then(|()| vpn_tests::main_job::play(&folder, &clickhouse)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The scenario has said why.
        Err(_) => ExitCode::FAILURE,
    }
}
