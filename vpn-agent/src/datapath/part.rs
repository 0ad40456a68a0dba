//! A change of some peers: what it costs does not depend on how many there are, nor on what else the maps hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use vpn_ebpf_common::{names, peer::Peer, usage::Usage};

use super::{Datapath, Error, fill::Written, route_set::RouteSet, withdraw::Withdrawn};

/// What some peers shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// By the host number of their tunnel addresses.
    pub peers: BTreeMap<u32, Peer>,
    /// The sets of these peers.
    pub route_sets: BTreeMap<u32, Arc<RouteSet>>,
    /// Host numbers that shall be nobody's.
    pub gone: BTreeSet<u32>,
}

/// What [`Datapath::put_part`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartWritten {
    /// Entries.
    pub written: Written,
    /// Sets that nobody has any more. Their routes go later, see [`Datapath::remove_resting_routes`].
    pub retired: BTreeMap<u32, Arc<RouteSet>>,
}

impl Datapath {
    /// [`Datapath::withdraw`] for some peers.
    ///
    /// # Errors
    /// [`Error::Map`], where ROUTES has to be read first.
    pub fn withdraw_part<E: fmt::Display>(
        &mut self,
        part: &Part,
        save: impl FnOnce() -> Result<(), E>,
    ) -> Result<Withdrawn, Error> {
        let numbers = part.peers.keys().chain(&part.gone);
        let has: BTreeMap<_, _> = numbers.filter_map(|number| Some((*number, self.table.get(*number)?))).collect();
        for number in part.gone.iter().filter(|number| !has.contains_key(number)) {
            // Something else has taken it away.
            self.left.extend(self.holders.note(*number, Peer::NOBODY));
        }
        let gone = part.gone.iter().filter_map(|number| has.get(number)).map(|peer| peer.id).collect();
        let withdrawn = self.take_away(has, &part.peers, &part.route_sets, save)?;
        self.remove_accounts(&gone)?;
        Ok(withdrawn)
    }

    /// [`Datapath::fill`] for some peers, after [`Datapath::withdraw_part`].
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`], [`Error::NoPlace`]. Peers then still have their old route sets, or less.
    pub fn put_part(&mut self, part: &Part) -> Result<PartWritten, Error> {
        let mut written = Written::default();
        if part.peers.keys().any(|number| self.table.get(*number).is_none()) {
            let new = part.peers.keys().filter(|number| self.table.get(**number).is_none()).count();
            self.check_count(self.holders.count() + new)?;
        }
        for (set, routes) in &part.route_sets {
            written.set += self.write_set(*set, routes, || part.route_sets.keys().copied().collect())?;
        }
        for (number, peer) in &part.peers {
            written.set += usize::from(self.give(*number, *peer)?);
        }
        let unused = self.holders.unused_of(std::mem::take(&mut self.left));
        Ok(PartWritten { written, retired: self.sets_mut()?.retire(&unused) })
    }

    /// Removes what was counted for these peers. Their ids are never used again. What the collector counts for one of
    /// them later, when its last flows end, goes with the next [`Datapath::fill`].
    fn remove_accounts(&mut self, ids: &BTreeSet<u32>) -> Result<(), Error> {
        self.remove::<_, Usage>(names::USAGE, ids)?;
        self.remove::<_, u64>(names::RELEASED, ids)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use vpn_ebpf_common::{Address, Prefix, route::Route};

    use super::*;
    use crate::datapath::{read::Maps as _, small};

    /// What something else has written into PEERS: the set that was wanted anyway, and nobody.
    ///
    /// Requirements: C5.
    #[test]
    fn what_a_stranger_wrote_counts_as_what_it_is() {
        let Some(mut datapath) = small() else { return };
        let peer = |number, route_set| (number, Peer { id: number, route_set });
        let part = |peers: &[(u32, Peer)], gone: &[u32]| Part {
            route_sets: peers.iter().map(|(_, peer)| (peer.route_set, routes())).collect(),
            peers: peers.iter().copied().collect(),
            gone: gone.iter().copied().collect(),
        };
        assert_eq!(apply(&mut datapath, &part(&[peer(2, 7), peer(3, 8)], &[])), BTreeSet::from([7, 8]));
        let (number, moved) = peer(3, 7);
        assert!(datapath.peer_table().set(number, moved));
        assert_eq!(apply(&mut datapath, &part(&[peer(3, 7)], &[])), BTreeSet::from([7]), "nobody has 8 any more");
        assert_eq!(apply(&mut datapath, &part(&[], &[2])), BTreeSet::from([7]), "the other one still has it");
        assert!(datapath.peer_table().set(number, Peer::NOBODY));
        assert_eq!(apply(&mut datapath, &part(&[], &[number])), BTreeSet::new());
        assert_eq!(datapath.holders.count(), 0);
    }

    /// Gives the sets that have routes afterwards.
    fn apply(datapath: &mut Datapath, part: &Part) -> BTreeSet<u32> {
        datapath.withdraw_part(part, || Ok::<_, Error>(())).unwrap();
        datapath.put_part(part).unwrap();
        datapath.remove_resting_routes(usize::MAX).unwrap();
        datapath.routes().unwrap().into_keys().map(|(set, ..)| set).collect()
    }

    fn routes() -> Arc<RouteSet> {
        let (address, bits) = (Address::from(Ipv4Addr::new(10, 1, 2, 0)), 96 + 24);
        let route = Route { plant: 1, id: 1, egress: 1, real: Prefix::new(address, bits), twin: address };
        Arc::new(RouteSet::from_iter([((address, bits), route)]))
    }
}
