//! From the text of a desired state to a [`State`], or to everything that is wrong with it (requirement G4).
//!
//! Two passes: JSON types first, since a record of the wrong shape has no fields to talk about; then content. Each
//! pass lists all that it finds.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt::Display,
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    document::{self, Document, Id, Interface, Key, Subnet},
    id::{CertificateId, NotAnId, OrganisationId, PlantId, PortfolioId, UserId},
    interface,
    key::PublicKey,
    problem::{Problem, Problems},
    role::Role,
    special_ranges,
    state::{Access, Certificate, Membership, Plant, Scope, State, Uplink},
};

/// Prefix lengths that a plant's IPv4 subnet may have.
pub const PREFIX_LENGTHS: RangeInclusive<u8> = 8..=32;

/// Prefix lengths that a plant's IPv6 subnet may have.
pub const PREFIX_LENGTHS_6: RangeInclusive<u8> = 32..=128;

/// The most subnets, of both families together, that one plant may have: the programs look through all of them for
/// a packet from the plant, and their number of steps is bounded.
pub const MAX_SUBNETS: usize = 16;

impl State {
    /// Reads a desired state from JSON.
    ///
    /// # Errors
    /// All problems found, each with the path of its field.
    pub fn parse(text: &[u8]) -> Result<Self, Problems> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let parsed = serde_path_to_error::deserialize(&mut deserializer);
        match parsed.and_then(|document| deserializer.end().map(|()| document).map_err(outside)) {
            Ok(document) => Self::try_from(&document),
            Err(first) => Err(shape_problems(text, first)),
        }
    }
}

impl TryFrom<&Document> for State {
    type Error = Problems;

    fn try_from(document: &Document) -> Result<Self, Problems> {
        let mut check = Check::default();
        let state = check.document(document);
        Problems::none_of(check.problems)?;
        Ok(state)
    }
}

/// An error that belongs to no field.
fn outside(error: serde_json::Error) -> serde_path_to_error::Error<serde_json::Error> {
    serde_path_to_error::Error::new(serde_path_to_error::Track::new().path(), error)
}

/// All records of the wrong shape, given that `first` is the first problem met.
fn shape_problems(text: &[u8], first: serde_path_to_error::Error<serde_json::Error>) -> Problems {
    let first_problem = problem("", &first);
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(text) else {
        return first_problem.into();
    };
    let mut problems = Vec::new();
    match fields.remove("revision") {
        Some(value) => shape_of::<u64>("revision", value, &mut problems),
        None => problems.push(missing("revision", "a number")),
    }
    list_shape::<document::Organisation>(&mut fields, "organisations", &mut problems);
    list_shape::<document::Portfolio>(&mut fields, "portfolios", &mut problems);
    list_shape::<document::Plant>(&mut fields, "plants", &mut problems);
    list_shape::<document::User>(&mut fields, "users", &mut problems);
    list_shape::<document::Membership>(&mut fields, "memberships", &mut problems);
    list_shape::<document::Job>(&mut fields, "roles", &mut problems);
    list_shape::<document::Cooperation>(&mut fields, "cooperations", &mut problems);
    list_shape::<document::Certificate>(&mut fields, "certificates", &mut problems);
    for name in fields.keys() {
        let allowed =
            "revision, organisations, portfolios, plants, users, memberships, roles, cooperations, certificates";
        problems.push(Problem { path: name.clone(), message: format!("unknown field; use one of {allowed}") });
    }
    // A field given twice is lost in a `Value`; only the first pass over the text saw it.
    Problems::none_of(problems).err().unwrap_or_else(|| first_problem.into())
}

fn list_shape<T: DeserializeOwned>(
    fields: &mut serde_json::Map<String, Value>,
    name: &str,
    problems: &mut Vec<Problem>,
) {
    match fields.remove(name) {
        Some(Value::Array(values)) => {
            for (at, value) in values.into_iter().enumerate() {
                shape_of::<T>(&format!("{name}[{at}]"), value, problems);
            }
        }
        Some(_) => problems.push(Problem { path: name.to_owned(), message: "must be a list".to_owned() }),
        None => problems.push(missing(name, "a list, [] if there is nothing in it")),
    }
}

