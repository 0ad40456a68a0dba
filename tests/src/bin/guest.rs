//! Plays a scenario in the network namespace it is started in, which becomes the gateway's: that of a virtual
//! machine, or one that the demo has made on the host.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use vpn_tests::gateway::Clickhouse;

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
        #[arg(long, required_unless_present = "library")]
        clickhouse: Option<String>,
        /// The ClickHouse library, for a store embedded in the collector.
        #[arg(long, conflicts_with = "clickhouse")]
        library: Option<PathBuf>,
        /// Folder for everything that is written; it must not exist.
        #[arg(long, default_value = "/tmp/main-job")]
        folder: PathBuf,
    },
    /// Any tool works as on site.
    Tools {
        /// URL of an empty ClickHouse store.
        #[arg(long)]
        clickhouse: String,
    },
    /// Two regions, one of which fails.
    Regions {
        /// URL of an empty ClickHouse store.
        #[arg(long)]
        clickhouse: String,
    },
    /// Certificates that are revoked and rotated while their users work.
    Revoke {
        /// URL of an empty ClickHouse store.
        #[arg(long)]
        clickhouse: String,
    },
    /// Prints a number every few milliseconds, until nobody listens.
    Tick,
    /// Uplinks, changes of somebody else's, and an agent that is killed.
    Uplinks,
    /// The commands of the documents, as they stand there. For a machine of its own.
    FirstPlant,
}

fn main() -> ExitCode {
    let Arguments { scenario } = Arguments::parse();
    let outcome = match scenario {
        Scenario::MainJob { clickhouse, library, folder } => {
            let store = match (clickhouse, library) {
                (Some(url), _) => Clickhouse::Server(url),
                (None, library) => Clickhouse::Embedded(library.unwrap_or_default()),
            };
            std::fs::create_dir(&folder)
                .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))
                .and_then(|()| vpn_tests::main_job::play(&folder, &store))
        }
        Scenario::Tools { clickhouse } => vpn_tests::tools::play(Path::new("/tmp"), &Clickhouse::Server(clickhouse)),
        Scenario::Regions { clickhouse } => {
            vpn_tests::regions::play(Path::new("/tmp"), &Clickhouse::Server(clickhouse))
        }
        Scenario::Revoke { clickhouse } => vpn_tests::revoke::play(Path::new("/tmp"), &Clickhouse::Server(clickhouse)),
        Scenario::Tick => vpn_tests::revoke::tick(),
        Scenario::Uplinks => vpn_tests::uplinks::play(Path::new("/tmp")),
        Scenario::FirstPlant => vpn_tests::first_plant::play(Path::new("/tmp")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The scenario has said why.
        Err(_) => ExitCode::FAILURE,
    }
}
