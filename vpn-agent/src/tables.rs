//! What the kernel's maps shall hold. Pure: from a state, what was given, a policy and the interfaces there are.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    addressing::{self, Allocations, Error},
    catalogue::Catalogue,
    content::entry,
    datapath::route_set::RouteSet,
    id::PlantId,
    policy::{Policy, Reach},
    pools::Pools,
    state::{self, State},
};

/// The content of the maps PEERS, ROUTES and PLANTS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By route-set id; some are empty. The content behind an id never changes.
    pub route_sets: BTreeMap<u32, Arc<RouteSet>>,
    /// Certificates by the host number of their tunnel addresses.
    pub peers: BTreeMap<u32, Peer>,
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
    /// The first address of the subnet's virtual twin, whether the destination is that or the real one.
    pub virtual_base: IpAddr,
    /// The plant's number.
    pub plant_id: u32,
    /// The number of the plant's subnet, the same for its virtual and its real route.
    pub route_id: u32,
    /// Interface of the plant; [`NO_INTERFACE`] if it has none.
    pub ifindex: u32,
}

/// Where routes to a plant without an interface lead to. No interface has this number, so the programs refuse what goes
/// there with `no-plant`. Without such a route a shorter prefix of another plant would catch the packets.
pub const NO_INTERFACE: u32 = 0;

/// A certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The certificate's number.
    pub peer_id: u32,
    /// Key of [`Tables::route_sets`].
    pub route_set: u32,
}

/// A plant with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plant {
    /// The plant's number.
    pub plant_id: u32,
    /// Largest packet that its interface takes, bytes.
    pub mtu: u32,
    /// Bytes in front of the IP header of a packet on its interface: 0 for WireGuard, 14 for Ethernet.
    pub link_header: u32,
    /// Its subnets, each as the plant uses it and its virtual twin. Longest prefix first, in the 128 bits of a mapped
    /// address (an IPv4 /24 counts as a /120), then by real address.
    pub subnets: Vec<(IpNet, IpNet)>,
}

/// The interface of a plant, where it is ready to carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its number.
    pub ifindex: u32,
    /// Largest packet that it takes, bytes.
    pub mtu: u32,
    /// Bytes in front of the IP header of a packet on it: 0 for WireGuard, 14 for Ethernet.
    pub link_header: u32,
}

impl Uplink {
    /// That of an entry of PLANTS.
    #[must_use]
    pub const fn of_entry(ifindex: u32, plant: &vpn_ebpf_common::plant::Plant) -> Self {
        Self { ifindex, mtu: plant.mtu, link_header: plant.link_header }
    }

    /// Those of plants with a number in `by_number`.
    #[must_use]
    pub fn by_plant(allocations: &Allocations, by_number: &BTreeMap<u32, Self>) -> BTreeMap<PlantId, Self> {
        let given = allocations.plants().iter();
        given.filter_map(|(id, given)| Some((id.clone(), *by_number.get(&given.id)?))).collect()
    }
}

impl Tables {
    /// The tables for `state`, where `uplinks` are the interfaces of plants that are ready to carry packets. Routes to a
    /// plant without one lead to [`NO_INTERFACE`].
    ///
    /// Gives new route sets their ids in `catalogue`, which have to be reserved on disk before the tables are used.
    ///
    /// # Errors
    /// [`Error::Ids`].
    pub fn new(
        state: &State,
        allocations: &Allocations,
        catalogue: &mut Catalogue,
        pools: &Pools,
        policy: &Policy<'_>,
        uplinks: &BTreeMap<PlantId, Uplink>,
    ) -> Result<Self, Error> {
        let ifindex = |id: &PlantId| uplinks.get(id).map_or(NO_INTERFACE, |uplink| uplink.ifindex);
        let mut tables = Self::of_peers(state, allocations, catalogue, pools, policy, ifindex)?;
        for (id, uplink) in uplinks {
            if let (Some(plant), Some(given)) = (state.plants.get(id), allocations.plants().get(id)) {
                tables.plants.insert(uplink.ifindex, Plant::new(plant, given, *uplink));
            }
        }
        Ok(tables)
    }