fn shape_of<T: DeserializeOwned>(path: &str, value: Value, problems: &mut Vec<Problem>) {
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(value) {
        problems.push(problem(path, &error));
    }
}

fn missing(name: &str, what: &str) -> Problem {
    Problem { path: name.to_owned(), message: format!("missing; give {what}") }
}

fn problem(outer: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.path().to_string();
    let path = match (outer, inner.as_str()) {
        (outer, ".") => outer.to_owned(),
        ("", inner) => inner.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    };
    Problem { path, message: error.inner().to_string() }
}

/// The second pass. Paths are passed as something to display, so that nothing is formatted while all is well.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    organisations: BTreeSet<OrganisationId>,
    /// By owner.
    portfolios: BTreeMap<PortfolioId, Option<OrganisationId>>,
    /// By owner.
    plants: BTreeMap<PlantId, Option<OrganisationId>>,
    users: BTreeSet<UserId>,
    certificates: BTreeSet<CertificateId>,
    /// Where each public key was seen first.
    keys: BTreeMap<PublicKey, String>,
    /// Where each interface of the host's was seen first.
    interfaces: BTreeMap<String, String>,
}

impl Check {
    fn document(&mut self, document: &Document) -> State {
        self.declare(
            "organisations",
            document.organisations.iter().map(|organisation| &organisation.id),
            |check, _, id| check.organisations.insert(id),
        );
        self.declare("portfolios", document.portfolios.iter().map(|portfolio| &portfolio.id), |check, at, id| {
            let owner = check.owner(&document.portfolios[at].organisation);
            insert_new(&mut check.portfolios, id, owner)
        });
        self.declare("plants", document.plants.iter().map(|plant| &plant.id), |check, at, id| {
            let owner = check.owner(&document.plants[at].organisation);
            insert_new(&mut check.plants, id, owner)
        });
        self.declare("users", document.users.iter().map(|user| &user.id), |check, _, id| check.users.insert(id));
        self.declare(
            "certificates",
            document.certificates.iter().map(|certificate| &certificate.id),
            |check, _, id| check.certificates.insert(id),
        );

        State {
            revision: document.revision,
            portfolios: self.portfolios(&document.portfolios),
            plants: self.plants(&document.plants),
            memberships: self.memberships(&document.memberships),
            roles: self.roles(&document.roles),
            cooperations: self.cooperations(&document.cooperations),
            certificates: self.certificates(&document.certificates),
            organisations: std::mem::take(&mut self.organisations),
            users: std::mem::take(&mut self.users),
        }
    }

