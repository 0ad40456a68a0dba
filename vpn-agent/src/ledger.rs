//! The ledger: what was given to certificates and plants, as one place keeps it for all gateways (requirements C1, E3).
//!
//! It is a part of the desired state, and an optional one. Gateways take its entries over, see `Allocations::take_over`.
//! Like everything that was given, an entry never changes; a plant may get further subnets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::IpNet;

use crate::{
    addressing::{Plant, Subnet, Tunnel6},
    document::{self, Id},
    id::{CertificateId, OrganisationId, PlantId},
    state::Holder,
};

/// What was given, by whom it was given to; every number and address once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    peers: BTreeMap<CertificateId, Peer>,
    plants: BTreeMap<PlantId, Plant>,
    next: Next,
    tunnel6: Option<Tunnel6>,
    used: Used,
}

/// What a certificate was given, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer id.
    pub id: u32,
    /// The tunnel IP.
    pub address: Ipv4Addr,
    /// Whose the certificate is, for ever.
    pub owner: Holder,
}

/// The ids to give next: greater than all that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// To a certificate.
    pub peer: u32,
    /// To a plant.
    pub plant: u32,
    /// To a plant's subnet.
    pub route: u32,
}

impl Default for Next {
    fn default() -> Self {
        Self { peer: 1, plant: 1, route: 1 }
    }
}

impl Next {
    /// The greater ones of both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let Self { peer, plant, route } = self;
        Self { peer: peer.max(other.peer), plant: plant.max(other.plant), route: route.max(other.route) }
    }
}

/// Subnets of a plant in the order of its record, and what they were given.
pub type Twins = Vec<(IpNet, Subnet)>;

/// An entry that cannot be, because of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The field of the entry's record.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Clash {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    fn other(field: impl Into<String>, before: impl std::fmt::Display) -> Self {
        Self::new(field, format!("was {before} before; what was given stays"))
    }
}

/// Every number and address of the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Used {
    peers: BTreeSet<u32>,
    addresses: BTreeSet<Ipv4Addr>,
    plants: BTreeSet<u32>,
    routes: BTreeSet<u32>,
    twins: BTreeSet<IpNet>,
}

impl Used {
    /// A virtual subnet that has addresses in common with `net`. Those here are disjoint.
    fn twin_at(&self, net: &IpNet) -> Option<IpNet> {
        let after = self.twins.range(net..).next().filter(|next| net.contains(*next));
        let before = || self.twins.range(..net).next_back().filter(|before| before.contains(net));
        after.or_else(before).copied()
    }
}

