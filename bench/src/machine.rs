//! What the figures are of.

use std::fs;

use anyhow::{Context as _, Result};

/// The processor, how many of it, and the kernel.
pub fn describe() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let models: Vec<_> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim())
        .collect();
    let field = |name: &str| {
        processors.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim())).unwrap_or("?")
    };
    let model = models.first().copied().unwrap_or("unknown processor");
    let virtual_ = if processors.contains(" hypervisor") { ", in a virtual machine" } else { "" };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{model} (family {}, model {}), {} CPUs{virtual_}; Linux {}",
        field("cpu family"),
        field("model\t"),
        models.len(),
        kernel.trim()
    ))
}
