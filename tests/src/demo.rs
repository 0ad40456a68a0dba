//! The main job from the host's side: the store, the machine that plays it, and what it takes to build both.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    store::Store,
    vm::{HOST, Kernel, Machine},
};

/// How long the whole job may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

/// Programs of the workspace that the guest needs.
const PROGRAMS: [&str; 3] = ["guest", "vpn-agent", "vpn-collector"];

/// The folder with the workspace's programs: that of the running one, or above it for a test.
///
/// # Errors
/// If they have not been built there.
pub fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .find(|folder| PROGRAMS.iter().all(|name| folder.join(name).is_file()))
        .map(Path::to_owned)
        .with_context(|| format!("{} are not built; run `cargo build`", PROGRAMS.join(", ")))
}

/// Plays the main job in a virtual machine with this kernel, against an embedded ClickHouse on the host.
///
/// # Errors
/// If it fails; `on_line` has had everything that was said.
pub fn in_machine(kernel: &Kernel, on_line: impl FnMut(&str)) -> Result<()> {
    let programs = programs()?;
    let store = Store::start(&programs.join("vpn-collector"), &library()?)?;
    let mut machine = Machine::new(kernel).network(true).program("/usr/bin/mbpoll");
    for name in PROGRAMS {
        machine = machine.program(programs.join(name));
    }
    let url = format!("http://{HOST}:{}", store.port());
    let report = machine.run(&["/sbin/guest", "main-job", "--clickhouse", &url], LIMIT, on_line)?;
    if report.exit != 0 {
        bail!("the main job failed on Linux {}", kernel.release());
    }
    Ok(())
}

/// The ClickHouse library that set-up has brought.
///
/// # Errors
/// If it is missing.
pub fn library() -> Result<PathBuf> {
    let path = crate::cache::cache_dir().join("clickhouse/libchdb.so");
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask setup`", path.display());
    }
    Ok(path)
}
