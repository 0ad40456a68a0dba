//! Sets of plants, and what their subnets mean together (requirements C2, C3).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::{
    id::{PlantId, UserId},
    state::{State, is_in_force},
    terms::Terms,
};

/// A set of plants that somebody may reach, and what their subnets mean together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach<'s> {
    /// Sorted by id, each once. Plants of which every subnet is switched off are not among them.
    pub plants: Vec<&'s PlantId>,
    /// Subnets of these plants that are switched off: there is no route to them.
    pub disabled: BTreeSet<(&'s PlantId, IpNet)>,
    /// The plant that a real subnet leads to. Of several plants with the same subnet it is the one that the user puts
    /// first, and without such a choice the one whose id sorts first, byte by byte; the others are reached through
    /// their virtual subnets only. Of overlapping subnets that are not the same the longer one counts, as in every
    /// routing table.
    pub real: BTreeMap<IpNet, &'s PlantId>,
    /// The real subnets that several of the plants use, with all of these plants, sorted (requirement C2).
    pub conflicts: BTreeMap<IpNet, Vec<&'s PlantId>>,
}

impl<'s> Reach<'s> {
    /// `plants` are sorted by id.
    pub(super) fn new(state: &'s State, plants: Vec<&'s PlantId>, wishes: &Wishes<'s>) -> Self {
        let mut reach = Self { plants, disabled: BTreeSet::new(), real: BTreeMap::new(), conflicts: BTreeMap::new() };
        if !wishes.disabled.is_empty() {
            reach.switch_off(state, &wishes.disabled);
        }
        for id in &reach.plants {
            for subnet in state.plants.get(*id).into_iter().flat_map(|plant| &plant.subnets) {
                if reach.is_open(id, subnet) {
                    reach.conflicts.entry(*subnet).or_default().push(id);
                }
            }
        }
        let winner = |plants: &Vec<&'s PlantId>| {
            let preferred = wishes.priorities.iter().find_map(|id| plants.iter().copied().find(|plant| *plant == id));
            preferred.or_else(|| plants.first().copied())
        };
        reach.real = reach.conflicts.iter().filter_map(|(subnet, plants)| Some((*subnet, winner(plants)?))).collect();
        reach.conflicts.retain(|_, plants| plants.len() > 1);
        reach
    }

    fn switch_off(&mut self, state: &'s State, disabled: &BTreeSet<(&'s PlantId, Option<IpNet>)>) {
        let off = &mut self.disabled;
        self.plants.retain(|id| {
            let Some(plant) = state.plants.get(*id) else { return false };
            let is_off = |subnet: IpNet| disabled.contains(&(*id, Some(subnet)));
            let whole = disabled.contains(&(*id, None));
            let some: Vec<_> = plant.subnets.iter().copied().filter(|subnet| is_off(*subnet)).collect();
            if whole || !some.is_empty() && some.len() == plant.subnets.len() {
                return false;
            }
            off.extend(some.into_iter().map(|subnet| (*id, subnet)));
            true
        });
    }

    /// Whether there is a route to this subnet of one of the plants.
    #[must_use]
    pub fn is_open(&self, plant: &'s PlantId, subnet: &IpNet) -> bool {
        self.disabled.is_empty() || !self.disabled.contains(&(plant, *subnet))
    }

    /// The real subnets that lead elsewhere than they would by themselves. Together with plants and what is switched
    /// off they say all of a reach.
    pub(super) fn exceptions(&self) -> Vec<(IpNet, &'s PlantId)> {
        let real = |(subnet, plants): (&IpNet, &Vec<&'s PlantId>)| {
            let leads_to = self.real.get(subnet)?;
            (plants.first() != Some(leads_to)).then_some((*subnet, *leads_to))
        };
        self.conflicts.iter().filter_map(real).collect()
    }
}

/// What a user wants of the plants that the rights open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Wishes<'s> {
    /// What is switched off now.
    disabled: BTreeSet<(&'s PlantId, Option<IpNet>)>,
    /// Which plants win, the first of them first.
    priorities: &'s [PlantId],
}

impl<'s> Wishes<'s> {
    /// What `user` wants at present.
    pub fn of(state: &'s State, terms: &Terms, user: &UserId) -> Self {
        let disabled = state.disabled.get(user).into_iter().flatten();
        Self {
            disabled: disabled
                .filter(|(_, until)| is_in_force(**until, terms.now))
                .map(|((plant, subnet), _)| (plant, *subnet))
                .collect(),
            priorities: state.priorities.get(user).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.disabled.is_empty() && self.priorities.is_empty()
    }
}
