//! Plants' uplinks: interfaces that are made for them, and interfaces of the host's that are borrowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::{error, warn};
use vpn_ebpf_common::names;

use super::{Error, Host, dial::Dial, is_plant_interface, removal::Removal};
use crate::{
    borrowed::{Borrowed, Instance},
    config::Config,
    endpoint::Endpoint,
    forwarding,
    id::PlantId,
    key::{PrivateKey, PublicKey},
    state::{self, Plant, State},
    tables,
    wireguard::{AllowedIps, Link},
};

/// Bytes in front of the IP header of a packet on an interface of the host's.
const ETHERNET_HEADER: u32 = 14;

/// The interface of a plant, which is ready to carry packets.
pub(super) struct Uplink {
    /// As it shall be.
    pub link: Link,
    pub kind: Kind,
    /// Of one whose endpoint is dialled.
    pub dial: Option<Dial>,
}

/// What an interface was made for, or that it was borrowed.
#[derive(PartialEq, Eq)]
pub(super) enum Kind {
    WireGuard {
        site: Site,
        /// The public key of this end.
        own: PublicKey,
        /// `None` where the kernel chooses.
        listen_port: Option<u16>,
    },
    Borrowed,
}

/// The plant's end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub public_key: PublicKey,
    pub allowed_ips: AllowedIps,
    /// Where it is dialled, with the seconds between keepalives; `None` if it dials.
    pub dialled: Option<(Endpoint, u16)>,
}

impl Site {
    /// The plant's end of an uplink, if that is a tunnel.
    fn of(plant: &Plant, uplink: &state::Uplink) -> Option<Self> {
        let dialled = match uplink {
            state::Uplink::Dial { endpoint, keepalive_seconds, .. } => Some((endpoint.clone(), *keepalive_seconds)),
            state::Uplink::Host { .. } | state::Uplink::Interface { .. } => None,
        };
        Some(Self { public_key: *uplink.public_key()?, allowed_ips: plant.subnets.clone(), dialled })
    }

    /// Seconds between keepalives to it; zero for none.
    pub fn keepalive(&self) -> u16 {
        self.dialled.as_ref().map_or(0, |(_, seconds)| *seconds)
    }
}

impl Uplink {
    /// Whether nothing has to be done for `plant` to have the uplink `wanted`.
    fn is_for(&self, plant: &Plant, wanted: &state::Uplink) -> bool {
        match &self.kind {
            Kind::WireGuard { site, .. } => Site::of(plant, wanted).as_ref() == Some(site),
            Kind::Borrowed => wanted.interface() == Some(self.link.name.as_str()),
        }
    }

    pub fn is_borrowed(&self) -> bool {
        self.kind == Kind::Borrowed
    }

    /// None for a borrowed interface, which is noted as such.
    fn removal(self) -> Option<Removal> {
        (!self.is_borrowed()).then_some(Removal::Link(self.link))
    }
}

impl Host {
    /// Step 4: every plant that is linked to this region has its interface, or is in the answer.
    pub(super) async fn raise_plants(&mut self, state: &State) -> Vec<(PlantId, Error)> {
        let mut failed = Vec::new();
        for (id, plant) in &state.plants {
            let Some(wanted) = plant.uplink_in(&self.config.region) else { continue };
            if self.plants.get(id).is_some_and(|uplink| uplink.is_for(plant, wanted)) {
                continue;
            }
            let raised = match (Site::of(plant, wanted), wanted.interface()) {
                (Some(site), _) => self.raise_tunnel(id, site).await,
                (None, Some(interface)) => self.borrow_interface(id, interface).await,
                (None, None) => continue,
            };
            let before = match raised {
                Ok(uplink) => self.plants.insert(id.clone(), uplink),
                Err(error) => {
                    failed.push((id.clone(), error));
                    self.plants.remove(id)
                }
            };
            self.replaced.extend(before);
        }
        failed
    }

