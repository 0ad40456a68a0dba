//! `cargo xtask setup`: installs what this machine lacks, and says what it installs.
//!
//! Each step looks before it acts, so a second run finds everything in place and touches neither the network nor
//! the machine. A step that fails does not keep the others from running: one run reports all that is missing.

use std::{env, fmt, fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::toolchain;
use debian::Debian;

mod clickhouse;
mod compiler;
mod debian;
mod emulator;
mod kernels;
mod linker;
mod partial;
mod step;

/// Installs everything that building, testing and showing the gateway needs.
pub fn run() -> Result<()> {
    let cache = toolchain::cache_dir();
    if !cache.is_absolute() {
        bail!("the cache directory {} must be an absolute path; change VPN_CACHE", cache.display());
    }
    if env::consts::ARCH != "x86_64" {
        bail!("set-up knows only x86-64 machines (the test kernels and ClickHouse are for it), and this is not one");
    }
    fs::create_dir_all(&cache)
        .with_context(|| format!("create {}; set VPN_CACHE to another place", cache.display()))?;

    let steps: [fn(&mut Debian, &Path) -> Result<()>; 6] =
        [debian::ensure_tools, emulator::ensure, linker::ensure, compiler::ensure, kernels::ensure, clickhouse::ensure];
    let mut debian = Debian::default();
    let mut missing = 0;
    for step in steps {
        if let Err(error) = step(&mut debian, &cache) {
            println!("setup: {error:#}");
            missing += 1;
        }
    }
    match missing {
        0 => println!("setup: everything is in place"),
        1 => bail!("set-up is incomplete: one thing is missing (see above)"),
        _ => bail!("set-up is incomplete: {missing} things are missing (see above)"),
    }
    Ok(())
}

/// Something that could not be had: the one line that tells what, why, and how to get it by hand.
#[derive(Debug)]
struct Missing {
    what: String,
    why: &'static str,
    by_hand: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MISSING {}, needed because {}. By hand: {}", self.what, self.why, self.by_hand)
    }
}

impl std::error::Error for Missing {}

fn announce(what: &str, why: &str) {
    println!("setup: installing {what} ({why})");
}
