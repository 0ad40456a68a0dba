//! Keys and values of the longest-prefix map ROUTES.

use crate::{Address, Prefix, shared};

/// What a prefix of ROUTES is made of. The set stands first and is always matched whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RouteKey {
    /// Route-set id. A set is never changed once a peer uses it.
    pub set: u32,
    /// Destination as the user addresses it: in a virtual subnet or in a real one.
    pub destination: Address,
}

shared!(RouteKey: 4 + 16);

/// Bits of a [`RouteKey`] before the destination's own prefix: the set, and for IPv4 the mapping.
pub const SET_BITS: u32 = 32;

/// Bits that [`Address`] puts before an IPv4 address.
pub const V4_OFFSET: u32 = 96;

/// Bits of a look-up, which always names the set and one whole address.
pub const KEY_BITS: u32 = SET_BITS + 128;

/// Where a prefix of a route set leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Route {
    /// Plant id.
    pub plant: u32,
    /// Route id: the plant's subnet.
    pub id: u32,
    /// Interface index of the plant's uplink.
    pub egress: u32,
    /// The subnet as the plant uses it.
    pub real: Prefix,
    /// Network address of its virtual twin, which is as long.
    pub twin: Address,
}

shared!(Route: 3 * 4 + 32 + 16);

impl Route {
    /// The other address under which a user may reach the device that `addressed` leads to: its virtual address for
    /// the real one, and the real one for the virtual.
    #[inline(always)]
    #[must_use]
    pub const fn other_address(&self, addressed: &Address) -> Address {
        let real = self.real.translate(addressed);
        // An address in the real prefix is translated to itself.
        if real.is(addressed) {
            Prefix { base: self.twin, host_mask: self.real.host_mask }.translate(addressed)
        } else {
            real
        }
    }
}
