//! How each change is made.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, sync::Arc};

use ipnet::IpNet;

use super::{Change, Touched, referrers::Referrers};
use crate::{
    document::{self, Id, Key},
    id::{CertificateId, NotAnId, OrganisationId, PlantId, PortfolioId, UserId},
    key::PublicKey,
    ledger,
    problem::Problem,
    state::{Access, Entry, KeyOf, Membership, Organisation, Owner, Plant, Routes, Scope, State, User},
    validate::records::{Ends, Known, Records},
};

/// Changes on their way into a state.
pub struct Making<'s> {
    pub(super) state: &'s mut State,
    /// What was there before, in the order in which it was replaced.
    undo: Vec<Entry>,
    pub(super) touched: Touched,
    pub(super) problems: Vec<Problem>,
}

impl Known for State {
    fn has_organisation(&self, id: &str) -> bool {
        self.organisations.contains_key(id)
    }

    fn has_user(&self, id: &str) -> bool {
        self.users.contains_key(id)
    }

    fn portfolio(&self, id: &str) -> Option<Option<&OrganisationId>> {
        self.portfolios.get(id).map(Some)
    }

    fn plant(&self, id: &str) -> Option<Option<&OrganisationId>> {
        self.plants.get(id).map(|plant| Some(&plant.organisation))
    }

    fn subnets(&self, plant: &str) -> Option<&BTreeSet<IpNet>> {
        self.plants.get(plant).map(|plant| &plant.subnets)
    }
}

impl<'s> Making<'s> {
    pub fn new(state: &'s mut State) -> Self {
        let revision = Entry::Revision(state.revision.saturating_add(1));
        let undo = vec![state.replace(revision)];
        Self { state, undo, touched: Touched::Certificates(BTreeSet::new()), problems: Vec::new() }
    }

    pub fn end(self) -> (Vec<Entry>, Touched, Vec<Problem>) {
        (self.undo, self.touched, self.problems)
    }

    /// Makes one change, or finds out why it cannot be made.
    pub fn make(&mut self, path: &dyn Display, change: &Change) {
        // What is wrong is in `problems` by then.
        let _: Option<()> = match change {
            Change::PutOrganisation(record) => self.put_organisation(path, record),
            Change::RemoveOrganisation { id } => self.remove_organisation(path, id),
            Change::PutPortfolio(record) => self.put_portfolio(path, record),
            Change::RemovePortfolio { id } => self.remove_portfolio(path, id),
            Change::PutPlant(record) => self.put_plant(path, record),
            Change::RemovePlant { id } => self.remove_plant(path, id),
            Change::PutUser(record) => self.put_user(path, record),
            Change::RemoveUser { id } => self.remove_user(path, id),
            Change::PutMembership(record) => self.put_membership(path, record),
            Change::RemoveMembership { user, organisation } => self.remove_membership(path, user, organisation),
            Change::AddRole(job) => self.put_role(path, job, true),
            Change::RemoveRole(job) => self.put_role(path, job, false),
            Change::PutCooperation(record) => self.put_cooperation(path, record),
            Change::RemoveCooperation { partner, on } => self.remove_cooperation(path, partner, on),
            Change::IssueCertificate(record) => self.issue(path, record),
            Change::RotateCertificate { id, public_key } => self.rotate(path, id, public_key),
            Change::SetCertificatePlants { id, plants } => self.set_certificate_plants(path, id, plants),
            Change::RevokeCertificate { id } => self.revoke(path, id),
            Change::SetPriority { user, plants } => self.set_priority(path, user, plants),
            Change::DisableRoute(record) => self.disable(path, record),
            Change::PutAllocations { peers, plants, next, tunnel6 } => {
                self.put_allocations(path, peers, plants, *next, *tunnel6)
            }
            Change::EnableRoute { user, plant, subnet } => self.enable(path, user, plant, subnet.as_ref()),
        };
    }

    fn put_organisation(&mut self, path: &dyn Display, record: &document::Organisation) -> Option<()> {
        let id = self.id(path, &record.id)?;
        self.put(Entry::Organisation(id, Some(Organisation { name: record.name.clone() })));
        Some(())
    }

    fn remove_organisation(&mut self, path: &dyn Display, id: &Id) -> Option<()> {
        let path = format_args!("{path}.id");
        let id = self.records().organisation(&path, id)?;
        self.unless_needed(&path, &id, &Referrers::of_organisation(self.state, &id))?;
        self.put(Entry::Organisation(id, None));
        Some(())
    }

