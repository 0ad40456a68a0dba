//! Plants' uplinks on kernel WireGuard, changes of somebody else's, and an agent that is killed. See `vpn_tests::uplinks` for
//! what it checks.

use std::time::Duration;

use vpn_tests::{
    demo,
    vm::{Kernel, Machine},
    wg_quick,
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

/// Has the agent say which step of a change it begins.
const LOG: &str = "RUST_LOG=info,vpn_agent::run::step=debug";

/// Requirements: A3, C4, D1, D2, D3, E3, G3.
#[test]
fn uplinks_come_back_and_the_kernel_stays_as_it_shall_be() {
    crate::newest_kernel("uplinks").iter().for_each(play);
}

/// On the other kernels, which takes its time.
#[test]
fn uplinks_come_back_on_every_other_kernel() {
    crate::other_kernels("uplinks").iter().for_each(play);
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
