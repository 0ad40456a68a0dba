//! The clock of flows.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

/// `CLOCK_BOOTTIME` in nanoseconds: it does not jump, and goes on while the machine sleeps (Linux 5.8).
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and only reads the clock.
    unsafe { bpf_ktime_get_boot_ns() }
}
