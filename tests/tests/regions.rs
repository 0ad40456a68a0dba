//! Several regions behind one profile. See `vpn_tests::regions` for what it checks.

use std::{env, time::Duration};

use vpn_tests::{
    demo, skip,
    store::Store,
    vm::{HOST, Kernel, Machine},
    wg_quick,
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(400);

/// Asks for what is the same again on other kernels.
const EVERY_KERNEL: &str = "VPN_TEST_EVERY_KERNEL";

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
    let programs = demo::programs().unwrap();
    let mut machine = wg_quick::into_machine(Machine::new(kernel).network(true));
    for name in ["guest", "vpn-agent", "vpn-collector"] {
        machine = machine.program(programs.join(name));
    }
    let store = Store::start(&programs.join("vpn-collector"), &demo::library().unwrap()).unwrap();
    let url = format!("http://{HOST}:{}", store.port());
    let report = machine.run(&["guest", "regions", "--clickhouse", &url], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "regions fail on Linux {}, see above", kernel.release());
}
