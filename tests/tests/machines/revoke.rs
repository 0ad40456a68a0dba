//! Changes of rights while users work. See `vpn_tests::revoke` for what it checks.

use std::time::Duration;

use vpn_tests::vm::Machine;

/// How long a scenario may take under emulation.
const LIMIT: Duration = Duration::from_secs(400);

/// Where a device has its SSH server, and a user the client.
const SSH: [&str; 3] = ["/usr/sbin/dropbear", "/usr/bin/dropbearkey", "/usr/bin/dbclient"];

/// Requirements: A3, B4.
#[test]
fn a_revoked_certificate_stops_at_once_on_linux_6_1() {
    play("6.1");
}

/// Requirements: A3, B4.
#[test]
fn a_revoked_certificate_stops_at_once_on_linux_6_12() {
    play("6.12");
}

fn play(series: &str) {
    let Some(kernel) = super::kernel(series, "revoke") else { return };
    let machine = SSH.into_iter().fold(Machine::new(&kernel).counts_instructions(), Machine::program);
    super::play(machine, "revoke", LIMIT);
}