    fn put_portfolio(&mut self, path: &dyn Display, record: &document::Portfolio) -> Option<()> {
        let id = self.id::<PortfolioId>(path, &record.id);
        let organisation_path = format_args!("{path}.organisation");
        let organisation = self.records().organisation(&organisation_path, &record.organisation);
        let (id, organisation) = id.zip(organisation)?;
        if let Some(before) = self.state.portfolios.get(&id)
            && *before != organisation
        {
            let referrers = Referrers::of_former_owner_of_portfolio(self.state, &id, &organisation);
            self.unless_needed(&organisation_path, &id, &referrers)?;
            self.touched = Touched::All;
        }
        self.put(Entry::Portfolio(id, Some(organisation)));
        Some(())
    }

    fn remove_portfolio(&mut self, path: &dyn Display, id: &Id) -> Option<()> {
        let path = format_args!("{path}.id");
        let id = self.records().portfolio(&path, id, None)?;
        self.unless_needed(&path, &id, &Referrers::of_portfolio(self.state, &id))?;
        self.put(Entry::Portfolio(id, None));
        Some(())
    }

    fn put_plant(&mut self, path: &dyn Display, record: &document::Plant) -> Option<()> {
        let id = self.id::<PlantId>(path, &record.id);
        let found = self.problems.len();
        let (plant, ends) = self.records().plant(path, record);
        let (id, plant) = id.zip(plant)?;
        self.apart(&id, ends);
        if self.problems.len() > found {
            return None;
        }
        let before = self.state.plants.get(&id).cloned();
        if let Some(before) = &before {
            if before.organisation != plant.organisation {
                let referrers = Referrers::of_former_owner_of_plant(self.state, &id, &plant.organisation);
                self.unless_needed(&format_args!("{path}.organisation"), &id, &referrers)?;
            }
            if **before == plant {
                return Some(());
            }
        }
        if let Some(entry) = self.state.ledger.as_ref().and_then(|ledger| ledger.plants().get(&id))
            && let Err(clash) = ledger::check_operator(entry, &plant.organisation)
        {
            self.problem(&format_args!("{path}.organisation"), format!("{} in allocations", clash.message));
            return None;
        }
        if let Some(before) = &before {
            let lost: Vec<_> = before.subnets.difference(&plant.subnets).copied().collect();
            self.forget_disabled(|(of, subnet)| *of == id && subnet.is_some_and(|subnet| lost.contains(&subnet)));
        }
        self.touched = Touched::All;
        self.put(Entry::Plant(id, Some(Arc::new(plant))));
        Some(())
    }

    /// Whether nobody else has the keys and interfaces of a plant.
    fn apart(&mut self, id: &PlantId, ends: Ends) {
        for (path, key) in ends.keys {
            self.new_key(&path, &key, &KeyOf::Plant(id.clone()));
        }
        for (path, region, name) in ends.interfaces {
            let is_there = |plant: &Plant| {
                let mut uplinks = plant.uplinks.iter();
                uplinks.any(|(other, uplink)| {
                    let meets = other.is_none() || region.is_none() || other == region.as_deref();
                    uplink.interface() == Some(&name) && meets
                })
            };
            let before = self.state.plants.iter().find(|(other, plant)| *other != id && is_there(plant));
            if let Some((before, _)) = before {
                let message = format!(
                    "{name:?} is also the uplink of plant {before}; an interface is the uplink of one plant, use a VLAN \
                     for each"
                );
                self.problem(&path, message);
            }
        }
    }

    fn remove_plant(&mut self, path: &dyn Display, id: &Id) -> Option<()> {
        let id = self.records().plant_id(&format_args!("{path}.id"), id, None)?;
        let scope = Scope::Plant(id.clone());
        let mut entries = Vec::new();
        for (user, scopes) in &self.state.roles {
            let roles = scopes.get(&scope).into_iter().flatten();
            entries.extend(roles.map(|role| Entry::Role(user.clone(), scope.clone(), *role, None)));
        }
        let partners = self.state.cooperations.get(&scope).into_iter().flatten();
        entries.extend(partners.map(|(partner, _)| Entry::Cooperation(scope.clone(), partner.clone(), None)));
        for (user, memberships) in &self.state.memberships {
            for (organisation, membership) in memberships {
                if let Access::Some { portfolios, plants } = &membership.access
                    && plants.contains(&id)
                {
                    let plants = plants.iter().filter(|plant| **plant != id).cloned().collect();
                    let access = Access::Some { portfolios: portfolios.clone(), plants };
                    let membership = Membership { kind: membership.kind, access };
                    entries.push(Entry::Membership(user.clone(), organisation.clone(), Some(membership)));
                }
            }
        }
        for (user, plants) in self.state.priorities.iter().filter(|(_, plants)| plants.contains(&id)) {
            let plants: Vec<_> = plants.iter().filter(|plant| **plant != id).cloned().collect();
            entries.push(Entry::Priority(user.clone(), Some(plants).filter(|plants| !plants.is_empty())));
        }
        for (certificate, of) in &self.state.certificates {
            if let Owner::Organisation { organisation, plants } = &of.owner
                && plants.contains(&id)
            {
                let plants = plants.iter().filter(|plant| **plant != id).cloned().collect();
                let mut of = of.clone();
                of.owner = Owner::Organisation { organisation: organisation.clone(), plants };
                entries.push(Entry::Certificate(certificate.clone(), Some(of)));
            }
        }
        entries.into_iter().for_each(|entry| self.put(entry));
        self.forget_disabled(|(plant, _)| *plant == id);
        self.put(Entry::Plant(id, None));
        self.touched = Touched::All;
        Some(())
    }

