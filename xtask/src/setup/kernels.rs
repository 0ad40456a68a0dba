//! Kernels with WireGuard for the test machines: unpacked into the cache, never installed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Missing, announce, debian::Debian, partial::Partial, step};

#[path = "../../../tests/src/wireguard.rs"]
mod wireguard;

/// Debian's oldest supported kernel, and its newest long-term one.
const SERIES: [&str; 2] = ["6.1", "6.12"];
const WHY: &str = "tests and demo boot it, for WireGuard in the kernel";

/// Fetches the newest kernel of each series. One series is enough, and none if the machine has WireGuard itself.
pub fn ensure(debian: &mut Debian, cache: &Path) -> Result<()> {
    let kernels = cache.join("kernels");
    fs::create_dir_all(&kernels)?;
    let mut have = 0;
    for series in SERIES {
        if is_unpacked(&kernels, series)? {
            have += 1;
            continue;
        }
        let absent = absence(&kernels, series);
        if absent.exists() {
            continue;
        }
        debian.refresh();
        match newest(series)? {
            Some(package) => {
                announce(&format!("{package} in the cache"), WHY);
                unpack(&kernels, &package).map_err(|error| {
                    let by_hand = format!("unpack that package into {} ({error:#})", kernels.join(&package).display());
                    Missing { what: format!("the kernel {package}"), why: WHY, by_hand }
                })?;
                have += 1;
            }
            None => {
                println!("setup: the package sources of this machine have no {series} kernel; tests on it are skipped");
                fs::write(&absent, "Not in the package sources. Remove this file to look again.\n")?;
            }
        }
    }
    if have > 0 {
        return Ok(());
    }
    if wireguard::has_wireguard() {
        println!("setup: tests and demo use this machine's own kernel, in network namespaces");
        return Ok(());
    }
    // Whoever adds a package source expects the next run to look there.
    for series in SERIES {
        let _ = fs::remove_file(absence(&kernels, series));
    }
    let by_hand = format!(
        "run as root on a kernel with the wireguard module, or unpack a Debian package linux-image-6.12.*-cloud-amd64 into \
         {}/<name of the package>",
        kernels.display()
    );
    Err(Missing { what: "a kernel with WireGuard".to_owned(), why: WHY, by_hand }.into())
}

/// Remembers that the package sources do not have a series, so that not every run asks them again.
fn absence(kernels: &Path, series: &str) -> PathBuf {
    kernels.join(format!("{series}-is-not-offered"))
}

fn is_unpacked(kernels: &Path, series: &str) -> Result<bool> {
    let prefix = format!("linux-image-{series}.");
    for entry in fs::read_dir(kernels).with_context(|| format!("read {}", kernels.display()))? {
        if entry?.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The package of the newest kernel of `series` that the package sources offer.
fn newest(series: &str) -> Result<Option<String>> {
    let prefix = format!("linux-image-{series}.");
    let Ok(names) = step::run(Command::new("apt-cache").args(["pkgnames", &prefix])) else { return Ok(None) };
    let clouds = names.lines().filter(|name| name.ends_with("-cloud-amd64"));
    Ok(clouds.max_by_key(|name| numbers(name)).map(str::to_owned))
}

/// The numbers in a package's name: 6.1.0-9 is older than 6.1.0-56.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn unpack(kernels: &Path, package: &str) -> Result<()> {
    let partial = Partial::of(&kernels.join(package))?;
    step::run(Command::new("apt-get").args(["-q", "download", package]).current_dir(partial.path()))?;
    let archive = fs::read_dir(partial.path())?.next().context("apt-get downloaded nothing")??.path();
    step::run(Command::new("dpkg").arg("-x").arg(&archive).arg(partial.path()))?;
    fs::remove_file(&archive)?;
    // Newer packages have everything below /usr; depmod and modprobe look in /lib.
    if !partial.path().join("lib").exists() {
        symlink("usr/lib", partial.path().join("lib"))?;
    }
    let release = package.trim_start_matches("linux-image-");
    step::run(
        Command::new("depmod").arg("-b").arg(partial.path()).arg(release).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
    )?;
    partial.finish()
}