    /// Makes the interface of a plant, or brings the one that is there to what it shall be; only differences are written.
    pub(super) async fn raise_tunnel(&mut self, id: &PlantId, site: Site) -> Result<Uplink, Error> {
        let number = self.allocations.plants().get(id).map(|given| given.id);
        let number = number.expect("the allocations were extended by this state");
        let port = self.config.plant_port(number);
        let port = port.expect("a plant without a port is not allocated");
        let key = PrivateKey::read_or_create(&self.config.plant_key_file(id))?;
        // Who dials needs no port that others know.
        let listen_port = site.dialled.is_none().then_some(port);

        let link = self.wireguard.ensure_link(&Config::plant_interface(number)).await?;
        self.wireguard.set_mtu(&link, self.config.plants.mtu).await?;
        self.wireguard.configure(&link, &key, listen_port).await?;
        let desired = BTreeMap::from([(site.public_key, site.allowed_ips.clone())]);
        let obsolete = self.wireguard.reconcile_peers(&link, &desired, site.keepalive()).await?;
        self.removals.retain(|removal| removal.interface() != link.name);
        self.removals.extend(obsolete.into_iter().map(|key| Removal::Peer(link.clone(), key)));
        // Once it is up, it dials by itself.
        if let Some((endpoint, _)) = &site.dialled
            && !link.up
        {
            self.dial_literal(&link, site.public_key, endpoint).await?;
        }
        let link = self.open_for_traffic(&link, names::PLANT).await?;
        self.pulse.hurry();
        let dial = site.dialled.as_ref().map(|(endpoint, _)| Dial::new(endpoint.clone()));
        Ok(Uplink { link, kind: Kind::WireGuard { site, own: key.public(), listen_port }, dial })
    }

    /// Takes an interface of the host's for a plant. It is neither made nor set up or down nor given addresses.
    pub(super) async fn borrow_interface(&mut self, id: &PlantId, name: &str) -> Result<Uplink, Error> {
        let interface = || name.to_owned();
        let Some(link) = self.wireguard.link(name).await? else {
            return Err(Error::NoInterface { interface: interface() });
        };
        if link.name != name {
            return Err(Error::AlternativeName { interface: interface(), name: link.name });
        }
        if !link.ethernet {
            return Err(Error::NotEthernet { interface: interface() });
        }
        self.close_borrowed(id, &link)?;
        self.removals.retain(|removal| removal.interface() != name);
        self.datapath.attach_guard(&link.name, link.ifindex)?;
        let link = self.attach(&link, names::PLANT).await?;
        Ok(Uplink { link, kind: Kind::Borrowed, dial: None })
    }

    /// Whether borrowed interfaces are as they were when they were taken. Those that are not are forgotten, so that
    /// the next [`Host::apply`] takes them anew.
    pub(super) async fn look_at_borrowed(&mut self) -> bool {
        let mut changed = Vec::new();
        for (id, uplink) in self.plants.iter().filter(|(_, uplink)| uplink.is_borrowed()) {
            let name = &uplink.link.name;
            match self.wireguard.link(name).await {
                Ok(Some(link)) if (link.ifindex, link.mtu) == (uplink.link.ifindex, uplink.link.mtu) => {}
                Ok(Some(_)) => {
                    warn!(plant = %id, "{name} has another number or MTU than before; it is taken anew");
                    changed.push(id.clone());
                }
                Ok(None) => {
                    warn!(plant = %id, "{name} is gone");
                    changed.push(id.clone());
                }
                Err(error) => warn!("{error}"),
            }
        }
        for id in &changed {
            self.plants.remove(id);
        }
        changed.is_empty()
    }

    /// Closes borrowed interfaces again that something has opened to the kernel's own forwarding.
    pub(super) fn close_borrowed_again(&mut self) {
        let borrowed = self.plants.iter().filter(|(_, uplink)| uplink.is_borrowed());
        let borrowed: Vec<_> = borrowed.map(|(id, uplink)| (id.clone(), uplink.link.clone())).collect();
        for (id, link) in borrowed {
            if forwarding::is_borrowed_closed(&link.name) {
                self.open_known.remove(&link.name);
                continue;
            }
            match self.close_borrowed(&id, &link) {
                Ok(()) => warn!(
                    plant = %id,
                    "something has switched the kernel's forwarding on for {}; it is switched off again there",
                    link.name
                ),
                // What is for the host's administrator to do is said once.
                Err(error) => {
                    if self.open_known.insert(link.name) {
                        error!(plant = %id, "{error}");
                    }
                }
            }
        }
    }

    /// On disk before anything is changed, or a crash would leave nothing to give the interface back by.
    fn close_borrowed(&mut self, id: &PlantId, link: &Link) -> Result<(), Error> {
        let mut borrowed = self.borrowed.clone();
        borrowed.lend(&link.name, id, Instance::now(link.ifindex)?, forwarding::found(&link.name)?);
        self.note_borrowed(borrowed)?;
        Ok(forwarding::close_borrowed(&link.name)?)
    }

    fn note_borrowed(&mut self, next: Borrowed) -> Result<(), Error> {
        if next != self.borrowed {
            next.write(&self.config.borrowed_file())?;
            self.borrowed = next;
        }
        Ok(())
    }

    /// The plants' interfaces as the tables want them.
    pub(super) fn uplinks(&self) -> BTreeMap<PlantId, tables::Uplink> {
        let uplink = |uplink: &Uplink| tables::Uplink {
            ifindex: uplink.link.ifindex,
            mtu: uplink.link.mtu,
            link_header: if uplink.is_borrowed() { ETHERNET_HEADER } else { 0 },
        };
        self.plants.iter().map(|(id, of)| (id.clone(), uplink(of))).collect()
    }

