//! The rules for one record, whatever it came in: a whole document or a single change.
//!
//! A record is checked against what is known besides, see [`Known`]. Whether it may be there at all, because another one
//! has its id or its key, is for who put it there. Paths are passed as something to display, so that nothing is formatted
//! while all is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::subnets;
use crate::{
    addressing,
    document::{self, Id, Key, Moment, Region},
    id::{CertificateId, NotAnId, OrganisationId, PlantId, PortfolioId, UserId},
    interface,
    key::PublicKey,
    ledger, moment,
    problem::Problem,
    role::Role,
    state::{Access, Certificate, Holder, KEEPALIVE_SECONDS, Membership, Owner, Plant, Routes, Scope, Uplink, Uplinks},
};

/// What a record may refer to.
pub trait Known {
    /// Whether there is this organisation.
    fn has_organisation(&self, id: &str) -> bool;
    /// Whether there is this user.
    fn has_user(&self, id: &str) -> bool;
    /// The owner of this portfolio, `Some(None)` if it has none that is known; `None` if there is no such portfolio.
    fn portfolio(&self, id: &str) -> Option<Option<&OrganisationId>>;
    /// The operator of this plant, `Some(None)` if it has none that is known; `None` if there is no such plant.
    fn plant(&self, id: &str) -> Option<Option<&OrganisationId>>;
    /// The subnets of this plant, if they are known.
    fn subnets(&self, plant: &str) -> Option<&BTreeSet<IpNet>>;
}

/// Checks records, and collects what is wrong with them.
pub struct Records<'k, K> {
    pub known: &'k K,
    pub problems: &'k mut Vec<Problem>,
}

/// What no two plants may have, with the path of each.
#[derive(Default)]
pub struct Ends {
    pub keys: Vec<(String, PublicKey)>,
    /// With the region, `None` for every region.
    pub interfaces: Vec<(String, Option<String>, String)>,
}

