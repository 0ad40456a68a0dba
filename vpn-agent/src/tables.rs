//! What the kernel's maps shall hold. Pure: from a state, what was given, a policy and the interfaces there are.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::{
    addressing::{Allocations, Digest, Error},
    id::PlantId,
    policy::{Policy, Reach},
    state::State,
};

/// The content of the maps PEERS, ROUTES and PLANTS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Routes by route-set id; each set sorted by destination, some empty. The content behind an id never changes.
    pub route_sets: BTreeMap<u32, Vec<Route>>,
    /// Certificates by tunnel IP.
    pub peers: BTreeMap<IpAddr, Peer>,
    /// Plants by ifindex of their interface.
    pub plants: BTreeMap<u32, Plant>,
}

/// One route of a set. Destinations differ within a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// A virtual subnet, or the real one.
    pub destination: IpNet,
    /// Where the destination's prefix leads to at the plant: the first address of the real subnet, which is as long.
    pub real: IpAddr,
    /// The plant's number.
    pub plant_id: u32,
    /// The number of the plant's subnet, the same for its virtual and its real route.
    pub route_id: u32,
    /// Interface of the plant.
    pub ifindex: u32,
}

/// A certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The certificate's number.
    pub peer_id: u32,
    /// Key of [`Tables::route_sets`].
    pub route_set: u32,
}

/// A plant with an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plant {
    /// The plant's number.
    pub plant_id: u32,
}

impl Tables {
    /// The tables for `state`, where `ifindexes` are the interfaces of plants that are ready to carry packets. A plant
    /// without one gets no route.
    ///
    /// Gives new route sets their ids in `allocations`, which have to be on disk before the tables are used. Ids of
    /// sets that are no longer in the tables are forgotten and will not be used again.
    ///
    /// # Errors
    /// [`Error::Ids`]; the allocations are then not to be used.
    pub fn new(
        state: &State,
        allocations: &mut Allocations,
        policy: &Policy<'_>,
        ifindexes: &BTreeMap<PlantId, u32>,
    ) -> Result<Self, Error> {
        let mut sets: Vec<_> = policy
            .reaches
            .iter()
            .map(|reach| {
                let routes = routes(state, allocations, reach, ifindexes);
                (digest(&routes), routes)
            })
            .collect();
        allocations.give_route_sets(sets.iter().map(|(digest, _)| digest.clone()))?;
        let ids: Vec<_> = sets.iter().map(|(digest, _)| allocations.route_set(digest)).collect();

        let mut tables = Self::default();
        for (id, (_, routes)) in ids.iter().zip(&mut sets) {
            tables.route_sets.extend(id.map(|id| (id, std::mem::take(routes))));
        }
        for (certificate, at) in &policy.certificates {
            let given = allocations.peers().get(certificate);
            if let (Some(given), Some(Some(route_set))) = (given, ids.get(*at)) {
                let peer = Peer { peer_id: given.id, route_set: *route_set };
                tables.peers.insert(IpAddr::V4(given.address), peer);
            }
        }
        for (plant, ifindex) in ifindexes {
            if let Some(given) = allocations.plants().get(plant)
                && state.plants.contains_key(plant)
            {
                tables.plants.insert(*ifindex, Plant { plant_id: given.id });
            }
        }
        Ok(tables)
    }
}

/// The routes of a set of plants: each subnet by its virtual twin, and by itself unless another plant has precedence.
fn routes(
    state: &State,
    allocations: &Allocations,
    reach: &Reach<'_>,
    ifindexes: &BTreeMap<PlantId, u32>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for id in &reach.plants {
        let (Some(plant), Some(given), Some(ifindex)) =
            (state.plants.get(*id), allocations.plants().get(*id), ifindexes.get(*id))
        else {
            continue;
        };
        for subnet in &plant.subnets {
            let Some(given_subnet) = given.subnets.get(subnet) else { continue };
            let to = |destination| Route {
                destination,
                real: subnet.network(),
                plant_id: given.id,
                route_id: given_subnet.id,
                ifindex: *ifindex,
            };
            routes.push(to(IpNet::V4(given_subnet.virtual_)));
            if reach.real.get(subnet) == Some(id) {
                routes.push(to(*subnet));
            }
        }
    }
    routes.sort_unstable();
    routes
}

