//! Numbers and addresses, given once and kept: peer ids and tunnel IPs of certificates, ids of plants, ids and
//! virtual subnets of plants' subnets, ids of route sets.
//!
//! A certificate's IPv6 tunnel address is not given but follows from its tunnel IP, see [`Pools::tunnel6_of`]. What it
//! follows from besides, the first addresses of two pools, is kept here, so that it stays as well.
//!
//! What was given is never taken back: an audit row of last year must not name somebody else today, and a plant that
//! returns finds its virtual subnets. What the desired state no longer has stays here as inactive.

mod error;
mod file;
mod takeover;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

pub use self::{
    error::{Error, FileError},
    file::{Addition, AllocationsFile},
};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use crate::{
    config::{Config, Pools},
    free_space::FreeSpace,
    id::{CertificateId, OrganisationId, PlantId, UserId},
    state::{Holder, State},
};

/// The format written by this version. Files of format 1, which know of no certificates of organisations, are read as
/// well, and no others.
pub const FORMAT: u32 = 2;

/// Everything that was ever given on this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocations {
    format: u32,
    /// The ids to give next.
    next: Next,
    peers: BTreeMap<CertificateId, Peer>,
    /// What IPv6 tunnel addresses follow from, once there is a peer. Files of a version without IPv6 lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tunnel6: Option<Tunnel6>,
    plants: BTreeMap<PlantId, Plant>,
    /// Files of earlier versions have ids of route sets here. Which set has which id, the kernel says.
    #[serde(default, skip_serializing)]
    route_sets: Ignored,
}

/// Something of another version, which is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The ids to give next. Zero is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    peer: u32,
    plant: u32,
    route: u32,
    /// The first one that is not reserved: what is in use is less.
    route_set: u32,
}

/// What a certificate was given, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PeerRecord", into = "PeerRecord")]
pub struct Peer {
    /// The peer id.
    pub id: u32,
    /// The tunnel IP.
    pub address: Ipv4Addr,
    /// Whose the certificate is, for ever.
    pub owner: Holder,
    /// Organisations behind the owner when the state last had the certificate.
    pub organisations: BTreeSet<OrganisationId>,
}

/// A [`Peer`] as the file has it: of a user or an organisation.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerRecord {
    id: u32,
    address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organisation: Option<OrganisationId>,
    organisations: BTreeSet<OrganisationId>,
}

impl TryFrom<PeerRecord> for Peer {
    type Error = &'static str;

    fn try_from(record: PeerRecord) -> Result<Self, Self::Error> {
        let PeerRecord { id, address, user, organisation, organisations } = record;
        let owner = match (user, organisation) {
            (Some(user), None) => Holder::User(user),
            (None, Some(organisation)) => Holder::Organisation(organisation),
            _ => return Err("a peer is of a `user` or of an `organisation`"),
        };
        Ok(Self { id, address, owner, organisations })
    }
}

impl From<Peer> for PeerRecord {
    fn from(peer: Peer) -> Self {
        let Peer { id, address, owner, organisations } = peer;
        let (user, organisation) = match owner {
            Holder::User(user) => (Some(user), None),
            Holder::Organisation(organisation) => (None, Some(organisation)),
        };
        Self { id, address, user, organisation, organisations }
    }
}

/// The first addresses of the pools that IPv6 tunnel addresses follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel6 {
    /// Of `pools.tunnel`: host numbers count from here.
    pub tunnel: Ipv4Addr,
    /// Of `pools.tunnel6`: they are added here.
    pub tunnel6: Ipv6Addr,
}

/// What a plant was given, and who operates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// The plant id.
    pub id: u32,
    /// The organisation that operated the plant when the state last had it.
    pub operator: OrganisationId,
    /// By real subnet.
    pub subnets: BTreeMap<IpNet, Subnet>,
}

/// What a plant's subnet was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The route id.
    pub id: u32,
    /// Its virtual twin of the same length.
    #[serde(rename = "virtual")]
    pub virtual_: IpNet,
}

impl Default for Allocations {
    fn default() -> Self {
        Self {
            format: FORMAT,
            next: Next { peer: 1, plant: 1, route: 1, route_set: 1 },
            peers: BTreeMap::new(),
            tunnel6: None,
            plants: BTreeMap::new(),
            route_sets: Ignored,
        }
    }
}

