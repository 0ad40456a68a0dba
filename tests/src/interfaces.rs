//! Interfaces that packets of test runs come in by. They are good for their indexes alone.

use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::namespace::run;

/// The users' device: loopback.
pub const USERS_DEVICE: u32 = 1;
/// Uplinks of plants.
pub const UPLINKS: [u32; 3] = [71, 72, 73];

/// Makes them, in a network namespace that the calling thread has for itself from then on.
///
/// # Panics
/// Without root.
pub fn create() {
    // SAFETY: this concerns the network namespace of this thread, and no file descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may make a network namespace");
    for [one, other] in [[71, 72], [73, 74]] {
        let pair = format!("ip link add index {one} name up{one} type veth peer index {other} name up{other}");
        run(&pair).expect("the kernel has veth");
    }
}
