//! From [`Tables`] to the bytes of the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vpn_ebpf_common::{
    Address, Prefix,
    gateway::{ANSWER_REFUSALS, FORWARD_UNRECORDED, Gateway, IdleLimits, Limits},
    peer::Peer,
    plant::{MAX_SUBNETS, Plant, Subnet},
    route::{Route, V4_OFFSET},
    service::ServiceKey,
};

use crate::{
    config::{Config, Refusals, Unrecorded},
    datapath::{fill::Content, part::Part, route_set::Destination},
    service::Service,
    tables::{self, Tables},
};

/// The settings of this host, whose users' interface has this number.
#[must_use]
pub fn gateway(config: &Config, users: u32) -> Gateway {
    let idle = &config.datapath.idle_seconds;
    let limits = &config.datapath.limits;
    let milliseconds = |seconds: u32| seconds.saturating_mul(1_000);
    let answer = if config.datapath.refusals == Refusals::Answer { ANSWER_REFUSALS } else { 0 };
    let forward = if config.datapath.unrecorded == Unrecorded::Forward { FORWARD_UNRECORDED } else { 0 };
    Gateway {
        users,
        users_mtu: config.users.mtu,
        // Counted by who writes it.
        generation: 0,
        options: answer | forward,
        tunnel: [prefix(config.pools.tunnel.into()), prefix(config.pools.tunnel6.into())],
        source: [prefix(config.pools.source.into()), prefix(config.pools.source6.into())],
        address: [config.pools.gateway().into(), config.pools.gateway6().into()],
        idle: IdleLimits {
            tcp_ms: milliseconds(idle.tcp),
            tcp_transitory_ms: milliseconds(idle.tcp_transitory),
            tcp_closed_ms: milliseconds(idle.tcp_closed),
            udp_ms: milliseconds(idle.udp),
            icmp_ms: milliseconds(idle.icmp),
        },
        limits: Limits {
            new_flows_per_second: limits.new_flows_per_second,
            live_flows: limits.live_flows,
            answers_per_second: limits.answers_per_second,
            denials_per_window: limits.denials_per_minute,
            reserved: 0,
        },
    }
}

/// The content of the maps that the agent writes.
#[must_use]
pub fn content(tables: Tables, config: &Config) -> Content {
    Content {
        peers: peers(&tables),
        route_sets: tables.route_sets,
        plants: tables.plants.iter().map(|(ifindex, of)| (*ifindex, plant(of))).collect(),
        services: config.services().iter().zip(1..).map(|(service, id)| (service_key(service), id)).collect(),
    }
}

/// What some peers shall be; `gone` are host numbers that shall be nobody's.
#[must_use]
pub fn part(tables: Tables, gone: BTreeSet<u32>) -> Part {
    Part { peers: peers(&tables), route_sets: tables.route_sets, gone }
}

fn peers(tables: &Tables) -> BTreeMap<u32, Peer> {
    let peer = |peer: &tables::Peer| Peer { id: peer.peer_id, route_set: peer.route_set };
    tables.peers.iter().map(|(number, of)| (*number, peer(of))).collect()
}

fn plant(plant: &tables::Plant) -> Plant {
    let mut subnets = [Subnet::NONE; MAX_SUBNETS];
    for (to, (real, twin)) in subnets.iter_mut().zip(&plant.subnets) {
        *to = Subnet { real: prefix(*real), twin: twin.network().into() };
    }
    Plant {
        id: plant.plant_id,
        mtu: plant.mtu,
        link_header: plant.link_header,
        subnet_count: plant.subnets.len() as u32,
        subnets,
    }
}

fn service_key(service: &Service) -> ServiceKey {
    ServiceKey {
        address: service.address.into(),
        port: service.port.to_be(),
        protocol: service.protocol.number(),
        reserved: 0,
    }
}

/// A route as the map has it.
pub(crate) fn entry(route: &tables::Route) -> (Destination, Route) {
    let bits = bits(route.destination);
    let real = Prefix::new(Address::from(route.real), bits);
    let twin = Address::from(route.virtual_base);
    let value = Route { plant: route.plant_id, id: route.route_id, egress: route.ifindex, real, twin };
    ((Address::from(route.destination.network()), bits), value)
}

