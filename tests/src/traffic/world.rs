//! Random topologies, and how they change.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use vpn_ebpf_common::{
    gateway::{ANSWER_REFUSALS, FORWARD_UNRECORDED, IdleLimits, Limits},
    peer::Peer,
    protocol::{ICMP, ICMPV6, TCP, UDP},
};

use crate::{
    interfaces::{UPLINKS, USERS_DEVICE},
    random::Random,
    topology::{Net, Plant, Route, Service, Subnet, Topology},
};

/// A topology, and what it can become.
#[derive(Clone, Debug)]
pub struct World {
    /// As it is now.
    pub topology: Topology,
    /// Plants that are not there at present.
    gone: Vec<(u32, Plant)>,
    /// The id of the last route set that was made.
    last_set: u32,
}

/// Subnets as plants use them; they overlap, so not all of them are at one plant.
const REAL: [(&str, u8); 14] = [
    ("192.168.1.0", 24),
    ("192.168.1.128", 25),
    ("192.168.0.0", 16),
    ("10.0.0.0", 24),
    ("10.0.0.64", 26),
    ("172.16.5.4", 30),
    ("172.16.5.5", 32),
    ("192.0.2.8", 31),
    ("fd01::", 64),
    ("fd01:0:0:1::", 64),
    ("fd01::", 48),
    ("fd01::1:0:0", 97),
    ("fd01::5", 128),
    ("2001:db8:1::", 56),
];

/// The host number of the first user.
const HOST: u32 = 5;

/// The id of the first plant.
const FIRST_PLANT: u32 = 70;

impl World {
    /// A random one.
    pub fn new(random: &mut Random) -> Self {
        let lengths = (random.pick(&[16, 20, 24]), random.pick(&[64, 65, 112]));
        let tunnel = [net("100.64.0.0", lengths.0), net("fd64::", lengths.1)];
        let mut plants = BTreeMap::new();
        for (number, uplink) in UPLINKS.iter().enumerate() {
            plants.insert(*uplink, plant(random, number as u8));
        }
        let topology = Topology {
            users: USERS_DEVICE,
            users_mtu: random.pick(&[1_280, 1_420]),
            generation: 1,
            options: random.pick(&[0, ANSWER_REFUSALS, FORWARD_UNRECORDED, ANSWER_REFUSALS | FORWARD_UNRECORDED]),
            tunnel,
            source: source(random.byte() % 3, lengths),
            address: [ip("100.64.0.1"), ip("fd64::1")],
            idle: IdleLimits {
                tcp_ms: 7_440_000,
                tcp_transitory_ms: 2_400_000,
                tcp_closed_ms: 1_000_000,
                udp_ms: 3_000_000,
                icmp_ms: 600_000,
            },
            limits: Limits {
                new_flows_per_second: random
                    .pick(&[1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 10, 0]),
                live_flows: random.pick(&[1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 6, 6, 0]),
                answers_per_second: random.pick(&[1_000_000, 1_000_000, 10, 0]),
                denials_per_window: random.pick(&[1_000_000, 12, 3, 0]),
                reserved: 0,
            },
            peers: BTreeMap::new(),
            route_sets: BTreeMap::new(),
            plants,
            services: BTreeMap::new(),
        };
        let mut world = Self { topology, gone: Vec::new(), last_set: 0 };
        for _ in 0..3 {
            world.add_route_set(random);
        }
        for number in 0..4 {
            world.set_peer(random, number);
        }
        world.set_services(random);
        world
    }

    /// Changes something.
    pub fn change(&mut self, random: &mut Random) {
        match random.below(22) {
            0..8 => {
                let number = random.below(4) as u8;
                self.set_peer(random, number);
            }
            8..12 => {
                // Another set in the place of one, for all who have it.
                let old = self.some_set(random);
                let new = self.add_route_set(random);
                self.topology.route_sets.remove(&old);
                for peer in self.topology.peers.values_mut().filter(|peer| peer.route_set == old) {
                    peer.route_set = new;
                }
                return;
            }
            12 => {
                // A user who has lost everything.
                let number = random.below(4) as u8;
                self.topology.peers.retain(|_, peer| peer.id != peer_id(number));
                return;
            }
            13 => self.topology.users_mtu = random.pick(&[1_280, 1_420]),
            14 => self.set_services(random),
            15 => self.topology.options ^= random.pick(&[ANSWER_REFUSALS, FORWARD_UNRECORDED]),
            16 => self.remove_or_return_plant(random),
            17 => self.move_plants(random),
            18 => {
                if let Some(plant) = self.some_plant(random) {
                    plant.mtu = random.pick(&[1_280, 1_420, 1_500]);
                }
            }
            19 | 20 => self.renumber_plant(random),
            _ => {
                let number = random.byte() % 3;
                let lengths = (self.topology.tunnel[0].length, self.topology.tunnel[1].length);
                self.topology.source = source(number, lengths);
            }
        }
        if random.percent(90) {
            self.topology.generation += 1;
        }
    }

    /// Takes the settings away or gives them back, as before and after an agent has first run.
    pub fn toggle_configuration(&mut self) {
        self.topology.users = if self.topology.users == 0 { USERS_DEVICE } else { 0 };
    }

