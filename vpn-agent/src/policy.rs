//! Who may reach which plant (requirements B1 to B4, C2, C3, D3). Pure: from a state to sets of plants.
//!
//! A route needs an access, by membership (step 1, [`access`]) or, for a foreign plant, by cooperation (step 3,
//! [`cooperation`]), and a job role that opens routes (step 2, [`role`]) in either case. No step knows anything of the
//! others. What the routes of one user mean together, and what the user wants of them, is [`reach`].
//!
//! A plant is foreign to a user who has no membership, of whatever kind, in the organisation that operates it. To
//! everybody else it is an own plant: what their organisation does not make accessible, a cooperation does not either.
//!
//! The certificate of an organisation reaches those of its plants that the organisation operates, or that are shared
//! with it.
//!
//! Nothing is remembered: everything follows from the state and the moment.

pub mod access;
mod chain;
pub mod cooperation;
pub mod reach;
pub mod role;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use self::{
    access::{Membership, own_access},
    cooperation::{Cooperation, is_shared_with},
    reach::Wishes,
    role::{is_operator_level, opens},
};
pub use self::{chain::Chain, reach::Reach};
use crate::{
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    state::{Access, Owner, Plant, Scope, State},
    terms::Terms,
};

/// What certificates reach. Certificates that reach the same share one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy<'s> {
    /// Different from each other; some may be of no plant at all.
    pub reaches: Vec<Reach<'s>>,
    /// Index into `reaches` for every certificate.
    pub certificates: BTreeMap<CertificateId, usize>,
}

impl<'s> Policy<'s> {
    /// What every certificate of the state reaches.
    #[must_use]
    pub fn compile(state: &'s State, terms: &Terms) -> Self {
        Self::compile_of(state, terms, state.certificates.keys())
    }

    /// What these certificates reach, as far as the state has them. Its cost does not depend on how many others there
    /// are.
    #[must_use]
    pub fn compile_of<'c>(
        state: &'s State,
        terms: &Terms,
        certificates: impl IntoIterator<Item = &'c CertificateId>,
    ) -> Self {
        let rules = Rules { state, terms };
        let mut shared = Shared::default();
        let certificates = certificates.into_iter().filter_map(|id| {
            let at = match &state.certificates.get(id)?.owner {
                Owner::User(user) => shared.of_user(&rules, user),
                Owner::Organisation { organisation, plants } => {
                    shared.of_plants(state, rules.plants_of_organisation(organisation, plants), &Wishes::default())
                }
            };
            Some((id.clone(), at))
        });
        let certificates = certificates.collect();
        Self { reaches: shared.reaches, certificates }
    }

    /// What a certificate reaches, if it was among those that were asked for.
    #[must_use]
    pub fn of(&self, certificate: &str) -> Option<&Reach<'s>> {
        self.certificates.get(certificate).and_then(|at| self.reaches.get(*at))
    }
}

/// The plants that the rights of `owner` open, sorted; whatever the owner has switched off.
#[must_use]
pub fn rights<'s>(state: &'s State, terms: &Terms, owner: &'s Owner) -> Vec<&'s PlantId> {
    let rules = Rules { state, terms };
    match owner {
        Owner::User(user) => rules.plants(&rules.grants(user)),
        Owner::Organisation { organisation, plants } => rules.plants_of_organisation(organisation, plants),
    }
}

/// What makes a reach: its plants, what is switched off of them, and which real subnets lead elsewhere than by
/// themselves.
type Content<'s> = (Vec<&'s PlantId>, BTreeSet<(&'s PlantId, IpNet)>, Vec<(IpNet, &'s PlantId)>);

/// Reaches so far. Most users share their grants with many others, so plants are looked up once for each set of
/// grants. Two sets of grants can still come to the same reach.
#[derive(Default)]
struct Shared<'s> {
    reaches: Vec<Reach<'s>>,
    by_grants: HashMap<(BTreeSet<Grant<'s>>, Wishes<'s>), usize>,
    by_content: HashMap<Content<'s>, usize>,
}

impl<'s> Shared<'s> {
    fn of_user(&mut self, rules: &Rules<'s, '_>, user: &'s UserId) -> usize {
        let key = (rules.grants(user), Wishes::of(rules.state, rules.terms, user));
        if let Some(at) = self.by_grants.get(&key) {
            return *at;
        }
        let at = self.of_plants(rules.state, rules.plants(&key.0), &key.1);
        self.by_grants.insert(key, at);
        at
    }