    /// Step 7 for interfaces that are no plant's any more.
    pub(super) async fn retire_plants(&mut self, state: &State) -> Result<(), Error> {
        let region = &self.config.region;
        let linked = |id: &PlantId| state.plants.get(id).is_some_and(|plant| plant.uplink_in(region).is_some());
        let gone: Vec<_> = self.plants.keys().filter(|id| !linked(id)).cloned().collect();
        let gone = gone.iter().filter_map(|id| self.plants.remove(id));
        let replaced = std::mem::take(&mut self.replaced);
        let removals: Vec<_> = gone.chain(replaced).filter_map(Uplink::removal).collect();
        self.removals.extend(removals);
        self.removals.extend(self.borrowed.interfaces().keys().cloned().map(Removal::Borrowed));

        let given = self.allocations.plants();
        let name = |(id, plant): (&PlantId, &Arc<Plant>)| match plant.uplink_in(&self.config.region)?.interface() {
            None => Some(Config::plant_interface(given.get(id)?.id)),
            Some(interface) => Some(interface.to_owned()),
        };
        let wanted: BTreeSet<_> = state.plants.iter().filter_map(name).collect();
        if !self.leftovers_known {
            self.find_leftovers().await?;
            self.leftovers_known = true;
        }
        // An interface that a plant of the state has is needed. The others go once.
        let mut seen = wanted;
        self.removals
            .retain(|removal| matches!(removal, Removal::Peer(..)) || seen.insert(removal.interface().to_owned()));
        Ok(())
    }

    /// What an earlier run may have left.
    async fn find_leftovers(&mut self) -> Result<(), Error> {
        let links = self.wireguard.wireguard_links().await?;
        let borrowed = self.borrowed.interfaces();
        let known: BTreeSet<_> = links.iter().map(|link| &link.name).chain(borrowed.keys()).cloned().collect();
        for pinned in self.datapath.pinned_interfaces()? {
            if !known.contains(&pinned) {
                self.datapath.detach_interface(&pinned)?;
            }
        }
        self.removals.extend(links.into_iter().filter(|link| is_plant_interface(&link.name)).map(Removal::Link));
        Ok(())
    }

