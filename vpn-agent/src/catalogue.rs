//! The route sets that have an id, by their content.
//!
//! An id stands for one content for ever: flows carry the id of the set that admitted them, and the datapath takes a set
//! that it has written for one that need not be written again. Ids are given by counting on. They are reserved on disk in
//! blocks, so that few sets cost a write; a run that ends leaves the rest of its block unused.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    addressing::{Allocations, Error},
    datapath::route_set::{Digest, RouteSet},
};

/// So many ids are reserved at once.
pub const BLOCK: u32 = 4_096;

/// See the module.
#[derive(Debug)]
pub struct Catalogue {
    sets: HashMap<Digest, (u32, Arc<RouteSet>)>,
    next: u32,
}

impl Catalogue {
    /// Without a set. Ids are given from the first one on that `allocations` have not reserved.
    #[must_use]
    pub fn new(allocations: &Allocations) -> Self {
        Self { sets: HashMap::new(), next: allocations.next_route_set() }
    }

    /// Takes up a set that the kernel has already. What it holds counts, not what it was made for.
    pub fn adopt(&mut self, id: u32, routes: &Arc<RouteSet>) {
        // Also one that the allocations know nothing of, if they are from another time.
        self.next = self.next.max(id.saturating_add(1));
        self.sets.entry(routes.digest()).or_insert_with(|| (id, Arc::clone(routes)));
    }

    /// The id of a set, given now if it is new. Before it is used, it has to be reserved, see [`Self::is_reserved`].
    ///
    /// # Errors
    /// [`Error::Ids`].
    pub fn give(&mut self, routes: RouteSet) -> Result<(u32, Arc<RouteSet>), Error> {
        let digest = routes.digest();
        if let Some((id, routes)) = self.sets.get(&digest) {
            return Ok((*id, Arc::clone(routes)));
        }
        let id = self.next;
        self.next = id.checked_add(1).ok_or(Error::Ids { kind: "route sets" })?;
        let routes = Arc::new(routes);
        self.sets.insert(digest, (id, Arc::clone(&routes)));
        Ok((id, routes))
    }

    /// Whether all ids that were given are reserved in `allocations`.
    #[must_use]
    pub fn is_reserved(&self, allocations: &Allocations) -> bool {
        self.next <= allocations.next_route_set()
    }

    /// Where the next run is to begin, so that everything given so far is reserved, and a block more.
    ///
    /// # Errors
    /// [`Error::Ids`].
    pub fn reservation(&self) -> Result<u32, Error> {
        self.next.checked_add(BLOCK).ok_or(Error::Ids { kind: "route sets" })
    }

    /// Forgets sets. Their ids are not given again.
    pub fn forget_all_but(&mut self, keep: &BTreeSet<u32>) {
        self.sets.retain(|_, (id, _)| keep.contains(id));
    }

    /// Forgets one set, if nobody else has it.
    pub fn forget(&mut self, routes: &RouteSet) {
        self.sets.remove(&routes.digest());
    }
}

#[cfg(test)]
mod tests {
    use vpn_ebpf_common::{Prefix, route::Route};

    use super::*;

    #[test]
    fn a_content_has_one_id_and_an_id_one_content() {
        let mut catalogue = Catalogue::new(&Allocations::default());
        let id = |catalogue: &mut Catalogue, content| catalogue.give(set(content)).unwrap().0;
        assert_eq!([1, 2, 1].map(|content| id(&mut catalogue, content)), [1, 2, 1]);
        let shared = [(); 2].map(|()| catalogue.give(set(2)).unwrap().1);
        assert!(Arc::ptr_eq(&shared[0], &shared[1]), "there is one copy");
        catalogue.forget_all_but(&BTreeSet::from([2]));
        assert_eq!([1, 2].map(|content| id(&mut catalogue, content)), [3, 2], "not given again");
        catalogue.forget(&set(2));
        assert_eq!(id(&mut catalogue, 2), 4);
    }

    #[test]
    fn what_the_kernel_has_keeps_its_id() {
        let mut catalogue = Catalogue::new(&Allocations::default());
        catalogue.adopt(7, &Arc::new(set(1)));
        catalogue.adopt(8, &Arc::new(set(1)));
        assert_eq!(catalogue.give(set(1)).unwrap().0, 7);
        assert_eq!(catalogue.give(set(2)).unwrap().0, 9, "although the allocations have not reserved it");
    }

    /// Runs that end anywhere: what is used was reserved before, and no run gives an id that another has used.
    ///
    /// Requirements: C5.
    #[test]
    fn no_run_gives_an_id_that_another_has_used() {
        let mut disk = Allocations::default();
        let mut used = BTreeSet::new();
        for (run, sets) in (0..).zip([1, BLOCK - 1, 2, BLOCK, BLOCK + 1, 2 * BLOCK + 7, 0, 1]) {
            let mut catalogue = Catalogue::new(&disk);
            let mut writes = 0;
            for content in 0..sets {
                let (id, _) = catalogue.give(set(run << 24 | content)).unwrap();
                if !catalogue.is_reserved(&disk) {
                    disk.add(disk.reservation(catalogue.reservation().unwrap()));
                    writes += 1;
                }
                assert!(id < disk.next_route_set() && used.insert(id), "run {run} gives {id}");
            }
            assert_eq!(writes, sets.div_ceil(BLOCK + 1), "run {run}");
        }
    }

    fn set(content: u32) -> RouteSet {
        let address = std::net::Ipv4Addr::from_bits(content).into();
        let route = Route { plant: 1, id: 1, egress: 1, real: Prefix::new(address, 128), twin: address };
        [((address, 128), route)].into_iter().collect()
    }
}
