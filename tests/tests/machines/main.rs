//! Whole scenarios in virtual machines, with kernel WireGuard and on the kernels that set-up has brought.
//!
//! They are one program, so that several play at a time: an emulated machine keeps one processor of the host busy.
//! `RUST_TEST_THREADS` says how many; that there are processors by default.

use std::{env, time::Duration};

use vpn_tests::{
    demo, skip,
    store::Store,
    vm::{HOST, Kernel, Machine},
};

mod closed;
mod commands;
/// The longest. Tests begin in the order of their names, and the last ones should end at the same time.
mod early {
    mod regions;
    mod uplinks;
}
mod harness;
mod main_job;
mod revoke;
mod tools;

/// Asks for what is the same again on other kernels.
const EVERY_KERNEL: &str = "VPN_TEST_EVERY_KERNEL";

/// The kernel of this series; `None` if `test` is to be left out, which is then reported.
fn kernel(series: &str, test: &str) -> Option<Kernel> {
    if skip::quick() {
        skip::skipped(&format!("{test} on Linux {series}"), "--quick leaves out what boots a machine");
        return None;
    }
    Some(Kernel::series(series).unwrap_or_else(|| panic!("no kernel {series}; run `cargo xtask setup`")))
}

/// The newest kernel, which is enough for what differs little between kernels; `None` as of [`kernel`].
fn newest_kernel(test: &str) -> Option<Kernel> {
    if skip::quick() {
        skip::skipped(test, "--quick leaves out what boots a machine");
        return None;
    }
    Some(Kernel::all().pop().expect("a kernel to boot; run `cargo xtask setup`"))
}

/// All the others, if they are asked for.
fn other_kernels(test: &str) -> Vec<Kernel> {
    if env::var_os(EVERY_KERNEL).is_none() {
        let reason = "one kernel is enough for each run; VPN_TEST_EVERY_KERNEL=1 plays all";
        skip::skipped(&format!("{test} on every other kernel"), reason);
        return Vec::new();
    }
    let mut kernels = Kernel::all();
    kernels.pop();
    kernels
}

/// Plays a scenario of the program `guest` in `machine`, which has the workspace's programs besides and a ClickHouse on
/// this host.
fn play(mut machine: Machine, scenario: &str, limit: Duration) {
    let programs = demo::programs().unwrap();
    for name in ["guest", "vpn-agent", "vpn-collector"] {
        machine = machine.program(programs.join(name));
    }
    let store = Store::start(&programs.join("vpn-collector"), &demo::library().unwrap()).unwrap();
    let url = format!("http://{HOST}:{}", store.port());
    let machine = machine.network(true);
    let report = machine.run(&["guest", scenario, "--clickhouse", &url], limit, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "{scenario} fails on Linux {}, see above", machine.kernel().release());
}
