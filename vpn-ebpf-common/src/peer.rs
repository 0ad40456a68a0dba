//! Values of the array PEERS, whose index is the [host number](crate::Prefix::host_number) of the peer's tunnel addresses.

use crate::shared;

/// Who sends from a tunnel address, whose host number is the same in both families. WireGuard delivers a packet only if
/// its source address belongs to the peer that encrypted it, so the address is an authenticated identity.
///
/// Written and read as one word, so that whoever reads it while it changes sees the old value or the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Peer {
    /// Peer id: one certificate, given once, never reused. Zero where the address is nobody's.
    pub id: u32,
    /// The route set that applies to the peer now. Changing it is one store, so a packet of either family sees the old
    /// set or the new one, never a mixture (requirement C5).
    pub route_set: u32,
}

shared!(Peer: 4 + 4);

impl Peer {
    /// What is at a host number that is nobody's.
    pub const NOBODY: Self = Self { id: 0, route_set: 0 };

    /// The value as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        let ([a, b, c, d], [e, f, g, h]) = (self.id.to_ne_bytes(), self.route_set.to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    /// The value that lies in memory like this.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Self { id: u32::from_ne_bytes([a, b, c, d]), route_set: u32::from_ne_bytes([e, f, g, h]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_word() {
        let peer = Peer { id: 0x0102_0304, route_set: 0x0506_0708 };
        assert_eq!(Peer::from_word(peer.to_word()), peer);
        assert_eq!(Peer::from_word(0), Peer::NOBODY, "an array is zero before it is written");
        let bytes = peer.to_word().to_ne_bytes();
        assert_eq!((&bytes[..4], &bytes[4..]), (&peer.id.to_ne_bytes()[..], &peer.route_set.to_ne_bytes()[..]));
    }
}