impl Ledger {
    /// Entries of certificates, of those that are gone as well.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<CertificateId, Peer> {
        &self.peers
    }

    /// Entries of plants, of those that are gone as well.
    #[must_use]
    pub const fn plants(&self) -> &BTreeMap<PlantId, Plant> {
        &self.plants
    }

    /// The ids to give next.
    #[must_use]
    pub const fn next(&self) -> Next {
        self.next
    }

    /// What IPv6 tunnel addresses follow from, if that is decided.
    #[must_use]
    pub const fn tunnel6(&self) -> Option<Tunnel6> {
        self.tunnel6
    }

    /// Whether a certificate has this address.
    #[must_use]
    pub fn has_address(&self, address: Ipv4Addr) -> bool {
        self.used.addresses.contains(&address)
    }

    /// Whether `peer` may be the entry of a certificate.
    ///
    /// # Errors
    /// The first field that clashes with another entry, or with the one that there is.
    pub fn check_peer(&self, id: &CertificateId, peer: &Peer) -> Result<(), Clash> {
        if let Some(before) = self.peers.get(id) {
            return same_peer(before, peer);
        }
        if peer.id == 0 {
            return Err(Clash::new("id", "0 is no id; ids count from 1"));
        }
        if self.used.peers.contains(&peer.id) {
            return Err(Clash::new("id", format!("{} is the id of another certificate", peer.id)));
        }
        if self.used.addresses.contains(&peer.address) {
            return Err(Clash::new("address", format!("{} is the address of another certificate", peer.address)));
        }
        Ok(())
    }

    /// Whether these may be in the entry of a plant, besides what is there.
    ///
    /// # Errors
    /// The first field that clashes with another entry, or with the one that there is.
    pub fn check_plant(&self, id: &PlantId, plant: &Plant, subnets: &[(IpNet, Subnet)]) -> Result<(), Clash> {
        let before = self.plants.get(id);
        match before {
            Some(before) => same_plant(before, plant)?,
            None if plant.id == 0 => return Err(Clash::new("id", "0 is no id; ids count from 1")),
            None if self.used.plants.contains(&plant.id) => {
                return Err(Clash::new("id", format!("{} is the id of another plant", plant.id)));
            }
            None => {}
        }
        let mut seen = Used::default();
        let mut reals = BTreeSet::new();
        for (at, (real, subnet)) in subnets.iter().enumerate() {
            let field = |name: &str| format!("subnets[{at}].{name}");
            if !reals.insert(real) {
                return Err(Clash::new(field("real"), format!("{real} is listed before; list each subnet once")));
            }
            if let Some(before) = before.and_then(|before| before.subnets.get(real)) {
                same_subnet(before, subnet).map_err(|clash| Clash { field: field(&clash.field), ..clash })?;
                seen.routes.insert(subnet.id);
                seen.twins.insert(subnet.virtual_);
                continue;
            }
            if subnet.id == 0 {
                return Err(Clash::new(field("id"), "0 is no id; ids count from 1"));
            }
            if self.used.routes.contains(&subnet.id) || !seen.routes.insert(subnet.id) {
                return Err(Clash::new(field("id"), format!("{} is the id of another subnet", subnet.id)));
            }
            let twin = subnet.virtual_;
            // Of one length in one family.
            if (real.prefix_len(), real.max_prefix_len()) != (twin.prefix_len(), twin.max_prefix_len()) {
                return Err(Clash::new(field("virtual"), format!("{twin} is not as large as {real}")));
            }
            if let Some(other) = self.used.twin_at(&twin).or_else(|| seen.twin_at(&twin)) {
                return Err(Clash::new(field("virtual"), format!("{twin} overlaps {other} of another subnet")));
            }
            seen.twins.insert(twin);
        }
        Ok(())
    }

    /// Whether IPv6 tunnel addresses may follow from this.
    ///
    /// # Errors
    /// They follow from something else.
    pub fn check_tunnel6(&self, tunnel6: &Tunnel6) -> Result<(), Clash> {
        same_tunnel6(self.tunnel6.as_ref(), tunnel6)
    }

    /// Puts a checked entry in its place, and gives what was there.
    pub(crate) fn set_peer(&mut self, id: CertificateId, new: Option<Peer>) -> Option<Peer> {
        if let Some(old) = self.peers.get(&id) {
            self.used.peers.remove(&old.id);
            self.used.addresses.remove(&old.address);
        }
        match new {
            Some(new) => {
                self.used.peers.insert(new.id);
                self.used.addresses.insert(new.address);
                self.peers.insert(id, new)
            }
            None => self.peers.remove(&id),
        }
    }

    /// Puts a checked entry in its place, and gives what was there.
    pub(crate) fn set_plant(&mut self, id: PlantId, new: Option<Plant>) -> Option<Plant> {
        if let Some(old) = self.plants.get(&id) {
            self.used.plants.remove(&old.id);
            for subnet in old.subnets.values() {
                self.used.routes.remove(&subnet.id);
                self.used.twins.remove(&subnet.virtual_);
            }
        }
        match new {
            Some(new) => {
                self.used.plants.insert(new.id);
                self.used.routes.extend(new.subnets.values().map(|subnet| subnet.id));
                self.used.twins.extend(new.subnets.values().map(|subnet| subnet.virtual_));
                self.plants.insert(id, new)
            }
            None => self.plants.remove(&id),
        }
    }

    /// Sets what is given next, and gives what that was.
    pub(crate) fn set_next(&mut self, next: Next, tunnel6: Option<Tunnel6>) -> (Next, Option<Tunnel6>) {
        (std::mem::replace(&mut self.next, next), std::mem::replace(&mut self.tunnel6, tunnel6))
    }

    /// The least that the next ids must be.
    #[must_use]
    pub fn least_next(&self) -> Next {
        let after = |ids: &BTreeSet<u32>| ids.last().map_or(1, |last| last.saturating_add(1));
        Next { peer: after(&self.used.peers), plant: after(&self.used.plants), route: after(&self.used.routes) }
    }

    /// The record of this ledger in a document, sorted.
    #[must_use]
    pub fn to_record(&self) -> document::Ledger {
        let Next { peer, plant, route } = self.next;
        document::Ledger {
            peers: self.peers.iter().map(|(id, peer)| peer_record(id, peer)).collect(),
            plants: self.plants.iter().map(|(id, plant)| plant_record(id, plant)).collect(),
            next: document::Next { peer, plant, route },
            tunnel6: self.tunnel6.map(|Tunnel6 { tunnel, tunnel6 }| document::Tunnel6 { tunnel, tunnel6 }),
        }
    }
}

