//! `cargo xtask bench`: how fast the gateway is on this machine.

use std::{
    env, io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// What the benchmarks' own program gets to read.
#[derive(clap::Args)]
pub struct Arguments {
    /// Take two minutes, and leave out what needs a virtual machine
    #[arg(long)]
    quick: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Measure only these parts; `--only help` lists them
    #[arg(long, value_name = "PART,...")]
    only: Option<String>,
}

/// Sets up, builds, and becomes the benchmarks. It returns only if that fails.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Standard output belongs to the figures.
    let mut setup = Command::new(env::current_exe()?);
    let set_up = setup.arg("setup").stdout(io::stderr().as_fd().try_clone_to_owned()?).status()?;
    let built = workspace::cargo().args(["build", "--release", "-p", "vpn-bench"]).status().context("start cargo")?;
    if !set_up.success() || !built.success() {
        bail!("the benchmarks cannot be run (see above)");
    }
    let bench = workspace::target().join("release/vpn-bench");
    let mut command = Command::new(&bench);
    command.args(arguments.quick.then_some("--quick")).args(arguments.json.then_some("--json"));
    command.args(arguments.only.iter().flat_map(|parts| ["--only", parts]));
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", bench.display()))
}
