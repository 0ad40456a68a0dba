//! Development commands of the VPN gateway: `cargo xtask setup|demo|test|bench|requirements`.

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod demo;
mod lint;
mod requirements;
mod setup;
mod test;
#[path = "../../vpn-ebpf/toolchain.rs"]
mod toolchain;
mod workspace;

/// Development commands of the VPN gateway.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what this machine lacks to build, test and show the gateway
    Setup,
    /// Set up, build, and show the main job on kernel WireGuard
    Demo(demo::Arguments),
    /// Set up, then run every check and test
    Test(test::Arguments),
    /// Set up, build, and measure how fast the gateway is on this machine; needs root
    Bench(bench::Arguments),
    /// Show which tests prove which requirement, and fail where one that is said to be done has none
    Requirements,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Requirements => requirements::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
