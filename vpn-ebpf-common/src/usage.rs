//! Values of the maps USAGE and RELEASED, whose key is the peer id (`u32`): what a peer takes of what all share.

use crate::{flow::Traffic, shared};

/// Written by the programs alone. A peer's packets arrive one after the other (WireGuard has one NAPI instance for each
/// peer), so most of it needs no atomics; [`Usage::answers`] may be a few off, as packets from plants add to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Entries that were added to FLOWS for the peer, ever. Those that are in it now: less the peer's value in RELEASED,
    /// which the collector, who removes them, counts.
    pub opened: u64,
    /// The second that the next two fields are about, of `CLOCK_BOOTTIME`.
    pub second: u32,
    /// New flows in it.
    pub new_flows: u32,
    /// ICMP errors sent in it.
    pub answers: u32,
    /// The [`window`](crate::denial::window) that the next field is about.
    pub window: u32,
    /// Refused destinations that have an entry in DENIED for it.
    pub denials: u32,
    /// The second in which a flow of the peer was last forwarded although the flow table was full, of `CLOCK_BOOTTIME`;
    /// zero if that never happened.
    pub unrecorded_second: u32,
    /// Refused packets that could not be counted in DENIED because it was full.
    pub unrecorded: Traffic,
}

shared!(Usage: 8 + 6 * 4 + 16);

/// For how many seconds after [`Usage::unrecorded_second`] replies without a flow are let through.
pub const UNRECORDED_SECONDS: u32 = 60;

/// The second of a time of `CLOCK_BOOTTIME` in nanoseconds.
#[inline(always)]
#[must_use]
pub const fn second(now_ns: u64) -> u32 {
    (now_ns / 1_000_000_000) as u32
}