    /// Reads the ids of a list; `insert` says whether the id is a new one.
    fn declare<'d, T: FromStr<Err = NotAnId>>(
        &mut self,
        list: &str,
        ids: impl Iterator<Item = &'d Id>,
        insert: impl Fn(&mut Self, usize, T) -> bool,
    ) {
        for (at, id) in ids.enumerate() {
            let path = format_args!("{list}[{at}].id");
            if let Some(parsed) = self.id::<T>(&path, id)
                && !insert(self, at, parsed)
            {
                self.problem(&path, format!("{:?} is used before in {list}; ids must be unique", id.0));
            }
        }
    }

    /// An organisation, if there is such a one; if not, that is reported where the owner is named.
    fn owner(&self, Id(text): &Id) -> Option<OrganisationId> {
        self.organisations.get(text.as_str()).cloned()
    }

    fn portfolios(&mut self, portfolios: &[document::Portfolio]) -> BTreeMap<PortfolioId, OrganisationId> {
        let mut checked = BTreeMap::new();
        for (at, portfolio) in portfolios.iter().enumerate() {
            let organisation =
                self.organisation(&format_args!("portfolios[{at}].organisation"), &portfolio.organisation);
            if let (Ok(id), Some(organisation)) = (portfolio.id.0.parse(), organisation) {
                checked.insert(id, organisation);
            }
        }
        checked
    }

    fn plants(&mut self, plants: &[document::Plant]) -> BTreeMap<PlantId, Plant> {
        let mut checked = BTreeMap::new();
        for (at, plant) in plants.iter().enumerate() {
            let organisation = self.organisation(&format_args!("plants[{at}].organisation"), &plant.organisation);
            let portfolio = plant.portfolio.as_ref().and_then(|portfolio| {
                self.portfolio(&format_args!("plants[{at}].portfolio"), portfolio, Some(&plant.organisation))
            });
            let subnets = self.subnets(at, &plant.subnets);
            let uplink = self.uplink(at, &plant.uplink);
            if let (Ok(id), Some(organisation), Some(uplink)) = (plant.id.0.parse(), organisation, uplink) {
                checked.insert(id, Plant { organisation, portfolio, subnets, uplink });
            }
        }
        checked
    }

    fn uplink(&mut self, plant: usize, uplink: &document::Uplink) -> Option<Uplink> {
        match uplink {
            document::Uplink::Host { public_key } => {
                let public_key = self.key(&format_args!("plants[{plant}].uplink.public_key"), public_key)?;
                Some(Uplink::Host { public_key })
            }
            document::Uplink::Interface { interface } => {
                let interface = self.interface(&format_args!("plants[{plant}].uplink.interface"), interface)?;
                Some(Uplink::Interface { interface })
            }
        }
    }

    fn subnets(&mut self, plant: usize, subnets: &[Subnet]) -> BTreeSet<IpNet> {
        if subnets.len() > MAX_SUBNETS {
            let message = format!(
                "{} subnets; a plant may have at most {MAX_SUBNETS}, of both families together; join some to shorter \
                 prefixes",
                subnets.len()
            );
            self.problem(&format_args!("plants[{plant}].subnets"), message);
            return BTreeSet::new();
        }
        let mut checked: Vec<(usize, IpNet)> = Vec::new();
        for (at, Subnet(text)) in subnets.iter().enumerate() {
            let path = format_args!("plants[{plant}].subnets[{at}]");
            match subnet(text) {
                Ok(subnet) => {
                    if let Some((other, before)) = checked.iter().find(|(_, before)| overlap(before, &subnet)) {
                        let message = format!(
                            "\"{subnet}\" overlaps \"{before}\" (plants[{plant}].subnets[{other}]); \
                             the subnets of one plant must be disjoint"
                        );
                        self.problem(&path, message);
                    }
                    checked.push((at, subnet));
                }
                Err(message) => self.problem(&path, message),
            }
        }
        checked.into_iter().map(|(_, subnet)| subnet).collect()
    }

    fn memberships(
        &mut self,
        memberships: &[document::Membership],
    ) -> BTreeMap<UserId, BTreeMap<OrganisationId, Membership>> {
        let mut checked = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (at, membership) in memberships.iter().enumerate() {
            let user = self.user(&format_args!("memberships[{at}].user"), &membership.user);
            let organisation =
                self.organisation(&format_args!("memberships[{at}].organisation"), &membership.organisation);
            let access = self.access(at, membership);
            let (Some(user), Some(organisation)) = (user, organisation) else { continue };
            match checked.entry(user).or_default().entry(organisation) {
                Entry::Vacant(entry) => {
                    entry.insert(Membership { kind: membership.kind, access });
                }
                Entry::Occupied(entry) => {
                    let message = format!(
                        "{:?} has a membership in {:?} before; list each pair once",
                        membership.user.0,
                        entry.key().as_str()
                    );
                    self.problem(&format_args!("memberships[{at}]"), message);
                }
            }
        }
        checked
    }

    fn access(&mut self, membership: usize, of: &document::Membership) -> Access {
        let list = match &of.access {
            document::Access::All => return Access::All,
            document::Access::Some(list) => list,
        };
        let owner = Some(&of.organisation);
        let mut portfolios = BTreeSet::new();
        for (at, id) in list.portfolios.iter().enumerate() {
            let path = format_args!("memberships[{membership}].access.portfolios[{at}]");
            portfolios.extend(self.portfolio(&path, id, owner));
        }
        let mut plants = BTreeSet::new();
        for (at, id) in list.plants.iter().enumerate() {
            plants.extend(self.plant(&format_args!("memberships[{membership}].access.plants[{at}]"), id, owner));
        }
        Access::Some { portfolios, plants }
    }

    fn roles(&mut self, jobs: &[document::Job]) -> BTreeMap<UserId, BTreeMap<Scope, BTreeSet<Role>>> {
        let mut checked = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
        for (at, job) in jobs.iter().enumerate() {
            let user = self.user(&format_args!("roles[{at}].user"), &job.user);
            let scope = self.scope("roles", at, &job.on);
            let (Some(user), Some((scope, _))) = (user, scope) else { continue };
            if !checked.entry(user).or_default().entry(scope).or_default().insert(job.role) {
                self.problem(&format_args!("roles[{at}]"), "is listed before; list each role once".to_owned());
            }
        }
        checked
    }

    fn cooperations(&mut self, cooperations: &[document::Cooperation]) -> BTreeMap<Scope, BTreeSet<OrganisationId>> {
        let mut checked = BTreeMap::<_, BTreeSet<_>>::new();
        for (at, cooperation) in cooperations.iter().enumerate() {
            let partner = self.organisation(&format_args!("cooperations[{at}].partner"), &cooperation.partner);
            let scope = self.scope("cooperations", at, &cooperation.on);
            let (Some(partner), Some((scope, owner))) = (partner, scope) else { continue };
            if owner.as_ref() == Some(&partner) {
                let message = format!("{:?} owns what is shared; name another organisation", partner.as_str());
                self.problem(&format_args!("cooperations[{at}].partner"), message);
            }
            if !checked.entry(scope).or_default().insert(partner) {
                let message = "is listed before; list each cooperation once".to_owned();
                self.problem(&format_args!("cooperations[{at}]"), message);
            }
        }
        checked
    }

    fn certificates(&mut self, certificates: &[document::Certificate]) -> BTreeMap<CertificateId, Certificate> {
        let mut checked = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            let user = self.user(&format_args!("certificates[{at}].user"), &certificate.user);
            let key = self.key(&format_args!("certificates[{at}].public_key"), &certificate.public_key);
            if let Some(user) = &user
                && let Some(before) = owners.insert(user.clone(), at)
            {
                let message = format!(
                    "{:?} has a certificate before (certificates[{before}]); a user has one active certificate",
                    user.as_str()
                );
                self.problem(&format_args!("certificates[{at}].user"), message);
            }
            if let (Ok(id), Some(user), Some(public_key)) = (certificate.id.0.parse(), user, key) {
                checked.insert(id, Certificate { user, public_key });
            }
        }
        checked
    }

    /// A plant or portfolio, with its owner.
    fn scope(&mut self, list: &str, at: usize, scope: &document::Scope) -> Option<(Scope, Option<OrganisationId>)> {
        match scope {
            document::Scope::Plant(id) => {
                let id = self.plant(&format_args!("{list}[{at}].on.plant"), id, None)?;
                let owner = self.plants.get(&id).cloned().flatten();
                Some((Scope::Plant(id), owner))
            }
            document::Scope::Portfolio(id) => {
                let id = self.portfolio(&format_args!("{list}[{at}].on.portfolio"), id, None)?;
                let owner = self.portfolios.get(&id).cloned().flatten();
                Some((Scope::Portfolio(id), owner))
            }
        }
    }

    fn organisation(&mut self, path: &dyn Display, id: &Id) -> Option<OrganisationId> {
        let id = self.id::<OrganisationId>(path, id)?;
        self.known(path, self.organisations.contains(&id), &id, "organisations").then_some(id)
    }

    fn user(&mut self, path: &dyn Display, id: &Id) -> Option<UserId> {
        let id = self.id::<UserId>(path, id)?;
        self.known(path, self.users.contains(&id), &id, "users").then_some(id)
    }

    fn portfolio(&mut self, path: &dyn Display, id: &Id, owner: Option<&Id>) -> Option<PortfolioId> {
        let id = self.id::<PortfolioId>(path, id)?;
        let found = self.portfolios.get(&id).cloned();
        (self.known(path, found.is_some(), &id, "portfolios") && self.owned(path, &id, found.flatten(), owner))
            .then_some(id)
    }

    fn plant(&mut self, path: &dyn Display, id: &Id, owner: Option<&Id>) -> Option<PlantId> {
        let id = self.id::<PlantId>(path, id)?;
        let found = self.plants.get(&id).cloned();
        (self.known(path, found.is_some(), &id, "plants") && self.owned(path, &id, found.flatten(), owner))
            .then_some(id)
    }

    fn known(&mut self, path: &dyn Display, known: bool, id: &dyn Display, list: &str) -> bool {
        if !known {
            self.problem(path, format!("\"{id}\" is not in {list}; use the id of one of them or add it there"));
        }
        known
    }

    /// Whether `id` belongs to the organisation `wanted`, if one is asked for. An organisation that does not exist is
    /// reported where it is named.
    fn owned(
        &mut self,
        path: &dyn Display,
        id: &dyn Display,
        owner: Option<OrganisationId>,
        wanted: Option<&Id>,
    ) -> bool {
        match (owner, wanted) {
            (Some(owner), Some(Id(wanted)))
                if owner.as_str() != wanted && self.organisations.contains(wanted.as_str()) =>
            {
                self.problem(path, format!("\"{id}\" belongs to \"{owner}\"; use one of \"{wanted}\""));
                false
            }
            _ => true,
        }
    }

    fn id<T: FromStr<Err = NotAnId>>(&mut self, path: &dyn Display, id: &Id) -> Option<T> {
        id.0.parse().map_err(|error: NotAnId| self.problem(path, error.to_string())).ok()
    }

    /// A valid key that was not seen before.
    fn key(&mut self, path: &dyn Display, Key(text): &Key) -> Option<PublicKey> {
        let key = match text.parse::<PublicKey>() {
            Ok(key) => key,
            Err(error) => {
                self.problem(path, error.to_string());
                return None;
            }
        };
        match self.keys.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(path.to_string());
                Some(key)
            }
            Entry::Occupied(before) => {
                let message =
                    format!("\"{key}\" is also {}; every certificate and uplink has its own key", before.get());
                self.problem(path, message);
                None
            }
        }
    }

    /// A valid name of an interface that was not seen before.
    fn interface(&mut self, path: &dyn Display, Interface(name): &Interface) -> Option<String> {
        if let Err(message) = interface::check(name) {
            self.problem(path, message);
            return None;
        }
        match self.interfaces.entry(name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(path.to_string());
                Some(name.clone())
            }
            Entry::Occupied(before) => {
                let message = format!(
                    "{name:?} is also {}; an interface is the uplink of one plant, use a VLAN for each",
                    before.get()
                );
                self.problem(path, message);
                None
            }
        }
    }

    fn problem(&mut self, path: &dyn Display, message: String) {
        self.problems.push(Problem { path: path.to_string(), message });
    }
}

