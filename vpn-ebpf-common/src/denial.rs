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
    /// The [`window`] of the attempts.
    pub window: u32,
    /// Destination port, network byte order; zero for ICMP echo.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// The [`Verdict`](crate::Verdict) that refused it, by its number.
    pub verdict: u8,
}

shared!(DenialKey: 16 + 4 + 4 + 2 + 1 + 1);

impl DenialKey {
    /// The key under which those refused attempts are counted together that go beyond
    /// [`Limits::denials_per_window`](crate::gateway::Limits::denials_per_window): no address, no port, no protocol.
    #[inline(always)]
    #[must_use]
    pub const fn further(peer: u32, window: u32, verdict: u8) -> Self {
        Self { addressed: Address([0; 4]), peer, window, port: 0, protocol: 0, verdict }
    }

    /// Whether it is one of [`DenialKey::further`].
    #[must_use]
    pub fn is_further(&self) -> bool {
        *self == Self::further(self.peer, self.window, self.verdict)
    }
}

/// Length of a window, nanoseconds.
pub const WINDOW_NS: u64 = 60_000_000_000;

/// The window of a time of `CLOCK_BOOTTIME` in nanoseconds. Programs count an attempt in the window of its time, so
/// nobody adds to an entry whose window has passed, and its totals are final a second later.
#[inline(always)]
#[must_use]
pub const fn window(now_ns: u64) -> u32 {
    (now_ns / WINDOW_NS) as u32
}

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
