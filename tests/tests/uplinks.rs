//! Plants' uplinks on kernel WireGuard, changes of somebody else's, and an agent that is killed. See `vpn_tests::uplinks` for
//! what it checks.

use std::time::Duration;

use vpn_tests::{
    demo, skip,
    vm::{Kernel, Machine},
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(1200);

/// Requirements: C4, D1, D2, E3, G3.
#[test]
fn uplinks_come_back_and_the_kernel_stays_as_it_shall_be() {
    let name = "uplinks_come_back_and_the_kernel_stays_as_it_shall_be";
    if skip::quick() {
        return skip::skipped(name, "--quick leaves out what boots a machine");
    }
    // What differs between kernels is played by the main job on each of them.
    let kernel = Kernel::all().pop().expect("a kernel to boot; run `cargo xtask setup`");
    play(&kernel);
}

/// For all kernels, which takes its time.
#[test]
#[ignore = "one kernel is enough for each run; call it by its name"]
fn on_every_kernel() {
    for kernel in Kernel::all() {
        play(&kernel);
    }
}

fn play(kernel: &Kernel) {
    let programs = demo::programs().unwrap();
    let mut machine = Machine::new(kernel);
    for name in ["guest", "vpn-agent"] {
        machine = machine.program(programs.join(name));
    }
    let report = machine.run(&["guest", "uplinks"], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "uplinks fail on Linux {}, see above", kernel.release());
}
