//! Counters by verdict.

use vpn_ebpf_common::{Verdict, flow::Traffic};

use crate::maps::STATS;

/// Counts packets on this CPU alone.
#[inline(always)]
pub fn count(verdict: Verdict, add: &Traffic) {
    if let Some(traffic) = STATS.get_ptr_mut(verdict as u32) {
        // SAFETY: the slot belongs to this CPU, and a program is not interrupted by another run of itself on
        // the same CPU (the ingress hook runs with bottom halves disabled).
        unsafe {
            (*traffic).packets += add.packets;
            (*traffic).bytes += add.bytes;
        }
    }
}
