//! Changes of rights while users work. See `vpn_tests::revoke` and `vpn_tests::flips` for what they check.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use vpn_tests::{
    demo, skip,
    store::Store,
    vm::{HOST, Kernel, Machine},
};

/// How long a scenario may take under emulation.
const LIMIT: Duration = Duration::from_secs(400);

/// Where a device has its SSH server, and a user the client.
const SSH: [&str; 3] = ["/usr/sbin/dropbear", "/usr/bin/dropbearkey", "/usr/bin/dbclient"];

/// An emulated machine has two busy processors; several at a time would only make each other late.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Requirements: A3, B4.
#[test]
fn a_revoked_certificate_stops_at_once_on_linux_6_1() {
    play("6.1", "revoke");
}

/// Requirements: A3, B4.
#[test]
fn a_revoked_certificate_stops_at_once_on_linux_6_12() {
    play("6.12", "revoke");
}

/// Requirements: C2, C5.
#[test]
fn a_priority_that_flips_never_mixes_two_plants() {
    play("6.12", "flips");
}

fn play(series: &str, scenario: &str) {
    if skip::quick() {
        return skip::skipped(&format!("{scenario} on Linux {series}"), "--quick leaves out what boots a machine");
    }
    let kernel = Kernel::series(series).unwrap_or_else(|| panic!("no kernel {series}; run `cargo xtask setup`"));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = demo::programs().unwrap();
    let mut machine = Machine::new(&kernel).network(true);
    for name in ["guest", "vpn-agent", "vpn-collector"] {
        machine = machine.program(programs.join(name));
    }
    for program in SSH {
        machine = machine.program(program);
    }
    let store = Store::start(&programs.join("vpn-collector"), &demo::library().unwrap()).unwrap();
    let url = format!("http://{HOST}:{}", store.port());
    let report = machine.run(&["guest", scenario, "--clickhouse", &url], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "{scenario} fails on Linux {}, see above", kernel.release());
}
