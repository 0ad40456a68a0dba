//! What a state means, to be compared with another one: who has which certificate, who reaches what, which plants there
//! are. It borrows nothing, so that the state can be changed in place, and takes little memory, so that it can be made
//! of a large one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    id::{CertificateId, PlantId},
    policy::{self, Policy},
    state::{Certificate, Plant, State},
    terms::Terms,
};

/// See the module's own description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portrait {
    /// Of the state; `None` where there is none.
    pub revision: Option<u64>,
    /// Plants, unless it is known that they are the same.
    pub plants: BTreeMap<PlantId, Arc<Plant>>,
    /// Certificates, as far as they matter.
    pub certificates: BTreeMap<CertificateId, Certificate>,
    /// Sorted.
    names: Vec<PlantId>,
    /// What certificates reach; those that reach the same share one.
    reaches: Vec<Reach>,
    /// Index into `reaches`.
    reach_of: BTreeMap<CertificateId, usize>,
}

/// What somebody reaches. Numbers are indexes into [`Portrait::names`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reach {
    plants: Vec<u32>,
    disabled: Vec<(u32, IpNet)>,
    real: Vec<(IpNet, u32)>,
}

/// What somebody reaches, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names<'p> {
    /// Plants.
    pub plants: BTreeSet<&'p PlantId>,
    /// Subnets of them that are switched off.
    pub disabled: BTreeSet<(&'p PlantId, IpNet)>,
    /// Where real subnets lead to.
    pub real: BTreeMap<IpNet, &'p PlantId>,
}

impl Portrait {
    /// Of the whole state.
    #[must_use]
    pub fn of(state: &State, terms: &Terms) -> Self {
        let policy = Policy::compile(state, terms);
        Self { plants: state.plants.clone(), ..Self::with(state, &policy, state.certificates.clone()) }
    }

    /// Of what matters if nothing but these certificates differs.
    #[must_use]
    pub fn of_certificates(state: &State, terms: &Terms, ids: &BTreeSet<CertificateId>) -> Self {
        let policy = Policy::compile_of(state, terms, ids);
        let certificate = |id: &CertificateId| Some((id.clone(), state.certificates.get(id)?.clone()));
        Self::with(state, &policy, ids.iter().filter_map(certificate).collect())
    }

    fn with(state: &State, policy: &Policy<'_>, certificates: BTreeMap<CertificateId, Certificate>) -> Self {
        let mut numbers = BTreeMap::new();
        for id in
            policy.reaches.iter().flat_map(|reach| reach.plants.iter().copied().chain(reach.real.values().copied()))
        {
            numbers.insert(id, 0);
        }
        for (number, at) in numbers.values_mut().zip(0..) {
            *number = at;
        }
        let number = |id: &PlantId| numbers.get(id).copied().unwrap_or(u32::MAX);
        let reach = |reach: &policy::Reach<'_>| Reach {
            plants: reach.plants.iter().map(|id| number(id)).collect(),
            disabled: reach.disabled.iter().map(|(id, subnet)| (number(id), *subnet)).collect(),
            real: reach.real.iter().map(|(subnet, id)| (*subnet, number(id))).collect(),
        };
        Self {
            revision: Some(state.revision),
            plants: BTreeMap::new(),
            certificates,
            reaches: policy.reaches.iter().map(reach).collect(),
            reach_of: policy.certificates.clone(),
            names: numbers.keys().copied().cloned().collect(),
        }
    }

    /// Which reach a certificate has; two that have the same reach the same.
    #[must_use]
    pub fn reach_of(&self, certificate: &CertificateId) -> Option<usize> {
        self.reach_of.get(certificate).copied()
    }

    /// What [`Self::reach_of`] stands for, by name; nothing for `None`.
    #[must_use]
    pub fn names(&self, reach: Option<usize>) -> Names<'_> {
        let Some(reach) = reach.and_then(|at| self.reaches.get(at)) else { return Names::default() };
        let name = |number: u32| self.names.get(number as usize);
        Names {
            plants: reach.plants.iter().filter_map(|number| name(*number)).collect(),
            disabled: reach.disabled.iter().filter_map(|(number, subnet)| Some((name(*number)?, *subnet))).collect(),
            real: reach.real.iter().filter_map(|(subnet, number)| Some((*subnet, name(*number)?))).collect(),
        }
    }
}