    fn of_plants(&mut self, state: &'s State, plants: Vec<&'s PlantId>, wishes: &Wishes<'s>) -> usize {
        let mut built = None;
        let content = if wishes.is_empty() {
            (plants, BTreeSet::new(), Vec::new())
        } else {
            let reach = built.insert(Reach::new(state, plants, wishes));
            (reach.plants.clone(), reach.disabled.clone(), reach.exceptions())
        };
        *self.by_content.entry(content).or_insert_with_key(|(plants, ..)| {
            self.reaches.push(built.unwrap_or_else(|| Reach::new(state, plants.clone(), wishes)));
            self.reaches.len() - 1
        })
    }
}

/// What somebody may reach, before it is known which plants are in a portfolio.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Grant<'s> {
    Plant(&'s PlantId),
    Portfolio(&'s PortfolioId),
}

/// A state and what it is judged by.
struct Rules<'s, 't> {
    state: &'s State,
    terms: &'t Terms,
}

impl<'s> Rules<'s, '_> {
    /// What `user` may reach. Starts from step 2, because a user has few roles but may have access to many plants.
    fn grants(&self, user: &UserId) -> BTreeSet<Grant<'s>> {
        let mut grants = BTreeSet::new();
        for (scope, roles) in self.state.roles.get(user).into_iter().flatten() {
            if !roles.iter().any(|role| opens(self.terms, *role)) {
                continue;
            }
            match scope {
                Scope::Plant(id) => {
                    if self.has_access(user, id) {
                        grants.insert(Grant::Plant(id));
                    }
                }
                Scope::Portfolio(id) => {
                    if self.has_access_to_all_of(user, id) {
                        grants.insert(Grant::Portfolio(id));
                    } else {
                        let accessible = self.state.plants_in(id.as_str()).filter(|id| self.has_access(user, id));
                        grants.extend(accessible.map(Grant::Plant));
                    }
                }
            }
        }
        grants
    }

    /// Steps 1 and 3, of which the second takes the place of the first for a foreign plant.
    fn has_access(&self, user: &UserId, id: &PlantId) -> bool {
        let Some(plant) = self.state.plants.get(id) else { return false };
        match Membership::of(self.state, user, id, plant) {
            Membership::Foreign => Cooperation::of(self.state, self.terms, user, id, plant).opens(),
            own => own.opens(),
        }
    }

    /// Whether access to every plant in a portfolio follows without looking at the plants one by one.
    fn has_access_to_all_of(&self, user: &UserId, portfolio: &PortfolioId) -> bool {
        let Some(owner) = self.state.portfolios.get(portfolio) else { return false };
        match own_access(self.state, user, owner) {
            Some(Access::All) => true,
            Some(Access::Some { portfolios, .. }) => portfolios.contains(portfolio),
            None => {
                let scope = Scope::Portfolio(portfolio.clone());
                is_shared_with(self.state, self.terms, user, &scope) && is_operator_level(self.state, user, &scope)
            }
        }
    }

    /// Sorted, each once.
    fn plants(&self, grants: &BTreeSet<Grant<'s>>) -> Vec<&'s PlantId> {
        let mut plants = Vec::new();
        for grant in grants {
            match grant {
                Grant::Plant(id) => plants.push(*id),
                Grant::Portfolio(id) => plants.extend(self.state.plants_in(id.as_str())),
            }
        }
        plants.sort_unstable();
        plants.dedup();
        plants
    }

    /// Those of `plants` that a certificate of `organisation` reaches, sorted (requirement D3).
    fn plants_of_organisation(&self, organisation: &OrganisationId, plants: &'s BTreeSet<PlantId>) -> Vec<&'s PlantId> {
        let is_reached = |id: &PlantId, plant: &Plant| {
            plant.organisation == *organisation
                || Cooperation::of_organisation(self.state, self.terms, organisation, id, plant).opens()
        };
        plants.iter().filter(|id| self.state.plants.get(*id).is_some_and(|plant| is_reached(id, plant))).collect()
    }
}

#[cfg(test)]
mod tests;
