//! Why a certificate reaches a plant, or why not: every step with its outcome and its reason (requirement B5).

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{access::Membership, cooperation::Cooperation, role::Jobs};
use crate::{
    id::{OrganisationId, PlantId, UserId},
    state::{Owner, State},
    terms::Terms,
};

/// The steps by which a certificate reaches a plant or does not. What the user has switched off, and which plant has a
/// shared real subnet, is no matter of rights and none of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "owner", rename_all = "kebab-case")]
#[schemars(rename = "Permission")]
pub enum Chain<'s> {
    /// For the certificate of a user.
    User {
        /// Who.
        user: &'s UserId,
        /// Step 1.
        membership: Membership<'s>,
        /// Step 3, which takes the place of step 1 for a foreign plant; `None` for an own one.
        cooperation: Option<Cooperation<'s>>,
        /// Step 2.
        jobs: Jobs<'s>,
    },
    /// For the certificate of an organisation, which has no other steps than these.
    Organisation {
        /// Which.
        organisation: &'s OrganisationId,
        /// Whether the certificate is for this plant.
        listed: bool,
        /// Whether the organisation operates the plant.
        operates: bool,
        /// What there is if it does not; `None` if it does.
        cooperation: Option<Cooperation<'s>>,
    },
}

impl<'s> Chain<'s> {
    /// The steps from `owner` to the plant, if the state has that plant.
    #[must_use]
    pub fn of(state: &'s State, terms: &Terms, owner: &'s Owner, plant: &str) -> Option<Self> {
        let (id, plant): (&PlantId, _) = state.plants.get_key_value(plant)?;
        Some(match owner {
            Owner::User(user) => {
                let membership = Membership::of(state, user, id, plant);
                let foreign = membership == Membership::Foreign;
                let cooperation = foreign.then(|| Cooperation::of(state, terms, user, id, plant));
                Self::User { user, membership, cooperation, jobs: Jobs::of(state, terms, user, id, plant) }
            }
            Owner::Organisation { organisation, plants } => {
                let operates = plant.organisation == *organisation;
                let cooperation =
                    (!operates).then(|| Cooperation::of_organisation(state, terms, organisation, id, plant));
                Self::Organisation { organisation, listed: plants.contains(id), operates, cooperation }
            }
        })
    }

    /// Whether all of it together opens the plant.
    #[must_use]
    pub fn opens(&self) -> bool {
        let shared = |cooperation: &Option<Cooperation<'_>>| cooperation.is_some_and(Cooperation::opens);
        match self {
            Self::User { membership, cooperation, jobs, .. } => {
                (membership.opens() || shared(cooperation)) && jobs.opens()
            }
            Self::Organisation { listed, operates, cooperation, .. } => *listed && (*operates || shared(cooperation)),
        }
    }
}

/// One line for each step, which begins with `allows` or `denies`.
impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |opens| if opens { "allows" } else { "denies" };
        match self {
            Self::User { user, membership, cooperation, jobs } => {
                match cooperation {
                    None => writeln!(f, "{}  membership of user {user}: {membership}", word(membership.opens()))?,
                    // That the plant is a foreign one denies nothing by itself.
                    Some(cooperation) => writeln!(
                        f,
                        "{}  cooperation, since user {user} has no membership there: {cooperation}",
                        word(cooperation.opens())
                    )?,
                }
                writeln!(f, "{}  job roles of user {user}: {jobs}", word(jobs.opens()))
            }
            Self::Organisation { organisation, listed, operates, cooperation } => {
                let lists = if *listed { "lists" } else { "does not list" };
                writeln!(f, "{}  the certificate {lists} the plant", word(*listed))?;
                match cooperation {
                    None => writeln!(f, "{}  organisation {organisation} operates the plant", word(*operates)),
                    Some(cooperation) => writeln!(
                        f,
                        "{}  cooperation, since organisation {organisation} does not operate the plant: {cooperation}",
                        word(cooperation.opens())
                    ),
                }
            }
        }
    }
}
