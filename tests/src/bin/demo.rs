//! The demo: `cargo xtask demo` builds everything and starts this.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use vpn_tests::{demo, vm::Kernel};

fn main() -> ExitCode {
    match play() {
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

fn play() -> Result<()> {
    let kernel = Kernel::all().pop().context("no kernel to boot; run `cargo xtask setup`")?;
    println!("demo: booting Linux {} with kernel WireGuard in a virtual machine", kernel.release());
    demo::in_machine(&kernel, |line| println!("{line}"))
}
