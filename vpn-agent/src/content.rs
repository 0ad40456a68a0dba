//! From [`Tables`] to the bytes of the maps.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use vpn_ebpf_common::{
    Address, Prefix,
    gateway::{Gateway, IdleLimits},
    peer::Peer,
    plant::Plant,
    route::{Route, V4_OFFSET},
};

use crate::{config::Config, datapath::fill::Content, tables::Tables};

/// The settings of this host, whose users' interface has this number.
#[must_use]
pub fn gateway(config: &Config, users: u32) -> Gateway {
    let idle = &config.datapath.idle_seconds;
    let nanoseconds = |seconds: u32| u64::from(seconds) * 1_000_000_000;
    Gateway {
        users,
        users_mtu: config.users.mtu,
        tunnel: prefix(IpNet::V4(config.pools.tunnel)),
        idle: IdleLimits {
            tcp_ns: nanoseconds(idle.tcp),
            udp_ns: nanoseconds(idle.udp),
            icmp_ns: nanoseconds(idle.icmp),
        },
    }
}

/// The content of the maps that the agent writes.
#[must_use]
pub fn content(tables: &Tables, config: &Config) -> Content {
    let source = prefix(IpNet::V4(config.pools.source));
    let peer = |peer: &crate::tables::Peer| Peer { id: peer.peer_id, route_set: peer.route_set };
    Content {
        peers: tables.peers.iter().map(|(address, of)| (Address::from(*address), peer(of))).collect(),
        route_sets: tables.route_sets.iter().map(|(id, routes)| (*id, route_set(routes))).collect(),
        plants: tables
            .plants
            .iter()
            .map(|(ifindex, plant)| (*ifindex, Plant { id: plant.plant_id, mtu: plant.mtu, source }))
            .collect(),
    }
}

fn route_set(routes: &[crate::tables::Route]) -> BTreeMap<(Address, u32), Route> {
    let entry = |route: &crate::tables::Route| {
        let bits = bits(route.destination);
        let key = (Address::from(route.destination.network()), bits);
        let real = Prefix::new(Address::from(route.real), bits);
        (key, Route { plant: route.plant_id, id: route.route_id, egress: route.ifindex, real })
    };
    routes.iter().map(entry).collect()
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
    use super::*;
    use crate::{example, tables};

    #[test]
    fn addresses_and_prefixes_are_those_of_the_tables() {
        let config = example::config("");
        let tables = Tables {
            route_sets: BTreeMap::from([(
                4,
                vec![tables::Route {
                    destination: "10.128.3.0/24".parse().unwrap(),
                    real: IpAddr::from([192, 168, 1, 0]),
                    virtual_base: IpAddr::from([10, 128, 3, 0]),
                    plant_id: 2,
                    route_id: 9,
                    ifindex: 31,
                }],
            )]),
            peers: BTreeMap::from([(IpAddr::from([100, 64, 0, 7]), tables::Peer { peer_id: 5, route_set: 4 })]),
            plants: BTreeMap::from([(
                31,
                tables::Plant { plant_id: 2, mtu: 1420, link_header: 0, subnets: Vec::new() },
            )]),
        };
        let content = content(&tables, &config);
        let address = |octets: [u8; 4]| Address::from(IpAddr::from(octets));
        assert_eq!(content.peers, BTreeMap::from([(address([100, 64, 0, 7]), Peer { id: 5, route_set: 4 })]));
        let route = content.route_sets[&4][&(address([10, 128, 3, 0]), 96 + 24)];
        assert_eq!((route.plant, route.id, route.egress), (2, 9, 31));
        assert_eq!(route.real.translate(&address([10, 128, 3, 77])), address([192, 168, 1, 77]));
        let plant = content.plants[&31];
        assert_eq!((plant.id, plant.mtu), (2, 1420));
        assert_eq!(plant.source.translate(&address([100, 64, 0, 7])), address([100, 80, 0, 7]));
        let gateway = gateway(&config, 30);
        assert_eq!((gateway.users, gateway.users_mtu, gateway.idle.icmp_ns), (30, 1420, 60_000_000_000));
        assert!(
            gateway.tunnel.contains(&address([100, 64, 0, 7])) && !gateway.tunnel.contains(&address([100, 65, 0, 7]))
        );
    }
}