/// Whether `now` is what a certificate was given `before`.
///
/// # Errors
/// The first field that differs.
pub fn same_peer(before: &Peer, now: &Peer) -> Result<(), Clash> {
    if before.id != now.id {
        return Err(Clash::other("id", before.id));
    }
    if before.address != now.address {
        return Err(Clash::other("address", before.address));
    }
    if before.owner != now.owner {
        let field = if matches!(now.owner, Holder::User(_)) { "user" } else { "organisation" };
        return Err(Clash::other(field, &before.owner));
    }
    Ok(())
}

/// Whether `now` is what a plant was given `before`, whatever its subnets were.
///
/// # Errors
/// The first field that differs.
pub fn same_plant(before: &Plant, now: &Plant) -> Result<(), Clash> {
    if before.id != now.id {
        return Err(Clash::other("id", before.id));
    }
    if before.operator != now.operator {
        return Err(Clash::other("operator", &before.operator));
    }
    Ok(())
}

/// Whether `now` is what a subnet was given `before`.
///
/// # Errors
/// The first field that differs.
pub fn same_subnet(before: &Subnet, now: &Subnet) -> Result<(), Clash> {
    if before.id != now.id {
        return Err(Clash::other("id", before.id));
    }
    if before.virtual_ != now.virtual_ {
        return Err(Clash::other("virtual", before.virtual_));
    }
    Ok(())
}

/// Whether IPv6 tunnel addresses follow from the same as before, if that was decided.
///
/// # Errors
/// The first field that differs.
pub fn same_tunnel6(before: Option<&Tunnel6>, now: &Tunnel6) -> Result<(), Clash> {
    let Some(before) = before else { return Ok(()) };
    if before.tunnel != now.tunnel {
        return Err(Clash::other("tunnel6.tunnel", before.tunnel));
    }
    if before.tunnel6 != now.tunnel6 {
        return Err(Clash::other("tunnel6.tunnel6", before.tunnel6));
    }
    Ok(())
}

/// Whether an entry is of the owner that the certificate has.
///
/// # Errors
/// The field with the other owner.
pub fn check_owner(entry: &Peer, certificate: &Holder) -> Result<(), Clash> {
    if entry.owner == *certificate {
        return Ok(());
    }
    let field = if matches!(entry.owner, Holder::User(_)) { "user" } else { "organisation" };
    Err(Clash::new(field, format!("the entry is of {}, the certificate is of {certificate}", entry.owner)))
}

/// Whether an entry is of the organisation that operates the plant.
///
/// # Errors
/// The field with the other organisation.
pub fn check_operator(entry: &Plant, operator: &OrganisationId) -> Result<(), Clash> {
    if entry.operator == *operator {
        return Ok(());
    }
    Err(Clash::new("operator", format!("the entry is of {}, the plant is of {operator}", entry.operator)))
}

fn peer_record(id: &CertificateId, peer: &Peer) -> document::LedgerPeer {
    let text = |id: &dyn ToString| Some(Id(id.to_string()));
    let (user, organisation) = match &peer.owner {
        Holder::User(user) => (text(user), None),
        Holder::Organisation(organisation) => (None, text(organisation)),
    };
    let certificate = Id(id.to_string());
    document::LedgerPeer { certificate, id: peer.id, address: peer.address, user, organisation }
}

fn plant_record(id: &PlantId, plant: &Plant) -> document::LedgerPlant {
    let subnet = |(real, subnet): (&IpNet, &Subnet)| document::LedgerSubnet {
        real: document::Subnet(real.to_string()),
        id: subnet.id,
        virtual_: document::Subnet(subnet.virtual_.to_string()),
    };
    document::LedgerPlant {
        plant: Id(id.to_string()),
        id: plant.id,
        operator: Id(plant.operator.to_string()),
        subnets: plant.subnets.iter().map(subnet).collect(),
    }
}
