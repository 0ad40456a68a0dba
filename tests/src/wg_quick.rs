//! `wg-quick`, which brings a configuration file as it is to a standard WireGuard host.

use std::{os::unix::fs::symlink, path::Path};

use anyhow::{Context as _, Result};

use crate::{namespace::Namespace, vm::Machine};

/// What it needs besides the tools that every machine has.
const TOOLS: [&str; 2] = ["bash", "stat"];

/// Puts it into a machine.
#[must_use]
pub fn into_machine(machine: Machine) -> Machine {
    let machine = machine.file("/usr/bin/wg-quick", "/sbin/wg-quick");
    TOOLS.iter().fold(machine, |machine, name| machine.program(Path::new("/usr/bin").join(name)))
}

/// Has it find what it expects of a system. In the machine.
///
/// # Errors
/// If that cannot be made.
pub fn prepare() -> Result<()> {
    for (target, link) in [("/sbin/bash", "/bin/bash"), ("/proc/self/fd", "/dev/fd")] {
        if !Path::new(link).exists() {
            symlink(target, link).with_context(|| format!("link {link}"))?;
        }
    }
    Ok(())
}

/// Sets a tunnel up.
///
/// # Errors
/// If the file is not as it should be.
pub fn up(host: &Namespace, file: &Path) -> Result<()> {
    run(host, "up", file)
}

/// Takes it down again.
///
/// # Errors
/// If it is not up.
pub fn down(host: &Namespace, file: &Path) -> Result<()> {
    run(host, "down", file)
}

fn run(host: &Namespace, verb: &str, file: &Path) -> Result<()> {
    host.run(&format!("wg-quick {verb} {}", file.display()))?;
    Ok(())
}
