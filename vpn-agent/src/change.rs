//! Single changes of a state: to one record, or to what belongs together.
//!
//! A change is made in place, because a whole state of a large fleet takes seconds to read, and can be undone exactly.
//! What comes out is the state that the document with the changed record would give (requirement G2).

mod allocating;
mod ended;
mod making;
mod referrers;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::making::Making;
use crate::{
    document::{self, Id, Key, LedgerPeer, LedgerPlant, Next, Scope, Subnet, Tunnel6},
    id::CertificateId,
    problem::Problems,
    state::{Entry, State},
};

/// One change. The records are those of the document.
///
/// To put or add what is there already replaces it, and is no mistake. To remove what is not there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Adds an organisation, or gives it another name.
    PutOrganisation(document::Organisation),
    /// Removes an organisation to which nothing refers any more.
    RemoveOrganisation {
        /// Which.
        id: Id,
    },
    /// Adds a portfolio, or gives it to another organisation.
    PutPortfolio(document::Portfolio),
    /// Removes a portfolio to which nothing refers any more.
    RemovePortfolio {
        /// Which.
        id: Id,
    },
    /// Adds or changes a plant. Of a subnet that it loses, the routes that users have switched off are forgotten.
    PutPlant(document::Plant),
    /// Removes a plant, and it from all roles, cooperations, memberships, wishes of users and certificates of
    /// organisations.
    RemovePlant {
        /// Which.
        id: Id,
    },
    /// Adds a user, or gives the user another name.
    PutUser(document::User),
    /// Removes a user with all memberships, roles, wishes and the certificate.
    RemoveUser {
        /// Who.
        id: Id,
    },
    /// Adds or changes a membership.
    PutMembership(document::Membership),
    /// Removes a membership.
    RemoveMembership {
        /// Whose.
        user: Id,
        /// In which organisation.
        organisation: Id,
    },
    /// Gives a user a job role.
    AddRole(document::Job),
    /// Takes a job role from a user.
    RemoveRole(document::Job),
    /// Shares a plant or portfolio with an organisation, or changes until when.
    PutCooperation(document::Cooperation),
    /// Ends a cooperation.
    RemoveCooperation {
        /// With whom.
        partner: Id,
        /// What was shared.
        on: Scope,
    },
    /// Adds a certificate.
    IssueCertificate(document::Certificate),
    /// Gives a certificate another key. The old one stops working.
    RotateCertificate {
        /// Which.
        id: Id,
        /// The new key.
        public_key: Key,
    },
    /// Makes the certificate of an organisation one for these plants, in the place of those before.
    SetCertificatePlants {
        /// Which.
        id: Id,
        /// The plants, as far as the organisation operates them or they are shared with it.
        plants: Vec<Id>,
    },
    /// Removes a certificate. It stops working.
    RevokeCertificate {
        /// Which.
        id: Id,
    },
    /// Says which plants win a real subnet that they share, for one user.
    SetPriority {
        /// For whom.
        user: Id,
        /// Earlier ones win. An empty list takes back what was said before.
        plants: Vec<Id>,
    },
    /// Switches routes off for a user, or changes until when.
    DisableRoute(document::Disabled),
    /// Adds entries to the ledger, which is made where there is none. What is in it stays as it is.
    PutAllocations {
        /// Entries of certificates.
        #[serde(default)]
        peers: Vec<LedgerPeer>,
        /// Entries of plants. A plant that has one may get further subnets.
        #[serde(default)]
        plants: Vec<LedgerPlant>,
        /// What is given next, if it is more than follows from the entries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Next>,
        /// What IPv6 tunnel addresses follow from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel6: Option<Tunnel6>,
    },
    /// Switches routes on again, as they were switched off: those to one subnet, or to the whole plant.
    EnableRoute {
        /// For whom.
        user: Id,
        /// To which plant.
        plant: Id,
        /// To which of its subnets, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subnet: Option<Subnet>,
    },
}

/// What a change has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What may be different now.
    pub touched: Touched,
    /// The way back.
    pub undo: Undo,
}

/// What may be different after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Only what these certificates reach, their keys, and whether there are such certificates, at one and the same
    /// moment; and names, of which the kernel knows nothing.
    Certificates(BTreeSet<CertificateId>),
    /// Anything.
    All,
}

impl Touched {
    /// What may be different after both.
    pub fn extend(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Certificates(all), Self::Certificates(more)) => all.extend(more),
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
        }
    }
}

/// The way back from a change; see [`State::undo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo(Vec<Entry>);

impl State {
    /// Makes all of these changes, one after the other, and counts the revision up by one.
    ///
    /// # Errors
    /// All problems found, with paths such as `changes[2].user`; the state is then as it was.
    pub fn change(&mut self, changes: &[Change]) -> Result<Changed, Problems> {
        let mut making = Making::new(self);
        for (at, change) in changes.iter().enumerate() {
            making.make(&format_args!("changes[{at}]"), change);
        }
        let (undo, touched, problems) = making.end();
        match Problems::none_of(problems) {
            Ok(()) => Ok(Changed { touched, undo: Undo(undo) }),
            Err(problems) => {
                self.undo(Undo(undo));
                Err(problems)
            }
        }
    }

    /// Undoes a change. Only the last one can be undone, and then the one before it.
    pub fn undo(&mut self, Undo(entries): Undo) {
        for entry in entries.into_iter().rev() {
            self.replace(entry);
        }
    }
}

#[cfg(test)]
mod tests;
