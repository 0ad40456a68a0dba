//! What the figures are of.

use std::fs;

use anyhow::{Context as _, Result};

/// What the kernel does against speculation at every indirect call and at every return: with some of it, each costs as
/// much as twenty instructions.
const MITIGATIONS: [&str; 2] = ["spectre_v2", "spec_rstack_overflow"];

/// The processor, how many of it, the kernel, and its [`MITIGATIONS`].
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
    let mitigations = MITIGATIONS.map(|name| {
        let state = fs::read_to_string(format!("/sys/devices/system/cpu/vulnerabilities/{name}")).unwrap_or_default();
        format!("{name}: {}", state.split(';').next().unwrap_or_default().trim())
    });
    Ok(format!(
        "{model} (family {}, model {}), {} CPUs{virtual_}; Linux {}; {}",
        field("cpu family"),
        field("model\t"),
        models.len(),
        kernel.trim(),
        mitigations.join("; ")
    ))
}
