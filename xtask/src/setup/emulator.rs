//! The program that test machines run in: from the package sources, installed if that costs the system nothing.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{
    Missing, announce,
    debian::{Debian, Package},
    partial::Partial,
    step,
};

#[path = "../../../tests/src/vm/emulator.rs"]
mod vm;

const WHY: &str = "tests and demo boot kernels with WireGuard in it";
const PACKAGE: Package = Package { name: "qemu-system-x86", why: WHY };

/// Installs it. Where the package manager would have to remove something for that, as on a system with other parts of
/// it from elsewhere, it is unpacked into the cache with all that it needs.
pub fn ensure(debian: &mut Debian, cache: &Path) -> Result<()> {
    if vm::is_on_path() || works(cache) {
        return Ok(());
    }
    let Err(refusal) = debian.ensure(&[PACKAGE]) else { return Ok(()) };
    announce(&format!("{} in the cache, because it cannot be installed", PACKAGE.name), WHY);
    unpack(&cache.join(vm::UNPACKED)).map_err(|error| {
        let by_hand = format!("install it, and accept what that removes ({refusal:#}; {error:#})");
        Missing { what: PACKAGE.name.to_owned(), why: WHY, by_hand }
    })?;
    if !works(cache) {
        bail!("{} in {} does not start; install it by hand", PACKAGE.name, cache.display());
    }
    Ok(())
}

fn works(cache: &Path) -> bool {
    step::run(vm::command(cache).arg("--version")).is_ok()
}

fn unpack(to: &Path) -> Result<()> {
    let partial = Partial::of(to)?;
    let packages = needed()?;
    step::run(Command::new("apt-get").args(["-q", "download"]).args(&packages).current_dir(partial.path()))?;
    for entry in fs::read_dir(partial.path())?.collect::<Result<Vec<_>, _>>()? {
        let archive = entry.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            step::run(Command::new("dpkg").arg("-x").arg(&archive).arg(partial.path()))?;
            fs::remove_file(&archive)?;
        }
    }
    partial.finish()
}

/// The package, and those that it needs and the system lacks.
fn needed() -> Result<Vec<String>> {
    let options = ["-q", "-s", "--no-install-recommends", "install", PACKAGE.name];
    let plan = step::run(Command::new("apt-get").args(options)).context("ask what the package needs")?;
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}
