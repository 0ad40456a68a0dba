//! The desired state, checked and indexed: what policy, addressing and the kernel's tables are made from.
//!
//! The only ways to one are [`State::parse`] and single changes to one, so every reference in it leads somewhere and
//! every id is unique. It is complete: [`State::to_document`] gives the document back.

mod entry;
mod index;
mod uplink;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use self::index::Index;
pub use self::uplink::{KEEPALIVE_SECONDS, Uplink, Uplinks};
pub(crate) use self::{entry::Entry, index::KeyOf};
pub use crate::document::MembershipKind;
use crate::{
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    key::PublicKey,
    ledger::Ledger,
    role::Role,
};

/// What the gateway shall do, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// Counts up with every change.
    pub revision: u64,
    /// Organisations that own plants or employ users.
    pub organisations: BTreeMap<OrganisationId, Organisation>,
    /// Portfolios and the organisation that owns the plants in each.
    pub portfolios: BTreeMap<PortfolioId, OrganisationId>,
    /// Plants.
    pub plants: BTreeMap<PlantId, Arc<Plant>>,
    /// People.
    pub users: BTreeMap<UserId, User>,
    /// Memberships of each user who has any.
    pub memberships: BTreeMap<UserId, BTreeMap<OrganisationId, Membership>>,
    /// Job roles of each user who has any.
    pub roles: BTreeMap<UserId, BTreeMap<Scope, BTreeSet<Role>>>,
    /// The partners that a plant or portfolio is shared with, and until when if that ends by itself.
    pub cooperations: BTreeMap<Scope, BTreeMap<OrganisationId, Option<Timestamp>>>,
    /// Active certificates, at most one per user (requirement A1).
    pub certificates: BTreeMap<CertificateId, Certificate>,
    /// The plants that win a shared real subnet for a user, the first of them first; none of the lists is empty
    /// (requirement C2).
    pub priorities: BTreeMap<UserId, Vec<PlantId>>,
    /// Routes that users have switched off for themselves, and until when (requirement C3). Without a subnet an entry is
    /// about every subnet of the plant.
    pub disabled: BTreeMap<UserId, Disabled>,
    /// What certificates and plants were given, where one place keeps that for all gateways (requirement E3).
    pub ledger: Option<Ledger>,
    /// What follows from the rest.
    index: Index,
}

/// Routes that a user has switched off: to a plant, or to one of its real subnets; until when, or until they are
/// switched on again.
pub type Disabled = BTreeMap<Routes, Option<Timestamp>>;

/// Every route to a plant, or those to one of its real subnets.
pub type Routes = (PlantId, Option<IpNet>);

/// An organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organisation {
    /// For people to read.
    pub name: Option<String>,
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For people to read.
    pub name: Option<String>,
}

/// A plant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plant {
    /// The organisation that operates the plant and owns its audit rows.
    pub organisation: OrganisationId,
    /// A portfolio of the same organisation.
    pub portfolio: Option<PortfolioId>,
    /// The subnets as the plant uses them: of either family, without host bits, disjoint.
    pub subnets: BTreeSet<IpNet>,
    /// How the plant's network is reached.
    pub uplinks: Uplinks,
}

impl Plant {
    /// How the plant's network is reached from `region`; `None` where it is not linked to that region.
    #[must_use]
    pub fn uplink_in(&self, region: &str) -> Option<&Uplink> {
        self.uplinks.of(region)
    }
}

/// A user in an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// As what.
    pub kind: MembershipKind,
    /// Which of the organisation's own plants are accessible in principle.
    pub access: Access,
}

/// Plants of an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every plant, also those to come.
    All,
    /// The plants in these portfolios, and these plants.
    Some {
        /// Portfolios of the organisation.
        portfolios: BTreeSet<PortfolioId>,
        /// Plants of the organisation.
        plants: BTreeSet<PlantId>,
    },
}

/// What a permission is about: one plant, or every plant in a portfolio (requirement B3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One plant.
    Plant(PlantId),
    /// Every plant in a portfolio.
    Portfolio(PortfolioId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plant(id) => write!(f, "plant {id}"),
            Self::Portfolio(id) => write!(f, "portfolio {id}"),
        }
    }
}

/// A WireGuard key pair of which the public half is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub owner: Owner,
    /// Changes when the certificate is rotated.
    pub public_key: PublicKey,
}

/// Whose a certificate is, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user, whose roles say what it reaches.
    User(UserId),
    /// An organisation (requirement D3).
    Organisation {
        /// Which.
        organisation: OrganisationId,
        /// What it reaches, as far as the organisation operates it or it is shared with the organisation.
        plants: BTreeSet<PlantId>,
    },
}

