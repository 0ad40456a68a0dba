//! Step 3 of requirement B1: cooperations between organisations, which take the place of step 1 for a foreign plant.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::role::{is_operator_level, scopes_of};
use crate::{
    document,
    id::{OrganisationId, PlantId, UserId},
    state::{MembershipKind, Plant, Scope, State, is_in_force},
    terms::Terms,
};

/// What cooperations say about a plant for somebody to whom it is a foreign one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "CooperationStep")]
pub enum Cooperation<'s> {
    /// The plant is shared with an organisation whose member the user is, who works on it at operator level; or it is
    /// shared with the organisation that a certificate is of.
    InForce(Shared<'s>),
    /// It is shared with an organisation whose member the user is, but the user has no job role of operator level there.
    NoOperator(Shared<'s>),
    /// It is shared with an organisation in which the user is a guest, for whom cooperations do not count.
    Guest(Shared<'s>),
    /// It was shared, and that has ended.
    Ended(Shared<'s>),
    /// It is shared with no organisation of the user's.
    None,
}

/// A cooperation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Shared<'s> {
    /// What is shared.
    #[schemars(with = "document::Scope")]
    pub on: &'s Scope,
    /// With whom.
    pub partner: &'s OrganisationId,
    /// When that ends by itself, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<document::Moment>")]
    pub until: Option<Timestamp>,
}

impl<'s> Cooperation<'s> {
    /// What there is for `user`, to whom the plant is a foreign one. Of several cooperations the one that comes closest.
    pub(super) fn of(state: &'s State, terms: &Terms, user: &UserId, id: &PlantId, plant: &Plant) -> Self {
        let is_operator = || scopes_of(id, plant).any(|scope| is_operator_level(state, user, &scope));
        let memberships = state.memberships.get(user);
        let mut best = Self::None;
        for shared in cooperations_on(state, id, plant) {
            let Some(membership) = memberships.and_then(|memberships| memberships.get(shared.partner)) else {
                continue;
            };
            let found = match membership.kind {
                MembershipKind::Guest => Self::Guest(shared),
                MembershipKind::Member if !is_in_force(shared.until, terms.now) => Self::Ended(shared),
                MembershipKind::Member if is_operator() => return Self::InForce(shared),
                MembershipKind::Member => Self::NoOperator(shared),
            };
            if found.rank() < best.rank() {
                best = found;
            }
        }
        best
    }

    /// What there is for the certificates of `organisation`, which speaks for itself: it needs no role.
    pub(super) fn of_organisation(
        state: &'s State,
        terms: &Terms,
        organisation: &OrganisationId,
        id: &PlantId,
        plant: &Plant,
    ) -> Self {
        let mut best = Self::None;
        for shared in cooperations_on(state, id, plant).filter(|shared| shared.partner == organisation) {
            if is_in_force(shared.until, terms.now) {
                return Self::InForce(shared);
            }
            best = Self::Ended(shared);
        }
        best
    }

    /// Whether this step allows.
    #[must_use]
    pub const fn opens(self) -> bool {
        matches!(self, Self::InForce(_))
    }

    /// How close it comes to a cooperation that counts; lower is closer.
    const fn rank(self) -> u8 {
        match self {
            Self::InForce(_) => 0,
            Self::NoOperator(_) => 1,
            Self::Ended(_) => 2,
            Self::Guest(_) => 3,
            Self::None => 4,
        }
    }
}

impl fmt::Display for Cooperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce(shared) => write!(f, "{shared}"),
            Self::NoOperator(shared) => write!(f, "{shared}, but the user has no job role of operator level there"),
            Self::Guest(shared) => write!(f, "{shared}, of which the user is only a guest"),
            Self::Ended(shared) => write!(f, "{shared}, which is over"),
            Self::None => f.write_str("there is none that counts here"),
        }
    }
}

impl fmt::Display for Shared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, partner, until } = self;
        write!(f, "{on} is shared with {partner}")?;
        until.map_or(Ok(()), |until| write!(f, " until {until}"))
    }
}

/// Whether `user` is a member, and not only a guest, of an organisation that `scope` itself is shared with now.
pub(super) fn is_shared_with(state: &State, terms: &Terms, user: &UserId, scope: &Scope) -> bool {
    let Some(memberships) = state.memberships.get(user) else { return false };
    let is_member = |partner: &OrganisationId| {
        memberships.get(partner).is_some_and(|membership| membership.kind == MembershipKind::Member)
    };
    let mut partners = state.cooperations.get(scope).into_iter().flatten();
    partners.any(|(partner, until)| is_in_force(*until, terms.now) && is_member(partner))
}

/// Every cooperation on a plant or its portfolio, over or not.
fn cooperations_on<'s>(state: &'s State, id: &PlantId, plant: &Plant) -> impl Iterator<Item = Shared<'s>> {
    scopes_of(id, plant)
        .filter_map(|scope| state.cooperations.get_key_value(&scope))
        .flat_map(|(on, partners)| partners.iter().map(move |(partner, until)| Shared { on, partner, until: *until }))
}
