//! Keys and values of the map FRAGMENTS: which flow the later fragments of a packet belong to. Only the first one has
//! ports.

use crate::{Address, flow::FlowKey, shared};

/// One fragmented packet on its way (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address, as it came in.
    pub source: Address,
    /// Destination address, as it came in.
    pub destination: Address,
    /// Identification, network byte order; 16 bits for IPv4.
    pub identification: u32,
    /// Interface index that it came in by.
    pub ingress: u32,
    /// IANA protocol number of what is fragmented.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub reserved: [u8; 3],
}

shared!(FragmentKey: 2 * 16 + 2 * 4 + 1 + 3);

/// The flow of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fragmented {
    /// `CLOCK_BOOTTIME` of the first fragment, nanoseconds.
    pub first_ns: u64,
    /// Its flow.
    pub flow: FlowKey,
    /// Always zero.
    pub reserved: u32,
}

shared!(Fragmented: 8 + 28 + 4);

/// For how long later fragments are expected, nanoseconds: as long as Linux waits for them (`IP_FRAG_TIME`).
pub const TIMEOUT_NS: u64 = 30_000_000_000;
