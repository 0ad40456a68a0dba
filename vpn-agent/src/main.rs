//! The agent's command line program.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::anyhow;
use clap::Parser as _;
use serde::Serialize;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};
use vpn_agent::{
    cli::{Cli, Command},
    config::Config,
    datapath,
    document::Document,
    key::PrivateKey,
    problem::Problems,
    run,
    state::State,
    status::Status,
};

mod commands;

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vpn-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { config } => {
            log_to_stderr()?;
            let config = Config::read(&config)?;
            let runtime = tokio::runtime::Runtime::new()?;
            let result = runtime.block_on(run::run(config));
            // A name that is being looked up holds nothing up.
            runtime.shutdown_background();
            result?;
        }
        Command::Check { file, config } => return check(&file, config.as_deref()),
        Command::Allocate(allocate) => print(&json(&commands::allocate(&allocate)?)?)?,
        Command::Schema => print(&json(&schemars::schema_for!(Document))?)?,
        Command::Status { json: as_json, config } => {
            let config = Config::read(&config)?;
            let status = tokio::runtime::Runtime::new()?.block_on(Status::collect(&config))?;
            print(&if as_json { json(&status)? } else { status.to_string() })?;
        }
        Command::Detach { config, forget } => {
            let config = Config::read(&config)?;
            datapath::detach(&config.datapath.pin_dir, forget)?;
            print(
                "detached; no packet passes between users and plants until `vpn-agent run` is started or gets SIGHUP\n",
            )?;
        }
        Command::Routes { of, json, config } => commands::routes(&Config::read(&config)?, &of, json)?,
        Command::Explain { of, to, json, config } => commands::explain(&Config::read(&config)?, &of, to, json)?,
        Command::Offer { certificate, real, config } => {
            print(&json(&commands::offer(&Config::read(&config)?, &certificate, real)?)?)?;
        }
        Command::Profile(profile) => commands::profile(&profile)?,
        Command::SiteConfig(site) => commands::site_config(&site)?,
        Command::Health { config } => {
            let config = Config::read(&config)?;
            return tokio::runtime::Runtime::new()?.block_on(commands::health(&config));
        }
        Command::Pick { client, fleet } => commands::pick(&client, &fleet)?,
        Command::Keygen { file } => print(&format!("{}\n", PrivateKey::read_or_create(&file)?.public()))?,
        Command::Pubkey { file } => print(&format!("{}\n", PrivateKey::read(&file)?.public()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Standard error, `info` and above; `RUST_LOG` changes that.
fn log_to_stderr() -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| anyhow!("RUST_LOG: {error}"))?;
    // At its finest level this library logs whole messages, and with them private keys, whatever `RUST_LOG` says. It warns
    // of answers that nobody waits for any more: a look at the kernel that something more urgent has cut short.
    let without_keys =
        filter_fn(|metadata| !metadata.target().starts_with("netlink_proto") || *metadata.level() <= Level::ERROR);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter(filter.and(without_keys));
    tracing_subscriber::registry().with(layer).init();
    Ok(())
}

fn check(file: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = config.map(Config::read).transpose()?;
    let text = fs::read(file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    match valid(&text, config.as_ref()) {
        Ok(state) => {
            print(&format!("{}: valid: {}\n", file.display(), state.summary()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            let lines = problems.list().iter().map(|problem| format!("{}: {problem}\n", file.display()));
            print(&lines.collect::<String>())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn valid(text: &[u8], config: Option<&Config>) -> Result<State, Problems> {
    let state = State::parse(text)?;
    if let Some(config) = config {
        config.check_state(&state)?;
    }
    Ok(state)
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

/// To standard output. That nobody reads on, as with `| head`, is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