impl Allocations {
    /// Ids are given by counting on, so a file from elsewhere or of another time could have one given again.
    fn check_unique(&self) -> Result<(), String> {
        let subnets = || self.plants.values().flat_map(|plant| plant.subnets.values());
        for (kind, ids, next) in [
            ("peer", self.peers.values().map(|peer| peer.id).collect::<Vec<_>>(), self.next.peer),
            ("plant", self.plants.values().map(|plant| plant.id).collect(), self.next.plant),
            ("route", subnets().map(|subnet| subnet.id).collect(), self.next.route),
        ] {
            let mut seen = BTreeSet::new();
            if let Some(id) = ids.iter().find(|id| !seen.insert(**id)) {
                return Err(format!("the {kind} id {id} is there twice"));
            }
            if let Some(id) = ids.iter().find(|id| **id == 0 || **id >= next) {
                return Err(format!("next.{kind} is {next}, but the {kind} id {id} is there"));
            }
        }
        let mut addresses = BTreeSet::new();
        if let Some(peer) = self.peers.values().find(|peer| !addresses.insert(peer.address)) {
            return Err(format!("the address {} is there twice", peer.address));
        }
        for (real, Subnet { virtual_, .. }) in self.plants.values().flat_map(|plant| &plant.subnets) {
            // Of one length in one family.
            if (real.prefix_len(), real.max_prefix_len()) != (virtual_.prefix_len(), virtual_.max_prefix_len()) {
                return Err(format!("the virtual subnet {virtual_} is not as large as {real}"));
            }
        }
        Ok(())
    }

