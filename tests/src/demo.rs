//! The main job from the host's side: the store, the machine that plays it, and what it takes to build both.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    store::Store,
    vm::{HOST, Kernel, Machine},
};

/// How long the whole job may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

/// The ClickHouse library in the cache.
const LIBRARY: &str = "clickhouse/libchdb.so";

/// The cache of a machine that has the library in it.
const GUEST_CACHE: &str = "/cache";

/// Memory for that: the library lies in the initial file system, and is unpacked from it.
const MEMORY_WITH_LIBRARY_MIB: u32 = 6_144;

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

/// Where the main job is played, and where its audit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In a virtual machine whose collector writes to a ClickHouse on the host.
    Machine,
    /// In network namespaces, with the store embedded in the gateway's collector. They are made in a virtual machine:
    /// what [`in_namespaces`] does, on a kernel that has WireGuard.
    NamespacesOfMachine,
}

/// Plays the main job in a virtual machine with this kernel.
///
/// # Errors
/// If it fails; `on_line` has had everything that was said.
pub fn in_machine(kernel: &Kernel, stage: Stage, on_line: impl FnMut(&str)) -> Result<()> {
    let programs = programs()?;
    let mut machine = Machine::new(kernel).program("/usr/bin/mbpoll");
    for name in PROGRAMS {
        machine = machine.program(programs.join(name));
    }
    let report = match stage {
        Stage::Machine => {
            let store = Store::start(&programs.join("vpn-collector"), &library()?)?;
            let url = format!("http://{HOST}:{}", store.port());
            machine.network(true).run(&["guest", "main-job", "--clickhouse", &url], LIMIT, on_line)?
        }
        Stage::NamespacesOfMachine => machine
            .program(programs.join("demo"))
            .program("/usr/bin/unshare")
            .program("/bin/mount")
            .library(library()?, Path::new(GUEST_CACHE).join(LIBRARY))
            .memory(MEMORY_WITH_LIBRARY_MIB)
            .run(&["env", &format!("VPN_CACHE={GUEST_CACHE}"), "demo", "--namespaces"], LIMIT, on_line)?,
    };
    if report.exit != 0 {
        bail!("the main job failed on Linux {}", kernel.release());
    }
    Ok(())
}

/// Plays the main job in network namespaces of this host, whose kernel must have WireGuard. Nothing of the host is
/// changed: the namespaces, their names, and the BPF file system are the job's own and end with it.
///
/// # Errors
/// If it fails; it has printed why.
pub fn in_namespaces() -> Result<()> {
    const PREPARE: &str = "mkdir -p /run/netns
        mount -t tmpfs tmpfs /run/netns
        mount -t bpf bpf /sys/fs/bpf
        ip link set lo up
        exec \"$@\"";
    let programs = programs()?;
    let folder = tempfile::tempdir()?;
    let path = std::env::join_paths(
        std::iter::once(programs.clone()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-ec", PREPARE, "sh"])
        .arg(programs.join("guest"))
        .arg("main-job")
        .arg("--library")
        .arg(library()?)
        .arg("--folder")
        .arg(folder.path().join("main-job"))
        .env("PATH", path)
        .status()
        .context("start unshare, of util-linux")?;
    if !status.success() {
        bail!("the main job failed in namespaces: {status}");
    }
    Ok(())
}

/// The ClickHouse library that set-up has brought.
///
/// # Errors
/// If it is missing.
pub fn library() -> Result<PathBuf> {
    let path = crate::cache::cache_dir().join(LIBRARY);
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask setup`", path.display());
    }
    Ok(path)
}