    fn forget_disabled(&mut self, forget: impl Fn(&Routes) -> bool) {
        let mut entries = Vec::new();
        for (user, disabled) in &self.state.disabled {
            let gone = disabled.keys().filter(|routes| forget(routes));
            entries.extend(gone.map(|routes| Entry::Disabled(user.clone(), routes.clone(), None)));
        }
        entries.into_iter().for_each(|entry| self.put(entry));
    }

    fn put_user(&mut self, path: &dyn Display, record: &document::User) -> Option<()> {
        let id = self.id(path, &record.id)?;
        self.put(Entry::User(id, Some(User { name: record.name.clone() })));
        Some(())
    }

    fn remove_user(&mut self, path: &dyn Display, id: &Id) -> Option<()> {
        let id = self.records().user(&format_args!("{path}.id"), id)?;
        let mut entries = Vec::new();
        let organisations = self.state.organisations_of(&id);
        entries.extend(organisations.map(|organisation| Entry::Membership(id.clone(), organisation.clone(), None)));
        for (scope, roles) in self.state.roles.get(&id).into_iter().flatten() {
            entries.extend(roles.iter().map(|role| Entry::Role(id.clone(), scope.clone(), *role, None)));
        }
        entries.push(Entry::Priority(id.clone(), None));
        let disabled = self.state.disabled.get(&id).into_iter().flatten();
        entries.extend(disabled.map(|(routes, _)| Entry::Disabled(id.clone(), routes.clone(), None)));
        if let Some(certificate) = self.state.certificate_of(id.as_str()).cloned() {
            entries.push(Entry::Certificate(certificate.clone(), None));
            self.touch(certificate);
        }
        entries.into_iter().for_each(|entry| self.put(entry));
        self.put(Entry::User(id, None));
        Some(())
    }

    fn put_membership(&mut self, path: &dyn Display, record: &document::Membership) -> Option<()> {
        let (user, organisation, membership) = self.valid(|records| records.membership(path, record))?;
        self.touch_user(&user);
        self.put(Entry::Membership(user, organisation, Some(membership)));
        Some(())
    }

    fn remove_membership(&mut self, path: &dyn Display, user: &Id, organisation: &Id) -> Option<()> {
        let user_id = self.records().user(&format_args!("{path}.user"), user);
        let organisation_path = format_args!("{path}.organisation");
        let organisation = self.records().organisation(&organisation_path, organisation);
        let (user, organisation) = user_id.zip(organisation)?;
        if !self.state.memberships.get(&user).is_some_and(|all| all.contains_key(&organisation)) {
            self.problem(&organisation_path, format!("\"{user}\" has no membership in \"{organisation}\""));
            return None;
        }
        self.touch_user(&user);
        self.put(Entry::Membership(user, organisation, None));
        Some(())
    }

    fn put_role(&mut self, path: &dyn Display, job: &document::Job, add: bool) -> Option<()> {
        let (user, scope, role) = self.records().job(path, job)?;
        let has = self.state.roles.get(&user).and_then(|scopes| scopes.get(&scope));
        if !add && !has.is_some_and(|roles| roles.contains(&role)) {
            self.problem(&format_args!("{path}.role"), format!("\"{user}\" does not have the role {role} on {scope}"));
            return None;
        }
        self.touch_user(&user);
        self.put(Entry::Role(user, scope, role, add.then_some(())));
        Some(())
    }

    fn put_cooperation(&mut self, path: &dyn Display, record: &document::Cooperation) -> Option<()> {
        let (scope, partner, until) = self.valid(|records| records.cooperation(path, record))?;
        self.touch_partner(&scope, &partner);
        self.put(Entry::Cooperation(scope, partner, Some(until)));
        Some(())
    }

