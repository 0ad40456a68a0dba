//! Keys and values of the map DENIED: what users tried to reach and may not.

use crate::{Address, shared};

/// One destination that a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct DenialKey {
    /// Destination as the user addressed it.
    pub addressed: Address,
    /// Peer id.
    pub peer: u32,
    /// Destination port, network byte order; zero for ICMP echo.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The [`Verdict`](crate::Verdict) that refused it, by its number.
    pub verdict: u8,
}

shared!(DenialKey: 16 + 4 + 2 + 1 + 1);

/// How often, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Denial {
    /// `CLOCK_BOOTTIME` of the first refused packet, nanoseconds.
    pub first_ns: u64,
    /// `CLOCK_BOOTTIME` of the last one, nanoseconds.
    pub last_ns: u64,
    /// Refused packets.
    pub attempts: u64,
    /// Their bytes, counted from the first byte of the IP header.
    pub bytes: u64,
}

shared!(Denial: 4 * 8);
