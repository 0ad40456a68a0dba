//! What refers to what, so that nothing is removed that is still needed.

use crate::{
    id::{OrganisationId, PlantId, PortfolioId},
    state::{Access, Scope, State},
};

/// How many are named of those that refer to something.
const NAMED: usize = 3;

/// Everything that refers to something, by name.
#[derive(Default)]
pub struct Referrers(Vec<String>);

impl Referrers {
    /// What refers to an organisation.
    pub fn of_organisation(state: &State, id: &OrganisationId) -> Self {
        let mut all = Self::default();
        all.portfolios(state.portfolios.iter().filter(|(_, owner)| *owner == id).map(|(portfolio, _)| portfolio));
        all.plants(state.plants.iter().filter(|(_, plant)| plant.organisation == *id).map(|(plant, _)| plant));
        all.add(state.belonging_to(id.as_str()).map(|user| format!("the membership of {user}")));
        for (scope, partners) in &state.cooperations {
            all.add(partners.contains_key(id).then(|| format!("the cooperation on {scope}")));
        }
        all.add(state.certificates_of(id.as_str()).map(|certificate| format!("certificate {certificate}")));
        all
    }

    /// What refers to a portfolio.
    pub fn of_portfolio(state: &State, id: &PortfolioId) -> Self {
        let mut all = Self::default();
        let scope = Scope::Portfolio(id.clone());
        all.plants(state.plants_in(id.as_str()));
        all.access(state, |_, access| lists_portfolio(access, id));
        let users = state.roles.iter().filter(|(_, scopes)| scopes.contains_key(&scope));
        all.add(users.map(|(user, _)| format!("a role of {user}")));
        let partners = state.cooperations.get(&scope).into_iter().flatten();
        all.add(partners.map(|(partner, _)| format!("the cooperation with {partner}")));
        all
    }

    /// What is in the way of giving a portfolio to `owner`.
    pub fn of_former_owner_of_portfolio(state: &State, id: &PortfolioId, owner: &OrganisationId) -> Self {
        let mut all = Self::default();
        let others = |plant: &&PlantId| state.plants.get(*plant).is_some_and(|plant| plant.organisation != *owner);
        all.plants(state.plants_in(id.as_str()).filter(others));
        all.access(state, |organisation, access| organisation != owner && lists_portfolio(access, id));
        all.partner(state, &Scope::Portfolio(id.clone()), owner);
        all
    }

    /// What is in the way of giving a plant to `owner`.
    pub fn of_former_owner_of_plant(state: &State, id: &PlantId, owner: &OrganisationId) -> Self {
        let mut all = Self::default();
        all.access(state, |organisation, access| organisation != owner && lists_plant(access, id));
        all.partner(state, &Scope::Plant(id.clone()), owner);
        all
    }

    fn portfolios<'s>(&mut self, ids: impl Iterator<Item = &'s PortfolioId>) {
        self.add(ids.map(|id| format!("portfolio {id}")));
    }

    fn plants<'s>(&mut self, ids: impl Iterator<Item = &'s PlantId>) {
        self.add(ids.map(|id| format!("plant {id}")));
    }

    fn access(&mut self, state: &State, refers: impl Fn(&OrganisationId, &Access) -> bool) {
        for (user, memberships) in &state.memberships {
            let refers = memberships.iter().filter(|(organisation, of)| refers(organisation, &of.access));
            self.add(refers.map(|(organisation, _)| format!("the membership of {user} in {organisation}")));
        }
    }

    /// A cooperation with the owner itself makes no sense.
    fn partner(&mut self, state: &State, scope: &Scope, owner: &OrganisationId) {
        let shared = state.cooperations.get(scope).is_some_and(|partners| partners.contains_key(owner));
        self.add(shared.then(|| format!("the cooperation with {owner}")));
    }

    fn add(&mut self, names: impl IntoIterator<Item = String>) {
        self.0.extend(names);
    }

    /// The first of them and how many more; `None` if there are none.
    pub fn named(&self) -> Option<String> {
        let (first, more) = self.0.split_at(self.0.len().min(NAMED));
        match (first, more) {
            ([], _) => None,
            (first, []) => Some(first.join(", ")),
            (first, more) => Some(format!("{} and {} more", first.join(", "), more.len())),
        }
    }
}

fn lists_portfolio(access: &Access, id: &PortfolioId) -> bool {
    matches!(access, Access::Some { portfolios, .. } if portfolios.contains(id))
}

fn lists_plant(access: &Access, id: &PlantId) -> bool {
    matches!(access, Access::Some { plants, .. } if plants.contains(id))
}