    fn add_route_set(&mut self, random: &mut Random) -> u32 {
        let mut routes = BTreeMap::new();
        let plants = self.topology.plants.iter().chain(self.gone.iter().map(|(uplink, plant)| (uplink, plant)));
        for (uplink, plant) in plants {
            if random.percent(12) {
                continue;
            }
            for (number, subnet) in plant.subnets.iter().enumerate() {
                // At times a route leads to an uplink that has another plant, or none.
                let egress = if random.percent(96) { *uplink } else { random.pick(&[4_000, USERS_DEVICE]) };
                let route = Route { plant: plant.id, id: plant.id * 100 + number as u32, egress, subnet: *subnet };
                if random.percent(90) {
                    routes.insert(subnet.twin, route);
                }
                if random.percent(75) {
                    routes.insert(subnet.real, route);
                }
            }
        }
        self.last_set += 1;
        self.topology.route_sets.insert(self.last_set, routes);
        self.last_set
    }

    fn set_peer(&mut self, random: &mut Random, number: u8) {
        let peer = Peer { id: peer_id(number), route_set: self.some_set(random) };
        self.topology.peers.insert(HOST + u32::from(number), peer);
    }

    fn some_set(&self, random: &mut Random) -> u32 {
        let sets: Vec<_> = self.topology.route_sets.keys().copied().collect();
        random.pick(&sets)
    }

    fn set_services(&mut self, random: &mut Random) {
        self.topology.services.clear();
        for (address, icmp) in self.topology.address.into_iter().zip([ICMP, ICMPV6]) {
            for (port, protocol) in [(53, UDP), (502, TCP), (0, icmp)] {
                if random.percent(70) {
                    let route = 9_000 + u32::from(port);
                    self.topology.services.insert(Service { address, port, protocol }, route);
                }
            }
        }
    }

    fn some_plant(&mut self, random: &mut Random) -> Option<&mut Plant> {
        let count = self.topology.plants.len();
        if count == 0 {
            return None;
        }
        self.topology.plants.values_mut().nth(random.below(count))
    }

    fn remove_or_return_plant(&mut self, random: &mut Random) {
        if let Some((uplink, plant)) = self.gone.pop() {
            self.topology.plants.insert(uplink, plant);
        } else {
            let uplink = random.pick(&UPLINKS);
            let plant = self.topology.plants.remove(&uplink).expect("no plant is gone");
            self.gone.push((uplink, plant));
        }
    }

    /// A plant gets other real addresses behind the unique ones, and new routes lead there.
    fn renumber_plant(&mut self, random: &mut Random) {
        if let Some(plant) = self.some_plant(random) {
            plant.subnets = subnets(random, (plant.id - FIRST_PLANT) as u8);
            self.replace_routes(random);
        }
    }

    /// Plants exchange their uplinks, and new routes lead there.
    fn move_plants(&mut self, random: &mut Random) {
        let uplinks: Vec<_> = self.topology.plants.keys().copied().collect();
        let mut plants: Vec<_> = std::mem::take(&mut self.topology.plants).into_values().collect();
        plants.rotate_left(1);
        self.topology.plants = uplinks.into_iter().zip(plants).collect();
        self.replace_routes(random);
    }

    fn replace_routes(&mut self, random: &mut Random) {
        self.topology.route_sets.clear();
        for _ in 0..3 {
            self.add_route_set(random);
        }
        for number in 0..4 {
            self.set_peer(random, number);
        }
    }
}

/// The tunnel addresses of a user.
pub fn peer_addresses(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(100, 64, 0, HOST as u8 + number).into(),
        Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, HOST as u16 + u16::from(number)).into(),
    ]
}

fn peer_id(number: u8) -> u32 {
    5 + u32::from(number)
}

fn plant(random: &mut Random, number: u8) -> Plant {
    Plant {
        id: FIRST_PLANT + u32::from(number),
        mtu: random.pick(&[1_280, 1_420, 1_500]),
        // Behind a tunnel, or Ethernet.
        link_header: random.pick(&[0, 14]),
        subnets: subnets(random, number),
    }
}

/// Some that do not overlap, each with the twin of its place.
fn subnets(random: &mut Random, number: u8) -> Vec<Subnet> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for _ in 0..1 + random.below(6) {
        let (address, length) = random.pick(&REAL);
        let real = net(address, length);
        if subnets.iter().any(|other| other.real.contains(real.address) || real.contains(other.real.address)) {
            continue;
        }
        let place = subnets.len() as u8;
        let unique = if real.address.is_ipv4() {
            Ipv4Addr::new(10, 64 + 16 * number + place, 0, 0).into()
        } else {
            Ipv6Addr::new(0xfd80, number.into(), place.into(), 0, 0, 0, 0, 0).into()
        };
        subnets.push(Subnet { real, twin: Net::new(unique, length) });
    }
    subnets
}

fn source(number: u8, lengths: (u8, u8)) -> [Net; 2] {
    [
        Net::new(Ipv4Addr::new(100, 80 + number, 0, 0).into(), lengths.0),
        Net::new(Ipv6Addr::new(0xfd50, number.into(), 0, 0, 0, 0, 0, 0).into(), lengths.1),
    ]
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(address: &str, length: u8) -> Net {
    Net::new(ip(address), length)
}