/// The name of a set's content. A cryptographic digest, because two sets of one name would share their routes.
fn digest(routes: &[Route]) -> Digest {
    let mut hash = Sha256::new();
    for route in routes {
        hash_address(&mut hash, route.destination.network());
        hash.update([route.destination.prefix_len()]);
        hash_address(&mut hash, route.real);
        for number in [route.plant_id, route.route_id, route.ifindex] {
            hash.update(number.to_be_bytes());
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Digest(text)
}

fn hash_address(hash: &mut Sha256, address: IpAddr) {
    match address {
        IpAddr::V4(address) => hash.update(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => hash.update(address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::{example, role::Role};

    #[test]
    fn two_plants_with_one_subnet_are_apart_by_their_virtual_subnets() {
        let mut allocations = Allocations::default();
        let tables = tables(&example::state(), &mut allocations, &[("north", 11), ("south", 12)]);
        let peer = |address: &str| tables.peers[&address.parse::<IpAddr>().unwrap()];
        let set = |address: &str| -> Vec<String> {
            let routes = &tables.route_sets[&peer(address).route_set];
            routes
                .iter()
                .map(|r| format!("{} to {} at plant {} by {}", r.destination, r.real, r.plant_id, r.ifindex))
                .collect()
        };
        assert_eq!(
            set("100.64.0.2"),
            ["10.128.0.0/24 to 192.168.1.0 at plant 1 by 11", "192.168.1.0/24 to 192.168.1.0 at plant 1 by 11"]
        );
        assert_eq!(
            set("100.64.0.3"),
            [
                "10.128.0.0/24 to 192.168.1.0 at plant 1 by 11",
                "10.128.1.0/24 to 192.168.1.0 at plant 2 by 12",
                "192.168.1.0/24 to 192.168.1.0 at plant 1 by 11",
            ],
            "C1, C2: both virtual subnets; the real one leads to north, which sorts first"
        );
        assert_eq!((peer("100.64.0.2").peer_id, peer("100.64.0.3").peer_id), (1, 2));
        assert_eq!(tables.plants, BTreeMap::from([(11, Plant { plant_id: 1 }), (12, Plant { plant_id: 2 })]));
    }

    #[test]
    fn a_plant_without_an_interface_has_no_route() {
        let mut allocations = Allocations::default();
        let tables = tables(&example::state(), &mut allocations, &[("south", 12)]);
        let plants: BTreeSet<_> = tables.route_sets.values().flatten().map(|route| route.plant_id).collect();
        assert_eq!(plants, BTreeSet::from([2]));
        assert_eq!(tables.peers.len(), 2, "who has nothing to reach is still known, so that denials can name them");
        assert_eq!(tables.plants.len(), 1);
    }

    #[test]
    fn the_content_behind_an_id_never_changes() {
        let mut allocations = Allocations::default();
        let both: &[(&str, u32)] = &[("north", 11), ("south", 12)];
        let first = tables(&example::state(), &mut allocations, both);
        let again = tables(&example::state(), &mut allocations, both);
        assert_eq!(first, again, "a restart changes nothing");

        // South gets a subnet, which only user-b sees.
        let mut document = example::json();
        document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "192.168.2.0/24"]);
        let changed = tables(&example::parse(&document), &mut allocations, both);
        let set = |tables: &Tables, address: &str| tables.peers[&address.parse::<IpAddr>().unwrap()].route_set;
        assert_eq!(set(&first, "100.64.0.2"), set(&changed, "100.64.0.2"), "user-a's set is as it was");
        assert_ne!(set(&first, "100.64.0.3"), set(&changed, "100.64.0.3"));

        // A new interface is another content as well.
        let moved = tables(&example::parse(&document), &mut allocations, &[("north", 21), ("south", 12)]);
        for (id, routes) in &moved.route_sets {
            assert!(first.route_sets.get(id).is_none_or(|before| before == routes), "set {id}");
            assert!(changed.route_sets.get(id).is_none_or(|before| before == routes), "set {id}");
        }
    }

    fn tables(state: &State, allocations: &mut Allocations, ifindexes: &[(&str, u32)]) -> Tables {
        *allocations = allocations.extended(state, &example::config("")).unwrap();
        let policy = Policy::compile(state, &BTreeSet::from([Role::Operator]));
        let ifindexes = ifindexes.iter().map(|(plant, ifindex)| (plant.parse().unwrap(), *ifindex)).collect();
        Tables::new(state, allocations, &policy, &ifindexes).unwrap()
    }
}
