//! Users, plants and routes, as many as wanted.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use vpn_agent::datapath::{TEST_RUN_LINK_HEADER, fill::Content};
use vpn_ebpf_common::{
    Address, Prefix,
    flow::FlowKey,
    gateway::{Gateway, IdleLimits, Limits},
    peer::Peer,
    plant::{MAX_SUBNETS, Plant, Subnet},
    protocol,
    route::{Route, V4_OFFSET},
};

use crate::packet;

/// How many there are of everything. Peers have the route sets in turn, and each set leads to some of the plants, by four
/// routes to each: its IPv4 and its IPv6 subnet, by their virtual and by their real addresses.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    pub peers: u32,
    pub sets: u32,
    pub plants: u32,
    pub plants_per_set: u32,
    /// Interface index of the users' side.
    pub users: u32,
    /// Interface index of the first plant; the others follow. A plant's id is one more than its number.
    pub first_plant: u32,
    /// Bytes of link header on the plants' interfaces.
    pub link_header: u32,
}

/// The port of every device.
pub const DEVICE_PORT: u16 = 502;

/// The largest packet of every interface, bytes.
const MTU: u32 = 1_420;

/// Bits of the tunnel range, and of the range that plants see users in.
pub const TUNNEL_BITS: u32 = 11;

/// One conversation of a user with a device.
#[derive(Clone, Copy, Debug)]
pub struct Conversation {
    pub peer: u32,
    /// The plant's number.
    pub plant: u32,
    /// The device's host bits.
    pub host: u8,
    pub user_port: u16,
    pub family: Family,
    pub addressed: Addressed,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// By which of its addresses the user reaches a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed {
    Virtual,
    Real,
}

impl Topology {
    /// 1 k users and 1 k routes, in test runs.
    pub const SMALL: Self = Self::of_test_runs(1_000, 10, 25);
    /// As [`Self::SMALL`], with plants behind Ethernet.
    pub const ETHERNET: Self = Self { link_header: TEST_RUN_LINK_HEADER, ..Self::SMALL };
    /// 100 k users and 1 M routes, in test runs.
    pub const LARGE: Self = Self::of_test_runs(100_000, 1_000, 250);
    /// 1 k users, and more and more routes.
    pub const BY_ROUTES: [(&str, Self); 4] = [
        ("routes.cost.1k", Self::of_test_runs(1_000, 10, 25)),
        ("routes.cost.10k", Self::of_test_runs(1_000, 10, 250)),
        ("routes.cost.100k", Self::of_test_runs(1_000, 100, 250)),
        ("routes.cost.1m", Self::of_test_runs(1_000, 1_000, 250)),
    ];

    /// Plants are behind tunnels. Test runs come in by the loopback interface, and nothing leaves.
    const fn of_test_runs(peers: u32, sets: u32, plants_per_set: u32) -> Self {
        Self { peers, sets, plants: plants_per_set * 4, plants_per_set, users: 1, first_plant: 1, link_header: 0 }
    }

    /// Number of routes.
    pub const fn routes(&self) -> u32 {
        self.sets * self.plants_per_set * 4
    }

    /// The settings of the gateway: limits are out of the way, and flows outlive every benchmark.
    pub fn gateway(&self) -> Gateway {
        const IDLE_MS: u32 = 24 * 60 * 60 * 1_000;
        Gateway {
            users: self.users,
            users_mtu: MTU,
            generation: 0,
            options: 0,
            tunnel: [tunnel_prefix(), Prefix::new(v6([0xfd64, 0, 0, 0], 0), 64)],
            source: [
                Prefix::new(v4([100, 96, 0, 0]), V4_OFFSET + TUNNEL_BITS),
                Prefix::new(v6([0xfd80, 0, 0, 0], 0), 64),
            ],
            address: [v4([100, 64, 0, 1]), v6([0xfd64, 0, 0, 0], 1)],
            idle: IdleLimits {
                tcp_ms: IDLE_MS,
                tcp_transitory_ms: IDLE_MS,
                tcp_closed_ms: IDLE_MS,
                udp_ms: IDLE_MS,
                icmp_ms: IDLE_MS,
            },
            limits: Limits {
                new_flows_per_second: u32::MAX,
                live_flows: u32::MAX,
                answers_per_second: u32::MAX,
                denials_per_window: u32::MAX,
                reserved: 0,
            },
        }
    }

    /// What the maps hold.
    pub fn content(&self) -> Content {
        let mut content = Content::default();
        for peer in 0..self.peers {
            let value = Peer { id: peer + 1, route_set: peer % self.sets + 1 };
            content.peers.insert(host(peer), value);
        }
        for plant in 0..self.plants {
            let mut subnets = [Subnet::NONE; MAX_SUBNETS];
            for (subnet, family) in subnets.iter_mut().zip([Family::V4, Family::V6]) {
                *subnet =
                    Subnet { real: real_subnet(plant, family), twin: device(plant, 0, family, Addressed::Virtual) };
            }
            let value = Plant { id: plant + 1, mtu: MTU, link_header: self.link_header, subnet_count: 2, subnets };
            content.plants.insert(self.first_plant + plant, value);
        }
        for set in 0..self.sets {
            let routes = (0..self.plants_per_set).flat_map(|n| self.routes_to(self.plant_of(set, n))).collect();
            content.route_sets.insert(set + 1, Arc::new(routes));
        }
        content
    }

