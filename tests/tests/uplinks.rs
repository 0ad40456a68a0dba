//! Plants' uplinks on kernel WireGuard, changes of somebody else's, and an agent that is killed. See `vpn_tests::uplinks` for
//! what it checks.

use std::{env, time::Duration};

use vpn_tests::{
    demo, skip,
    vm::{Kernel, Machine},
    wg_quick,
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

/// Asks for what is the same again on other kernels.
const EVERY_KERNEL: &str = "VPN_TEST_EVERY_KERNEL";

/// Has the agent say which step of a change it begins.
const LOG: &str = "RUST_LOG=info,vpn_agent::run::step=debug";

/// Requirements: A3, C4, D1, D2, D3, E3, G3.
#[test]
fn uplinks_come_back_and_the_kernel_stays_as_it_shall_be() {
    let name = "uplinks_come_back_and_the_kernel_stays_as_it_shall_be";
    if skip::quick() {
        return skip::skipped(name, "--quick leaves out what boots a machine");
    }
    // What differs between kernels is played by the main job on each of them.
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
    let programs = demo::programs().unwrap();
    let mut machine = wg_quick::into_machine(Machine::new(kernel));
    for name in ["guest", "vpn-agent"] {
        machine = machine.program(programs.join(name));
    }
    let report = machine.run(&["env", LOG, "guest", "uplinks"], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "uplinks fail on Linux {}, see above", kernel.release());
}
