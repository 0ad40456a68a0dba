//! Values of the map PLANTS, whose key is the interface index (`u32`) of the plant's uplink.

use crate::{Address, Prefix, shared};

/// Most subnets of one plant: each packet from a plant is compared with them one by one.
pub const MAX_SUBNETS: usize = 16;

/// A plant behind one uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Plant {
    /// Plant id, given once, never reused.
    pub id: u32,
    /// The largest packet the uplink takes, in bytes of IP packet.
    pub mtu: u32,
    /// Bytes of link header in front of the IP header: 0 for layer-3 devices, 14 for Ethernet.
    pub link_header: u32,
    /// How many of `subnets` are in use.
    pub subnet_count: u32,
    /// The plant's subnets; they do not overlap.
    pub subnets: [Subnet; MAX_SUBNETS],
}

shared!(Plant: 4 * 4 + MAX_SUBNETS * 48);

/// A subnet of a plant, and where users find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Subnet {
    /// As the plant uses it.
    pub real: Prefix,
    /// Network address of its virtual twin, which is as long.
    pub twin: Address,
}

shared!(Subnet: 32 + 16);

impl Subnet {
    /// What the unused places hold: a prefix that no packet's address is in, for it would have host bits without
    /// being under the mask.
    pub const NONE: Self =
        Self { real: Prefix { base: Address([0; 4]), host_mask: Address([0; 4]) }, twin: Address([0; 4]) };

    /// The virtual address of a device in this subnet; none if it is not.
    #[inline(always)]
    #[must_use]
    pub const fn virtual_of(&self, device: &Address) -> Option<Address> {
        if self.real.contains(device) {
            Some(Prefix { base: self.twin, host_mask: self.real.host_mask }.translate(device))
        } else {
            None
        }
    }
}