    fn routes_to(&self, plant: u32) -> BTreeMap<(Address, u32), Route> {
        let mut routes = BTreeMap::new();
        for (family, bits) in [(Family::V4, V4_OFFSET + 24), (Family::V6, 64)] {
            let route = Route {
                plant: plant + 1,
                id: plant * 2 + 1 + u32::from(family == Family::V6),
                egress: self.first_plant + plant,
                real: real_subnet(plant, family),
                twin: device(plant, 0, family, Addressed::Virtual),
            };
            for addressed in [Addressed::Virtual, Addressed::Real] {
                routes.insert((device(plant, 0, family, addressed), bits), route);
            }
        }
        routes
    }

    /// The number of the `n`th plant that a route set leads to. The first one is in every set.
    pub const fn plant_of(&self, set: u32, n: u32) -> u32 {
        if n == 0 { 0 } else { 1 + (set * 31 + n - 1) % (self.plants - 1) }
    }

    /// The packet of a conversation that goes to the plant.
    pub fn request(conversation: &Conversation) -> Vec<u8> {
        let Conversation { peer, user_port, family, .. } = *conversation;
        packet::udp((tunnel(peer, family), user_port), (conversation.addressed(), DEVICE_PORT))
    }

    /// The packet that comes back.
    pub fn reply(conversation: &Conversation) -> Vec<u8> {
        let &Conversation { peer, plant, host, user_port, family, .. } = conversation;
        packet::udp(
            (device(plant, host, family, Addressed::Real), DEVICE_PORT),
            (seen_by_plants(peer, family), user_port),
        )
    }
}

impl Conversation {
    /// The `n`th of all conversations with the first plant, spread over `peers`.
    pub fn nth(n: u32, peers: u32, family: Family, addressed: Addressed) -> Self {
        let round = n / peers;
        Self {
            peer: n % peers,
            plant: 0,
            host: 1 + (round % 250) as u8,
            user_port: 20_000 + round as u16,
            family,
            addressed,
        }
    }

    /// The device as the user writes it.
    pub fn addressed(&self) -> Address {
        device(self.plant, self.host, self.family, self.addressed)
    }

    /// The host number of the user's tunnel addresses.
    pub const fn user(&self) -> u32 {
        host(self.peer)
    }

    /// The key of its flow.
    pub fn key(&self) -> FlowKey {
        FlowKey {
            addressed: self.addressed(),
            peer: self.peer + 1,
            user_port: self.user_port.to_be(),
            device_port: DEVICE_PORT.to_be(),
            protocol: protocol::UDP,
            reserved: [0; 3],
        }
    }
}

/// The IPv4 range of tunnel addresses.
fn tunnel_prefix() -> Prefix {
    Prefix::new(v4([100, 64, 0, 0]), V4_OFFSET + TUNNEL_BITS)
}

/// A user's tunnel address.
pub fn tunnel(peer: u32, family: Family) -> Address {
    user([100, 64], 0xfd64, peer, family)
}

/// A user as plants see it.
pub fn seen_by_plants(peer: u32, family: Family) -> Address {
    user([100, 96], 0xfd80, peer, family)
}

fn user([a, b]: [u8; 2], group: u16, peer: u32, family: Family) -> Address {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::from_be_bytes([a, b, 0, 0]) + host(peer)).into(),
        Family::V6 => v6([group, 0, 0, 0], u64::from(host(peer))),
    }
}

/// Which address of the range a user has. The first is the network's own, the second the gateway's.
const fn host(peer: u32) -> u32 {
    peer + 2
}

/// A device's address; with host bits of zero its subnet's.
pub fn device(plant: u32, host: u8, family: Family, addressed: Addressed) -> Address {
    match (family, addressed) {
        (Family::V4, Addressed::Virtual) => subnet_v4([10, 128], plant, host),
        (Family::V4, Addressed::Real) => subnet_v4([172, 16], plant, host),
        (Family::V6, Addressed::Virtual) => v6([0xfd10, 0, 0, plant as u16], host.into()),
        (Family::V6, Addressed::Real) => v6([0x2001, 0xdb8, 0, plant as u16], host.into()),
    }
}

fn real_subnet(plant: u32, family: Family) -> Prefix {
    let bits = if family == Family::V4 { V4_OFFSET + 24 } else { 64 };
    Prefix::new(device(plant, 0, family, Addressed::Real), bits)
}

fn subnet_v4([a, b]: [u8; 2], plant: u32, host: u8) -> Address {
    Ipv4Addr::from_bits(u32::from_be_bytes([a, b, 0, 0]) + plant * 256 + u32::from(host)).into()
}

fn v4(octets: [u8; 4]) -> Address {
    Ipv4Addr::from(octets).into()
}

fn v6([a, b, c, d]: [u16; 4], host: u64) -> Address {
    let network = u128::from(a) << 112 | u128::from(b) << 96 | u128::from(c) << 80 | u128::from(d) << 64;
    Ipv6Addr::from_bits(network | u128::from(host)).into()
}