    /// The same without plants, for the certificates that `policy` is about.
    ///
    /// # Errors
    /// [`Error::Ids`].
    pub fn of_peers(
        state: &State,
        allocations: &Allocations,
        catalogue: &mut Catalogue,
        pools: &Pools,
        policy: &Policy<'_>,
        ifindex: impl Fn(&PlantId) -> u32,
    ) -> Result<Self, Error> {
        let mut tables = Self::default();
        let mut ids = Vec::new();
        for reach in &policy.reaches {
            // One after the other: what is known already goes before the next one is made.
            let routes = routes(state, allocations, reach, &ifindex);
            let (id, routes) = catalogue.give(routes.iter().map(entry).collect())?;
            tables.route_sets.insert(id, routes);
            ids.push(id);
        }
        for (certificate, at) in &policy.certificates {
            let given = allocations.peers().get(certificate);
            if let (Some(given), Some(route_set)) = (given, ids.get(*at)) {
                let peer = Peer { peer_id: given.id, route_set: *route_set };
                tables.peers.insert(pools.host_number(given.address), peer);
            }
        }
        Ok(tables)
    }
}

impl Plant {
    fn new(plant: &state::Plant, given: &addressing::Plant, uplink: Uplink) -> Self {
        let twin = |real: &IpNet| Some((*real, given.subnets.get(real)?.virtual_));
        let mut subnets: Vec<_> = plant.subnets.iter().filter_map(twin).collect();
        subnets.sort_unstable_by_key(|(real, _)| (real.max_prefix_len() - real.prefix_len(), *real));
        let Uplink { ifindex: _, mtu, link_header } = uplink;
        Self { plant_id: given.id, mtu, link_header, subnets }
    }
}