impl<K: Known> Records<'_, K> {
    pub fn plant(&mut self, path: &dyn Display, plant: &document::Plant) -> (Option<Plant>, Ends) {
        let organisation = self.organisation(&format_args!("{path}.organisation"), &plant.organisation);
        let portfolio = plant.portfolio.as_ref().and_then(|portfolio| {
            self.portfolio(&format_args!("{path}.portfolio"), portfolio, Some(&plant.organisation))
        });
        let subnets = subnets::of_plant(path, &plant.subnets, self.problems);
        let mut ends = Ends::default();
        let uplinks = self.uplinks(path, plant, &mut ends);
        let plant = organisation.zip(uplinks).map(|(organisation, uplinks)| Plant {
            organisation,
            portfolio,
            subnets,
            uplinks,
        });
        (plant, ends)
    }

    fn uplinks(&mut self, path: &dyn Display, plant: &document::Plant, ends: &mut Ends) -> Option<Uplinks> {
        match (&plant.uplink, &plant.uplinks) {
            (Some(uplink), None) => {
                self.uplink(&format_args!("{path}.uplink"), uplink, &[None], ends).map(Uplinks::Everywhere)
            }
            (None, Some(uplinks)) => self.regional(path, uplinks, ends).map(Uplinks::Regions),
            (None, None) => {
                let message = "missing; give an uplink, or `uplinks` for single regions".to_owned();
                self.problem(&format_args!("{path}.uplink"), message);
                None
            }
            (Some(_), Some(_)) => {
                let message = "is there beside `uplink`; give one of them".to_owned();
                self.problem(&format_args!("{path}.uplinks"), message);
                None
            }
        }
    }

    fn regional(
        &mut self,
        path: &dyn Display,
        uplinks: &[document::RegionalUplink],
        ends: &mut Ends,
    ) -> Option<BTreeMap<String, Uplink>> {
        let mut checked = BTreeMap::new();
        let mut valid = true;
        let mut seen = BTreeSet::new();
        for (at, record) in uplinks.iter().enumerate() {
            if record.regions.is_empty() {
                let message = "is empty; name the regions that have this uplink".to_owned();
                self.problem(&format_args!("{path}.uplinks[{at}].regions"), message);
            }
            for (nth, Region(region)) in record.regions.iter().enumerate() {
                let path = format_args!("{path}.uplinks[{at}].regions[{nth}]");
                if region.is_empty() {
                    self.problem(&path, "is empty; use the name of a region".to_owned());
                } else if !seen.insert(region) {
                    let message = format!("{region:?} is listed before; a plant has one uplink for a region");
                    self.problem(&path, message);
                }
            }
            let regions: Vec<_> = record.regions.iter().map(|Region(region)| Some(region.as_str())).collect();
            match self.uplink(&format_args!("{path}.uplinks[{at}].uplink"), &record.uplink, &regions, ends) {
                Some(uplink) => {
                    checked.extend(record.regions.iter().map(|Region(region)| (region.clone(), uplink.clone())));
                }
                None => valid = false,
            }
        }
        valid.then_some(checked)
    }

    fn uplink(
        &mut self,
        path: &dyn Display,
        uplink: &document::Uplink,
        regions: &[Option<&str>],
        ends: &mut Ends,
    ) -> Option<Uplink> {
        match uplink {
            document::Uplink::Host { public_key } => {
                Some(Uplink::Host { public_key: self.end(path, public_key, ends)? })
            }
            document::Uplink::Interface { interface: document::Interface(name) } => {
                let path = format_args!("{path}.interface");
                if let Err(message) = interface::check(name) {
                    self.problem(&path, message);
                    return None;
                }
                let of_region = |region: &Option<&str>| (path.to_string(), region.map(str::to_owned), name.clone());
                ends.interfaces.extend(regions.iter().map(of_region));
                Some(Uplink::Interface { interface: name.clone() })
            }
            document::Uplink::Dial { public_key, endpoint: document::Endpoint(endpoint), keepalive_seconds } => {
                let endpoint = endpoint.parse().map_err(|error: crate::endpoint::NotAnEndpoint| {
                    self.problem(&format_args!("{path}.endpoint"), error.to_string());
                });
                let public_key = self.end(path, public_key, ends)?;
                let keepalive_seconds = keepalive_seconds.unwrap_or(KEEPALIVE_SECONDS);
                Some(Uplink::Dial { public_key, endpoint: endpoint.ok()?, keepalive_seconds })
            }
        }
    }

    /// The key at a plant's end of a tunnel.
    fn end(&mut self, uplink: &dyn Display, key: &Key, ends: &mut Ends) -> Option<PublicKey> {
        let path = format_args!("{uplink}.public_key");
        let key = self.key(&path, key)?;
        ends.keys.push((path.to_string(), key));
        Some(key)
    }

    pub fn membership(
        &mut self,
        path: &dyn Display,
        membership: &document::Membership,
    ) -> Option<(UserId, OrganisationId, Membership)> {
        let user = self.user(&format_args!("{path}.user"), &membership.user);
        let organisation = self.organisation(&format_args!("{path}.organisation"), &membership.organisation);
        let access = self.access(path, membership);
        Some((user?, organisation?, Membership { kind: membership.kind, access }))
    }

    fn access(&mut self, path: &dyn Display, of: &document::Membership) -> Access {
        let list = match &of.access {
            document::Access::All => return Access::All,
            document::Access::Some(list) => list,
        };
        let owner = Some(&of.organisation);
        let mut portfolios = BTreeSet::new();
        for (at, id) in list.portfolios.iter().enumerate() {
            portfolios.extend(self.portfolio(&format_args!("{path}.access.portfolios[{at}]"), id, owner));
        }
        let mut plants = BTreeSet::new();
        for (at, id) in list.plants.iter().enumerate() {
            plants.extend(self.plant_id(&format_args!("{path}.access.plants[{at}]"), id, owner));
        }
        Access::Some { portfolios, plants }
    }

    pub fn job(&mut self, path: &dyn Display, job: &document::Job) -> Option<(UserId, Scope, Role)> {
        let user = self.user(&format_args!("{path}.user"), &job.user);
        let (scope, _) = self.scope(path, &job.on)?;
        Some((user?, scope, job.role))
    }

    pub fn cooperation(
        &mut self,
        path: &dyn Display,
        cooperation: &document::Cooperation,
    ) -> Option<(Scope, OrganisationId, Option<Timestamp>)> {
        let partner = self.organisation(&format_args!("{path}.partner"), &cooperation.partner);
        let scope = self.scope(path, &cooperation.on);
        let until = self.until(path, cooperation.until.as_ref());
        let (partner, (scope, owner)) = partner.zip(scope)?;
        if owner.as_ref() == Some(&partner) {
            let message = format!("{:?} owns what is shared; name another organisation", partner.as_str());
            self.problem(&format_args!("{path}.partner"), message);
        }
        Some((scope, partner, until?))
    }

    pub fn certificate(&mut self, path: &dyn Display, certificate: &document::Certificate) -> Option<Certificate> {
        let owner = self.owner(path, certificate);
        let public_key = self.key(&format_args!("{path}.public_key"), &certificate.public_key);
        Some(Certificate { owner: owner?, public_key: public_key? })
    }

    fn owner(&mut self, path: &dyn Display, certificate: &document::Certificate) -> Option<Owner> {
        match (&certificate.user, &certificate.organisation) {
            (Some(user), None) => {
                if certificate.plants.is_some() {
                    let message =
                        "are for certificates of organisations; the roles of a user say what the user reaches";
                    self.problem(&format_args!("{path}.plants"), message.to_owned());
                }
                Some(Owner::User(self.user(&format_args!("{path}.user"), user)?))
            }
            (None, Some(organisation)) => {
                let organisation = self.organisation(&format_args!("{path}.organisation"), organisation);
                let plants = match &certificate.plants {
                    Some(plants) => self.plants(&format_args!("{path}.plants"), plants),
                    None => {
                        let message = "missing; list the plants that the organisation's certificate is for";
                        self.problem(&format_args!("{path}.plants"), message.to_owned());
                        return None;
                    }
                };
                Some(Owner::Organisation { organisation: organisation?, plants: plants.into_iter().collect() })
            }
            (None, None) => {
                let message = "missing; give the user or the `organisation` whose certificate it is".to_owned();
                self.problem(&format_args!("{path}.user"), message);
                None
            }
            (Some(_), Some(_)) => {
                let message = "is there beside `user`; a certificate is of one of them".to_owned();
                self.problem(&format_args!("{path}.organisation"), message);
                None
            }
        }
    }

    pub fn priority(&mut self, path: &dyn Display, user: &Id, plants: &[Id]) -> Option<(UserId, Vec<PlantId>)> {
        let user = self.user(&format_args!("{path}.user"), user);
        let plants = self.plants(&format_args!("{path}.plants"), plants);
        Some((user?, plants))
    }

    /// Plants of which each may be listed once.
    pub fn plants(&mut self, path: &dyn Display, ids: &[Id]) -> Vec<PlantId> {
        let mut plants = Vec::new();
        let mut seen = BTreeSet::new();
        for (at, id) in ids.iter().enumerate() {
            let path = format_args!("{path}[{at}]");
            let Some(plant) = self.plant_id(&path, id, None) else { continue };
            if seen.insert(&id.0) {
                plants.push(plant);
            } else {
                self.problem(&path, format!("{:?} is listed before; list each plant once", id.0));
            }
        }
        plants
    }

    pub fn disabled(
        &mut self,
        path: &dyn Display,
        disabled: &document::Disabled,
    ) -> Option<(UserId, Routes, Option<Timestamp>)> {
        let user = self.user(&format_args!("{path}.user"), &disabled.user);
        let routes = self.routes(path, &disabled.plant, disabled.subnet.as_ref());
        let until = self.until(path, disabled.until.as_ref());
        Some((user?, routes?, until?))
    }

    /// A plant, and one of its subnets if one is named.
    pub fn routes(&mut self, path: &dyn Display, plant: &Id, subnet: Option<&document::Subnet>) -> Option<Routes> {
        let plant = self.plant_id(&format_args!("{path}.plant"), plant, None);
        let Some(document::Subnet(text)) = subnet else { return Some((plant?, None)) };
        let path = format_args!("{path}.subnet");
        let subnet = subnets::parse(text).map_err(|message| self.problem(&path, message)).ok();
        let (plant, subnet) = (plant?, subnet?);
        if let Some(subnets) = self.known.subnets(plant.as_str())
            && !subnets.contains(&subnet)
        {
            let subnets: Vec<_> = subnets.iter().map(ToString::to_string).collect();
            let allowed = match subnets.as_slice() {
                [] => "it has none".to_owned(),
                some => format!("use one of {}", some.join(", ")),
            };
            self.problem(&path, format!("\"{subnet}\" is no subnet of plant \"{plant}\"; {allowed}"));
            return None;
        }
        Some((plant, Some(subnet)))
    }

    /// An entry of the ledger. What it is about need not be there any more.
    pub fn ledger_peer(
        &mut self,
        path: &dyn Display,
        record: &document::LedgerPeer,
    ) -> Option<(CertificateId, ledger::Peer)> {
        let certificate = self.id(&format_args!("{path}.certificate"), &record.certificate);
        let owner = match (&record.user, &record.organisation) {
            (Some(user), None) => self.id(&format_args!("{path}.user"), user).map(Holder::User),
            (None, Some(id)) => self.id(&format_args!("{path}.organisation"), id).map(Holder::Organisation),
            _ => {
                let message = "give either this or `organisation`: whose the certificate is".to_owned();
                self.problem(&format_args!("{path}.user"), message);
                None
            }
        };
        Some((certificate?, ledger::Peer { id: record.id, address: record.address, owner: owner? }))
    }

    /// An entry of the ledger without its subnets, and these in their order.
    pub fn ledger_plant(
        &mut self,
        path: &dyn Display,
        record: &document::LedgerPlant,
    ) -> Option<(PlantId, addressing::Plant, ledger::Twins)> {
        let plant = self.id(&format_args!("{path}.plant"), &record.plant);
        let operator = self.id(&format_args!("{path}.operator"), &record.operator);
        let mut subnets = Vec::new();
        for (at, subnet) in record.subnets.iter().enumerate() {
            let mut net = |field: &str, document::Subnet(text): &document::Subnet| {
                let path = format_args!("{path}.subnets[{at}].{field}");
                subnets::parse(text).map_err(|message| self.problem(&path, message)).ok()
            };
            let (real, virtual_) = (net("real", &subnet.real), net("virtual", &subnet.virtual_));
            subnets.extend(
                real.zip(virtual_).map(|(real, virtual_)| (real, addressing::Subnet { id: subnet.id, virtual_ })),
            );
        }
        let entry = addressing::Plant { id: record.id, operator: operator?, subnets: BTreeMap::new() };
        (subnets.len() == record.subnets.len()).then_some((plant?, entry, subnets))
    }

    /// `Some(None)` if there is no end.
    fn until(&mut self, path: &dyn Display, until: Option<&Moment>) -> Option<Option<Timestamp>> {
        let Some(Moment(text)) = until else { return Some(None) };
        let until = moment::parse(text);
        until.map_err(|message| self.problem(&format_args!("{path}.until"), message)).ok().map(Some)
    }

    /// A plant or portfolio, with its owner.
    pub fn scope(&mut self, path: &dyn Display, scope: &document::Scope) -> Option<(Scope, Option<OrganisationId>)> {
        match scope {
            document::Scope::Plant(id) => {
                let id = self.plant_id(&format_args!("{path}.on.plant"), id, None)?;
                let owner = self.known.plant(id.as_str()).flatten().cloned();
                Some((Scope::Plant(id), owner))
            }
            document::Scope::Portfolio(id) => {
                let id = self.portfolio(&format_args!("{path}.on.portfolio"), id, None)?;
                let owner = self.known.portfolio(id.as_str()).flatten().cloned();
                Some((Scope::Portfolio(id), owner))
            }
        }
    }

    pub fn organisation(&mut self, path: &dyn Display, id: &Id) -> Option<OrganisationId> {
        let id = self.id::<OrganisationId>(path, id)?;
        self.is_known(path, self.known.has_organisation(id.as_str()), &id, "organisations").then_some(id)
    }

    pub fn user(&mut self, path: &dyn Display, id: &Id) -> Option<UserId> {
        let id = self.id::<UserId>(path, id)?;
        self.is_known(path, self.known.has_user(id.as_str()), &id, "users").then_some(id)
    }

    /// A portfolio, of the organisation `owner` if one is asked for.
    pub fn portfolio(&mut self, path: &dyn Display, id: &Id, owner: Option<&Id>) -> Option<PortfolioId> {
        let id = self.id::<PortfolioId>(path, id)?;
        let found = self.known.portfolio(id.as_str());
        (self.is_known(path, found.is_some(), &id, "portfolios") && self.is_of(path, &id, found.flatten(), owner))
            .then_some(id)
    }

    /// A plant, of the organisation `owner` if one is asked for.
    pub fn plant_id(&mut self, path: &dyn Display, id: &Id, owner: Option<&Id>) -> Option<PlantId> {
        let id = self.id::<PlantId>(path, id)?;
        let found = self.known.plant(id.as_str());
        (self.is_known(path, found.is_some(), &id, "plants") && self.is_of(path, &id, found.flatten(), owner))
            .then_some(id)
    }

    fn is_known(&mut self, path: &dyn Display, known: bool, id: &dyn Display, list: &str) -> bool {
        if !known {
            self.problem(path, format!("\"{id}\" is not in {list}; use the id of one of them or add it there"));
        }
        known
    }

    /// Whether `id` belongs to the organisation `wanted`, if one is asked for. An organisation that does not exist is
    /// reported where it is named.
    fn is_of(
        &mut self,
        path: &dyn Display,
        id: &dyn Display,
        owner: Option<&OrganisationId>,
        wanted: Option<&Id>,
    ) -> bool {
        match (owner, wanted) {
            (Some(owner), Some(Id(wanted))) if owner.as_str() != wanted && self.known.has_organisation(wanted) => {
                self.problem(path, format!("\"{id}\" belongs to \"{owner}\"; use one of \"{wanted}\""));
                false
            }
            _ => true,
        }
    }

    pub fn id<T: FromStr<Err = NotAnId>>(&mut self, path: &dyn Display, id: &Id) -> Option<T> {
        id.0.parse().map_err(|error: NotAnId| self.problem(path, error.to_string())).ok()
    }

    pub fn key(&mut self, path: &dyn Display, Key(text): &Key) -> Option<PublicKey> {
        text.parse().map_err(|error: crate::key::NotAPublicKey| self.problem(path, error.to_string())).ok()
    }

    pub fn problem(&mut self, path: &dyn Display, message: String) {
        self.problems.push(Problem { path: path.to_string(), message });
    }
}
