//! Counters by verdict.

use vpn_ebpf_common::Verdict;

use crate::maps::STATS;

/// Counts one packet of `bytes` bytes, on this CPU alone.
#[inline(always)]
pub fn count(verdict: Verdict, bytes: u64) {
    if let Some(traffic) = STATS.get_ptr_mut(verdict as u32) {
        // SAFETY: the slot belongs to this CPU, and a program is not interrupted by another run of itself on
        // the same CPU (generic XDP runs with bottom halves disabled).
        unsafe {
            (*traffic).packets += 1;
            (*traffic).bytes += bytes;
        }
    }
}
