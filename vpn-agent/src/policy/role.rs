//! Step 2 of requirement B1: which job roles somebody has on a plant, and whether one of them opens routes.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    document,
    id::{PlantId, UserId},
    role::Role,
    state::{Plant, Scope, State},
    terms::Terms,
};

/// The job roles of a user on a plant, be they on the plant itself or on its portfolio (requirement B3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "JobRoles")]
pub struct Jobs<'s> {
    /// Those that open routes.
    pub opening: Vec<Job<'s>>,
    /// The others.
    pub others: Vec<Job<'s>>,
}

/// A job role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "JobRole")]
pub struct Job<'s> {
    /// As what.
    pub role: Role,
    /// Where.
    #[schemars(with = "document::Scope")]
    pub on: &'s Scope,
}

impl<'s> Jobs<'s> {
    /// What `user` has.
    pub(super) fn of(state: &'s State, terms: &Terms, user: &UserId, id: &PlantId, plant: &Plant) -> Self {
        let (opening, others) = scopes_of(id, plant)
            .filter_map(|scope| state.roles.get(user)?.get_key_value(&scope))
            .flat_map(|(on, roles)| roles.iter().map(move |role| Job { role: *role, on }))
            .partition(|job| opens(terms, job.role));
        Self { opening, others }
    }

    /// Whether this step allows.
    #[must_use]
    pub fn opens(&self) -> bool {
        !self.opening.is_empty()
    }
}

impl fmt::Display for Jobs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |jobs: &[Job<'_>]| {
            let jobs: Vec<_> = jobs.iter().map(|Job { role, on }| format!("{role} on {on}")).collect();
            jobs.join(", ")
        };
        match (self.opening.as_slice(), self.others.as_slice()) {
            ([], []) => f.write_str("there is none on the plant or its portfolio"),
            ([], others) => write!(f, "{}, which opens no routes", list(others)),
            (opening, _) => f.write_str(&list(opening)),
        }
    }
}

/// Whether a job role opens routes.
pub(super) fn opens(terms: &Terms, role: Role) -> bool {
    terms.opening.contains(&role)
}

/// Whether `user` works at operator level on `scope` itself.
pub(super) fn is_operator_level(state: &State, user: &UserId, scope: &Scope) -> bool {
    let roles = state.roles.get(user).and_then(|roles| roles.get(scope));
    roles.is_some_and(|roles| roles.iter().any(|role| role.is_operator_level()))
}

/// What a permission on a plant can be about: the plant, and its portfolio if it is in one.
pub(super) fn scopes_of(id: &PlantId, plant: &Plant) -> impl Iterator<Item = Scope> + Clone {
    let portfolio = plant.portfolio.clone().map(Scope::Portfolio);
    [Some(Scope::Plant(id.clone())), portfolio].into_iter().flatten()
}