/// A plant's subnet, or what is wrong with it and what to write instead.
fn subnet(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(format!("{text:?} is not a subnet; use one such as \"192.168.1.0/24\" or \"2001:db8:1::/64\""));
    };
    if net.trunc() != net {
        return Err(format!("{text:?} has host bits set; use {}", net.trunc()));
    }
    let lengths = if net.addr().is_ipv4() { PREFIX_LENGTHS } else { PREFIX_LENGTHS_6 };
    if !lengths.contains(&net.prefix_len()) {
        let (length, least, most) = (net.prefix_len(), lengths.start(), lengths.end());
        return Err(format!("{text:?} has prefix length {length}; use prefix lengths {least} to {most}"));
    }
    match special_ranges::purpose(&net) {
        Some(purpose) => {
            Err(format!("{text:?} is in the {purpose} range; use the subnet that the plant's devices are in"))
        }
        None => Ok(net),
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{document::MembershipKind, example};

    #[test]
    fn the_example_is_valid_and_indexed() {
        let state = example::state();
        assert_eq!(state.revision, 7);
        let plant = &state.plants["north"];
        assert_eq!(plant.portfolio.as_ref().unwrap().as_str(), "alpha-wind");
        assert_eq!(plant.subnets, BTreeSet::from(["192.168.1.0/24".parse().unwrap()]));
        assert_eq!(state.memberships["user-a"]["alpha"].kind, MembershipKind::Member);
        assert_eq!(state.certificates["certificate-a"].user.as_str(), "user-a");
    }

    /// One mistake at a time: where it is made, what is put there, and the start and a part of the answer.
    /// Requirements: A1, G4.
    #[test]
    fn every_rule_names_the_field_and_what_is_allowed() {
        let other_key = example::key(77);
        for (pointer, value, path, part) in [
            // Shapes.
            ("/revision", json!(-1), "revision", "expected u64"),
            ("/plants", json!({}), "plants", "must be a list"),
            ("/plants/0/subnets", json!("192.168.1.0/24"), "plants[0].subnets", "expected a sequence"),
            ("/plants/0/colour", json!("red"), "plants[0].colour", "unknown field `colour`, expected one of `id`"),
            (
                "/plants/0/uplink/kind",
                json!("pigeon"),
                "plants[0].uplink.kind",
                "unknown variant `pigeon`, expected `host` or `interface`",
            ),
            ("/roles/0/role", json!("boss"), "roles[0].role", "`technical-manager`"),
            ("/roles/0/on", json!({"site": "north"}), "roles[0].on", "expected `plant` or `portfolio`"),
            ("/memberships/0/access", json!("some"), "memberships[0].access", r#"expected "all" or {"portfolios""#),
            ("/memberships/0/access", json!({"plants": []}), "memberships[0].access", "missing field `portfolios`"),
            ("/extra", json!([]), "extra", "use one of revision, organisations"),
            // Ids and references.
            ("/users/0/id", json!("User A"), "users[0].id", "a-z 0-9"),
            ("/organisations/1/id", json!("alpha"), "organisations[1].id", "unique"),
            ("/plants/1/id", json!("north"), "plants[1].id", "unique"),
            ("/portfolios/0/organisation", json!("gamma"), "portfolios[0].organisation", "not in organisations"),
            ("/plants/0/organisation", json!("gamma"), "plants[0].organisation", "not in organisations"),
            ("/plants/0/portfolio", json!("gamma"), "plants[0].portfolio", "not in portfolios"),
            (
                "/plants/0/portfolio",
                json!("beta-sun"),
                "plants[0].portfolio",
                r#"belongs to "beta"; use one of "alpha""#,
            ),
            ("/memberships/0/user", json!("nobody"), "memberships[0].user", "not in users"),
            ("/memberships/0/organisation", json!("gamma"), "memberships[0].organisation", "not in organisations"),
            ("/memberships/0/access/plants/0", json!("nowhere"), "memberships[0].access.plants[0]", "not in plants"),
            (
                "/memberships/0/access/plants/0",
                json!("south"),
                "memberships[0].access.plants[0]",
                r#"belongs to "beta""#,
            ),
            ("/memberships/0/access/portfolios/0", json!("beta-sun"), "memberships[0].access.portfolios[0]", "belongs"),
            ("/roles/0/user", json!("nobody"), "roles[0].user", "not in users"),
            ("/roles/0/on", json!({"plant": "nowhere"}), "roles[0].on.plant", "not in plants"),
            ("/roles/0/on", json!({"portfolio": "nowhere"}), "roles[0].on.portfolio", "not in portfolios"),
            ("/cooperations/0/partner", json!("gamma"), "cooperations[0].partner", "not in organisations"),
            ("/cooperations/0/partner", json!("alpha"), "cooperations[0].partner", "another organisation"),
            ("/certificates/0/user", json!("nobody"), "certificates[0].user", "not in users"),
            ("/certificates/1/user", json!("user-a"), "certificates[1].user", "one active certificate"),
            ("/certificates/1/id", json!("certificate-a"), "certificates[1].id", "unique"),
            // Keys.
            ("/certificates/0/public_key", json!("secret"), "certificates[0].public_key", "44 characters"),
            (
                "/certificates/0/public_key",
                json!(example::key(2)),
                "certificates[1].public_key",
                "also certificates[0]",
            ),
            (
                "/plants/0/uplink/public_key",
                json!(example::key(1)),
                "certificates[0].public_key",
                "also plants[0].uplink",
            ),
            // Subnets.
            (
                "/plants/1/subnets/0",
                json!("192.168.1.5/24"),
                "plants[1].subnets[0]",
                "host bits set; use 192.168.1.0/24",
            ),
            ("/plants/1/subnets/0", json!("fd00::1/64"), "plants[1].subnets[0]", "host bits set; use fd00::/64"),
            ("/plants/1/subnets/0", json!("fd00::/31"), "plants[1].subnets[0]", "prefix lengths 32 to 128"),
            ("/plants/1/subnets/0", json!("fd00::/129"), "plants[1].subnets[0]", "is not a subnet"),
            ("/plants/1/subnets/0", json!("::/32"), "plants[1].subnets[0]", "in the reserved range"),
            ("/plants/1/subnets/0", json!("::1/128"), "plants[1].subnets[0]", "in the reserved range"),
            ("/plants/1/subnets/0", json!("fe80::/64"), "plants[1].subnets[0]", "link-local"),
            ("/plants/1/subnets/0", json!("ff02::/64"), "plants[1].subnets[0]", "multicast"),
            ("/plants/1/subnets/0", json!("::ffff:10.0.0.0/104"), "plants[1].subnets[0]", "IPv4-mapped"),
            ("/plants/1/subnets/0", json!("10.0.0.0/7"), "plants[1].subnets[0]", "prefix lengths 8 to 32"),
            ("/plants/1/subnets/0", json!("10.0.0.0"), "plants[1].subnets[0]", "is not a subnet"),
            ("/plants/1/subnets/0", json!("127.0.0.0/24"), "plants[1].subnets[0]", "loopback"),
            ("/plants/1/subnets/0", json!("224.1.0.0/24"), "plants[1].subnets[0]", "multicast"),
            ("/plants/1/subnets/1", json!("192.168.1.128/25"), "plants[1].subnets[1]", r#"overlaps "192.168.1.0/24""#),
            ("/plants/1/subnets/1", json!("192.168.1.0/24"), "plants[1].subnets[1]", "disjoint"),
            (
                "/plants/1/subnets",
                json!(["fd00::/48", "192.168.1.0/24", "fd00:0:0:7::/64"]),
                "plants[1].subnets[2]",
                r#"overlaps "fd00::/48" (plants[1].subnets[0])"#,
            ),
            (
                "/plants/1/subnets",
                (0..17).map(|at| format!("fd00:{at}::/64")).collect(),
                "plants[1].subnets",
                "17 subnets; a plant may have at most 16",
            ),
            // Interfaces.
            ("/plants/0/uplink", json!({"kind": "interface"}), "plants[0].uplink", "missing field `interface`"),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "eth 1"}),
                "plants[0].uplink.interface",
                "is not an interface name",
            ),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "wgp-1"}),
                "plants[0].uplink.interface",
                "does not start with",
            ),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "eth1", "public_key": example::key(9)}),
                "plants[0].uplink",
                "unknown field `public_key`, expected `interface`",
            ),
        ] {
            let problems = problems_with(&[(pointer, value.clone())]);
            let found = problems.iter().any(|problem| problem.path == path && problem.message.contains(part));
            assert!(found, "{pointer} = {value}: {problems:?}");
            // An id that is gone is missed wherever it was used.
            assert!(problems.len() == 1 || pointer.ends_with("/id"), "{pointer} = {value}: {problems:?}");
        }
        assert!(problems_with(&[("/certificates/0/public_key", json!(other_key))]).is_empty(), "a rotation is fine");
    }

    #[test]
    fn an_interface_is_the_uplink_of_one_plant() {
        let uplink = |name: &str| json!({"kind": "interface", "interface": name});
        let both =
            |north, south| problems_with(&[("/plants/0/uplink", uplink(north)), ("/plants/1/uplink", uplink(south))]);
        assert_eq!(both("eth1.10", "eth1.11"), []);
        let problems = both("eth1.10", "eth1.10");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, "plants[1].uplink.interface");
        assert!(problems[0].message.contains("also plants[0].uplink.interface"), "{problems:?}");
    }

    #[test]
    fn subnets_of_both_families_are_kept() {
        let mut document = example::json();
        let subnets: Vec<_> = (0..8).flat_map(|at| [format!("fd00:{at}::/64"), format!("10.{at}.0.0/16")]).collect();
        document["plants"][0]["subnets"] = json!(subnets);
        let expected: BTreeSet<IpNet> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        assert_eq!(example::parse(&document).plants["north"].subnets, expected, "as many as there may be");
        document["plants"][0]["subnets"] = json!(["FD00:0::/128", "2001:db8::/32"]);
        let kept: Vec<_> = example::parse(&document).plants["north"].subnets.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["2001:db8::/32", "fd00::/128"]);
    }

    /// The schema is for editors, so it may take what is refused later, but it must not refuse what is taken.
    #[test]
    fn the_schema_knows_both_families_and_both_uplinks() {
        let schema = serde_json::to_string(&schemars::schema_for!(Document)).unwrap();
        for part in ["[0-9A-Fa-f]*:", r#""const":"interface""#, r#""const":"host""#] {
            assert!(schema.contains(part), "{part}: {schema}");
        }
    }

    /// Requirements: G4.
    #[test]
    fn records_listed_twice_are_named() {
        for list in ["memberships", "roles", "cooperations"] {
            let mut document = example::json();
            let first = document[list][0].clone();
            let records = document[list].as_array_mut().unwrap();
            let path = format!("{list}[{}]", records.len());
            records.push(first);
            let problems = problems_of(&document);
            assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
        }
    }

    /// Requirements: G4.
    #[test]
    fn all_problems_of_a_pass_are_listed() {
        let content = problems_with(&[
            ("/plants/0/subnets/0", json!("192.168.1.1/24")),
            ("/plants/0/uplink/public_key", json!("?")),
            ("/plants/1/organisation", json!("gamma")),
            ("/users/0/id", json!("")),
            ("/certificates/1/user", json!("nobody")),
        ]);
        let paths: Vec<_> = content.iter().map(|problem| problem.path.as_str()).collect();
        for path in [
            "plants[0].subnets[0]",
            "plants[0].uplink.public_key",
            "plants[1].organisation",
            "users[0].id",
            "certificates[1].user",
        ] {
            assert!(paths.contains(&path), "{path} is missing in {paths:?}");
        }
        let shapes = problems_with(&[
            ("/plants/0/subnets", json!(7)),
            ("/users/0/name", json!(7)),
            ("/roles/1/role", json!("boss")),
            ("/extra", json!(7)),
        ]);
        let paths: Vec<_> = shapes.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["plants[0].subnets", "users[0].name", "roles[1].role", "extra"]);
    }

    /// Requirements: G4.
    #[test]
    fn what_is_not_a_document_says_where_it_stops() {
        let error = |text: &str| State::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("EOF"), "{}", error(""));
        assert!(error("{\n\"revision\": x}").contains("line 2"), "{}", error("{\n\"revision\": x}"));
        assert!(error("[]").contains("expected struct Document") || error("[]").contains("invalid"), "{}", error("[]"));
        let text = example::json().to_string();
        assert!(error(&format!("{text}}}")).contains("trailing"), "{}", error(&format!("{text}}}")));
        let twice = text.replacen('{', r#"{"revision": 8,"#, 1);
        assert!(error(&twice).contains("duplicate field `revision`"), "{}", error(&twice));
        let mut cut = example::json();
        cut.as_object_mut().unwrap().remove("certificates");
        assert!(
            error(&cut.to_string()).starts_with("certificates: missing; give a list"),
            "{}",
            error(&cut.to_string())
        );
    }

    fn problems_with(changes: &[(&str, Value)]) -> Vec<Problem> {
        let mut document = example::json();
        for (pointer, value) in changes {
            set(&mut document, pointer, value.clone());
        }
        problems_of(&document)
    }

    fn problems_of(document: &Value) -> Vec<Problem> {
        State::parse(document.to_string().as_bytes()).err().map(|problems| problems.list().to_vec()).unwrap_or_default()
    }

    /// Replaces or adds what `pointer` names.
    fn set(document: &mut Value, pointer: &str, value: Value) {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(items) if items.len() == last.parse::<usize>().unwrap() => items.push(value),
            Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
            Value::Object(fields) => {
                fields.insert(last.to_owned(), value);
            }
            other => panic!("{parent} is {other}"),
        }
    }
}
