//! The demo: `cargo xtask demo` builds everything and starts this.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use vpn_tests::{
    demo::{self, Stage},
    has_wireguard,
    vm::Kernel,
};

/// Plays the gateway's main job: two users, two plants with the same subnet, the audit in ClickHouse.
///
/// In network namespaces where this kernel has WireGuard and the caller is root, else in a virtual machine.
#[derive(Parser)]
struct Arguments {
    /// Boot this kernel series in a virtual machine, for instance 6.1
    #[arg(long, value_name = "SERIES", conflicts_with = "namespaces")]
    kernel: Option<String>,
    /// Use network namespaces of this host, whose kernel must have WireGuard
    #[arg(long)]
    namespaces: bool,
}

fn main() -> ExitCode {
    match play(&Arguments::parse()) {
        Ok(()) => {
            println!("demo: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments) -> Result<()> {
    if arguments.namespaces || arguments.kernel.is_none() && has_wireguard() {
        println!("demo: this kernel has WireGuard; playing in network namespaces");
        return demo::in_namespaces();
    }
    let kernel = match &arguments.kernel {
        Some(series) => Kernel::series(series),
        None => Kernel::all().pop(),
    };
    let kernel = kernel.context("no such kernel to boot; run `cargo xtask setup`")?;
    println!("demo: booting Linux {} with kernel WireGuard in a virtual machine", kernel.release());
    demo::in_machine(&kernel, Stage::Machine, |line| println!("{line}"))
}
