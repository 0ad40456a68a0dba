//! What ROUTES holds, as far as this process has written or read it: so a change costs what it changes, and not what is
//! there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vpn_ebpf_common::route::Route;

use super::route_set::{Destination, RouteSet};

/// The sets of ROUTES. No route is there that is in none of them.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// Those that are there as a whole; peers may have them.
    whole: BTreeMap<u32, Arc<RouteSet>>,
    /// Those of which some routes may be there, and which no peer has: begun and not ended, or on their way out.
    rest: BTreeMap<u32, Rest>,
}

/// What may be left of a set.
#[derive(Debug)]
struct Rest {
    routes: Arc<RouteSet>,
    /// So many of them, from the first on, are gone. A wider prefix goes before those inside it: a program that was
    /// interrupted with the number of the set finds the right route or none, and not the one around it.
    gone: usize,
}

impl Rest {
    /// All of a set.
    const fn of(routes: Arc<RouteSet>) -> Self {
        Self { routes, gone: 0 }
    }

    fn count(&self) -> usize {
        self.routes.len().saturating_sub(self.gone)
    }
}

impl Sets {
    /// Of the routes that were found.
    pub fn found(routes: impl IntoIterator<Item = (u32, Destination, Route)>) -> Self {
        let mut found = BTreeMap::<u32, Vec<_>>::new();
        for (set, destination, route) in routes {
            found.entry(set).or_default().push((destination, route));
        }
        let whole = found.into_iter().map(|(set, routes)| (set, Arc::new(routes.into_iter().collect()))).collect();
        Self { whole, rest: BTreeMap::new() }
    }

    /// Those that are there as a whole.
    pub const fn whole(&self) -> &BTreeMap<u32, Arc<RouteSet>> {
        &self.whole
    }

    /// Whether a route may be there, whatever it leads to.
    pub fn may_have(&self, set: u32, destination: &Destination) -> bool {
        let routes = self.whole.get(&set).or_else(|| self.rest.get(&set).map(|rest| &rest.routes));
        routes.is_some_and(|routes| routes.get(destination).is_some())
    }

    /// How many routes there may be.
    pub fn count(&self) -> usize {
        self.whole.values().map(|routes| routes.len()).sum::<usize>() + self.resting()
    }

    /// How many routes of [`Self::next_resting`] there may be.
    pub fn resting(&self) -> usize {
        self.rest.values().map(Rest::count).sum()
    }

    /// Notes that a set is about to be written, or written again.
    pub fn begin(&mut self, set: u32, routes: &Arc<RouteSet>) {
        self.rest.insert(set, Rest::of(Arc::clone(routes)));
    }

    /// Notes that a set is there as a whole.
    pub fn complete(&mut self, set: u32, routes: Arc<RouteSet>) {
        self.rest.remove(&set);
        self.whole.insert(set, routes);
    }

    /// Has the sets that are not in `keep`, of which no peer has one, go.
    pub fn retire_all_but(&mut self, keep: &BTreeSet<u32>) {
        for (set, routes) in self.whole.extract_if(.., |set, _| !keep.contains(set)) {
            self.rest.insert(set, Rest::of(routes));
        }
    }

    /// Has these sets go, of which no peer has one. Gives those that were there.
    pub fn retire(&mut self, sets: &BTreeSet<u32>) -> BTreeMap<u32, Arc<RouteSet>> {
        let mut retired = BTreeMap::new();
        for set in sets {
            if let Some(routes) = self.whole.remove(set) {
                self.rest.insert(*set, Rest::of(Arc::clone(&routes)));
                retired.insert(*set, routes);
            }
        }
        retired
    }

    /// A set that goes, with its first route that may still be there.
    pub fn next_resting(&mut self) -> Option<(u32, Destination)> {
        loop {
            let (set, Rest { routes, gone }) = self.rest.first_key_value()?;
            if let Some((destination, _)) = routes.iter().nth(*gone) {
                return Some((*set, *destination));
            }
            self.rest.pop_first();
        }
    }

    /// Notes that the route of [`Self::next_resting`] is gone.
    pub fn gone(&mut self) {
        if let Some(mut first) = self.rest.first_entry() {
            first.get_mut().gone += 1;
        }
    }
}
