//! Any tool works as on site, on every kernel that set-up has brought. See `vpn_tests::tools` for what it checks.

use std::time::Duration;

use vpn_tests::vm::Machine;

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn on_linux_6_1() {
    play("6.1");
}

#[test]
fn on_linux_6_12() {
    play("6.12");
}

fn play(series: &str) {
    let Some(kernel) = super::kernel(series, "tools") else { return };
    super::play(Machine::new(&kernel).program("/usr/bin/mbpoll"), "tools", LIMIT);
}
