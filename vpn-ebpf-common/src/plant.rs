//! Values of the map PLANTS, whose key is the interface index (`u32`) of the plant's uplink.

use crate::{Prefix, shared};

/// A plant behind one uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Plant {
    /// Plant id, given once, never reused.
    pub id: u32,
    /// The largest packet the uplink takes, in bytes of IP packet.
    pub mtu: u32,
    /// The prefix that users' tunnel addresses are translated into on this uplink. The site's router returns
    /// packets to it, so it differs from region to region (requirement E2).
    pub source: Prefix,
}

shared!(Plant: 4 + 4 + 32);