    fn remove_cooperation(&mut self, path: &dyn Display, partner: &Id, on: &document::Scope) -> Option<()> {
        let partner_path = format_args!("{path}.partner");
        let partner = self.records().organisation(&partner_path, partner);
        let scope = self.records().scope(path, on);
        let (partner, (scope, _)) = partner.zip(scope)?;
        if !self.state.cooperations.get(&scope).is_some_and(|partners| partners.contains_key(&partner)) {
            self.problem(&partner_path, format!("{scope} is not shared with \"{partner}\""));
            return None;
        }
        self.touch_partner(&scope, &partner);
        self.put(Entry::Cooperation(scope, partner, None));
        Some(())
    }

    fn issue(&mut self, path: &dyn Display, record: &document::Certificate) -> Option<()> {
        let id = self.id::<CertificateId>(path, &record.id);
        let certificate = self.valid(|records| records.certificate(path, record));
        let (id, certificate) = id.zip(certificate)?;
        let found = self.problems.len();
        if self.state.certificates.contains_key(&id) {
            let message = format!(
                "\"{id}\" is there already; use `rotate-certificate` to give it another key, or revoke it first"
            );
            self.problem(&format_args!("{path}.id"), message);
        }
        if let Some(user) = certificate.owner.user()
            && let Some(before) = self.state.certificate_of(user.as_str())
        {
            let message = format!(
                "\"{user}\" has the certificate \"{before}\"; a user has one active certificate, so rotate or revoke \
                 that one"
            );
            self.problem(&format_args!("{path}.user"), message);
        }
        if let Some(entry) = self.state.ledger.as_ref().and_then(|ledger| ledger.peers().get(&id))
            && let Err(clash) = ledger::check_owner(entry, &certificate.owner.holder())
        {
            let field = if certificate.owner.user().is_some() { "user" } else { "organisation" };
            self.problem(&format_args!("{path}.{field}"), format!("{} in allocations", clash.message));
        }
        self.new_key(&format_args!("{path}.public_key"), &certificate.public_key, &KeyOf::Certificate(id.clone()));
        if self.problems.len() > found {
            return None;
        }
        self.touch(id.clone());
        self.put(Entry::Certificate(id, Some(certificate)));
        Some(())
    }

    fn rotate(&mut self, path: &dyn Display, id: &Id, key: &Key) -> Option<()> {
        let id = self.certificate(path, id);
        let key_path = format_args!("{path}.public_key");
        let key = self.records().key(&key_path, key);
        let (id, key) = id.zip(key)?;
        let found = self.problems.len();
        self.new_key(&key_path, &key, &KeyOf::Certificate(id.clone()));
        if self.problems.len() > found {
            return None;
        }
        let mut certificate = self.state.certificates.get(&id)?.clone();
        certificate.public_key = key;
        self.touch(id.clone());
        self.put(Entry::Certificate(id, Some(certificate)));
        Some(())
    }

    fn set_certificate_plants(&mut self, path: &dyn Display, id: &Id, plants: &[Id]) -> Option<()> {
        let id = self.certificate(path, id);
        let plants = self.valid(|records| Some(records.plants(&format_args!("{path}.plants"), plants)));
        let (id, plants) = id.zip(plants)?;
        let mut certificate = self.state.certificates.get(&id)?.clone();
        match &mut certificate.owner {
            Owner::Organisation { plants: all, .. } => *all = plants.into_iter().collect(),
            Owner::User(user) => {
                let message = format!(
                    "\"{id}\" is the certificate of the user \"{user}\", whose roles say what the user reaches; use \
                     that of an organisation"
                );
                self.problem(&format_args!("{path}.id"), message);
                return None;
            }
        }
        self.touch(id.clone());
        self.put(Entry::Certificate(id, Some(certificate)));
        Some(())
    }

    fn revoke(&mut self, path: &dyn Display, id: &Id) -> Option<()> {
        let id = self.certificate(path, id)?;
        self.touch(id.clone());
        self.put(Entry::Certificate(id, None));
        Some(())
    }

    fn set_priority(&mut self, path: &dyn Display, user: &Id, plants: &[Id]) -> Option<()> {
        let (user, plants) = self.valid(|records| records.priority(path, user, plants))?;
        self.touch_user(&user);
        self.put(Entry::Priority(user, Some(plants).filter(|plants| !plants.is_empty())));
        Some(())
    }

