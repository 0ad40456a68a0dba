//! How plants' networks are reached.

use std::collections::BTreeMap;

use crate::{endpoint::Endpoint, key::PublicKey};

/// Seconds between two packets that keep the way to an endpoint open that is dialled, unless the state says otherwise.
pub const KEEPALIVE_SECONDS: u16 = 25;

/// How a plant's network is reached from each region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplinks {
    /// The same way from every region.
    Everywhere(Uplink),
    /// By region; the plant is not linked to the others.
    Regions(BTreeMap<String, Uplink>),
}

impl Uplinks {
    /// The uplink in `region`, if there is one.
    #[must_use]
    pub fn of(&self, region: &str) -> Option<&Uplink> {
        match self {
            Self::Everywhere(uplink) => Some(uplink),
            Self::Regions(uplinks) => uplinks.get(region),
        }
    }

    /// Every uplink, with its region; `None` stands for every region.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Uplink)> {
        let (everywhere, regions) = match self {
            Self::Everywhere(uplink) => (Some(uplink), None),
            Self::Regions(uplinks) => (None, Some(uplinks)),
        };
        let regions = regions.into_iter().flatten().map(|(region, uplink)| (Some(region.as_str()), uplink));
        everywhere.into_iter().map(|uplink| (None, uplink)).chain(regions)
    }
}

/// How a plant's network is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// The gateway hosts a WireGuard endpoint that the router on site dials into.
    Host {
        /// Public key of the router on site.
        public_key: PublicKey,
    },
    /// The plant is behind an Ethernet interface of the host's, which the agent neither makes nor configures.
    Interface {
        /// Its name, which no other plant has in this region.
        interface: String,
    },
    /// The gateway dials into a WireGuard endpoint at the plant.
    Dial {
        /// Public key of that endpoint.
        public_key: PublicKey,
        /// Where it listens.
        endpoint: Endpoint,
        /// Seconds between two packets that keep the way open; 0 sends none.
        keepalive_seconds: u16,
    },
}

impl Uplink {
    /// The name of the interface, where it is not the agent's own.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Host { .. } | Self::Dial { .. } => None,
            Self::Interface { interface } => Some(interface),
        }
    }

    /// The public key at the plant's end, if it is a tunnel.
    #[must_use]
    pub const fn public_key(&self) -> Option<&PublicKey> {
        match self {
            Self::Host { public_key } | Self::Dial { public_key, .. } => Some(public_key),
            Self::Interface { .. } => None,
        }
    }

    /// Bytes in front of the IP header of a packet on this uplink: none in a WireGuard tunnel, else an Ethernet header.
    #[must_use]
    pub const fn link_header(&self) -> u32 {
        match self {
            Self::Host { .. } | Self::Dial { .. } => 0,
            Self::Interface { .. } => 14,
        }
    }
}