    /// These allocations and what `state` needs besides. Pure; all or nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn extended(&self, state: &State, config: &Config) -> Result<Self, Error> {
        self.check(state, config)?;
        let mut next = self.clone();
        next.take_over(state);
        next.give_peers(state, &config.pools)?;
        next.give_plants(state, config)?;
        Ok(next)
    }

    /// What these certificates need besides: the same that [`Self::extended`] would give them, if nobody else is new. Pure.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn addition<'c>(
        &self,
        state: &State,
        config: &Config,
        certificates: impl IntoIterator<Item = &'c CertificateId> + Clone,
    ) -> Result<Addition, Error> {
        self.check_some(state, config, certificates.clone())?;
        let mut addition = self.reservation(0);
        let mut new = Vec::new();
        for id in certificates {
            let Some(certificate) = state.certificates.get(id) else {
                // Its entry in the ledger may come before it.
                if !self.peers.contains_key(id) {
                    addition.peers.extend(Self::from_ledger(state, id).map(|peer| (id.clone(), peer)));
                }
                continue;
            };
            let organisations = state.organisations_behind(&certificate.owner);
            match self.peers.get(id) {
                Some(peer) if peer.organisations == organisations => {}
                Some(peer) => drop(addition.peers.insert(id.clone(), Peer { organisations, ..peer.clone() })),
                None => match Self::from_ledger(state, id) {
                    Some(peer) => drop(addition.peers.insert(id.clone(), peer)),
                    None => new.push((id, certificate.owner.holder(), organisations)),
                },
            }
        }
        if let Some(ledger) = &state.ledger {
            addition.next.peer = addition.next.peer.max(ledger.next().peer);
            addition.tunnel6 = addition.tunnel6.or(ledger.tunnel6());
        }
        if !new.is_empty() {
            let taken: BTreeSet<_> = addition.peers.values().map(|peer| peer.address).collect();
            let mut free = self.free_addresses(&config.pools).filter(|address| !taken.contains(address));
            for (id, owner, organisations) in new {
                let address = free.next().ok_or_else(|| tunnel_pool(&config.pools, id))?;
                let number = give(&mut addition.next.peer, "certificates")?;
                addition.peers.insert(id.clone(), Peer { id: number, address, owner, organisations });
            }
        }
        if !addition.peers.is_empty() {
            keep_tunnel6(&mut addition.tunnel6, &config.pools)?;
        }
        Ok(addition)
    }

    /// Whether the certificates and plants of `state` belong to whom they have always belonged. A flow that lives
    /// through a change would be recorded under both owners.
    ///
    /// # Errors
    /// [`Error::OtherOwner`], [`Error::OtherOperator`].
    pub fn check_owners(&self, state: &State) -> Result<(), Error> {
        self.check_owners_of(state, state.certificates.keys())?;
        for (id, plant) in &state.plants {
            if let Some(given) = self.plants.get(id)
                && given.operator != plant.organisation
            {
                let (before, now) = (given.operator.clone(), plant.organisation.clone());
                return Err(Error::OtherOperator { plant: id.clone(), before, now });
            }
        }
        Ok(())
    }

    /// Checks that none of these certificates has changed hands.
    ///
    /// # Errors
    /// [`Error::OtherOwner`].
    pub fn check_owners_of<'c>(
        &self,
        state: &State,
        certificates: impl IntoIterator<Item = &'c CertificateId>,
    ) -> Result<(), Error> {
        for id in certificates {
            if let Some((peer, certificate)) = self.peers.get(id).zip(state.certificates.get(id))
                && peer.owner != certificate.owner.holder()
            {
                let (before, now) = (peer.owner.clone(), certificate.owner.holder());
                return Err(Error::OtherOwner { certificate: id.clone(), before, now });
            }
        }
        Ok(())
    }

    fn give_peers(&mut self, state: &State, pools: &Pools) -> Result<(), Error> {
        for (certificate, peer) in &self.peers {
            if !pools.is_for_certificates(peer.address) {
                return Err(Error::OutsidePool {
                    field: "pools.tunnel",
                    given: peer.address.to_string(),
                    owner: format!("certificate {certificate}"),
                    pool: IpNet::V4(pools.tunnel),
                });
            }
        }
        let mut free = self.free_addresses(pools);
        for (id, certificate) in &state.certificates {
            let organisations = state.organisations_behind(&certificate.owner);
            if let Some(peer) = self.peers.get_mut(id) {
                peer.organisations = organisations;
                continue;
            }
            let address = free.next().ok_or_else(|| tunnel_pool(pools, id))?;
            let number = give(&mut self.next.peer, "certificates")?;
            let owner = certificate.owner.holder();
            self.peers.insert(id.clone(), Peer { id: number, address, owner, organisations });
        }
        if !self.peers.is_empty() {
            keep_tunnel6(&mut self.tunnel6, pools)?;
        }
        Ok(())
    }

    /// The addresses that no certificate has, the lowest first.
    fn free_addresses(&self, pools: &Pools) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let pools = *pools;
        let mut taken = vec![false; pools.tunnel_addresses() as usize];
        for peer in self.peers.values() {
            if let Some(taken) = taken.get_mut(pools.host_number(peer.address) as usize) {
                *taken = true;
            }
        }
        let free =
            taken.into_iter().zip(0..).filter(|(taken, _)| !taken).map(move |(_, number)| pools.tunnel_of(number));
        free.filter(move |address| pools.is_for_certificates(*address))
    }

    fn give_plants(&mut self, state: &State, config: &Config) -> Result<(), Error> {
        let Pools { virtual_, virtual6, .. } = config.pools;
        let (mut space, mut space6) = (FreeSpace::new(virtual_.into()), FreeSpace::new(virtual6.into()));
        for (id, plant) in &self.plants {
            for subnet in plant.subnets.values() {
                let (field, pool) = config.pools.virtual_for(&subnet.virtual_);
                if !space.reserve(subnet.virtual_) && !space6.reserve(subnet.virtual_) {
                    return Err(Error::OutsidePool {
                        field,
                        given: subnet.virtual_.to_string(),
                        owner: format!("plant {id}"),
                        pool,
                    });
                }
            }
        }
        for (id, plant) in &state.plants {
            if !self.plants.contains_key(id) {
                let number = give(&mut self.next.plant, "plants")?;
                let operator = plant.organisation.clone();
                self.plants.insert(id.clone(), Plant { id: number, operator, subnets: BTreeMap::new() });
            }
            let Some(given) = self.plants.get_mut(id) else { continue };
            let is_tunnel = plant.uplink_in(&config.region).is_some_and(|uplink| uplink.interface().is_none());
            if is_tunnel && config.plant_port(given.id).is_none() {
                return Err(Error::Ports { plant: id.clone(), id: given.id, base: config.plants.listen_port_base });
            }
            for real in &plant.subnets {
                if given.subnets.contains_key(real) {
                    continue;
                }
                let (field, pool) = config.pools.virtual_for(real);
                let space = if real.addr().is_ipv4() { &mut space } else { &mut space6 };
                let virtual_ = space.allocate(real.prefix_len()).ok_or_else(|| Error::VirtualPool {
                    field,
                    pool,
                    holds: real.prefix_len().checked_sub(pool.prefix_len()).map_or(0, |bits| 1 << bits),
                    plant: id.clone(),
                    subnet: *real,
                })?;
                given.subnets.insert(*real, Subnet { id: give(&mut self.next.route, "subnets")?, virtual_ });
            }
        }
        Ok(())
    }

    /// The first id of a route set that is not reserved.
    #[must_use]
    pub const fn next_route_set(&self) -> u32 {
        self.next.route_set
    }

    /// What certificates were given, inactive ones included.
    #[must_use]
    pub fn peers(&self) -> &BTreeMap<CertificateId, Peer> {
        &self.peers
    }

    /// What plants were given, inactive ones included.
    #[must_use]
    pub fn plants(&self) -> &BTreeMap<PlantId, Plant> {
        &self.plants
    }
}

