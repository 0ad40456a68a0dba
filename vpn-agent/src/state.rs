//! The desired state, checked and indexed: what policy, addressing and the kernel's tables are made from.
//!
//! The only way to one is [`State::parse`], so every reference in it leads somewhere and every id is unique.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub use crate::document::MembershipKind;
use crate::{
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    key::PublicKey,
    role::Role,
};

/// What the gateway shall do, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// Counts up with every change.
    pub revision: u64,
    /// Organisations that own plants or employ users.
    pub organisations: BTreeSet<OrganisationId>,
    /// Portfolios and the organisation that owns the plants in each.
    pub portfolios: BTreeMap<PortfolioId, OrganisationId>,
    /// Plants.
    pub plants: BTreeMap<PlantId, Plant>,
    /// People.
    pub users: BTreeSet<UserId>,
    /// Memberships of each user.
    pub memberships: BTreeMap<UserId, BTreeMap<OrganisationId, Membership>>,
    /// Job roles of each user.
    pub roles: BTreeMap<UserId, BTreeMap<Scope, BTreeSet<Role>>>,
    /// The partners that a plant or portfolio is shared with.
    pub cooperations: BTreeMap<Scope, BTreeSet<OrganisationId>>,
    /// Active certificates, at most one per user (requirement A1).
    pub certificates: BTreeMap<CertificateId, Certificate>,
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
    pub uplink: Uplink,
}

/// How a plant's network is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// The gateway hosts a WireGuard endpoint that the router on site dials into.
    Host {
        /// Public key of the router on site.
        public_key: PublicKey,
    },
    /// The plant is behind an Ethernet interface of the host's, which the agent neither makes nor configures.
    Interface {
        /// Its name, which no other plant has.
        interface: String,
    },
}

impl Uplink {
    /// The name of the interface, where it is not the agent's own.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Host { .. } => None,
            Self::Interface { interface } => Some(interface),
        }
    }

    /// Bytes in front of the IP header of a packet on this uplink: none in a WireGuard tunnel, else an Ethernet header.
    #[must_use]
    pub const fn link_header(&self) -> u32 {
        match self {
            Self::Host { .. } => 0,
            Self::Interface { .. } => 14,
        }
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One plant.
    Plant(PlantId),
    /// Every plant in a portfolio.
    Portfolio(PortfolioId),
}

/// A WireGuard key pair of which the public half is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub user: UserId,
    /// Changes when the certificate is rotated.
    pub public_key: PublicKey,
}

impl State {
    /// The organisations that `user` belongs to in any way, sorted.
    pub fn organisations_of(&self, user: &UserId) -> impl Iterator<Item = &OrganisationId> {
        self.memberships.get(user).into_iter().flat_map(BTreeMap::keys)
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

#[cfg(test)]
mod tests {
    use crate::example;

    #[test]
    fn the_summary_counts() {
        assert_eq!(example::state().summary(), "revision 7, 2 users, 2 certificates, 2 organisations, 2 plants");
    }
}
