//! The routes of one set, as the map has them.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use vpn_ebpf_common::{Address, route::Route};

/// What a route is for: a destination and its prefix length in the 128 bits of [`Address`].
pub type Destination = (Address, u32);

/// SHA-256 of a set's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Routes by destination, in one piece of memory. Who holds sets, holds them behind an [`Arc`](std::sync::Arc): there is
/// one copy of a set in this process, however many know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSet(Box<[(Destination, Route)]>);

impl RouteSet {
    /// The routes, sorted by destination.
    pub fn iter(&self) -> impl Iterator<Item = &(Destination, Route)> {
        self.0.iter()
    }

    /// The route for exactly this destination.
    #[must_use]
    pub fn get(&self, destination: &Destination) -> Option<&Route> {
        let at = self.0.binary_search_by_key(destination, |(destination, _)| *destination).ok()?;
        self.0.get(at).map(|(_, route)| route)
    }

    /// How many routes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no route.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the content. A cryptographic digest, because two contents of one name would be taken for one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for ((destination, bits), route) in self.iter() {
            let Route { plant, id, egress, real, twin } = route;
            for address in [destination, &real.base, &real.host_mask, twin] {
                hash.update(address.bytes());
            }
            for number in [bits, plant, id, egress] {
                hash.update(number.to_be_bytes());
            }
        }
        Digest(hash.finalize().into())
    }

    /// Whether a subnet of `self` is not in `other`. Subnets are what permissions are about, not destinations: that a
    /// real address leads to another plant takes nothing away.
    pub(super) fn has_more_than(&self, other: &Self) -> bool {
        let subnet = |(_, route): &(Destination, Route)| (route.plant, route.id);
        let others: BTreeSet<_> = other.iter().map(subnet).collect();
        self.iter().any(|entry| !others.contains(&subnet(entry)))
    }
}

/// Of several routes with one destination the last counts.
impl FromIterator<(Destination, Route)> for RouteSet {
    fn from_iter<T: IntoIterator<Item = (Destination, Route)>>(routes: T) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        // Stable, so that the last one is the first of its destination then.
        routes.reverse();
        routes.sort_by_key(|(destination, _)| *destination);
        routes.dedup_by_key(|(destination, _)| *destination);
        Self(routes.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use proptest::{collection::vec, prelude::*};
    use vpn_ebpf_common::Prefix;

    use super::*;

    /// Requirements: B4.
    #[test]
    fn who_loses_a_subnet_is_told_from_who_only_changes() {
        let set = |subnets: &[u8]| subnets.iter().flat_map(|subnet| routes_of(*subnet)).collect::<RouteSet>();
        let has = set(&[1, 2]);
        for (name, shall, loses) in [
            ("one of two", set(&[1]), true),
            ("everything", set(&[]), true),
            ("one for another", set(&[1, 3]), true),
            ("one more", set(&[1, 2, 3]), false),
            ("the same", set(&[1, 2]), false),
            ("without the real route of one", routes_of(1).chain(routes_of(2).take(1)).collect(), false),
        ] {
            assert_eq!(has.has_more_than(&shall), loses, "{name}");
        }
    }

    #[test]
    fn whatever_differs_is_another_content() {
        let (address, route) = (destination_of(1).0, route_of(1));
        let set = |destination, route| [(destination, route)].into_iter().collect::<RouteSet>().digest();
        let all = [
            set((address, 128), route),
            set((address, 127), route),
            set(destination_of(2), route),
            set((address, 128), Route { plant: 2, ..route }),
            set((address, 128), Route { id: 2, ..route }),
            set((address, 128), Route { egress: 2, ..route }),
            set((address, 128), Route { real: Prefix::new(destination_of(2).0, 128), ..route }),
            set((address, 128), Route { real: Prefix::new(address, 120), ..route }),
            set((address, 128), Route { twin: destination_of(2).0, ..route }),
            RouteSet::default().digest(),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_map_agrees(routes in vec((0..20_u8, any::<u8>()), 0..40)) {
            let routes = || routes.iter().map(|(destination, subnet)| (destination_of(*destination), route_of(*subnet)));
            let (set, map) = (routes().collect::<RouteSet>(), routes().collect::<BTreeMap<_, _>>());
            prop_assert_eq!((set.len(), set.is_empty()), (map.len(), map.is_empty()));
            prop_assert!(set.iter().copied().eq(map.clone()));
            for destination in (0..20).map(destination_of) {
                prop_assert_eq!(set.get(&destination), map.get(&destination));
            }
        }
    }

    /// The virtual and the real route of a subnet.
    fn routes_of(subnet: u8) -> impl Iterator<Item = (Destination, Route)> {
        [100, 200].into_iter().map(move |base| (destination_of(base + subnet), route_of(subnet)))
    }

    fn destination_of(last: u8) -> Destination {
        (Ipv4Addr::new(10, 0, 0, last).into(), 128)
    }

    fn route_of(subnet: u8) -> Route {
        let (address, id) = (Ipv4Addr::new(10, 0, 0, subnet).into(), u32::from(subnet));
        Route { plant: id, id, egress: id, real: Prefix::new(address, 128), twin: address }
    }
}
