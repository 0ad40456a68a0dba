//! ClickHouse as a library, for tests and demo on machines without a ClickHouse server.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{
    Missing, announce,
    debian::{self, Debian, Package},
    partial::Partial,
    step,
};

/// The release that the collector's embedded mode is tested with.
const RELEASE: &str = "26.7.3-stable.1";
const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
const WHY: &str = "tests and demo keep the audit trail in it";
const NPM: Package = Package { name: "npm", why: "the ClickHouse library comes as an npm package" };

/// Puts `libchdb.so` into the directory `clickhouse` of the cache, beside a file that names its release.
pub fn ensure(debian: &mut Debian, cache: &Path) -> Result<()> {
    let directory = cache.join("clickhouse");
    if fs::read_to_string(directory.join("release")).is_ok_and(|release| release == RELEASE) {
        return Ok(());
    }
    // Not asked as a package: npm often comes inside another one.
    if !debian::on_path("npm") {
        debian.ensure(&[NPM])?;
    }
    announce(
        &format!("ClickHouse library {RELEASE} in the cache"),
        "tests and demo keep the audit trail in it; 170 MB",
    );
    fetch(&directory).map_err(|error| {
        let by_hand =
            format!("`npm pack {PACKAGE}@{RELEASE}`, and libchdb.so from it into {} ({error:#})", directory.display());
        Missing { what: format!("the ClickHouse library {RELEASE}"), why: WHY, by_hand }.into()
    })
}

fn fetch(directory: &Path) -> Result<()> {
    let partial = Partial::of(directory)?;
    let package = format!("{PACKAGE}@{RELEASE}");
    step::run(Command::new("npm").args(["pack", "--silent", &package]).current_dir(partial.path()))?;
    let archive = fs::read_dir(partial.path())?.next().context("npm downloaded nothing")??.path();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).args(["--strip-components=1", "package/libchdb.so"]).current_dir(partial.path());
    step::run(&mut tar)?;
    fs::remove_file(&archive)?;
    fs::write(partial.path().join("release"), RELEASE)?;
    partial.finish()
}
