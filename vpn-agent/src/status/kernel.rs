//! What the kernel says, read once.

use std::{collections::BTreeMap, path::Path};

use ipnet::Ipv4Net;
use vpn_ebpf_common::{
    Address, Verdict, flow::Traffic, gateway::Gateway, peer::Peer as MapPeer, plant::Plant, route::Route,
};

use super::{Files, UplinkKind};
use crate::{
    config::Config,
    datapath::{
        self,
        read::{FillLevel, Maps as _, Pinned},
    },
    forwarding,
    wireguard::{self, Error, Link, Peer, WireGuard},
};

/// The kernel's side of a status.
pub struct Kernel {
    /// The interfaces that there are of those that the gateway uses, by name.
    pub devices: BTreeMap<String, Device>,
    /// Whether the programs were detached on purpose.
    pub detached: bool,
    /// IPv4 addresses of the users' interface.
    pub users_addresses: Vec<Ipv4Net>,
    /// `None` if the maps are not pinned or cannot be read.
    pub maps: Option<Maps>,
}

/// An interface that the gateway uses.
#[derive(Clone)]
pub struct Device {
    pub link: Link,
    /// `None` for one of the host's.
    pub wireguard: Option<wireguard::Device>,
    /// The program of our pinned link.
    pub pinned_program: Option<u32>,
    pub pinned_guard: Option<u32>,
    pub closed_to_forwarding: bool,
}

/// The content of the maps.
pub struct Maps {
    pub gateway: Option<Gateway>,
    /// By the host number of their tunnel addresses.
    pub peers: BTreeMap<u32, MapPeer>,
    pub routes: BTreeMap<(u32, Address, u32), Route>,
    pub plants: BTreeMap<u32, Plant>,
    pub stats: Vec<(Verdict, Traffic)>,
    pub fill_levels: Vec<FillLevel>,
}

impl Kernel {
    /// What cannot be read of maps and links is added to `problems`.
    pub async fn read(config: &Config, files: &Files, problems: &mut Vec<String>) -> Result<Self, Error> {
        let pin_dir = &config.datapath.pin_dir;
        let wireguard = WireGuard::open()?;
        let mut links: BTreeMap<_, _> =
            wireguard.wireguard_links().await?.into_iter().map(|link| (link.name.clone(), link)).collect();
        let mut devices = BTreeMap::new();
        let mut users_addresses = Vec::new();
        if let Some(users) = links.get(&config.users.interface) {
            users_addresses = wireguard.addresses(users).await?;
        }
        let plants = files.active_plants(&config.region).map(|plant| files.interface(plant, &config.region));
        for (uplink, name) in plants.chain([(UplinkKind::Host, config.users.interface.clone())]) {
            let link = match uplink {
                UplinkKind::Host | UplinkKind::Dial => links.remove(&name),
                UplinkKind::Interface => wireguard.link(&name).await?,
            };
            let Some(link) = link else { continue };
            let pinned_program = datapath::pinned_program(pin_dir, &name).unwrap_or_else(|error| {
                problems.push(error.to_string());
                None
            });
            let (of_wireguard, closed_to_forwarding) = match uplink {
                UplinkKind::Host | UplinkKind::Dial => {
                    (Some(wireguard.device(&link).await?), forwarding::is_closed(&name))
                }
                UplinkKind::Interface => (None, forwarding::is_borrowed_closed(&name)),
            };
            let pinned_guard = datapath::pinned_guard(pin_dir, &name);
            let device = Device { link, wireguard: of_wireguard, pinned_program, pinned_guard, closed_to_forwarding };
            devices.insert(name, device);
        }
        let maps = match datapath::are_maps_pinned(pin_dir).then(|| Maps::read(pin_dir)) {
            Some(Ok(maps)) => Some(maps),
            Some(Err(error)) => {
                problems.push(error.to_string());
                None
            }
            None => None,
        };
        Ok(Self { devices, detached: datapath::is_detached(pin_dir), users_addresses, maps })
    }
}

impl Device {
    /// The peer of an interface that has one.
    pub fn only_peer(&self) -> Option<&Peer> {
        self.wireguard.as_ref()?.peers.values().next()
    }
}

impl Maps {
    fn read(pin_dir: &Path) -> Result<Self, datapath::Error> {
        let pinned = Pinned::open(pin_dir)?;
        Ok(Self {
            gateway: pinned.gateway()?,
            peers: pinned.peers()?,
            routes: pinned.routes()?,
            plants: pinned.plants()?,
            stats: pinned.stats()?,
            fill_levels: pinned.fill_levels()?.into(),
        })
    }

    /// How many routes each set has that has any.
    pub fn route_set_lengths(&self) -> BTreeMap<u32, usize> {
        let mut lengths = BTreeMap::new();
        for (set, _, _) in self.routes.keys() {
            *lengths.entry(*set).or_default() += 1;
        }
        lengths
    }
}
