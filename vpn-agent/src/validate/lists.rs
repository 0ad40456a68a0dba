//! The lists of a whole document: every id, key and pair once, every record by its rules.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt::Display,
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::records::{Ends, Known, Records};
use crate::{
    addressing::Tunnel6,
    document::{self, Document, Id},
    id::{CertificateId, NotAnId, OrganisationId, PlantId, PortfolioId, UserId},
    key::PublicKey,
    ledger::{self, Ledger, Next},
    problem::Problem,
    role::Role,
    state::{Certificate, Disabled, Membership, Organisation, Plant, Scope, State, User},
};

/// What the lists declare, be the records themselves valid or not: a record that is wrong is reported where it stands,
/// and not once more wherever it is named.
#[derive(Default)]
struct Declared {
    organisations: BTreeSet<OrganisationId>,
    /// By owner.
    portfolios: BTreeMap<PortfolioId, Option<OrganisationId>>,
    /// By owner.
    plants: BTreeMap<PlantId, Option<OrganisationId>>,
    users: BTreeSet<UserId>,
    certificates: BTreeSet<CertificateId>,
    /// Those of the plants that are valid.
    valid_plants: BTreeMap<PlantId, Arc<Plant>>,
}

impl Known for Declared {
    fn has_organisation(&self, id: &str) -> bool {
        self.organisations.contains(id)
    }

    fn has_user(&self, id: &str) -> bool {
        self.users.contains(id)
    }

    fn portfolio(&self, id: &str) -> Option<Option<&OrganisationId>> {
        self.portfolios.get(id).map(Option::as_ref)
    }

    fn plant(&self, id: &str) -> Option<Option<&OrganisationId>> {
        self.plants.get(id).map(Option::as_ref)
    }

    fn subnets(&self, plant: &str) -> Option<&BTreeSet<IpNet>> {
        self.valid_plants.get(plant).map(|plant| &plant.subnets)
    }
}

/// The pass over the content of a document.
#[derive(Default)]
pub struct Lists {
    pub problems: Vec<Problem>,
    declared: Declared,
    /// Where each public key was seen first. A plant may have the same one for several regions.
    keys: BTreeMap<PublicKey, Seen>,
    /// Where each interface of the host's was seen, and in which region; `None` stands for every region.
    interfaces: BTreeMap<String, Vec<(Option<String>, Seen)>>,
}

struct Seen {
    path: String,
    /// The place of the plant in its list; `None` for a certificate.
    plant: Option<usize>,
}

impl Lists {
    pub fn document(&mut self, document: &Document) -> State {
        self.declare(
            "organisations",
            document.organisations.iter().map(|organisation| &organisation.id),
            |declared, _, id| declared.organisations.insert(id),
        );
        self.declare("portfolios", document.portfolios.iter().map(|portfolio| &portfolio.id), |declared, at, id| {
            let owner = declared.owner(&document.portfolios[at].organisation);
            insert_new(&mut declared.portfolios, id, owner)
        });
        self.declare("plants", document.plants.iter().map(|plant| &plant.id), |declared, at, id| {
            let owner = declared.owner(&document.plants[at].organisation);
            insert_new(&mut declared.plants, id, owner)
        });
        self.declare("users", document.users.iter().map(|user| &user.id), |declared, _, id| declared.users.insert(id));
        self.declare(
            "certificates",
            document.certificates.iter().map(|certificate| &certificate.id),
            |declared, _, id| declared.certificates.insert(id),
        );

        let organisations = document.organisations.iter();
        let users = document.users.iter();
        let mut state = State::default();
        state.revision = document.revision;
        state.organisations = organisations
            .filter_map(|record| Some((record.id.0.parse().ok()?, Organisation { name: record.name.clone() })))
            .collect();
        state.users =
            users.filter_map(|record| Some((record.id.0.parse().ok()?, User { name: record.name.clone() }))).collect();
        state.portfolios = self.portfolios(&document.portfolios);
        self.declared.valid_plants = self.plants(&document.plants);
        state.memberships = self.memberships(&document.memberships);
        state.roles = self.roles(&document.roles);
        state.cooperations = self.cooperations(&document.cooperations);
        state.certificates = self.certificates(&document.certificates);
        state.priorities = self.priorities(&document.priorities);
        state.disabled = self.disabled(&document.disabled);
        state.plants = std::mem::take(&mut self.declared.valid_plants);
        state.ledger = document.allocations.as_ref().map(|ledger| self.ledger(ledger, &state));
        state.indexed()
    }

