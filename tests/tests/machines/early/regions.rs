//! Several regions behind one profile. See `vpn_tests::regions` for what it checks.

use std::time::Duration;

use vpn_tests::{
    vm::{Kernel, Machine},
    wg_quick,
};

/// How long all of it may take under emulation.
const LIMIT: Duration = Duration::from_secs(400);

/// Requirements: E1, E2, E3, E4.
#[test]
fn a_profile_goes_on_in_another_region() {
    crate::newest_kernel("regions").iter().for_each(play);
}

/// On the other kernels, which takes its time.
#[test]
fn a_profile_goes_on_in_another_region_on_every_other_kernel() {
    crate::other_kernels("regions").iter().for_each(play);
}

fn play(kernel: &Kernel) {
    crate::play(wg_quick::into_machine(Machine::new(kernel)), "regions", LIMIT);
}
