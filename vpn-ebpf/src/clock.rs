//! The clock of flows: `CLOCK_BOOTTIME` in nanoseconds, which does not jump, and goes on while the machine sleeps.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns};

/// When this CPU last read the clock.
#[repr(C)]
pub struct Clock {
    /// The kernel's count of ticks.
    tick: u64,
    boot_ns: u64,
}

impl Clock {
    /// The time to the present tick of the kernel, which lasts 1 to 10 ms: it is exact when the first packet of a tick
    /// comes, and stands until the next one. Reading the clock costs a packet more than everything but its look-ups, in a
    /// virtual machine above all; nothing here depends on less than a second.
    #[inline(always)]
    pub fn boot_ns(&mut self) -> u64 {
        // SAFETY: the helper takes nothing and only reads a variable (Linux 5.5).
        let tick = unsafe { bpf_jiffies64() };
        if self.tick != tick {
            // SAFETY: the helper takes nothing and only reads the clock (Linux 5.8).
            *self = Self { tick, boot_ns: unsafe { bpf_ktime_get_boot_ns() } };
        }
        self.boot_ns
    }
}
