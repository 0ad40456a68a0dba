//! Which route set each host number has, as far as this process has written or found it: so a change of one peer need
//! not look through PEERS, which has a place for every address of the pool.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
};

use vpn_ebpf_common::peer::Peer;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// By host number.
    sets: HashMap<u32, u32>,
    /// How many have each set.
    counts: BTreeMap<u32, NonZeroUsize>,
}

impl Holders {
    /// Those that were found.
    pub fn found(peers: &BTreeMap<u32, Peer>) -> Self {
        let mut holders = Self::default();
        for (number, peer) in peers {
            holders.note(*number, *peer);
        }
        holders
    }

    /// Notes what a host number was given; [`Peer::NOBODY`] if it is nobody's now. Gives the set that it had before.
    pub fn note(&mut self, number: u32, peer: Peer) -> Option<u32> {
        let before = match peer {
            Peer::NOBODY => self.sets.remove(&number),
            peer => {
                let count = self.counts.entry(peer.route_set);
                count.and_modify(|count| *count = count.saturating_add(1)).or_insert(NonZeroUsize::MIN);
                self.sets.insert(number, peer.route_set)
            }
        };
        let before = before?;
        match self.counts.get(&before).and_then(|count| NonZeroUsize::new(count.get() - 1)) {
            Some(fewer) => self.counts.insert(before, fewer),
            None => self.counts.remove(&before),
        };
        Some(before)
    }

    /// How many host numbers are somebody's.
    pub fn count(&self) -> usize {
        self.sets.len()
    }

    /// The route sets that somebody has.
    pub fn route_sets(&self) -> BTreeSet<u32> {
        self.counts.keys().copied().collect()
    }

    /// Those of `sets` that nobody has.
    pub fn unused_of(&self, mut sets: BTreeSet<u32>) -> BTreeSet<u32> {
        sets.retain(|set| !self.counts.contains_key(set));
        sets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is written in whatever order, it says what one would find by looking.
        #[test]
        fn it_says_what_is_there(
            writes in prop::collection::vec((0..8_u32, prop::option::of(0..4_u32)), 0..64),
            asked in prop::collection::btree_set(0..5_u32, 0..5),
        ) {
            let (mut holders, mut there) = (Holders::default(), BTreeMap::new());
            for (number, set) in writes {
                // Ids are not 0, so that a peer is never taken for nobody.
                let peer = set.map_or(Peer::NOBODY, |route_set| Peer { id: number + 1, route_set });
                let before = match set {
                    Some(_) => there.insert(number, peer),
                    None => there.remove(&number),
                };
                prop_assert_eq!(holders.note(number, peer), before.map(|peer: Peer| peer.route_set));
                prop_assert_eq!(&holders, &Holders::found(&there));
                let sets: BTreeSet<_> = there.values().map(|peer| peer.route_set).collect();
                prop_assert_eq!(holders.count(), there.len());
                prop_assert_eq!(holders.unused_of(asked.clone()), asked.difference(&sets).copied().collect());
                prop_assert_eq!(holders.route_sets(), sets);
            }
        }
    }
}