fn prefix(net: IpNet) -> Prefix {
    Prefix::new(Address::from(net.network()), bits(net))
}

/// The prefix length in the 128 bits of [`Address`].
fn bits(net: IpNet) -> u32 {
    match net.network() {
        IpAddr::V4(_) => V4_OFFSET + u32::from(net.prefix_len()),
        IpAddr::V6(_) => u32::from(net.prefix_len()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::example;

    #[test]
    fn addresses_and_prefixes_are_those_of_the_tables() {
        let config = example::config("[[services]]\nprotocol = 'udp'\nport = 53\n");
        let route = |destination: &str, real: &str, twin: &str| tables::Route {
            destination: destination.parse().unwrap(),
            real: real.parse().unwrap(),
            virtual_base: twin.parse().unwrap(),
            plant_id: 2,
            route_id: 9,
            ifindex: 31,
        };
        let subnets = [("192.168.1.0/24", "10.128.3.0/24"), ("2001:db8::/64", "fd76:7600::/64")];
        let tables = Tables {
            route_sets: BTreeMap::from([(
                4,
                Arc::new(
                    [
                        route("10.128.3.0/24", "192.168.1.0", "10.128.3.0"),
                        route("2001:db8::/64", "2001:db8::", "fd76:7600::"),
                    ]
                    .iter()
                    .map(entry)
                    .collect(),
                ),
            )]),
            peers: BTreeMap::from([(7, tables::Peer { peer_id: 5, route_set: 4 })]),
            plants: BTreeMap::from([(
                31,
                tables::Plant {
                    plant_id: 2,
                    mtu: 1420,
                    link_header: 14,
                    subnets: subnets.map(|(real, twin)| (real.parse().unwrap(), twin.parse().unwrap())).to_vec(),
                },
            )]),
        };
        let content = content(tables, &config);
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(content.peers, BTreeMap::from([(7, Peer { id: 5, route_set: 4 })]));
        let routes = &content.route_sets[&4];
        let route = routes.get(&(address("10.128.3.0"), 96 + 24)).unwrap();
        assert_eq!((route.plant, route.id, route.egress), (2, 9, 31));
        assert_eq!(route.real.translate(&address("10.128.3.77")), address("192.168.1.77"));
        assert_eq!(route.other_address(&address("10.128.3.77")), address("192.168.1.77"));
        let route = routes.get(&(address("2001:db8::"), 64)).unwrap();
        assert_eq!(route.other_address(&address("2001:db8::77")), address("fd76:7600::77"));

        let plant = content.plants[&31];
        assert_eq!((plant.id, plant.mtu, plant.link_header, plant.subnet_count), (2, 1420, 14, 2));
        let twins = ["192.168.1.9", "2001:db8::9"].map(|device| {
            let device = address(device);
            plant.subnets.iter().find_map(|subnet| subnet.virtual_of(&device)).unwrap()
        });
        assert_eq!(twins, [address("10.128.3.9"), address("fd76:7600::9")]);

        let service = ServiceKey { address: address("100.64.0.1"), port: 53_u16.to_be(), protocol: 17, reserved: 0 };
        assert_eq!(content.services, BTreeMap::from([(service, 1)]));
        let gateway = gateway(&config, 30);
        assert_eq!((gateway.users, gateway.users_mtu, gateway.idle.icmp_ms), (30, 1420, 60_000));
        assert_eq!(gateway.options, ANSWER_REFUSALS);
        assert_eq!(gateway.address[0], address("100.64.0.1"));
        assert!(
            gateway.tunnel[0].contains(&address("100.64.0.7")) && !gateway.tunnel[0].contains(&address("100.65.0.7"))
        );
        assert!(gateway.tunnel[1].contains(&gateway.address[1]));
        assert_eq!(gateway.source[0].translate(&address("100.64.0.7")), address("100.80.0.7"));
    }
}
