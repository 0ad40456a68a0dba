//! Comparing the maps with what they shall hold while nothing else is to do, piece by piece, and setting single entries
//! right.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd as _,
};

use aya::maps::{Map, MapError, lpm_trie::LpmTrie};
use vpn_ebpf_common::{
    Address, names,
    peer::Peer,
    plant::Plant,
    route::{Route, RouteKey},
    service::ServiceKey,
};

pub use super::walk::Place;
use super::{
    Datapath, Error,
    read::Maps as _,
    routes::{failed, insert, key, remove},
    walk,
};

/// A route by set, destination, and prefix length in the 128 bits of [`Address`].
pub type RouteId = (u32, Address, u32);

/// A set, and how many of its routes were looked at.
pub type Progress = (u32, usize);

impl Datapath {
    /// Looks at routes that this process has written or found, at most so many from `from` on, and gives those that ROUTES
    /// does not have as they shall be, and where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn routes_amiss(
        &self,
        from: Progress,
        most: usize,
    ) -> Result<(BTreeMap<RouteId, Route>, Option<Progress>), Error> {
        let map = LpmTrie::<_, RouteKey, Route>::try_from(self.map(names::ROUTES)).map_err(failed)?;
        let mut amiss = BTreeMap::new();
        let (mut set, mut at) = from;
        for _ in 0..most {
            // Behind the last route of a set comes the first one of the next that has any.
            let next = self.sets.iter().flat_map(|sets| sets.whole().range(set..)).find_map(|(id, routes)| {
                let at = if *id == set { at } else { 0 };
                Some((*id, at, *routes.iter().nth(at)?))
            });
            let Some((id, position, (destination, route))) = next else { return Ok((amiss, None)) };
            (set, at) = (id, position + 1);
            match map.get(&key(set, destination), 0) {
                // The longest prefix of at most this length. A shorter one that leads elsewhere is another route: its
                // real prefix is as long as its own.
                Ok(found) if found == route => {}
                Ok(_) | Err(MapError::KeyNotFound) => {
                    amiss.insert((set, destination.0, destination.1), route);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok((amiss, Some((set, at))))
    }

    /// Looks at the next routes that ROUTES has behind `after`, at most so many, and gives those that this process has
    /// neither written nor found, and where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Map`].
    ///
    /// # Panics
    /// If ROUTES is no trie.
    pub fn strange_routes(
        &self,
        after: Option<&Place>,
        most: usize,
    ) -> Result<(BTreeMap<RouteId, Route>, Option<Place>), Error> {
        let Map::LpmTrie(map) = self.map(names::ROUTES) else { panic!("ROUTES is a trie") };
        let Some(sets) = &self.sets else { return Ok((BTreeMap::new(), None)) };
        let read = walk::routes(map.fd().as_fd(), after, most);
        let (entries, place) = read.map_err(|error| failed(MapError::IoError(error)))?;
        let strange = entries.into_iter().filter(|((set, address, bits), _)| !sets.may_have(*set, &(*address, *bits)));
        Ok((strange.collect(), place))
    }

    /// Writes and removes single routes, of sets that are in use as well, and has every flow looked at again: one that
    /// was admitted by a route that is no longer there must not go on.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`].
    pub fn repair_routes(
        &mut self,
        wanted: &BTreeMap<RouteId, Route>,
        strange: &BTreeSet<RouteId>,
    ) -> Result<(), Error> {
        let result = self.trie().and_then(|mut trie| {
            for (set, address, bits) in strange {
                remove(&mut trie, *set, (*address, *bits))?;
            }
            for ((set, address, bits), route) in wanted {
                insert(&mut trie, *set, (*address, *bits), route, wanted.len())?;
            }
            Ok(())
        });
        self.count_generation()?;
        result
    }

    /// Writes and removes single peers.
    ///
    /// # Errors
    /// [`Error::NoPlace`].
    pub fn repair_peers(&mut self, set: &[(u32, Peer)], remove: &[u32]) -> Result<(), Error> {
        for number in remove {
            // The number was read from the table.
            let _ = self.set_peer(*number, Peer::NOBODY);
        }
        for (number, peer) in set {
            self.give(*number, *peer)?;
        }
        Ok(())
    }

    /// Makes PLANTS hold this and no more.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`].
    pub fn repair_plants(&mut self, wanted: &BTreeMap<u32, Plant>) -> Result<(), Error> {
        let has: BTreeSet<_> = self.plants()?.into_keys().filter(|ifindex| !wanted.contains_key(ifindex)).collect();
        self.remove::<_, Plant>(names::PLANTS, &has)?;
        self.set(names::PLANTS, "plants_max", wanted)?;
        self.count_generation()
    }

    /// Makes SERVICES hold this and no more.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`].
    pub fn repair_services(&mut self, wanted: &BTreeMap<ServiceKey, u32>) -> Result<(), Error> {
        let has: BTreeSet<_> = self.services()?.into_keys().filter(|key| !wanted.contains_key(key)).collect();
        self.remove::<_, u32>(names::SERVICES, &has)?;
        self.set(names::SERVICES, "services", wanted)?;
        self.count_generation()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use vpn_ebpf_common::Prefix;

    use super::*;
    use crate::datapath::{route_set::RouteSet, small};

    type Routes = BTreeMap<RouteId, Route>;

    const SETS: [u32; 5] = [1, 2, 3, 256, 65_537];

    /// Nested prefixes, several sets, and pieces of every size: each entry is looked at once.
    #[test]
    fn a_walk_in_pieces_looks_at_every_route_once() {
        let Some(mut datapath) = small() else { return };
        write(&mut datapath);
        let wanted = datapath.routes().unwrap();
        assert_eq!(wanted.len(), SETS.len() * 4);
        // Nothing is known of them any more.
        datapath.sets = Some(Default::default());
        for most in [1, 2, 7, 1000] {
            let (mut seen, mut after, mut pieces) = (Vec::new(), None, 0);
            loop {
                let (routes, place) = datapath.strange_routes(after.as_ref(), most).unwrap();
                seen.extend(routes);
                pieces += 1;
                after = place;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), wanted.len(), "in pieces of {most}");
            assert_eq!(seen.into_iter().collect::<Routes>(), wanted, "in pieces of {most}");
            assert!(pieces >= wanted.len() / most);
        }
        datapath.repair_routes(&Routes::new(), &wanted.keys().copied().collect()).unwrap();
        let (none, end) = datapath.strange_routes(None, 10).unwrap();
        assert!(none.is_empty() && end.is_none(), "an empty map");
    }

    #[test]
    fn a_walk_goes_on_when_its_place_is_gone() {
        let Some(mut datapath) = small() else { return };
        write(&mut datapath);
        let wanted = datapath.routes().unwrap();
        datapath.sets = Some(Default::default());
        let (first, place) = datapath.strange_routes(None, 3).unwrap();
        datapath.repair_routes(&Routes::new(), &first.keys().copied().collect()).unwrap();
        let mut seen = Routes::new();
        let mut after = place;
        while let Some(place) = after {
            let (routes, next) = datapath.strange_routes(Some(&place), 4).unwrap();
            seen.extend(routes);
            after = next;
        }
        assert!(wanted.keys().filter(|id| !first.contains_key(*id)).all(|id| seen.contains_key(id)));
    }

    #[test]
    fn what_is_missing_or_other_is_amiss_and_set_right() {
        let Some(mut datapath) = small() else { return };
        write(&mut datapath);
        let wanted = datapath.routes().unwrap();
        for most in [1, 3, 1000] {
            assert_eq!(amiss(&datapath, most), Routes::new(), "in pieces of {most}");
        }

        // The one inside a wider prefix, so that a look-up finds that; and one that leads elsewhere.
        let (inner, _) = route(2, [10, 1, 2, 0], 24, 5);
        let (moved, to) = route(3, [192, 168, 1, 0], 24, 6);
        let elsewhere = Routes::from([(moved, Route { egress: 99, ..to })]);
        datapath.repair_routes(&elsewhere, &BTreeSet::from([inner])).unwrap();
        for most in [1, 3, 1000] {
            let found = amiss(&datapath, most);
            assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from([inner, moved]));
        }
        let (stranger, leads) = route(3, [8, 8, 8, 8], 32, 7);
        datapath.repair_routes(&Routes::from([(stranger, leads)]), &BTreeSet::new()).unwrap();
        let (strange, _) = datapath.strange_routes(None, 1000).unwrap();
        assert_eq!(strange.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([stranger]));

        let found = amiss(&datapath, 1000);
        datapath.repair_routes(&found, &BTreeSet::from([stranger])).unwrap();
        assert_eq!(datapath.routes().unwrap(), wanted);
    }

    #[test]
    fn what_is_on_its_way_out_is_no_stranger() {
        let Some(mut datapath) = small() else { return };
        write(&mut datapath);
        datapath.sets_mut().unwrap().retire_all_but(&BTreeSet::from([1]));
        datapath.remove_resting_routes(2).unwrap();
        assert_eq!(datapath.strange_routes(None, 1000).unwrap().0, Routes::new());
        assert_eq!(amiss(&datapath, 1000), Routes::new());
    }

    #[test]
    fn a_route_goes_before_those_inside_it() {
        let Some(mut datapath) = small() else { return };
        write(&mut datapath);
        let mut left = datapath.routes().unwrap();
        datapath.sets_mut().unwrap().retire_all_but(&BTreeSet::from([1]));
        while datapath.remove_resting_routes(1).unwrap() > 0 {
            let now = datapath.routes().unwrap();
            let gone: Vec<_> = left.keys().filter(|key| !now.contains_key(key)).copied().collect();
            let [(set, address, bits)] = gone[..] else { panic!("one at a time, not {gone:?}") };
            for (_, outer, shorter) in now.keys().filter(|(other, _, length)| *other == set && *length < bits) {
                assert!(!Prefix::new(*outer, *shorter).contains(&address), "{address:?}/{bits} goes before {outer:?}");
            }
            left = now;
        }
    }

    fn amiss(datapath: &Datapath, most: usize) -> Routes {
        let (mut amiss, mut from) = (Routes::new(), (0, 0));
        loop {
            let (found, next) = datapath.routes_amiss(from, most).unwrap();
            amiss.extend(found);
            match next {
                Some(next) => from = next,
                None => return amiss,
            }
        }
    }

    fn write(datapath: &mut Datapath) {
        for set in SETS {
            let routes = [
                route(set, [10, 1, 0, 0], 16, 4),
                route(set, [10, 1, 2, 0], 24, 5),
                route(set, [10, 1, 2, 3], 32, 5),
                route(set, [192, 168, 1, 0], 24, 6),
            ];
            let routes = routes.map(|((_, address, bits), route)| ((address, bits), route));
            let routes = Arc::new(routes.into_iter().collect::<RouteSet>());
            datapath.write_set(set, &routes, BTreeSet::new).unwrap();
        }
    }

    fn route(set: u32, network: [u8; 4], length: u32, subnet: u32) -> (RouteId, Route) {
        let (address, bits) = (Address::from(Ipv4Addr::from(network)), 96 + length);
        let route =
            Route { plant: subnet, id: subnet, egress: subnet, real: Prefix::new(address, bits), twin: address };
        ((set, address, bits), route)
    }
}