/// The routes of a set of plants: each subnet that is not switched off by its virtual twin, and by itself unless another
/// plant has precedence.
fn routes(
    state: &State,
    allocations: &Allocations,
    reach: &Reach<'_>,
    ifindex: impl Fn(&PlantId) -> u32,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for id in &reach.plants {
        let (Some(plant), Some(given)) = (state.plants.get(*id), allocations.plants().get(*id)) else { continue };
        let ifindex = ifindex(id);
        for subnet in plant.subnets.iter().filter(|subnet| reach.is_open(id, subnet)) {
            let Some(given_subnet) = given.subnets.get(subnet) else { continue };
            let to = |destination| Route {
                destination,
                real: subnet.network(),
                virtual_base: given_subnet.virtual_.network(),
                plant_id: given.id,
                route_id: given_subnet.id,
                ifindex,
            };
            routes.push(to(given_subnet.virtual_));
            if reach.real.get(subnet) == Some(id) {
                routes.push(to(*subnet));
            }
        }
    }
    routes.sort_unstable();
    routes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::{datapath::route_set::Destination, example};

    /// Requirements: C1, C2.
    #[test]
    fn two_plants_with_one_subnet_are_apart_by_their_virtual_subnets() {
        let mut allocations = Allocations::default();
        let tables = tables(&example::state(), &mut allocations, &[("north", 11), ("south", 12)]);
        let peer = |address: &str| tables.peers[&Pools::default().host_number(address.parse().unwrap())];
        let set = |address: &str| -> Vec<String> {
            rows(&tables.route_sets[&peer(address).route_set])
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
        assert_eq!(tables.peers.len(), 2);
        let plants: Vec<_> = tables.plants.iter().map(|(ifindex, plant)| (*ifindex, plant.plant_id)).collect();
        assert_eq!(plants, [(11, 1), (12, 2)]);
    }

    #[test]
    fn a_plant_has_its_subnets_longest_first_and_its_kind_of_frames() {
        let mut document = example::json();
        document["plants"][0]["subnets"] = json!([
            "10.0.0.0/10",
            "2001:db8::/64",
            "192.168.2.0/24",
            "192.168.1.0/24",
            "fd00::/120",
            "2001:db8:1::7/128"
        ]);
        let mut allocations = Allocations::default();
        let tables = tables(&example::parse(&document), &mut allocations, &[("north", 11), ("south", 12)]);
        let shown = |ifindex: u32| -> Vec<String> {
            tables.plants[&ifindex].subnets.iter().map(|(real, virtual_)| format!("{real} {virtual_}")).collect()
        };
        assert_eq!(
            shown(11),
            [
                "2001:db8:1::7/128 fd76:7600:0:1::/128",
                "192.168.1.0/24 10.192.0.0/24",
                "192.168.2.0/24 10.192.1.0/24",
                "fd00::/120 fd76:7600:0:1::100/120",
                "10.0.0.0/10 10.128.0.0/10",
                "2001:db8::/64 fd76:7600::/64",
            ]
        );
        assert_eq!(shown(12), ["192.168.1.0/24 10.192.2.0/24"]);
        let kind = |ifindex: u32| (tables.plants[&ifindex].link_header, tables.plants[&ifindex].mtu);
        assert_eq!((kind(11), kind(12)), ((14, 1411), (0, 1412)), "as the interfaces are");
    }

    /// Requirements: C1.
    #[test]
    fn routes_to_a_plant_without_an_interface_lead_nowhere_and_keep_others_away() {
        let mut document = example::json();
        document["plants"][1]["subnets"] = json!(["192.168.0.0/16"]);
        let mut allocations = Allocations::default();
        let tables = tables(&example::parse(&document), &mut allocations, &[("south", 12)]);
        let user_b = tables.peers[&Pools::default().host_number("100.64.0.3".parse().unwrap())];
        let routes: Vec<_> = rows(&tables.route_sets[&user_b.route_set])
            .iter()
            .map(|route| format!("{} at plant {} by {}", route.destination, route.plant_id, route.ifindex))
            .collect();
        assert_eq!(
            routes,
            [
                "10.128.0.0/24 at plant 1 by 0",
                "10.129.0.0/16 at plant 2 by 12",
                "192.168.0.0/16 at plant 2 by 12",
                "192.168.1.0/24 at plant 1 by 0",
            ],
            "what is for north does not come to south"
        );
        assert_eq!(tables.peers.len(), 2, "who has nothing to reach is still known, so that denials can name them");
        assert_eq!(tables.plants.keys().copied().collect::<Vec<_>>(), [12], "no plant has the number of no interface");
    }

    /// Requirements: C2, C3.
    #[test]
    fn a_subnet_that_is_switched_off_has_no_route_and_leaves_its_address_to_others() {
        let shown = |preferences: &[(&str, Value)]| {
            let mut document = example::json();
            document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "192.168.2.0/24"]);
            document["roles"].as_array_mut().unwrap().remove(0);
            for (list, records) in preferences {
                document[*list] = records.clone();
            }
            let mut allocations = Allocations::default();
            let tables = tables(&example::parse(&document), &mut allocations, &[("north", 11), ("south", 12)]);
            let user_b = tables.peers[&Pools::default().host_number("100.64.0.3".parse().unwrap())];
            let routes = rows(&tables.route_sets[&user_b.route_set]);
            routes.iter().map(|route| format!("{} {}", route.destination, route.ifindex)).collect::<Vec<_>>()
        };
        let (all, virtual_south) = (["10.128.0.0/24 11", "10.128.1.0/24 11"], "10.128.2.0/24 12");
        assert_eq!(shown(&[]), [&all[..], &[virtual_south, "192.168.1.0/24 11", "192.168.2.0/24 11"]].concat());
        assert_eq!(
            shown(&[("priorities", json!([{"user": "user-b", "plants": ["south"]}]))]),
            [&all[..], &[virtual_south, "192.168.1.0/24 12", "192.168.2.0/24 11"]].concat()
        );
        assert_eq!(
            shown(&[("disabled", json!([{"user": "user-b", "plant": "north", "subnet": "192.168.1.0/24"}]))]),
            ["10.128.1.0/24 11", virtual_south, "192.168.1.0/24 12", "192.168.2.0/24 11"]
        );
        assert_eq!(
            shown(&[("disabled", json!([{"user": "user-b", "plant": "north"}]))]),
            [virtual_south, "192.168.1.0/24 12"]
        );
    }

    /// Requirements: C5.
    #[test]
    fn the_content_behind_an_id_never_changes() {
        let mut allocations = Allocations::default();
        let mut catalogue = Catalogue::new(&allocations);
        let mut tables =
            |state: &State, ifindexes: &[(&str, u32)]| tables_with(&mut catalogue, state, &mut allocations, ifindexes);
        let both: &[(&str, u32)] = &[("north", 11), ("south", 12)];
        let first = tables(&example::state(), both);
        let again = tables(&example::state(), both);
        assert_eq!(first, again, "a restart changes nothing");

        // South gets a subnet, which only user-b sees.
        let mut document = example::json();
        document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "192.168.2.0/24"]);
        let changed = tables(&example::parse(&document), both);
        let number = |address: &str| Pools::default().host_number(address.parse().unwrap());
        let set = |tables: &Tables, address: &str| tables.peers[&number(address)].route_set;
        assert_eq!(set(&first, "100.64.0.2"), set(&changed, "100.64.0.2"), "user-a's set is as it was");
        assert_ne!(set(&first, "100.64.0.3"), set(&changed, "100.64.0.3"));

        // A new interface is another content as well.
        let moved = tables(&example::parse(&document), &[("north", 21), ("south", 12)]);
        for (id, routes) in &moved.route_sets {
            assert!(first.route_sets.get(id).is_none_or(|before| before == routes), "set {id}");
            assert!(changed.route_sets.get(id).is_none_or(|before| before == routes), "set {id}");
        }
    }

    proptest! {
        /// Requirements: C1, C2.
        #[test]
        fn a_naive_look_up_agrees(world in worlds()) {
            let World { document, reached, ready, probes } = world;
            let state = example::parse(&document);
            let mut allocations = Allocations::default();
            let ready: Vec<_> = ready.iter().map(|at| (PLANTS[*at], 10 + *at as u32)).collect();
            let tables = tables(&state, &mut allocations, &ready);
            for (certificate, reached) in reached.iter().enumerate() {
                let given = &allocations.peers()[format!("c{certificate}").as_str()];
                let peer = tables.peers[&Pools::default().host_number(given.address)];
                prop_assert_eq!(peer.peer_id, given.id);
                let routes = rows(&tables.route_sets[&peer.route_set]);
                for probe in &probes {
                    let probe = probe.of(&allocations);
                    let found = routes
                        .iter()
                        .filter(|route| route.destination.contains(&probe))
                        .max_by_key(|route| route.destination.prefix_len())
                        .map(|route| {
                            let host = |base| with_host_of(base, route.destination.prefix_len(), probe);
                            (route.ifindex, host(route.real), host(route.virtual_base))
                        });
                    prop_assert_eq!(found, naive(&state, &allocations, reached, &ready, probe), "{}", probe);
                }
            }
            for (plant, ifindex) in ready {
                let table = &tables.plants[&ifindex];
                prop_assert_eq!(table.plant_id, allocations.plants()[plant].id);
                let real: BTreeSet<_> = table.subnets.iter().map(|(real, _)| *real).collect();
                prop_assert_eq!(&real, &state.plants[plant].subnets);
                let given = &allocations.plants()[plant].subnets;
                prop_assert!(table.subnets.iter().all(|(real, twin)| given[real].virtual_ == *twin));
                // All addresses are as long as a mapped one here, so that one order serves both families.
                let lengths = table.subnets.iter().map(|(real, _)| 128 - (real.max_prefix_len() - real.prefix_len()));
                prop_assert!(lengths.is_sorted_by(|a, b| a >= b));
            }
        }
    }

    const PLANTS: [&str; 3] = ["p0", "p1", "p2"];

    #[derive(Debug)]
    struct World {
        document: Value,
        /// The plants that each certificate reaches.
        reached: Vec<Vec<usize>>,
        /// The plants that have an interface.
        ready: Vec<usize>,
        probes: Vec<Probe>,
    }

    /// An address to look up.
    #[derive(Debug)]
    enum Probe {
        Address(IpAddr),
        /// One in the virtual twin of a plant's subnet, as far as there is one, with these host bits.
        Virtual {
            plant: usize,
            subnet: usize,
            host: u128,
        },
    }

    impl Probe {
        fn of(&self, allocations: &Allocations) -> IpAddr {
            match self {
                Self::Address(address) => *address,
                Self::Virtual { plant, subnet, host } => {
                    let twins = allocations.plants()[PLANTS[*plant]].subnets.values();
                    let twin = twins.map(|subnet| subnet.virtual_).nth(*subnet);
                    twin.map_or(IpAddr::from([192, 0, 2, 1]), |twin| {
                        with_host_of(twin.network(), twin.prefix_len(), address_like(twin.network(), *host))
                    })
                }
            }
        }
    }

    /// Where an address leads to, subnet by subnet: the interface, the address at the plant, and its virtual twin.
    fn naive(
        state: &State,
        allocations: &Allocations,
        reached: &[usize],
        ready: &[(&str, u32)],
        address: IpAddr,
    ) -> Option<(u32, IpAddr, IpAddr)> {
        let mut real: Option<(IpNet, &str)> = None;
        for plant in reached.iter().map(|at| PLANTS[*at]) {
            for subnet in &state.plants[plant].subnets {
                if allocations.plants()[plant].subnets[subnet].virtual_.contains(&address) {
                    return leads_to(allocations, ready, *subnet, plant, address);
                }
                // Who has precedence but no interface keeps its subnet from the others, and from shorter ones.
                let ours =
                    reached.iter().map(|at| PLANTS[*at]).find(|other| state.plants[*other].subnets.contains(subnet));
                let longer = real.is_none_or(|(best, _)| subnet.prefix_len() > best.prefix_len());
                if subnet.contains(&address) && ours == Some(plant) && longer {
                    real = Some((*subnet, plant));
                }
            }
        }
        let (subnet, plant) = real?;
        leads_to(allocations, ready, subnet, plant, address)
    }

    fn leads_to(
        allocations: &Allocations,
        ready: &[(&str, u32)],
        subnet: IpNet,
        plant: &str,
        address: IpAddr,
    ) -> Option<(u32, IpAddr, IpAddr)> {
        let ifindex = ready.iter().find(|(ready, _)| *ready == plant).map_or(NO_INTERFACE, |(_, ifindex)| *ifindex);
        let twin = allocations.plants()[plant].subnets[&subnet].virtual_;
        let host = |base: IpNet| with_host_of(base.network(), base.prefix_len(), address);
        Some((ifindex, host(subnet), host(twin)))
    }

    /// The address with the first `length` bits of `base` and the others of `host`.
    fn with_host_of(base: IpAddr, length: u8, host: IpAddr) -> IpAddr {
        let mask = |bits: u32| u128::MAX.checked_shr(bits).unwrap_or_default();
        match (base, host) {
            (IpAddr::V4(base), IpAddr::V4(host)) => {
                let hosts = mask(96 + u32::from(length)) as u32;
                IpAddr::V4((base.to_bits() & !hosts | host.to_bits() & hosts).into())
            }
            (IpAddr::V6(base), IpAddr::V6(host)) => {
                let hosts = mask(length.into());
                IpAddr::V6((base.to_bits() & !hosts | host.to_bits() & hosts).into())
            }
            _ => panic!("{base} and {host} are of two families"),
        }
    }

    /// An address of these bits in the family of `other`.
    fn address_like(other: IpAddr, bits: u128) -> IpAddr {
        match other {
            IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        }
    }

    /// Three plants with overlapping subnets of both families, three certificates with some of the plants, and
    /// addresses in and around the subnets.
    fn worlds() -> impl Strategy<Value = World> {
        // One or none of each group: those of a group overlap, as they may not within a plant.
        const GROUPS: [&[&str]; 4] = [
            &["192.168.1.0/24", "192.168.0.0/16", "192.168.1.128/25"],
            &["10.0.0.0/12", "10.1.2.3/32"],
            &["fd00::/32", "fd00:0:1::/48", "fd00:0:1:2::/64", "fd00:0:1:2::80/121"],
            &["2001:db8::/64", "2001:db8::1/128"],
        ];
        let subnets = (0..4_usize, 0..3_usize, 0..5_usize, 0..3_usize);
        let real = (0..GROUPS.len(), 0..4_usize, any::<u128>(), 0..=32_u32).prop_map(|(group, at, host, keep)| {
            let net: IpNet = GROUPS[group][at % GROUPS[group].len()].parse().unwrap();
            // Mostly low host bits, so that shorter prefixes have something of the longer ones' too.
            let host = address_like(net.network(), host >> (96 + keep.min(31)));
            Probe::Address(with_host_of(net.network(), net.prefix_len(), host))
        });
        let virtual_ = (0..3_usize, 0..4_usize, any::<u128>()).prop_map(|(plant, subnet, host)| Probe::Virtual {
            plant,
            subnet,
            host,
        });
        let probe = prop_oneof![real, virtual_, any::<IpAddr>().prop_map(Probe::Address)];
        (vec(subnets, 3), vec(any::<[bool; 3]>(), 3), any::<[bool; 3]>(), vec(probe, 24)).prop_map(
            |(subnets, reached, ready, probes)| {
                let chosen = |bits: [bool; 3]| (0..3).filter(|at| bits[*at]).collect::<Vec<_>>();
                let reached: Vec<_> = reached.into_iter().map(chosen).collect();
                let plants = subnets.iter().enumerate().map(|(at, (a, b, c, d))| {
                    let subnets: Vec<_> =
                        GROUPS.iter().zip([a, b, c, d]).filter_map(|(group, at)| group.get(*at)).collect();
                    let uplink = json!({"kind": "host", "public_key": example::key(100 + at as u8)});
                    json!({"id": PLANTS[at], "organisation": "o", "subnets": subnets, "uplink": uplink})
                });
                let roles = reached.iter().enumerate().flat_map(|(user, plants)| {
                    plants.iter().map(move |plant| {
                        json!({"user": format!("u{user}"), "role": "operator", "on": {"plant": PLANTS[*plant]}})
                    })
                });
                let users = |record: fn(u8) -> Value| (0..3).map(record).collect::<Vec<_>>();
                let document = json!({
                    "revision": 1, "organisations": [{"id": "o"}], "portfolios": [], "cooperations": [],
                    "plants": plants.collect::<Vec<_>>(),
                    "users": users(|at| json!({"id": format!("u{at}")})),
                    "memberships": users(|at| {
                        json!({"user": format!("u{at}"), "organisation": "o", "kind": "member", "access": "all"})
                    }),
                    "roles": roles.collect::<Vec<_>>(),
                    "certificates": users(|at| {
                        json!({"id": format!("c{at}"), "user": format!("u{at}"), "public_key": example::key(1 + at)})
                    }),
                });
                World { document, reached, ready: chosen(ready), probes }
            },
        )
    }

    /// The tables with these interfaces; the MTU of each differs, and those with an odd number are Ethernet.
    fn tables(state: &State, allocations: &mut Allocations, ifindexes: &[(&str, u32)]) -> Tables {
        tables_with(&mut Catalogue::new(allocations), state, allocations, ifindexes)
    }

    fn tables_with(
        catalogue: &mut Catalogue,
        state: &State,
        allocations: &mut Allocations,
        ifindexes: &[(&str, u32)],
    ) -> Tables {
        let config = example::config("");
        *allocations = allocations.extended(state, &config).unwrap();
        let policy = Policy::compile(state, &config.terms(Timestamp::UNIX_EPOCH));
        let uplink = |ifindex: u32| Uplink { ifindex, mtu: 1400 + ifindex, link_header: 14 * (ifindex % 2) };
        let uplinks = ifindexes.iter().map(|(plant, ifindex)| (plant.parse().unwrap(), uplink(*ifindex))).collect();
        Tables::new(state, allocations, catalogue, &config.pools, &policy, &uplinks).unwrap()
    }

    /// What the map's form of a set was made from.
    fn rows(set: &RouteSet) -> Vec<Route> {
        let row = |((destination, bits), route): &(Destination, vpn_ebpf_common::route::Route)| {
            let length = if destination.is_v4() { bits - 96 } else { *bits };
            Route {
                destination: IpNet::new(destination.to_ip(), length as u8).unwrap(),
                real: route.real.base.to_ip(),
                virtual_base: route.twin.to_ip(),
                plant_id: route.plant,
                route_id: route.id,
                ifindex: route.egress,
            }
        };
        let mut rows: Vec<_> = set.iter().map(row).collect();
        rows.sort_unstable();
        rows
    }
}
