//! A packet of a benchmark. Included by the programs and by what drives them.

use vpn_ebpf_common::flow::FlowKey;

/// Bytes of a packet that are written anew for each run: every header that the programs read.
pub const HEADERS: usize = 48;

/// One packet that the programs shall see, and what to look it up by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// The first bytes of the IP packet.
    pub headers: [u8; HEADERS],
    /// See [`Keys`].
    pub keys: Keys,
}

/// The keys of the look-ups that a packet of an established flow cannot avoid.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Keys {
    /// Of FLOWS, but for the peer id, which PEERS tells.
    pub flow: FlowKey,
    /// Of PEERS.
    pub peer: u32,
}

const _: () = assert!(size_of::<Slot>() == HEADERS + 32, "no padding");
