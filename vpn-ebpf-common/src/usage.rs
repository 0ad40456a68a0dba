//! Values of the maps USAGE and RELEASED, whose key is the peer id (`u32`): what a peer takes of what all share.

use crate::{Address, flow::Traffic, shared};

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
    /// By which addresses the peer has opened flows, ever: [`Way`]s. Who has only ever used one of a device's two addresses
    /// has no flow under the other, which need not be looked for.
    pub ways: u32,
    /// Always zero.
    pub reserved: u32,
    /// Refused packets that could not be counted in DENIED because it was full.
    pub unrecorded: Traffic,
}

shared!(Usage: 8 + 8 * 4 + 16);

/// Which of a device's two addresses a user wrote; a bit of [`Usage::ways`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    /// Its address at the plant.
    Real = 1,
    /// Its address in the virtual subnet.
    Virtual = 2,
    /// It has only one, as a service of the gateway.
    Only = 0,
}

impl Way {
    /// The way of a flow under `addressed` to a device that is also reached by `other`.
    #[inline(always)]
    #[must_use]
    pub const fn of(addressed: &Address, device: &Address, other: &Address) -> Self {
        if other.is(addressed) {
            Self::Only
        } else if device.is(addressed) {
            Self::Real
        } else {
            Self::Virtual
        }
    }

    /// Whether a flow under the other address may be there, by the [`Usage::ways`] of the peer.
    #[inline(always)]
    #[must_use]
    pub const fn may_meet_another(self, ways: u32) -> bool {
        match self {
            Self::Real => ways & Self::Virtual as u32 != 0,
            Self::Virtual => ways & Self::Real as u32 != 0,
            Self::Only => false,
        }
    }
}

/// For how many seconds after [`Usage::unrecorded_second`] replies without a flow are let through.
pub const UNRECORDED_SECONDS: u32 = 60;

/// The second of a time of `CLOCK_BOOTTIME` in nanoseconds.
#[inline(always)]
#[must_use]
pub const fn second(now_ns: u64) -> u32 {
    (now_ns / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_flow_is_looked_for_where_there_may_be_one() {
        let (real, virtual_) = (Address([0, 0, 0, 1]), Address([0, 0, 0, 2]));
        let by_real = Way::of(&real, &real, &virtual_);
        let by_virtual = Way::of(&virtual_, &real, &real);
        let only = Way::of(&real, &real, &real);
        assert_eq!((by_real, by_virtual, only), (Way::Real, Way::Virtual, Way::Only));
        for (way, met) in [(by_real, by_virtual as u32), (by_virtual, by_real as u32)] {
            assert!(!way.may_meet_another(0) && !way.may_meet_another(way as u32));
            assert!(way.may_meet_another(met) && way.may_meet_another(met | way as u32));
        }
        assert!(!only.may_meet_another(by_real as u32 | by_virtual as u32));
    }
}
