//! What the programs are told about users, plants and services, in plain terms: [`std::net`] addresses and
//! [`Net`]works. The reference [`model`](crate::model) works on these; [`maps`] says how the kernel's maps hold them.

use std::{collections::BTreeMap, net::IpAddr};

use vpn_ebpf_common::{
    gateway::{IdleLimits, Limits},
    peer::Peer,
};

pub mod maps;
mod net;

pub use net::Net;

/// Everything that the agent writes. Where something exists for each family, IPv4 comes first.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Interface index of the users' device; zero before the agent has configured the gateway.
    pub users: u32,
    /// The largest packet the users' device takes, in bytes of IP packet.
    pub users_mtu: u32,
    /// Grows with changes of plants, services and settings.
    pub generation: u32,
    /// Options of the gateway, as in [`Gateway::options`](vpn_ebpf_common::gateway::Gateway::options).
    pub options: u32,
    /// Where all tunnel addresses are.
    pub tunnel: [Net; 2],
    /// Where plants see the users.
    pub source: [Net; 2],
    /// The gateway's own tunnel addresses.
    pub address: [IpAddr; 2],
    /// For how long flows live.
    pub idle: IdleLimits,
    /// What a peer may take.
    pub limits: Limits,
    /// By the number of their address in [`Self::tunnel`], which is the same in both families.
    pub peers: BTreeMap<u32, Peer>,
    /// By the set's id, then by destination.
    pub route_sets: BTreeMap<u32, BTreeMap<Net, Route>>,
    /// By interface index of the uplink.
    pub plants: BTreeMap<u32, Plant>,
    /// Route ids.
    pub services: BTreeMap<Service, u32>,
}

/// Where a destination leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Plant id.
    pub plant: u32,
    /// Route id.
    pub id: u32,
    /// Interface index of the uplink.
    pub egress: u32,
    /// The subnet that it leads to.
    pub subnet: Subnet,
}

/// A plant.
#[derive(Clone, Debug)]
pub struct Plant {
    /// Its id.
    pub id: u32,
    /// The largest packet its uplink takes, in bytes of IP packet.
    pub mtu: u32,
    /// Bytes of link header on its uplink.
    pub link_header: u32,
    /// Its subnets, which do not overlap.
    pub subnets: Vec<Subnet>,
}

/// A subnet of a plant under its two names, of which one is as long as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// As the plant uses it.
    pub real: Net,
    /// As it is unique among all plants.
    pub twin: Net,
}

impl Subnet {
    /// The device that a user means by `addressed`, which is in one of the two networks.
    #[must_use]
    pub fn device(&self, addressed: IpAddr) -> IpAddr {
        self.real.with_host_of(addressed)
    }

    /// The other address of the device that a user means by `addressed`.
    #[must_use]
    pub fn other_address(&self, addressed: IpAddr) -> IpAddr {
        let other = if self.real.contains(addressed) { self.twin } else { self.real };
        other.with_host_of(addressed)
    }
}

/// Something that users may reach on the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// An address of the gateway.
    pub address: IpAddr,
    /// The port; zero for ICMP echo.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

impl Topology {
    /// Puts all plants behind links with headers of so many bytes.
    pub fn connect_plants(&mut self, link_header: u32) {
        self.plants.values_mut().for_each(|plant| plant.link_header = link_header);
    }

    /// Who has a tunnel address.
    #[must_use]
    pub fn peer(&self, address: IpAddr) -> Option<Peer> {
        let number = self.tunnel[usize::from(address.is_ipv6())].host_number(address)?;
        self.peers.get(&u32::try_from(number).ok()?).copied()
    }

    /// The user with this tunnel address as plants see it; and the gateway with its own.
    #[must_use]
    pub fn seen_by_plants(&self, address: IpAddr) -> IpAddr {
        self.source[usize::from(address.is_ipv6())].with_host_of(address)
    }

    /// Where `destination` leads by this route set: its longest prefix.
    #[must_use]
    pub fn route(&self, set: u32, destination: IpAddr) -> Option<&Route> {
        let routes = self.route_sets.get(&set)?;
        let fitting = routes.iter().filter(|(net, _)| net.contains(destination));
        fitting.max_by_key(|(net, _)| net.length).map(|(_, route)| route)
    }
}

impl Plant {
    /// The unique address of a device; none if it is in no subnet of the plant.
    #[must_use]
    pub fn twin(&self, device: IpAddr) -> Option<IpAddr> {
        let subnet = self.subnets.iter().find(|subnet| subnet.real.contains(device))?;
        Some(subnet.twin.with_host_of(device))
    }
}