    fn disable(&mut self, path: &dyn Display, record: &document::Disabled) -> Option<()> {
        let (user, routes, until) = self.records().disabled(path, record)?;
        self.touch_user(&user);
        self.put(Entry::Disabled(user, routes, Some(until)));
        Some(())
    }

    fn enable(&mut self, path: &dyn Display, user: &Id, plant: &Id, subnet: Option<&document::Subnet>) -> Option<()> {
        let user = self.records().user(&format_args!("{path}.user"), user);
        let routes = self.records().routes(path, plant, subnet);
        let (user, routes) = user.zip(routes)?;
        if !self.state.disabled.get(&user).is_some_and(|disabled| disabled.contains_key(&routes)) {
            let (field, what) = match &routes {
                (plant, None) => ("plant", format!("plant \"{plant}\" as a whole")),
                (plant, Some(subnet)) => ("subnet", format!("\"{subnet}\" of plant \"{plant}\"")),
            };
            self.problem(&format_args!("{path}.{field}"), format!("{what} is not switched off for \"{user}\""));
            return None;
        }
        self.touch_user(&user);
        self.put(Entry::Disabled(user, routes, None));
        Some(())
    }

    pub(super) fn put(&mut self, entry: Entry) {
        let before = self.state.replace(entry);
        self.undo.push(before);
    }

    pub(super) fn touch(&mut self, certificate: CertificateId) {
        if let Touched::Certificates(certificates) = &mut self.touched {
            certificates.insert(certificate);
        }
    }

    fn touch_user(&mut self, user: &UserId) {
        if let Some(certificate) = self.state.certificate_of(user.as_str()).cloned() {
            self.touch(certificate);
        }
    }

    /// Whom a cooperation may matter to: who belongs to the partner and has a job role on what is shared, and the
    /// partner's own certificates.
    fn touch_partner(&mut self, scope: &Scope, partner: &OrganisationId) {
        let state = &*self.state;
        let mut scopes = BTreeSet::from([scope.clone()]);
        match scope {
            Scope::Plant(id) => {
                let portfolio = state.plants.get(id).and_then(|plant| plant.portfolio.clone());
                scopes.extend(portfolio.map(Scope::Portfolio));
            }
            Scope::Portfolio(id) => scopes.extend(state.plants_in(id.as_str()).cloned().map(Scope::Plant)),
        }
        let works_there = |user: &&UserId| {
            let roles = state.roles.get(*user);
            roles.is_some_and(|roles| roles.keys().any(|scope| scopes.contains(scope)))
        };
        let users = state.belonging_to(partner.as_str()).filter(works_there);
        let certificates = users.filter_map(|user| state.certificate_of(user.as_str()));
        let certificates: Vec<_> = certificates.chain(state.certificates_of(partner.as_str())).cloned().collect();
        certificates.into_iter().for_each(|certificate| self.touch(certificate));
    }

    pub(super) fn records(&mut self) -> Records<'_, State> {
        Records { known: self.state, problems: &mut self.problems }
    }

    /// What a record says, if nothing about it is wrong.
    fn valid<T>(&mut self, read: impl FnOnce(&mut Records<'_, State>) -> Option<T>) -> Option<T> {
        let found = self.problems.len();
        let record = read(&mut self.records());
        record.filter(|_| self.problems.len() == found)
    }

    fn id<T: FromStr<Err = NotAnId>>(&mut self, path: &dyn Display, id: &Id) -> Option<T> {
        self.records().id(&format_args!("{path}.id"), id)
    }

    /// The id of a certificate that there is.
    fn certificate(&mut self, path: &dyn Display, id: &Id) -> Option<CertificateId> {
        let id = self.id::<CertificateId>(path, id)?;
        if !self.state.certificates.contains_key(&id) {
            let message = format!("\"{id}\" is not in certificates; use the id of one of them");
            self.problem(&format_args!("{path}.id"), message);
            return None;
        }
        Some(id)
    }

    fn new_key(&mut self, path: &dyn Display, key: &PublicKey, of: &KeyOf) {
        if let Some(before) = self.state.key(key)
            && before != of
        {
            let message = format!("\"{key}\" is also {before}; every certificate and plant has its own key");
            self.problem(path, message);
        }
    }

    fn unless_needed(&mut self, path: &dyn Display, id: &dyn Display, referrers: &Referrers) -> Option<()> {
        match referrers.named() {
            None => Some(()),
            Some(named) => {
                self.problem(path, format!("\"{id}\" is still needed by {named}; remove or change these first"));
                None
            }
        }
    }

    pub(super) fn problem(&mut self, path: &dyn Display, message: String) {
        self.problems.push(Problem { path: path.to_string(), message });
    }
}
