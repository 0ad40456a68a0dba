//! Any tool works as on site, on every kernel that set-up has brought. See `vpn_tests::tools` for what it checks.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use vpn_tests::{
    demo, skip,
    store::Store,
    vm::{HOST, Kernel, Machine},
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

/// An emulated machine has two busy processors; several at a time would only make each other late.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn on_linux_6_1() {
    play("6.1");
}

#[test]
fn on_linux_6_12() {
    play("6.12");
}

fn play(series: &str) {
    if skip::quick() {
        return skip::skipped(&format!("tools on Linux {series}"), "--quick leaves out what boots a machine");
    }
    let kernel = Kernel::series(series).unwrap_or_else(|| panic!("no kernel {series}; run `cargo xtask setup`"));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = demo::programs().unwrap();
    let mut machine = Machine::new(&kernel).network(true).program("/usr/bin/mbpoll");
    for name in ["guest", "vpn-agent", "vpn-collector"] {
        machine = machine.program(programs.join(name));
    }
    let store = Store::start(&programs.join("vpn-collector"), &demo::library().unwrap()).unwrap();
    let url = format!("http://{HOST}:{}", store.port());
    let report = machine.run(&["guest", "tools", "--clickhouse", &url], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "a tool does not work on Linux {}, see above", kernel.release());
}
