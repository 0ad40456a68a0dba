//! Programs of the host that the machine is made of.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

/// Where administrators' programs are; the path of an ordinary user often lacks it.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];

/// The full path of `name`.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("the program {name} is not installed; run `cargo xtask setup`"))
}

/// What `command` prints. It is an error if the command fails.
pub fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
