//! What is looked up often and follows from the rest of a state.

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use crate::id::{CertificateId, PlantId, PortfolioId, UserId};

/// Equal for equal states: there is no entry without content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    certificate_of: BTreeMap<UserId, CertificateId>,
    plants_in: BTreeMap<PortfolioId, BTreeSet<PlantId>>,
}

impl Index {
    /// The certificate of a user.
    pub fn certificate_of(&self, user: &str) -> Option<&CertificateId> {
        self.certificate_of.get(user)
    }

    /// The plants in a portfolio, sorted.
    pub fn plants_in(&self, portfolio: &str) -> impl Iterator<Item = &PlantId> {
        self.plants_in.get(portfolio).into_iter().flatten()
    }
}

impl State {
    /// This state with its index made from the rest.
    pub(crate) fn indexed(mut self) -> Self {
        let mut index = Index::default();
        for (id, certificate) in &self.certificates {
            if let Some(user) = certificate.owner.user() {
                index.certificate_of.insert(user.clone(), id.clone());
            }
        }
        for (id, plant) in &self.plants {
            if let Some(portfolio) = &plant.portfolio {
                index.plants_in.entry(portfolio.clone()).or_default().insert(id.clone());
            }
        }
        self.index = index;
        self
    }
}
