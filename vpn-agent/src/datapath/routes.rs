//! Writing ROUTES, set by set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use vpn_ebpf_common::{
    names,
    route::{Route, RouteKey, SET_BITS},
};

use super::{
    Datapath, Error,
    fill::{full_or, is_missing},
    read::Maps as _,
    route_set::{Destination, RouteSet},
    sets::Sets,
};

type Trie<'a> = LpmTrie<&'a mut MapData, RouteKey, Route>;

impl Datapath {
    /// The route sets that the map has as a whole.
    ///
    /// # Errors
    /// [`Error::Map`], where the map has to be read first.
    pub fn route_sets(&mut self) -> Result<&BTreeMap<u32, Arc<RouteSet>>, Error> {
        Ok(self.sets_mut()?.whole())
    }

    /// Has the map be read again before the next change, in case something else has changed it.
    pub fn forget_routes(&mut self) {
        self.sets = None;
    }

    /// How many routes of sets that nobody has any more may still be there.
    #[must_use]
    pub fn resting_routes(&self) -> usize {
        self.sets.as_ref().map_or(0, Sets::resting)
    }

    /// Removes routes of sets that nobody has any more, at most so many. One by one: freeing a large trie as a whole can
    /// hold a CPU for seconds.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove_resting_routes(&mut self, most: usize) -> Result<usize, Error> {
        let Some(mut sets) = self.sets.take() else { return Ok(0) };
        let mut removed = 0;
        let result = self.trie().and_then(|mut trie| {
            while removed < most
                && let Some((set, destination)) = sets.next_resting()
            {
                removed += remove(&mut trie, set, destination)?;
                sets.gone();
            }
            Ok(removed)
        });
        self.sets = Some(sets);
        result
    }

    /// Removes what no peer has and is not in `keep`, for the room that it takes.
    pub(super) fn make_room(&mut self, mut keep: BTreeSet<u32>) -> Result<(), Error> {
        keep.append(&mut self.holders.route_sets());
        self.sets_mut()?.retire_all_but(&keep);
        self.remove_resting_routes(usize::MAX)?;
        Ok(())
    }

    /// Writes a set as a whole, unless it is there. Where there is no room for it, what no peer has and is not in `keep`
    /// goes first. Gives the number of routes that were written.
    pub(super) fn write_set(
        &mut self,
        set: u32,
        routes: &Arc<RouteSet>,
        keep: impl FnOnce() -> BTreeSet<u32>,
    ) -> Result<usize, Error> {
        let has = self.sets_mut()?.whole().get(&set).cloned();
        match has {
            Some(has) if Arc::ptr_eq(&has, routes) || has == *routes => Ok(0),
            // A set that was begun by a run that ended there, or whoever gives the ids has no rule for them.
            Some(has) => self.rewrite_set(set, &has, routes),
            None => match self.write_new_set(set, routes) {
                Err(Error::Full { .. }) => {
                    self.make_room(keep())?;
                    self.write_new_set(set, routes)
                }
                written => written,
            },
        }
    }

    fn write_new_set(&mut self, set: u32, routes: &Arc<RouteSet>) -> Result<usize, Error> {
        let sets = self.sets_mut()?;
        sets.begin(set, routes);
        let wanted = sets.count();
        let mut trie = self.trie()?;
        for (destination, route) in routes.iter() {
            insert(&mut trie, set, *destination, route, wanted)?;
        }
        self.sets_mut()?.complete(set, Arc::clone(routes));
        Ok(routes.len())
    }

    fn rewrite_set(&mut self, set: u32, has: &RouteSet, routes: &Arc<RouteSet>) -> Result<usize, Error> {
        // If anything fails, nobody knows what is there.
        let Some(mut sets) = self.sets.take() else { return Ok(0) };
        let wanted = sets.count() + routes.len();
        let mut trie = self.trie()?;
        let mut written = 0;
        for (destination, route) in routes.iter().filter(|(destination, route)| has.get(destination) != Some(route)) {
            insert(&mut trie, set, *destination, route, wanted)?;
            written += 1;
        }
        for (destination, _) in has.iter().filter(|(destination, _)| routes.get(destination).is_none()) {
            remove(&mut trie, set, *destination)?;
        }
        sets.complete(set, Arc::clone(routes));
        self.sets = Some(sets);
        Ok(written)
    }

    pub(super) fn sets_mut(&mut self) -> Result<&mut Sets, Error> {
        let sets = match self.sets.take() {
            Some(sets) => sets,
            None => Sets::found(
                self.routes()?.into_iter().map(|((set, destination, bits), route)| (set, (destination, bits), route)),
            ),
        };
        Ok(self.sets.insert(sets))
    }

    pub(super) fn trie(&mut self) -> Result<Trie<'_>, Error> {
        LpmTrie::try_from(self.map_mut(names::ROUTES)).map_err(failed)
    }
}

pub(super) fn insert(
    trie: &mut Trie<'_>,
    set: u32,
    destination: Destination,
    route: &Route,
    wanted: usize,
) -> Result<(), Error> {
    trie.insert(&key(set, destination), route, 0).map_err(|source| full_or(source, names::ROUTES, "routes_max", wanted))
}

/// How many there were: one or none.
pub(super) fn remove(trie: &mut Trie<'_>, set: u32, destination: Destination) -> Result<usize, Error> {
    match trie.remove(&key(set, destination)) {
        Ok(()) => Ok(1),
        Err(error) if is_missing(&error) => Ok(0),
        Err(source) => Err(failed(source)),
    }
}

pub(super) fn key(set: u32, (destination, bits): Destination) -> Key<RouteKey> {
    Key::new(SET_BITS + bits, RouteKey { set, destination })
}

pub(super) const fn failed(source: MapError) -> Error {
    Error::Map { map: names::ROUTES, source }
}
