//! The program that test machines run in.

use std::{env, path::Path, process::Command};

/// Its name, where the system has it.
pub const NAME: &str = "qemu-system-x86_64";

/// Where `cargo xtask setup` unpacks it with its libraries, below the cache, on a system that cannot install it.
pub const UNPACKED: &str = "qemu";

/// Starts the one that the system has, else the unpacked one.
pub fn command(cache: &Path) -> Command {
    let root = cache.join(UNPACKED);
    let unpacked = root.join("usr/bin").join(NAME);
    if is_on_path() || !unpacked.is_file() {
        return Command::new(NAME);
    }
    // It finds its data and modules from where it lies itself; for the libraries the loader must be told.
    let mut command = Command::new(unpacked);
    let libraries = ["lib", "usr/lib"].map(|folder| root.join(folder).join("x86_64-linux-gnu"));
    command.env("LD_LIBRARY_PATH", libraries.map(|folder| folder.display().to_string()).join(":"));
    command
}

/// Whether the system has one.
pub fn is_on_path() -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(NAME).is_file()))
}