fn tunnel_pool(pools: &Pools, certificate: &CertificateId) -> Error {
    let size = (1 << (32 - pools.tunnel.prefix_len())) - 3;
    Error::TunnelPool { pool: pools.tunnel, size, certificate: certificate.clone() }
}

fn keep_tunnel6(tunnel6: &mut Option<Tunnel6>, pools: &Pools) -> Result<(), Error> {
    let now = Tunnel6 { tunnel: pools.tunnel.network(), tunnel6: pools.tunnel6.network() };
    let before = *tunnel6.get_or_insert(now);
    let moved = |field, before, now| Err(Error::Moved { field, before, now });
    if before.tunnel != now.tunnel {
        return moved("pools.tunnel", before.tunnel.into(), now.tunnel.into());
    }
    if before.tunnel6 != now.tunnel6 {
        return moved("pools.tunnel6", before.tunnel6.into(), now.tunnel6.into());
    }
    Ok(())
}

fn give(next: &mut u32, kind: &'static str) -> Result<u32, Error> {
    let id = *next;
    *next = id.checked_add(1).ok_or(Error::Ids { kind })?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::{config::Config, example};

    #[test]
    fn ids_and_addresses_start_at_the_beginning() {
        let given = Allocations::default().extended(&example::state(), &config(&[])).unwrap();
        let peer = &given.peers()["certificate-a"];
        assert_eq!((peer.id, peer.address), (1, Ipv4Addr::new(100, 64, 0, 2)), "100.64.0.1 is the gateway");
        assert_eq!(peer.organisations, BTreeSet::from(["alpha".parse().unwrap()]));
        let (north, south) = (&given.plants()["north"], &given.plants()["south"]);
        assert_eq!((north.id, south.id), (1, 2));
        let subnet = |plant: &Plant| plant.subnets[&"192.168.1.0/24".parse().unwrap()];
        assert_eq!((subnet(north).id, subnet(north).virtual_.to_string()), (1, "10.128.0.0/24".to_owned()));
        assert_eq!((subnet(south).id, subnet(south).virtual_.to_string()), (2, "10.128.1.0/24".to_owned()), "C1");
    }

    #[test]
    fn a_subnet_gets_its_twin_from_the_pool_of_its_family() {
        let mut document = example::json();
        for plant in 0..2 {
            document["plants"][plant]["subnets"] = json!(["192.168.1.0/24", "fd00:1::/64", "2001:db8::/48"]);
        }
        let given = Allocations::default().extended(&example::parse(&document), &config(&[])).unwrap();
        let twins = |plant: &str| -> Vec<String> {
            given.plants()[plant].subnets.iter().map(|(real, s)| format!("{real} {}", s.virtual_)).collect()
        };
        assert_eq!(
            twins("north"),
            ["192.168.1.0/24 10.128.0.0/24", "2001:db8::/48 fd76:7600::/48", "fd00:1::/64 fd76:7600:1::/64"]
        );
        assert_eq!(
            twins("south"),
            ["192.168.1.0/24 10.128.1.0/24", "2001:db8::/48 fd76:7600:2::/48", "fd00:1::/64 fd76:7600:1:1::/64"],
            "C1"
        );
    }

    #[test]
    fn a_file_of_format_1_and_without_ipv6_is_read_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocations.json");
        let old = r#"{"format":1,"next":{"peer":2,"plant":2,"route":2,"route_set":8},
            "peers":{"certificate-a":{"id":1,"address":"100.64.0.2","user":"user-a","organisations":["alpha"]}},
            "plants":{"north":{"id":1,"operator":"alpha",
                "subnets":{"192.168.1.0/24":{"id":1,"virtual":"10.128.0.0/24"}}}},
            "route_sets":{"aa":7}}"#;
        fs::write(&path, old).unwrap();
        let mut document = example::json();
        document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "fd00:1::/64"]);
        let next = Allocations::read(&path).unwrap().extended(&example::parse(&document), &config(&[])).unwrap();
        let subnets: Vec<_> =
            next.plants()["north"].subnets.values().map(|subnet| subnet.virtual_.to_string()).collect();
        assert_eq!(subnets, ["10.128.0.0/24", "fd76:7600::/64"]);
        assert_eq!(next.peers()["certificate-a"].address, Ipv4Addr::new(100, 64, 0, 2));
        assert_eq!(next.next_route_set(), 8);
        AllocationsFile::new(&path).write(&next).unwrap();
        assert_eq!(Allocations::read(&path).unwrap(), next);
    }

    /// Requirements: C1.
    #[test]
    fn the_file_brings_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocations.json");
        assert_eq!(Allocations::read(&path).unwrap(), Allocations::default());
        let mut given = Allocations::default().extended(&example::state(), &config(&[])).unwrap();
        given.add(given.reservation(4_097));
        AllocationsFile::new(&path).write(&given).unwrap();
        assert_eq!(Allocations::read(&path).unwrap(), given);
        fs::write(&path, br#"{"format": 3, "more": []}"#).unwrap();
        assert!(matches!(Allocations::read(&path), Err(FileError::Format { found: 3, .. })));
        fs::write(&path, b"{\"format\": 1").unwrap();
        let error = Allocations::read(&path).unwrap_err().to_string();
        assert!(error.contains("do not delete it"), "{error}");
    }

    #[test]
    fn a_file_in_which_something_is_given_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocations.json");
        let given = Allocations::default().extended(&example::state(), &config(&[])).unwrap();
        for (pointer, value, part) in [
            ("/next/peer", json!(2), "next.peer is 2, but the peer id 2"),
            ("/peers/certificate-b/id", json!(1), "the peer id 1 is there twice"),
            ("/peers/certificate-b/address", json!("100.64.0.2"), "the address 100.64.0.2"),
            ("/plants/north/id", json!(0), "the plant id 0"),
            ("/plants/north/subnets/192.168.1.0~124/id", json!(2), "the route id 2"),
            (
                "/plants/north/subnets/192.168.1.0~124/virtual",
                json!("10.128.0.0/25"),
                "is not as large as 192.168.1.0/24",
            ),
            ("/plants/north/subnets/192.168.1.0~124/virtual", json!("fd00::/24"), "is not as large as 192.168.1.0/24"),
        ] {
            let mut file = serde_json::to_value(&given).unwrap();
            *file.pointer_mut(pointer).unwrap() = value;
            fs::write(&path, file.to_string()).unwrap();
            match Allocations::read(&path) {
                Ok(read) => assert_eq!((part, read), ("", given.clone()), "{pointer}"),
                Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{pointer}: {error}"),
            }
        }
    }

    /// Requirements: A3, A4, C1.
    #[test]
    fn a_rotation_or_a_return_changes_nothing() {
        let config = config(&[]);
        let mut document = example::json();
        let given = Allocations::default().extended(&example::parse(&document), &config).unwrap();
        document["certificates"][0]["public_key"] = json!(example::key(9));
        assert_eq!(given.extended(&example::parse(&document), &config).unwrap(), given, "A3: rotated");
        let without = given.extended(&example::parse(&empty()), &config).unwrap();
        assert_eq!(without, given, "nothing is freed");
        assert_eq!(without.extended(&example::state(), &config).unwrap(), given);
    }

    /// Requirements: A1.
    #[test]
    fn a_certificate_stays_with_its_user() {
        let config = config(&[]);
        let given = Allocations::default().extended(&example::state(), &config).unwrap();
        let mut document = example::json();
        document["certificates"].as_array_mut().unwrap().pop();
        document["certificates"][0]["user"] = json!("user-b");
        let error = given.extended(&example::parse(&document), &config).unwrap_err();
        assert!(matches!(error, Error::OtherOwner { .. }), "{error}");

        document["certificates"][0] =
            json!({"id": "certificate-a", "organisation": "alpha", "plants": [], "public_key": example::key(1)});
        let error = given.extended(&example::parse(&document), &config).unwrap_err().to_string();
        assert!(error.contains("certificate-a is now of organisation alpha, it was of user user-a"), "{error}");
    }

    /// Requirements: D3.
    #[test]
    fn a_certificate_of_an_organisation_is_remembered_as_such() {
        let mut document = example::json();
        document["certificates"][1] =
            json!({"id": "tunnel", "organisation": "beta", "plants": ["north"], "public_key": example::key(2)});
        let given = Allocations::default().extended(&example::parse(&document), &config(&[])).unwrap();
        let peer = &given.peers()["tunnel"];
        assert_eq!(peer.owner, Holder::Organisation("beta".parse().unwrap()));
        assert_eq!(peer.organisations, BTreeSet::from(["beta".parse().unwrap()]));
        let file = serde_json::to_value(&given).unwrap();
        assert_eq!(
            file["peers"]["tunnel"],
            json!({"id": 2, "address": "100.64.0.3", "organisation": "beta", "organisations": ["beta"]})
        );
        assert_eq!(serde_json::from_value::<Allocations>(file.clone()).unwrap(), given);
        let mut both = file;
        both["peers"]["tunnel"]["user"] = json!("user-b");
        let error = serde_json::from_value::<Allocations>(both).unwrap_err().to_string();
        assert!(error.contains("of a `user` or of an `organisation`"), "{error}");
    }

    #[test]
    fn a_plant_stays_with_its_operator() {
        let config = config(&[]);
        let given = Allocations::default().extended(&example::state(), &config).unwrap();
        let mut document = example::json();
        document["plants"][1]["organisation"] = json!("alpha");
        let error = given.extended(&example::parse(&document), &config).unwrap_err();
        assert!(matches!(error, Error::OtherOperator { .. }), "{error}");
    }

    /// Requirements: G4.
    #[test]
    fn an_exhausted_pool_is_named_with_its_size() {
        let given = |changes: &[(&str, &str)], document: &Value| {
            Allocations::default().extended(&example::parse(document), &config(changes)).map_err(|e| e.to_string())
        };
        let mut document = example::json();
        for number in 0..4 {
            let user = format!("more-{number}");
            document["users"].as_array_mut().unwrap().push(json!({"id": user}));
            let certificate = json!({"id": user, "user": user, "public_key": example::key(200 + number)});
            document["certificates"].as_array_mut().unwrap().push(certificate);
        }
        let small = [("tunnel", "100.64.0.0/29"), ("source", "100.80.0.0/29")];
        let error = given(&small, &document).unwrap_err();
        assert!(error.contains("pools.tunnel: no address of 100.64.0.0/29") && error.contains("all 5"), "{error}");
        document["certificates"].as_array_mut().unwrap().pop();
        assert_eq!(given(&small, &document).unwrap().peers().len(), 5, "all but one fit");

        let error = given(&[("virtual", "10.128.0.0/24")], &example::json()).unwrap_err();
        assert!(error.contains("no room for a /24 in 10.128.0.0/24, which is as large as 1 of them"), "{error}");
        assert!(error.contains("plant south") && error.contains("widen pools.virtual so"), "{error}");

        let mut document = example::json();
        document["plants"][0]["subnets"] = json!(["fd00:1::/48"]);
        let error = given(&[("virtual6", "fd99::/64")], &document).unwrap_err();
        assert!(error.starts_with("pools.virtual6: no room for a /48 in fd99::/64, which is as large as 0"), "{error}");

        let mut crowded = config(&[]);
        crowded.plants.listen_port_base = u16::MAX;
        let error = Allocations::default().extended(&example::state(), &crowded).unwrap_err();
        assert!(matches!(error, Error::Ports { id: 2, .. }), "{error}");
        let mut document = example::json();
        document["plants"][1]["uplink"] = json!({"kind": "interface", "interface": "eth1"});
        let given = Allocations::default().extended(&example::parse(&document), &crowded).unwrap();
        assert_eq!(given.plants()["south"].id, 2, "an interface of the host's needs no port");
    }

    /// Requirements: A4, C1.
    #[test]
    fn a_pool_may_grow_but_not_move() {
        let mut document = example::json();
        document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "fd00:1::/64"]);
        let state = example::parse(&document);
        let given = Allocations::default().extended(&state, &config(&[])).unwrap();
        let with = |changes: &[(&str, &str)]| given.extended(&state, &config(changes));
        assert_eq!(with(&[("tunnel", "100.64.0.0/15"), ("source", "100.80.0.0/15")]).unwrap(), given);
        assert_eq!(with(&[("virtual", "10.0.0.0/8")]).unwrap(), given);
        assert_eq!(with(&[("virtual6", "fd76:7600::/23")]).unwrap(), given);
        for changes in [
            [("tunnel", "100.65.0.0/16"), ("source", "100.80.0.0/16")],
            [("virtual", "10.0.0.0/9"), ("source", "100.80.0.0/16")],
            [("virtual6", "fd77::/24"), ("source", "100.80.0.0/16")],
        ] {
            assert!(matches!(with(&changes), Err(Error::OutsidePool { .. })), "{changes:?}");
        }
    }

    /// Requirements: A4.
    #[test]
    fn ipv6_tunnel_addresses_stay() {
        let document = example::json();
        let mut none = document.clone();
        none["certificates"] = json!([]);
        let begin = |certificates: &Value, changes: &[(&str, &str)]| {
            Allocations::default().extended(&example::parse(certificates), &config(changes)).unwrap()
        };
        let moved = |given: &Allocations, changes: &[(&str, &str)]| {
            given.extended(&example::parse(&document), &config(changes)).err().map(|error| error.to_string())
        };
        let other = [("tunnel6", "fd00:1::/64"), ("source6", "fd00:2::/64")];
        assert_eq!(moved(&begin(&none, &[]), &other), None, "nobody has one");
        let error = moved(&begin(&document, &[]), &other).unwrap();
        assert!(error.starts_with("pools.tunnel6: begins at fd00:1::, but began at fd76:706e:6777::"), "{error}");
        let wider = [("tunnel6", "fd76:706e:6777::/60"), ("source6", "fd76:706e:6778::/60")];
        assert_eq!(moved(&begin(&document, &[]), &wider), None);
        let narrower = [("tunnel6", "fd76:706e:6777::/112"), ("source6", "fd76:706e:6778::/112")];
        assert_eq!(moved(&begin(&document, &[]), &narrower), None, "the host numbers fit");

        // The new pool has every address, but under another host number.
        let given = begin(&document, &[("tunnel", "100.65.0.0/16")]);
        let error = moved(&given, &[("tunnel", "100.64.0.0/15"), ("source", "100.80.0.0/15")]).unwrap();
        assert!(error.starts_with("pools.tunnel: begins at 100.64.0.0, but began at 100.65.0.0"), "{error}");
    }

    proptest! {
        /// Requirements: A4, C1.
        #[test]
        fn whatever_the_states_were_nothing_moves_and_nothing_meets(states in vec(documents(), 1..6)) {
            let config = config(&[]);
            let mut given = Allocations::default();
            for document in states {
                let state = example::parse(&document);
                let next = given.extended(&state, &config).unwrap();
                for (id, peer) in &given.peers {
                    prop_assert_eq!((peer.id, peer.address), (next.peers[id].id, next.peers[id].address));
                }
                for (id, plant) in &given.plants {
                    prop_assert_eq!(plant.id, next.plants[id].id);
                    for (real, subnet) in &plant.subnets {
                        prop_assert_eq!(subnet, &next.plants[id].subnets[real]);
                    }
                }
                for (id, plant) in &state.plants {
                    for real in &plant.subnets {
                        let virtual_ = next.plants[id].subnets[real].virtual_;
                        prop_assert_eq!(virtual_.prefix_len(), real.prefix_len());
                        prop_assert_eq!(virtual_.max_prefix_len(), real.max_prefix_len());
                    }
                }
                prop_assert!(state.certificates.keys().all(|id| next.peers.contains_key(id)));
                apart(&next, &config.pools)?;
                // As after a restart.
                given = serde_json::from_slice(&serde_json::to_vec(&next).unwrap()).unwrap();
                prop_assert_eq!(&given, &next);
            }
        }
    }

    /// Every id, address and subnet once, inside its pool.
    fn apart(given: &Allocations, pools: &Pools) -> Result<(), TestCaseError> {
        let peers: Vec<_> = given.peers.values().collect();
        let subnets: Vec<_> = given.plants.values().flat_map(|plant| plant.subnets.values()).collect();
        let count = |ids: BTreeSet<u32>| ids.len();
        prop_assert_eq!(count(peers.iter().map(|peer| peer.id).collect()), peers.len());
        prop_assert_eq!(count(peers.iter().map(|peer| peer.address.to_bits()).collect()), peers.len());
        let tunnel6: BTreeSet<_> = peers.iter().map(|peer| pools.tunnel6_of(peer.address)).collect();
        prop_assert_eq!(tunnel6.len(), peers.len());
        prop_assert!(tunnel6.iter().all(|at| pools.tunnel6.contains(at) && *at != pools.gateway6()));
        prop_assert_eq!(count(given.plants.values().map(|plant| plant.id).collect()), given.plants.len());
        prop_assert_eq!(count(subnets.iter().map(|subnet| subnet.id).collect()), subnets.len());
        prop_assert!(peers.iter().all(|peer| peer.id > 0 && pools.is_for_certificates(peer.address)));
        for (at, a) in subnets.iter().enumerate() {
            let (_, pool) = pools.virtual_for(&a.virtual_);
            prop_assert!(pool.contains(&a.virtual_) && a.virtual_.trunc() == a.virtual_);
            for b in &subnets[..at] {
                prop_assert!(!a.virtual_.contains(&b.virtual_) && !b.virtual_.contains(&a.virtual_));
            }
        }
        Ok(())
    }

    /// Some certificates and plants out of a few, the plants with some subnets out of a few.
    pub(super) fn documents() -> impl Strategy<Value = Value> {
        const SUBNETS: [&str; 8] = [
            "192.168.1.0/24",
            "172.16.0.0/13",
            "192.168.2.128/25",
            "192.168.3.7/32",
            "192.168.8.0/21",
            "2001:db8::/32",
            "fd00:1::/64",
            "fd00:2::7/128",
        ];
        (vec(any::<bool>(), 12), vec(proptest::option::of(any::<u8>()), 6)).prop_map(|(certificates, plants)| {
            let mut document = empty();
            let mut push = |list: &str, record: Value| document[list].as_array_mut().unwrap().push(record);
            for (at, there) in certificates.into_iter().enumerate() {
                let user = format!("user-{at}");
                push("users", json!({"id": user}));
                if there {
                    let key = example::key(1 + at as u8);
                    push("certificates", json!({"id": format!("c-{at}"), "user": user, "public_key": key}));
                }
            }
            for (at, bits) in plants.into_iter().enumerate() {
                let Some(bits) = bits else { continue };
                let subnets: Vec<_> = (0..8).filter(|bit| bits & 1 << bit != 0).map(|bit| SUBNETS[bit]).collect();
                let uplink = json!({"kind": "host", "public_key": example::key(100 + at as u8)});
                let id = format!("plant-{at}");
                push("plants", json!({"id": id, "organisation": "alpha", "subnets": subnets, "uplink": uplink}));
            }
            document
        })
    }

    fn empty() -> Value {
        json!({
            "revision": 1, "organisations": [{"id": "alpha"}], "portfolios": [], "plants": [], "users": [],
            "memberships": [], "roles": [], "cooperations": [], "certificates": [],
        })
    }

    fn config(pools: &[(&str, &str)]) -> Config {
        let pools: String = pools.iter().map(|(name, pool)| format!("{name} = \"{pool}\"\n")).collect();
        example::config(&format!("[pools]\n{pools}"))
    }
}
