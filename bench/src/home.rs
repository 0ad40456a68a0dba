//! Where the benchmarks run: in mount and network namespaces of their own, which end with them.

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, UnshareFlags, sched_setaffinity, unshare_unsafe};
use vpn_tests::namespace::run;

/// Moves this process there, and to one CPU, so that no round is slower for having been moved to another.
pub fn enter() -> Result<()> {
    // SAFETY: nothing of this process lies in files that it has open, and it has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }.context("make namespaces")?;
    run("mount --make-rprivate /")?;
    run("mkdir -p /run/netns")?;
    run("mount -t tmpfs tmpfs /run/netns")?;
    run("ip link set lo up")?;
    Ok(())
}

/// Keeps this thread, and those that it starts, on the last CPU, which has the least to do with interrupts.
pub fn stay_on_one_cpu() -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut cpus = CpuSet::new();
    cpus.set(last);
    sched_setaffinity(None, &cpus).context("stay on one CPU")
}
