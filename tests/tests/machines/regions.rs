//! Several regions behind one profile. See `vpn_tests::regions` for what it checks.

use std::{env, path::Path, time::Duration};

use vpn_tests::{
    skip,
    vm::{Kernel, Machine},
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(400);

/// Asks for what is the same again on other kernels.
const EVERY_KERNEL: &str = "VPN_TEST_EVERY_KERNEL";

/// What `wg-quick` needs besides the tools that every machine has.
const TOOLS: [&str; 2] = ["bash", "stat"];

/// Requirements: E1, E2, E3, E4.
#[test]
fn a_profile_goes_on_in_another_region() {
    let name = "a_profile_goes_on_in_another_region";
    if skip::quick() {
        return skip::skipped(name, "--quick leaves out what boots a machine");
    }
    // What regions are about differs little between kernels.
    let Some(kernel) = Kernel::all().pop() else {
        return skip::skipped(name, "there is no kernel to boot; run `cargo xtask setup`");
    };
    play(&kernel);
}

/// On the other kernels, which takes its time.
#[test]
fn on_every_other_kernel() {
    if env::var_os(EVERY_KERNEL).is_none() {
        return skip::skipped(
            "on_every_other_kernel",
            "one kernel is enough for each run; VPN_TEST_EVERY_KERNEL=1 plays all",
        );
    }
    let mut kernels = Kernel::all();
    // That is the one of the test above.
    kernels.pop();
    for kernel in kernels {
        play(&kernel);
    }
}

fn play(kernel: &Kernel) {
    let machine = Machine::new(kernel).file("/usr/bin/wg-quick", "/sbin/wg-quick");
    let tools = TOOLS.into_iter().map(|name| Path::new("/usr/bin").join(name));
    super::play(tools.fold(machine, Machine::program), "regions", LIMIT);
}
