//! The command line of `vpn-collector`.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    config::Config,
    run, schema,
    store::{self, Access},
};

/// Writes the audit of a VPN gateway host to ClickHouse.
///
/// Reads what the kernel counted per flow, attributes it to users and plants, and keeps it in ClickHouse: a server,
/// or the embedded store that this program serves itself.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect until SIGTERM or SIGINT.
    ///
    /// Without clickhouse.url in the configuration this also opens the embedded store and serves it. The audit
    /// schema is applied first. Logs to stderr; RUST_LOG sets how much.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Serve only the embedded store, until SIGTERM or SIGINT.
    ///
    /// For a host that keeps the audit of other gateways, or to query the data of one that is not running. Any
    /// ClickHouse client that speaks HTTP can connect to embedded.listen.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// The audit tables.
    #[command(subcommand)]
    Schema(Schema),
    /// Run one SQL statement and print its result.
    ///
    /// The view `accesses` has one row for every flow and every denied attempt.
    Query {
        #[command(flatten)]
        config: ConfigFile,
        /// Any ClickHouse output format, for instance TSV, CSV, JSONEachRow or Vertical.
        #[arg(long, default_value = "PrettyCompactMonoBlock")]
        format: String,
        /// The statement, for instance "SELECT user, plant, destination, port FROM accesses".
        sql: String,
    },
}

#[derive(Debug, Subcommand)]
enum Schema {
    /// Create what is missing. Tables that are there already are not changed, but checked: engine, key, columns, retention.
    Apply {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print the statements without running them.
    Show {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/vpn-gateway/collector.toml")]
    config: PathBuf,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// For people; each says what to do about it.
    pub async fn run(self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
        let colours = std::io::stderr().is_terminal();
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_env_filter(filter).init();
        match self.command {
            Command::Run { config } => {
                // Before anything else, so that an early signal ends the program in order as well.
                let stop = stop()?;
                Ok(run::run(&config.read()?, stop).await?)
            }
            Command::Serve { config } => {
                let stop = stop()?;
                Ok(run::serve(&config.read()?, stop).await?)
            }
            Command::Schema(Schema::Apply { config }) => apply(&config.read()?).await,
            Command::Schema(Schema::Show { config }) => show(&config.read()?),
            Command::Query { config, format, sql } => query(&config.read()?, &format, &sql).await,
        }
    }
}

impl ConfigFile {
    fn read(&self) -> anyhow::Result<Config> {
        Ok(Config::read(&self.config)?)
    }
}

async fn apply(config: &Config) -> anyhow::Result<()> {
    let access = match Access::beside(config).await {
        // Opening it is all there is to do.
        Err(store::Error::NoStore { .. }) => {
            Access::own(config).await?.close().await;
            return Ok(());
        }
        access => access?,
    };
    let applied = schema::apply(&access.client, &config.clickhouse.database).await;
    access.close().await;
    Ok(applied?)
}

fn show(config: &Config) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for (_, text) in schema::statements(&config.clickhouse.database) {
        writeln!(out, "{};\n", text.trim_end())?;
    }
    Ok(())
}

async fn query(config: &Config, format: &str, sql: &str) -> anyhow::Result<()> {
    let access = Access::beside(config).await?;
    let printed = print(&access, format, sql).await;
    access.close().await;
    printed
}

async fn print(access: &Access, format: &str, sql: &str) -> anyhow::Result<()> {
    let mut result = access.client.query_raw(sql).fetch_bytes(format)?;
    let mut out = std::io::stdout().lock();
    while let Some(bytes) = result.next().await.with_context(|| format!("query at {}", access.url))? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

/// Ready at the first SIGTERM or SIGINT.
fn stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
