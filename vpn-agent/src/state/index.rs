//! What is looked up often and follows from the rest of a state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use super::{Certificate, Owner, Plant, State};
use crate::{
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    key::PublicKey,
};

/// Equal for equal states: there is no entry without content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    certificate_of: BTreeMap<UserId, CertificateId>,
    certificates_of: BTreeMap<OrganisationId, BTreeSet<CertificateId>>,
    plants_in: BTreeMap<PortfolioId, BTreeSet<PlantId>>,
    belonging_to: BTreeMap<OrganisationId, BTreeSet<UserId>>,
    keys: HashMap<PublicKey, KeyOf>,
}

/// What has a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// A certificate.
    Certificate(CertificateId),
    /// The plant's end of its tunnels.
    Plant(PlantId),
}

impl fmt::Display for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(id) => write!(f, "the key of certificate {id}"),
            Self::Plant(id) => write!(f, "the key of plant {id}"),
        }
    }
}

impl Index {
    pub fn certificate_of(&self, user: &str) -> Option<&CertificateId> {
        self.certificate_of.get(user)
    }

    /// Those of the organisation itself, sorted.
    pub fn certificates_of(&self, organisation: &str) -> impl Iterator<Item = &CertificateId> {
        self.certificates_of.get(organisation).into_iter().flatten()
    }

    /// Sorted.
    pub fn plants_in(&self, portfolio: &str) -> impl Iterator<Item = &PlantId> {
        self.plants_in.get(portfolio).into_iter().flatten()
    }

    /// Who has a membership of whatever kind, sorted.
    pub fn belonging_to(&self, organisation: &str) -> impl Iterator<Item = &UserId> {
        self.belonging_to.get(organisation).into_iter().flatten()
    }

    pub fn key(&self, key: &PublicKey) -> Option<&KeyOf> {
        self.keys.get(key)
    }

    pub(super) fn add_certificate(&mut self, id: &CertificateId, certificate: &Certificate) {
        self.keys.insert(certificate.public_key, KeyOf::Certificate(id.clone()));
        match &certificate.owner {
            Owner::User(user) => drop(self.certificate_of.insert(user.clone(), id.clone())),
            Owner::Organisation { organisation, .. } => {
                self.certificates_of.entry(organisation.clone()).or_default().insert(id.clone());
            }
        }
    }

    pub(super) fn remove_certificate(&mut self, id: &CertificateId, certificate: &Certificate) {
        self.keys.remove(&certificate.public_key);
        match &certificate.owner {
            Owner::User(user) => drop(self.certificate_of.remove(user)),
            Owner::Organisation { organisation, .. } => remove(&mut self.certificates_of, organisation, id),
        }
    }

    pub(super) fn add_plant(&mut self, id: &PlantId, plant: &Plant) {
        let keys = plant.uplinks.iter().filter_map(|(_, uplink)| uplink.public_key());
        self.keys.extend(keys.map(|key| (*key, KeyOf::Plant(id.clone()))));
        if let Some(portfolio) = &plant.portfolio {
            self.plants_in.entry(portfolio.clone()).or_default().insert(id.clone());
        }
    }

    pub(super) fn remove_plant(&mut self, id: &PlantId, plant: &Plant) {
        for key in plant.uplinks.iter().filter_map(|(_, uplink)| uplink.public_key()) {
            self.keys.remove(key);
        }
        if let Some(portfolio) = &plant.portfolio {
            remove(&mut self.plants_in, portfolio, id);
        }
    }

    pub(super) fn add_membership(&mut self, user: &UserId, organisation: &OrganisationId) {
        self.belonging_to.entry(organisation.clone()).or_default().insert(user.clone());
    }

    pub(super) fn remove_membership(&mut self, user: &UserId, organisation: &OrganisationId) {
        remove(&mut self.belonging_to, organisation, user);
    }
}

/// Without leaving an empty set.
fn remove<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

impl State {
    /// This state with its index made from the rest.
    pub(crate) fn indexed(mut self) -> Self {
        let mut index = Index::default();
        for (id, certificate) in &self.certificates {
            index.add_certificate(id, certificate);
        }
        for (id, plant) in &self.plants {
            index.add_plant(id, plant);
        }
        for (user, memberships) in &self.memberships {
            for organisation in memberships.keys() {
                index.add_membership(user, organisation);
            }
        }
        self.index = index;
        self
    }
}
