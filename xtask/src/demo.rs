//! `cargo xtask demo`: the main job of the gateway, shown on kernel WireGuard.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{setup, workspace};

/// What the demo's own program gets to read.
#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to the demo
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Sets up, builds, and becomes the demo. It returns only if that fails.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run()?;
    let packages = ["-p", "vpn-agent", "-p", "vpn-collector", "-p", "vpn-tests"];
    let built = workspace::cargo().arg("build").args(packages).status().context("start cargo")?;
    if !built.success() {
        bail!("the demo does not build (see above)");
    }
    let demo = workspace::target().join("debug/demo");
    let error = Command::new(&demo).args(&arguments.arguments).exec();
    Err(error).with_context(|| format!("start {}", demo.display()))
}
