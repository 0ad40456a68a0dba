//! The scenario as its steps see it: hosts, addresses, and the kernel's accounts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use vpn_agent::config::Pools;
use vpn_directory::Directory;

use crate::{audit::Audit, gateway::Gateway, namespace::Namespace};

use super::{
    Family,
    network::{DEVICE, Lan, Network},
};

/// Everything that takes part.
pub struct Scene {
    /// For what the tools write.
    pub folder: PathBuf,
    /// The product.
    pub gateway: Gateway,
    /// What its agent has given out.
    pub directory: Directory,
    /// The other hosts.
    pub network: Network,
    /// What its collector has stored.
    pub audit: Audit,
}

impl Scene {
    /// The host of a user.
    pub fn user(&self, name: &str) -> &Namespace {
        match name {
            "user-a" => &self.network.user_a.namespace,
            _ => &self.network.user_b.namespace,
        }
    }

    /// The host with the device of a plant.
    pub fn lan(&self, plant: &str) -> &Lan {
        match plant {
            "north" => &self.network.north.lan,
            "south" => &self.network.south.lan,
            _ => &self.network.store,
        }
    }

    /// The peer of a user.
    pub fn peer(&self, user: &str) -> Result<&vpn_directory::Peer> {
        self.directory.peers.iter().find(|peer| peer.user == user).context("no such user")
    }

    /// A user's tunnel addresses.
    pub fn tunnel_addresses(&self, user: &str) -> Result<[IpAddr; 2]> {
        let peer = self.peer(user)?;
        Ok([peer.address, peer.address6.into()])
    }

    /// A plant with its subnets.
    pub fn plant(&self, name: &str) -> Result<&vpn_directory::Plant> {
        self.directory.plants.iter().find(|plant| plant.plant == name).context("no such plant")
    }

    /// A device as users write it.
    pub fn device(&self, plant: &str, family: Family) -> Result<IpAddr> {
        self.virtual_address(plant, family, DEVICE)
    }

    /// The gateway's own address, as users see it.
    pub fn gateway_address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Pools::default().gateway().into(),
            Family::V6 => Pools::default().gateway6().into(),
        }
    }

    /// A host of a plant as users write it.
    pub fn virtual_address(&self, plant: &str, family: Family, number: u8) -> Result<IpAddr> {
        let networks = self.plant(plant)?.subnets.iter().map(|subnet| subnet.virtual_.network());
        let network = networks.into_iter().find(|network| Family::of(*network) == family).context("no such subnet")?;
        Ok(match network {
            IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() | u32::from(number)).into(),
            IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | u128::from(number)).into(),
        })
    }
}
