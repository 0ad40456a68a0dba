//! Values of the map PEERS, whose key is the peer's tunnel [`Address`](crate::Address).

use crate::shared;

/// Who sends from a tunnel address. WireGuard delivers a packet only if its source address belongs to the peer
/// that encrypted it, so the address is an authenticated identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Peer {
    /// Peer id: one certificate, given once, never reused.
    pub id: u32,
    /// The route set that applies to the peer now. Changing it is one map update, so a packet sees the old set
    /// or the new one, never a mixture (requirement C5).
    pub route_set: u32,
}

shared!(Peer: 4 + 4);