    /// Detaches the program from a borrowed interface that no route leads to any more, and sets back what was changed.
    pub(super) fn give_back(&mut self, name: &str, ifindex: Option<u32>) -> Result<(), Error> {
        self.datapath.detach_interface(name)?;
        if let Some(loan) = self.borrowed.interfaces().get(name) {
            // Another interface of that name is not the one on which something was changed.
            if let Some(ifindex) = ifindex
                && loan.instance == Instance::now(ifindex)?
            {
                forwarding::give_back(name, &loan.found)?;
            }
            let mut borrowed = self.borrowed.clone();
            borrowed.forget(name);
            self.note_borrowed(borrowed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        namespace::in_new_namespace,
        run::scene::{get, host, look_up, make, set, state},
    };

    const NORTH: &str = "eth1.10";

    /// On bridges, which are Ethernet interfaces too.
    #[test]
    fn a_borrowed_interface_is_closed_and_gets_the_program_and_is_given_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            let state = state(&mut host, &[("north", NORTH)]);
            let north: PlantId = "north".parse().unwrap();
            let failed = host.raise_plants(&state).await;
            assert_eq!(failed.len(), 1);
            let error = failed[0].1.to_string();
            assert!(
                failed[0].0 == north && error.starts_with("this host has no interface eth1.10; make it"),
                "{error}"
            );

            let before = make(&host, NORTH).await;
            set("ipv4", NORTH, "forwarding", "1");
            assert!(host.raise_plants(&state).await.is_empty());
            assert_eq!(host.uplinks(), BTreeMap::from([(north.clone(), of(&before))]));
            let now = look_up(&host, NORTH).await.unwrap();
            assert!(now.program.is_some() && !now.up, "it is not brought up");
            assert_eq!(
                (get("ipv4", NORTH, "forwarding"), get("ipv6", NORTH, "disable_ipv6")),
                ("0".into(), "0".into())
            );
            assert_eq!(host.borrowed.of("north"), Some(NORTH));
            assert_eq!(Borrowed::read(&host.config.borrowed_file()).unwrap(), host.borrowed, "on disk");

            // Somebody opens it; nobody changes anything else.
            set("ipv4", NORTH, "forwarding", "1");
            assert!(host.look().await);
            assert_eq!(get("ipv4", NORTH, "forwarding"), "0");

            // A run that knows nothing but what is on disk, with a plant that is gone.
            drop(host);
            let mut host = self::host(folder.path());
            let none = self::state(&mut host, &[]);
            assert!(host.raise_plants(&none).await.is_empty());
            host.retire_plants(&none).await.unwrap();
            assert_eq!(host.removals, [Removal::Borrowed(NORTH.into())]);
            host.remove_next().await;
            let after = look_up(&host, NORTH).await.unwrap();
            assert_eq!((after, host.has_removals()), (before, false), "as it was");
            assert_eq!(get("ipv4", NORTH, "forwarding"), "1");
            assert_eq!(Borrowed::read(&host.config.borrowed_file()).unwrap(), Borrowed::default());
            assert!(host.datapath.pinned_interfaces().unwrap().is_empty());
        });
    }

    #[test]
    fn an_interface_that_another_plant_has_now_is_not_given_back() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            let (first, second) = (make(&host, NORTH).await, make(&host, "eth2").await);
            let both = state(&mut host, &[("north", NORTH), ("south", "eth2")]);
            assert!(host.raise_plants(&both).await.is_empty());
            host.retire_plants(&both).await.unwrap();
            assert!(!host.has_removals());

            let exchanged = state(&mut host, &[("north", "eth2"), ("south", NORTH)]);
            assert!(host.raise_plants(&exchanged).await.is_empty());
            host.retire_plants(&exchanged).await.unwrap();
            assert!(!host.has_removals());
            let uplinks = host.uplinks();
            assert_eq!((uplinks["north"], uplinks["south"]), (of(&second), of(&first)));
            assert_eq!((host.borrowed.of("north"), host.borrowed.of("south")), (Some("eth2"), Some(NORTH)));

            let moved = state(&mut host, &[("south", "eth2")]);
            assert!(host.raise_plants(&moved).await.is_empty());
            host.retire_plants(&moved).await.unwrap();
            assert_eq!(host.removals, [Removal::Borrowed(NORTH.into())]);
            // It is wanted again before it was given back.
            assert!(host.raise_plants(&both).await.is_empty());
            host.retire_plants(&both).await.unwrap();
            assert!(!host.has_removals());
            assert!(look_up(&host, NORTH).await.unwrap().program.is_some());
        });
    }

    #[test]
    fn an_interface_that_is_made_anew_is_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            let first = make(&host, NORTH).await;
            let state = state(&mut host, &[("north", NORTH)]);
            assert!(host.raise_plants(&state).await.is_empty());
            host.wireguard.set_mtu(&first, 1400).await.unwrap();
            assert!(!host.look().await, "its MTU");
            assert!(host.raise_plants(&state).await.is_empty());
            assert_eq!(host.uplinks()["north"].mtu, 1400);

            host.wireguard.delete_link(&first).await.unwrap();
            assert!(!host.look().await, "it is gone");
            assert!(host.uplinks().is_empty(), "nothing leads there");
            assert!(host.look().await, "said once");
            let second = make(&host, NORTH).await;
            assert!(host.raise_plants(&state).await.is_empty());
            assert_eq!(host.uplinks()["north"], of(&second));
            assert!(look_up(&host, NORTH).await.unwrap().program.is_some());
            host.retire_plants(&state).await.unwrap();
            assert!(!host.has_removals());
        });
    }

    #[test]
    fn what_cannot_be_borrowed_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            let link = make(&host, NORTH).await;
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let another = handle.link().property_add(link.ifindex).alt_ifname(&["plant-north"]);
            another.execute().await.unwrap();
            let plant: PlantId = "north".parse().unwrap();
            let error = async |host: &mut Host, name: &str| match host.borrow_interface(&plant, name).await {
                Ok(_) => panic!("{name} was borrowed"),
                Err(error) => error.to_string(),
            };
            let text = error(&mut host, "plant-north").await;
            assert!(text.contains("is another name of eth1.10; use eth1.10"), "{text}");
            let text = error(&mut host, "lo").await;
            assert!(text.contains("lo is not an Ethernet interface"), "{text}");

            // As the kernel does on every interface, but on one only.
            set("ipv6", "all", "forwarding", "1");
            let text = error(&mut host, NORTH).await;
            assert!(text.contains("run `sysctl net.ipv6.conf.all.forwarding=0`"), "{text}");
            assert_eq!(look_up(&host, NORTH).await.unwrap().program, None);
            set("ipv6", "all", "forwarding", "0");
            assert!(host.borrow_interface(&plant, NORTH).await.is_ok());
        });
    }

    fn of(link: &Link) -> tables::Uplink {
        tables::Uplink { ifindex: link.ifindex, mtu: link.mtu, link_header: ETHERNET_HEADER }
    }
}