    /// Reads the ids of a list; `insert` says whether the id is a new one.
    fn declare<'d, T: FromStr<Err = NotAnId>>(
        &mut self,
        list: &str,
        ids: impl Iterator<Item = &'d Id>,
        insert: impl Fn(&mut Declared, usize, T) -> bool,
    ) {
        for (at, id) in ids.enumerate() {
            let path = format_args!("{list}[{at}].id");
            match id.0.parse::<T>() {
                Ok(parsed) => {
                    if !insert(&mut self.declared, at, parsed) {
                        self.problem(&path, format!("{:?} is used before in {list}; ids must be unique", id.0));
                    }
                }
                Err(error) => self.problem(&path, error.to_string()),
            }
        }
    }

    fn records(&mut self) -> Records<'_, Declared> {
        Records { known: &self.declared, problems: &mut self.problems }
    }

    fn portfolios(&mut self, portfolios: &[document::Portfolio]) -> BTreeMap<PortfolioId, OrganisationId> {
        let mut checked = BTreeMap::new();
        for (at, portfolio) in portfolios.iter().enumerate() {
            let path = format_args!("portfolios[{at}].organisation");
            let organisation = self.records().organisation(&path, &portfolio.organisation);
            if let (Ok(id), Some(organisation)) = (portfolio.id.0.parse(), organisation) {
                checked.insert(id, organisation);
            }
        }
        checked
    }

    fn plants(&mut self, plants: &[document::Plant]) -> BTreeMap<PlantId, Arc<Plant>> {
        let mut checked = BTreeMap::new();
        for (at, record) in plants.iter().enumerate() {
            let (plant, ends) = self.records().plant(&format_args!("plants[{at}]"), record);
            let apart = self.are_apart(at, ends);
            if let (Ok(id), Some(plant), true) = (record.id.0.parse(), plant, apart) {
                checked.insert(id, Arc::new(plant));
            }
        }
        checked
    }

    /// Whether nobody else has the keys and interfaces of a plant.
    fn are_apart(&mut self, plant: usize, ends: Ends) -> bool {
        let mut apart = true;
        for (path, key) in ends.keys {
            apart &= self.is_new_key(path, key, Some(plant));
        }
        for (path, region, name) in ends.interfaces {
            let seen = self.interfaces.entry(name.clone()).or_default();
            let meets = |other: &Option<String>| region.is_none() || other.is_none() || *other == region;
            if let Some((_, before)) = seen.iter().find(|(other, seen)| seen.plant != Some(plant) && meets(other)) {
                let message = format!(
                    "{name:?} is also {}; an interface is the uplink of one plant, use a VLAN for each",
                    before.path
                );
                self.problems.push(Problem { path, message });
                apart = false;
            } else {
                seen.push((region, Seen { path, plant: Some(plant) }));
            }
        }
        apart
    }

    fn is_new_key(&mut self, path: String, key: PublicKey, plant: Option<usize>) -> bool {
        match self.keys.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Seen { path, plant });
                true
            }
            Entry::Occupied(before) if plant.is_some() && before.get().plant == plant => true,
            Entry::Occupied(before) => {
                let before = &before.get().path;
                let message = format!("\"{key}\" is also {before}; every certificate and plant has its own key");
                self.problems.push(Problem { path, message });
                false
            }
        }
    }

    fn memberships(
        &mut self,
        memberships: &[document::Membership],
    ) -> BTreeMap<UserId, BTreeMap<OrganisationId, Membership>> {
        let mut checked = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (at, record) in memberships.iter().enumerate() {
            let path = format_args!("memberships[{at}]");
            let Some((user, organisation, membership)) = self.records().membership(&path, record) else { continue };
            if !insert_new(checked.entry(user).or_default(), organisation, membership) {
                let (user, organisation) = (&record.user.0, &record.organisation.0);
                let message = format!("{user:?} has a membership in {organisation:?} before; list each pair once");
                self.problem(&path, message);
            }
        }
        checked
    }

    fn roles(&mut self, jobs: &[document::Job]) -> BTreeMap<UserId, BTreeMap<Scope, BTreeSet<Role>>> {
        let mut checked = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
        for (at, job) in jobs.iter().enumerate() {
            let path = format_args!("roles[{at}]");
            let Some((user, scope, role)) = self.records().job(&path, job) else { continue };
            if !checked.entry(user).or_default().entry(scope).or_default().insert(role) {
                self.problem(&path, "is listed before; list each role once".to_owned());
            }
        }
        checked
    }

    fn cooperations(
        &mut self,
        cooperations: &[document::Cooperation],
    ) -> BTreeMap<Scope, BTreeMap<OrganisationId, Option<Timestamp>>> {
        let mut checked = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (at, cooperation) in cooperations.iter().enumerate() {
            let path = format_args!("cooperations[{at}]");
            let Some((scope, partner, until)) = self.records().cooperation(&path, cooperation) else { continue };
            if !insert_new(checked.entry(scope).or_default(), partner, until) {
                self.problem(&path, "is listed before; list each cooperation once".to_owned());
            }
        }
        checked
    }

    fn certificates(&mut self, certificates: &[document::Certificate]) -> BTreeMap<CertificateId, Certificate> {
        let mut checked = BTreeMap::new();
        let mut of_user = BTreeMap::new();
        for (at, record) in certificates.iter().enumerate() {
            let path = format_args!("certificates[{at}]");
            let certificate = self.records().certificate(&path, record);
            // The user and the key count also where the other is wrong.
            if let Some(user) = &record.user
                && self.declared.has_user(&user.0)
                && let Some(before) = of_user.insert(&user.0, at)
            {
                let message = format!(
                    "{:?} has a certificate before (certificates[{before}]); a user has one active certificate",
                    user.0
                );
                self.problem(&format_args!("{path}.user"), message);
            }
            if let Ok(key) = record.public_key.0.parse() {
                self.is_new_key(format!("{path}.public_key"), key, None);
            }
            if let (Ok(id), Some(certificate)) = (record.id.0.parse(), certificate) {
                checked.insert(id, certificate);
            }
        }
        checked
    }

    fn priorities(&mut self, priorities: &[document::Priority]) -> BTreeMap<UserId, Vec<PlantId>> {
        let mut checked = BTreeMap::new();
        for (at, record) in priorities.iter().enumerate() {
            let path = format_args!("priorities[{at}]");
            let Some((user, plants)) = self.records().priority(&path, &record.user, &record.plants) else { continue };
            if record.plants.is_empty() {
                let message = "is empty; list the plants, or leave the whole entry out".to_owned();
                self.problem(&format_args!("{path}.plants"), message);
            }
            if !insert_new(&mut checked, user, plants) {
                let message = format!("{:?} has an entry before; list each user once", record.user.0);
                self.problem(&format_args!("{path}.user"), message);
            }
        }
        checked
    }

    fn disabled(&mut self, disabled: &[document::Disabled]) -> BTreeMap<UserId, Disabled> {
        let mut checked = BTreeMap::<_, Disabled>::new();
        for (at, record) in disabled.iter().enumerate() {
            let path = format_args!("disabled[{at}]");
            let Some((user, route, until)) = self.records().disabled(&path, record) else { continue };
            if !insert_new(checked.entry(user).or_default(), route, until) {
                self.problem(&path, "is listed before; list each route of a user once".to_owned());
            }
        }
        checked
    }

    fn ledger(&mut self, document: &document::Ledger, state: &State) -> Ledger {
        let mut ledger = Ledger::default();
        for (at, record) in document.peers.iter().enumerate() {
            let path = format_args!("allocations.peers[{at}]");
            let Some((id, peer)) = self.records().ledger_peer(&path, record) else { continue };
            if ledger.peers().contains_key(&id) {
                self.problem(&format_args!("{path}.certificate"), format!("\"{id}\" is listed before; list each once"));
                continue;
            }
            let certificate = state.certificates.get(&id);
            let owner = certificate.map_or(Ok(()), |of| ledger::check_owner(&peer, &of.owner.holder()));
            match owner.and_then(|()| ledger.check_peer(&id, &peer)) {
                Ok(()) => drop(ledger.set_peer(id, Some(peer))),
                Err(clash) => self.problem(&format_args!("{path}.{}", clash.field), clash.message),
            }
        }
        for (at, record) in document.plants.iter().enumerate() {
            let path = format_args!("allocations.plants[{at}]");
            let Some((id, mut entry, subnets)) = self.records().ledger_plant(&path, record) else { continue };
            if ledger.plants().contains_key(&id) {
                self.problem(&format_args!("{path}.plant"), format!("\"{id}\" is listed before; list each once"));
                continue;
            }
            let plant = state.plants.get(&id);
            let operator = plant.map_or(Ok(()), |plant| ledger::check_operator(&entry, &plant.organisation));
            match operator.and_then(|()| ledger.check_plant(&id, &entry, &subnets)) {
                Ok(()) => {
                    entry.subnets.extend(subnets);
                    ledger.set_plant(id, Some(entry));
                }
                Err(clash) => self.problem(&format_args!("{path}.{}", clash.field), clash.message),
            }
        }
        let (document::Next { peer, plant, route }, least) = (document.next, ledger.least_next());
        for (field, next, least) in
            [("peer", peer, least.peer), ("plant", plant, least.plant), ("route", route, least.route)]
        {
            if next < least {
                let message = format!("{next} was given already; use {least} or more");
                self.problem(&format_args!("allocations.next.{field}"), message);
            }
        }
        let tunnel6 = document.tunnel6.map(|document::Tunnel6 { tunnel, tunnel6 }| Tunnel6 { tunnel, tunnel6 });
        ledger.set_next(Next { peer, plant, route }, tunnel6);
        ledger
    }

    fn problem(&mut self, path: &dyn Display, message: String) {
        self.problems.push(Problem { path: path.to_string(), message });
    }
}

impl Declared {
    /// An organisation, if there is such a one; if not, that is reported where the owner is named.
    fn owner(&self, Id(text): &Id) -> Option<OrganisationId> {
        self.organisations.get(text.as_str()).cloned()
    }
}

/// What `BTreeSet::insert` does and says, for maps: the first value stays.
fn insert_new<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    match map.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
        Entry::Occupied(_) => false,
    }
}