impl Owner {
    /// The user, if it is one.
    #[must_use]
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::Organisation { .. } => None,
        }
    }

    /// Whose it is, without what it is for.
    #[must_use]
    pub fn holder(&self) -> Holder {
        match self {
            Self::User(user) => Holder::User(user.clone()),
            Self::Organisation { organisation, .. } => Holder::Organisation(organisation.clone()),
        }
    }
}

/// Whose a certificate is, for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A user.
    User(UserId),
    /// An organisation.
    Organisation(OrganisationId),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user {id}"),
            Self::Organisation(id) => write!(f, "organisation {id}"),
        }
    }
}

impl State {
    /// The organisations that `user` belongs to in any way, sorted.
    pub fn organisations_of(&self, user: &UserId) -> impl Iterator<Item = &OrganisationId> {
        self.memberships.get(user).into_iter().flat_map(BTreeMap::keys)
    }

    /// The organisations that stand behind a certificate of `owner`: those that a user belongs to, or the one that it
    /// is.
    #[must_use]
    pub fn organisations_behind(&self, owner: &Owner) -> BTreeSet<OrganisationId> {
        match owner {
            Owner::User(user) => self.organisations_of(user).cloned().collect(),
            Owner::Organisation { organisation, .. } => BTreeSet::from([organisation.clone()]),
        }
    }

    /// The certificate of `user`, who has at most one (requirement A1).
    #[must_use]
    pub fn certificate_of(&self, user: &str) -> Option<&CertificateId> {
        self.index.certificate_of(user)
    }

    /// The plants in a portfolio, sorted.
    pub fn plants_in(&self, portfolio: &str) -> impl Iterator<Item = &PlantId> {
        self.index.plants_in(portfolio)
    }

    /// The certificates of an organisation itself, sorted (requirement D3).
    pub fn certificates_of(&self, organisation: &str) -> impl Iterator<Item = &CertificateId> {
        self.index.certificates_of(organisation)
    }

    /// Who belongs to an organisation in any way, sorted.
    pub fn belonging_to(&self, organisation: &str) -> impl Iterator<Item = &UserId> {
        self.index.belonging_to(organisation)
    }

    /// What has this public key.
    pub(crate) fn key(&self, key: &PublicKey) -> Option<&KeyOf> {
        self.index.key(key)
    }

    /// The first moment after `after` at which something changes by itself: a cooperation ends, or a route that was
    /// switched off for a time is there again. What counts from a moment on, counts at this very moment.
    #[must_use]
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let cooperations = self.cooperations.values().flat_map(BTreeMap::values);
        let disabled = self.disabled.values().flat_map(BTreeMap::values);
        cooperations.chain(disabled).filter_map(|until| *until).filter(|until| *until > after).min()
    }

    /// The state in one line: its revision and how many there are of each thing.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
        [
            format!("revision {}", self.revision),
            count(self.users.len(), "user", "users"),
            count(self.certificates.len(), "certificate", "certificates"),
            count(self.organisations.len(), "organisation", "organisations"),
            count(self.plants.len(), "plant", "plants"),
        ]
        .join(", ")
    }
}

/// Whether something that ends at `until`, if it ends by itself at all, is still in force.
#[must_use]
pub fn is_in_force(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::example;

    #[test]
    fn the_summary_counts() {
        assert_eq!(example::state().summary(), "revision 7, 2 users, 2 certificates, 2 organisations, 2 plants");
    }

    #[test]
    fn the_next_change_is_the_first_of_all_that_end() {
        let mut document = example::json();
        document["cooperations"] = json!([
            {"partner": "beta", "on": {"plant": "north"}, "until": "2027-03-01T00:00:00Z"},
            {"partner": "alpha", "on": {"plant": "south"}},
        ]);
        document["disabled"] = json!([
            {"user": "user-a", "plant": "north", "until": "2027-01-01T00:00:00Z"},
            {"user": "user-b", "plant": "north", "subnet": "192.168.1.0/24", "until": "2027-02-01T00:00:00Z"},
            {"user": "user-b", "plant": "south"},
        ]);
        let state = example::parse(&document);
        let next = |after: &str| state.next_change(after.parse().unwrap()).map(|next| next.to_string());
        for (after, expected) in [
            ("2026-12-31T23:59:59Z", Some("2027-01-01T00:00:00Z")),
            ("2027-01-01T00:00:00Z", Some("2027-02-01T00:00:00Z")),
            ("2027-02-01T00:00:01Z", Some("2027-03-01T00:00:00Z")),
            ("2027-03-01T00:00:00Z", None),
        ] {
            assert_eq!(next(after).as_deref(), expected, "{after}");
        }
    }
}
