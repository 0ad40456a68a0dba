//! Step 1 of requirement B1: what a membership makes accessible in principle.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    id::{OrganisationId, PlantId, PortfolioId, UserId},
    state::{Access, Plant, State},
};

/// What the membership of a user in the organisation that operates a plant says about the plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "MembershipStep")]
pub enum Membership<'s> {
    /// It covers every plant of the organisation.
    All,
    /// It covers the portfolio that the plant is in.
    Portfolio(&'s PortfolioId),
    /// It covers this plant by name.
    Plant,
    /// It does not cover the plant. That is final: to a member the plant is an own one, and no cooperation counts.
    NotCovered,
    /// There is none, so the plant is a foreign one, for which a cooperation can take the place of this step.
    Foreign,
}

impl<'s> Membership<'s> {
    /// What `user` has.
    pub(super) fn of(state: &'s State, user: &UserId, id: &PlantId, plant: &'s Plant) -> Self {
        match own_access(state, user, &plant.organisation) {
            None => Self::Foreign,
            Some(Access::All) => Self::All,
            Some(Access::Some { plants, .. }) if plants.contains(id) => Self::Plant,
            Some(Access::Some { portfolios, .. }) => {
                let covered = plant.portfolio.as_ref().filter(|portfolio| portfolios.contains(*portfolio));
                covered.map_or(Self::NotCovered, Self::Portfolio)
            }
        }
    }

    /// Whether this step allows.
    #[must_use]
    pub const fn opens(self) -> bool {
        match self {
            Self::All | Self::Portfolio(_) | Self::Plant => true,
            Self::NotCovered | Self::Foreign => false,
        }
    }
}

impl fmt::Display for Membership<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("covers all plants of the organisation"),
            Self::Portfolio(id) => write!(f, "covers portfolio {id}"),
            Self::Plant => f.write_str("covers this plant"),
            Self::NotCovered => f.write_str("does not cover this plant"),
            Self::Foreign => f.write_str("there is none in the organisation that operates the plant"),
        }
    }
}

/// The access of `user` to the plants of an own organisation; `None` where the organisation is a foreign one.
pub(super) fn own_access<'s>(state: &'s State, user: &UserId, organisation: &OrganisationId) -> Option<&'s Access> {
    Some(&state.memberships.get(user)?.get(organisation)?.access)
}
