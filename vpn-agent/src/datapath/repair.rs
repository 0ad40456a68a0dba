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
    fill::{Routes, full_or, trie_key},
    read::Maps as _,
    walk,
};

/// A route by set, destination, and prefix length in the 128 bits of [`Address`].
pub type RouteId = (u32, Address, u32);

impl Datapath {
    /// Those of `wanted` that ROUTES does not have as they shall be: missing, or another content.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn routes_amiss(&self, wanted: impl Iterator<Item = (RouteId, Route)>) -> Result<Routes, Error> {
        let failed = |source| Error::Map { map: names::ROUTES, source };
        let map = LpmTrie::<_, RouteKey, Route>::try_from(self.map(names::ROUTES)).map_err(failed)?;
        let mut amiss = Routes::new();
        for (id, route) in wanted {
            match map.get(&trie_key(id), 0) {
                // The longest prefix of at most this length. A shorter one that leads elsewhere is another route: its
                // real prefix is as long as its own.
                Ok(found) if found == route => {}
                Ok(_) | Err(MapError::KeyNotFound) => {
                    amiss.insert(id, route);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(amiss)
    }

    /// The next routes that ROUTES has behind `after`, at most so many, and where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Map`].
    ///
    /// # Panics
    /// If ROUTES is no trie.
    pub fn routes_after(&self, after: Option<&Place>, most: usize) -> Result<(Routes, Option<Place>), Error> {
        let Map::LpmTrie(map) = self.map(names::ROUTES) else { panic!("ROUTES is a trie") };
        let read = walk::routes(map.fd().as_fd(), after, most);
        let (entries, place) =
            read.map_err(|error| Error::Map { map: names::ROUTES, source: MapError::IoError(error) })?;
        Ok((entries.into_iter().collect(), place))
    }

    /// Writes and removes single routes, of sets that are in use as well, and has every flow looked at again: one that
    /// was admitted by a route that is no longer there must not go on.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`].
    pub fn repair_routes(&mut self, set: &Routes, remove: &BTreeSet<RouteId>) -> Result<(), Error> {
        let removed = self.remove_routes(remove.iter());
        let written = set.len();
        let mut map = LpmTrie::<_, RouteKey, Route>::try_from(self.map_mut(names::ROUTES))
            .map_err(|source| Error::Map { map: names::ROUTES, source })?;
        let set = set.iter().try_for_each(|(id, route)| {
            map.insert(&trie_key(*id), route, 0).map_err(|source| full_or(source, names::ROUTES, "routes_max", written))
        });
        self.count_generation()?;
        removed?;
        set
    }

    /// Writes and removes single peers.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoPlace`].
    pub fn repair_peers(&mut self, set: &[(u32, Peer)], remove: &[u32]) -> Result<(), Error> {
        let table = self.peer_table()?;
        for number in remove {
            // The number was read from the table.
            let _ = table.set(*number, Peer::NOBODY);
        }
        for (number, peer) in set {
            if !table.set(*number, *peer) {
                return Err(Error::NoPlace { number: *number });
            }
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
    use std::net::Ipv4Addr;

    use vpn_ebpf_common::Prefix;

    use super::*;
    use crate::datapath::Sizes;

    /// Nested prefixes, several sets, and pieces of every size: each entry is seen once.
    #[test]
    fn a_walk_in_pieces_sees_every_route_once() {
        let Some(mut datapath) = datapath() else { return };
        let wanted = wanted();
        datapath.set_routes(&wanted, &Routes::new()).unwrap();
        for most in [1, 2, 7, 1000] {
            let (mut seen, mut after, mut pieces) = (Vec::new(), None, 0);
            loop {
                let (routes, place) = datapath.routes_after(after.as_ref(), most).unwrap();
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
        let (none, end) = Datapath::routes_after(&self::datapath().unwrap(), None, 10).unwrap();
        assert!(none.is_empty() && end.is_none(), "an empty map");
    }

    #[test]
    fn a_walk_goes_on_when_its_place_is_gone() {
        let Some(mut datapath) = datapath() else { return };
        let wanted = wanted();
        datapath.set_routes(&wanted, &Routes::new()).unwrap();
        let (first, place) = datapath.routes_after(None, 3).unwrap();
        datapath.remove_routes(first.keys()).unwrap();
        let mut seen = Routes::new();
        let mut after = place;
        while let Some(place) = after {
            let (routes, next) = datapath.routes_after(Some(&place), 4).unwrap();
            seen.extend(routes);
            after = next;
        }
        assert!(wanted.keys().filter(|id| !first.contains_key(*id)).all(|id| seen.contains_key(id)));
    }

    #[test]
    fn what_is_missing_or_other_is_amiss_and_set_right() {
        let Some(mut datapath) = datapath() else { return };
        let wanted = wanted();
        datapath.set_routes(&wanted, &Routes::new()).unwrap();
        let entries = || wanted.iter().map(|(id, route)| (*id, *route));
        assert!(datapath.routes_amiss(entries()).unwrap().is_empty());

        let generation = datapath.gateway().unwrap().map(|gateway| gateway.generation);
        // The one inside a wider prefix, so that a look-up finds that; and one that leads elsewhere.
        let (inner, _) = route(2, [10, 1, 2, 0], 24, 5);
        let (moved, to) = route(3, [192, 168, 1, 0], 24, 6);
        datapath.remove_routes([&inner].into_iter()).unwrap();
        datapath.set_routes(&Routes::from([(moved, Route { egress: 99, ..to })]), &Routes::new()).unwrap();
        let amiss = datapath.routes_amiss(entries()).unwrap();
        assert_eq!(amiss.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from([inner, moved]));

        let (stranger, leads) = route(3, [8, 8, 8, 8], 32, 7);
        datapath.set_routes(&Routes::from([(stranger, leads)]), &Routes::new()).unwrap();
        datapath.repair_routes(&amiss, &BTreeSet::from([stranger])).unwrap();
        assert_eq!(datapath.routes().unwrap(), wanted);
        assert_eq!(generation, None, "no agent has written the settings of this host");
    }

    fn wanted() -> Routes {
        let mut routes = Routes::new();
        for set in [1, 2, 3, 256, 65_537] {
            routes.extend([
                route(set, [10, 1, 0, 0], 16, 4),
                route(set, [10, 1, 2, 0], 24, 5),
                route(set, [10, 1, 2, 3], 32, 5),
                route(set, [192, 168, 1, 0], 24, 6),
            ]);
        }
        routes
    }

    fn route(set: u32, network: [u8; 4], length: u32, subnet: u32) -> (RouteId, Route) {
        let (address, bits) = (Address::from(Ipv4Addr::from(network)), 96 + length);
        let route =
            Route { plant: subnet, id: subnet, egress: subnet, real: Prefix::new(address, bits), twin: address };
        ((set, address, bits), route)
    }

    /// With maps of its own; none where the user may not load programs.
    fn datapath() -> Option<Datapath> {
        let sizes =
            Sizes { flows_max: 1024, closed_max: 64, denials_max: 64, events_bytes: 65_536, ..Sizes::default() };
        match Datapath::for_test_runs(None, &sizes) {
            Ok(datapath) => Some(datapath),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }
}
