//! Counters that several CPUs add to.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds `n` to a counter in a map value.
///
/// `core::sync::atomic` has no `fetch_add` for BPF; the intrinsic becomes the one instruction
/// `lock *(u64 *)(r + off) += r` (Linux 4.x and later).
///
/// # Safety
/// `counter` must point into a live map value and be aligned to 8 bytes.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, n: u64) {
    // SAFETY: the caller's promise is the intrinsic's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}
