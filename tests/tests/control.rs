//! Changes of rights while users work. See `vpn_tests::revoke` for what it checks.

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

/// What is measured in an emulated machine needs both processors.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where a device has its SSH server, and a user the client.
const SSH: [&str; 3] = ["/usr/sbin/dropbear", "/usr/bin/dropbearkey", "/usr/bin/dbclient"];

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
