//! From WireGuard to WireGuard, in a virtual machine whose kernel has it: throughput through the gateway, beside
//! forwarding and nftables. The guest's side is [`crate::guest`]. Under emulation its clock counts instructions, so that
//! the figures compare how many of them a packet takes, and what else this host does changes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use vpn_tests::vm::{Kernel, Machine};

use crate::report::{Figure, Report};

/// The kernel series that boots.
const SERIES: &str = "6.12";

/// How long the guest may take under emulation.
const LIMIT: Duration = Duration::from_secs(1_200);

/// What nftables is made of there.
const MODULES: [&str; 5] = ["nf_tables", "nft_chain_nat", "nft_nat", "nft_ct", "nf_conntrack"];

/// Boots the machine and takes its figures over.
pub fn measure(report: &Report) -> Result<()> {
    let kernel = Kernel::series(SERIES).with_context(|| format!("there is no {SERIES} kernel to boot"))?;
    let own = std::env::current_exe()?;
    let name = own.file_name().context("this program has a name")?.to_string_lossy().into_owned();
    let mut machine = Machine::new(&kernel).counts_instructions().program(own);
    for program in ["/usr/bin/iperf3", "/usr/sbin/nft"] {
        machine = machine.program(program);
    }
    for module in MODULES {
        machine = machine.module(module);
    }
    let done = machine.run(&[&name, "--guest"], LIMIT, |line| eprintln!("guest: {line}"))?;
    if done.exit != 0 {
        bail!("the guest failed (see above)");
    }
    for line in done.text.lines() {
        let figure: Figure = serde_json::from_str(line).with_context(|| format!("the guest says {line}"))?;
        report.add(&figure);
    }
    Ok(())
}
