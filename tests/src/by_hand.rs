//! Packets written out byte by byte, and what must become of them. None of this project's code has computed them, so
//! they are what the programs and their reference [`model`](crate::model) are anchored to.
//!
//! ```text
//!  100.64.0.5 ── wg ──► 100.80.0.5 ── plant 7 ── 192.168.1.0/24, seen as 10.128.1.0/24
//!  fd64::5              fd50::5                  fd01::/64,      seen as fd80::/64
//! ```

use std::{collections::BTreeMap, net::IpAddr};

use vpn_ebpf_common::{
    gateway::{ANSWER_REFUSALS, IdleLimits, Limits},
    names::{PLANT, USERS},
    peer::Peer,
    protocol::UDP,
};

use crate::{
    interfaces::{UPLINKS, USERS_DEVICE},
    packet::Ends,
    topology::{Net, Plant, Route, Service, Subnet, Topology},
};

/// Interface index of the plant's uplink.
pub const UPLINK: u32 = UPLINKS[0];
/// That of another plant, which has the same real addresses.
pub const OTHER_UPLINK: u32 = UPLINKS[1];
/// The peer.
pub const PEER: Peer = Peer { id: 5, route_set: 3 };
/// The plant's id.
pub const PLANT_ID: u32 = 7;
/// That of the other one.
pub const OTHER_PLANT: u32 = 8;
/// A route set in which the real addresses lead to the other plant.
pub const OTHER_SET: u32 = 4;
/// The port over UDP of the gateway's own service.
pub const SERVICE_PORT: u16 = 53;
/// Its route id.
pub const SERVICE_ID: u32 = 91;
/// Bytes of link header of a plant behind Ethernet.
pub const ETHERNET: u32 = 14;
/// That of one behind a tunnel.
pub const TUNNEL: u32 = 0;

/// A packet and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is special about it.
    pub name: &'static str,
    /// The program that has it.
    pub program: &'static str,
    /// Its bytes in hexadecimal.
    packet: &'static str,
    /// The bytes that go out.
    out: &'static str,
}

impl Row {
    /// The packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        bytes(self.packet)
    }

    /// The packet that goes out.
    #[must_use]
    pub fn out(&self) -> Vec<u8> {
        bytes(self.out)
    }
}

/// The topology above, with plants behind Ethernet, and what else packets may meet: another plant with the same real
/// addresses, to which [`OTHER_SET`] leads, and a service of the gateway.
#[must_use]
pub fn topology() -> Topology {
    let subnets = [
        Subnet { real: net("192.168.1.0", 24), twin: net("10.128.1.0", 24) },
        Subnet { real: net("fd01::", 64), twin: net("fd80::", 64) },
    ];
    let others = [
        Subnet { real: net("192.168.1.0", 24), twin: net("10.128.8.0", 24) },
        Subnet { real: net("fd01::", 64), twin: net("fd80:8::", 64) },
    ];
    let routes = |plant, egress, subnets: &[Subnet]| {
        let routes = subnets.iter().zip(11..).flat_map(|(subnet, id)| {
            let route = Route { plant, id, egress, subnet: *subnet };
            [(subnet.real, route), (subnet.twin, route)]
        });
        routes.collect::<BTreeMap<_, _>>()
    };
    let plant = |id, subnets: &[Subnet]| Plant { id, mtu: 1_420, link_header: ETHERNET, subnets: subnets.to_vec() };
    let address = [ip("100.64.0.1"), ip("fd64::1")];
    let service = |address| Service { address, port: SERVICE_PORT, protocol: UDP };
    Topology {
        users: USERS_DEVICE,
        users_mtu: 1_280,
        generation: 1,
        options: 0,
        tunnel: [net("100.64.0.0", 16), net("fd64::", 64)],
        source: [net("100.80.0.0", 16), net("fd50::", 64)],
        address,
        idle: IdleLimits {
            tcp_ms: 7_440_000,
            tcp_transitory_ms: 240_000,
            tcp_closed_ms: 10_000,
            udp_ms: 300_000,
            icmp_ms: 60_000,
        },
        limits: Limits {
            new_flows_per_second: 100_000,
            live_flows: 100_000,
            answers_per_second: 100_000,
            denials_per_window: 100_000,
            reserved: 0,
        },
        peers: BTreeMap::from([(5, PEER)]),
        route_sets: BTreeMap::from([
            (PEER.route_set, routes(PLANT_ID, UPLINK, &subnets)),
            (OTHER_SET, routes(OTHER_PLANT, OTHER_UPLINK, &others)),
        ]),
        plants: BTreeMap::from([(UPLINK, plant(PLANT_ID, &subnets)), (OTHER_UPLINK, plant(OTHER_PLANT, &others))]),
        services: address.map(|address| (service(address), SERVICE_ID)).into(),
    }
}

/// The same, with plants behind tunnels.
#[must_use]
pub fn tunnels() -> Topology {
    let mut topology = topology();
    topology.connect_plants(TUNNEL);
    topology
}

/// The same, through which only small packets fit, and in which refusals are answered.
#[must_use]
pub fn narrow() -> Topology {
    let mut topology = topology();
    topology.options = ANSWER_REFUSALS;
    topology.users_mtu = 52;
    for plant in topology.plants.values_mut() {
        plant.mtu = 60;
    }
    topology
}

/// The ends of the datagram that opens the flow of the answers.
#[must_use]
pub fn datagram(user: &str, device: &str) -> Ends {
    Ends::new((user, 5_000), (device, 2_000))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(address: &str, length: u8) -> Net {
    Net::new(ip(address), length)
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Packets of IPv4 that go on, one after the other.
pub const IPV4: [Row; 24] = [
    Row {
        name: "an echo request",
        program: USERS,
        packet: "45000020 12340000 4001f8d0 64400005 0a800114 0800f995 1f900009 70696e67",
        out: "45000020 12340000 3f014398 64500005 c0a80114 0800f995 1f900009 70696e67",
    },
    Row {
        name: "its reply",
        program: PLANT,
        packet: "45000020 12340000 ff018397 c0a80114 64500005 00000196 1f900009 70696e67",
        out: "45000020 12340000 fe013ad0 0a800114 64400005 00000196 1f900009 70696e67",
    },
    Row {
        name: "a SYN with a maximum segment size",
        program: USERS,
        packet: "4500002c 12344000 4006b8bf 64400005 0a800114 9c4001f6 01020304 00000000 60027210 14010000
                 020405b4",
        out: "4500002c 12344000 3f060387 64500005 c0a80114 9c4001f6 01020304 00000000 60027210 5ea40000
              020404d8",
    },
    Row {
        name: "a SYN and ACK with one at an odd place",
        program: PLANT,
        packet: "45000030 12340000 40064283 c0a80114 64500005 01f69c40 01020304 01020305 70127210 96590000
                 01020405 b4040200",
        out: "45000030 12340000 3f06f9bb 0a800114 64400005 01f69c40 01020304 01020305 70127210 28930000
              01020404 d8040200",
    },
    Row {
        name: "a SYN whose maximum segment size fits",
        program: USERS,
        packet: "4500002c 12340000 4006f8bf 64400005 0a800114 9c4101f6 01020304 00000000 60027210 14dc0000
                 020404d8",
        out: "4500002c 12340000 3f064387 64500005 c0a80114 9c4101f6 01020304 00000000 60027210 5ea30000
              020404d8",
    },
    Row {
        name: "a segment with data",
        program: USERS,
        packet: "45b8002b 12340000 4006f808 64400005 0a800114 9c4001f6 01020304 00000007 50187210 673a0000
                 616263",
        out: "45b8002b 12340000 3f0642d0 64500005 c0a80114 9c4001f6 01020304 00000007 50187210 b1010000
              616263",
    },
    Row {
        name: "a datagram",
        program: USERS,
        packet: "45000021 12340000 4011f8bf 64400005 0a800114 138807d0 000d30d1 68656c6c 6f",
        out: "45000021 12340000 3f114387 64500005 c0a80114 138807d0 000d7a98 68656c6c 6f",
    },
    Row {
        name: "a datagram by the real address",
        program: USERS,
        packet: "45000021 12340000 40114297 64400005 c0a80114 138907d0 000d7aa7 68656c6c 6f",
        out: "45000021 12340000 3f114387 64500005 c0a80114 138907d0 000d7a97 68656c6c 6f",
    },
    Row {
        name: "its answer",
        program: PLANT,
        packet: "45000022 12340000 40114286 c0a80114 64500005 07d01389 000e706a 776f726c 6421",
        out: "45000022 12340000 3f114396 c0a80114 64400005 07d01389 000e707a 776f726c 6421",
    },
    Row {
        name: "a datagram without a checksum",
        program: USERS,
        packet: "4500001d 12340000 4011f8c3 64400005 0a800114 138807d0 00090000 78",
        out: "4500001d 12340000 3f11438b 64500005 c0a80114 138807d0 00090000 78",
    },
    Row {
        name: "a datagram whose checksum comes out as zero",
        program: USERS,
        packet: "4500001e 12340000 4011f8c2 64400005 0a800114 138807d0 000ab638 be70",
        out: "4500001e 12340000 3f11438a 64500005 c0a80114 138807d0 000affff be70",
    },
    Row {
        name: "a datagram whose checksum is one too much",
        program: USERS,
        packet: "45000021 12340000 4011f8bf 64400005 0a800114 138807d0 000d26c3 77726f6e 67",
        out: "45000021 12340000 3f114387 64500005 c0a80114 138807d0 000d708a 77726f6e 67",
    },
    Row {
        name: "a first fragment",
        program: USERS,
        packet: "45000024 beef2000 40112c01 64400005 0a800114 138807d0 0020efec 00010203 04050607",
        out: "45000024 beef2000 3f1176c8 64500005 c0a80114 138807d0 002039b4 00010203 04050607",
    },
    Row {
        name: "the one behind it",
        program: USERS,
        packet: "45000024 beef0002 40114bff 64400005 0a800114 08090a0b 0c0d0e0f 10111213 14151617",
        out: "45000024 beef0002 3f1196c6 64500005 c0a80114 08090a0b 0c0d0e0f 10111213 14151617",
    },
    Row {
        name: "a first fragment from the plant",
        program: PLANT,
        packet: "45000024 feed2000 401135ca c0a80114 64500005 07d01388 002039b4 00010203 04050607",
        out: "45000024 feed2000 3f11ed02 0a800114 64400005 07d01388 0020efec 00010203 04050607",
    },
    Row {
        name: "the last one behind it",
        program: PLANT,
        packet: "45000024 feed0002 401155c8 c0a80114 64500005 08090a0b 0c0d0e0f 10111213 14151617",
        out: "45000024 feed0002 3f110d01 0a800114 64400005 08090a0b 0c0d0e0f 10111213 14151617",
    },
    Row {
        name: "time exceeded at a router of the plant",
        program: PLANT,
        packet: "4500003d 12340000 4001428e c0a80101 64500005 0b001b30 00000000 45000021 12340000 01118187
                 64500005 c0a80114 138807d0 000d7a98 68656c6c 6f",
        out: "4500003d 12340000 3f01f9c6 0a800101 64400005 0b0064f7 00000000 45000021 12340000 011137c0
              64400005 0a800114 138807d0 000d30d1 68656c6c 6f",
    },
    Row {
        name: "time exceeded at a router beyond its subnets",
        program: PLANT,
        packet: "45000038 12340000 40014f23 ac100909 64500005 0b005f02 00000000 45000021 12340000 01118187
                 64500005 c0a80114 138807d0 000d7a98",
        out: "45000038 12340000 3f01a10b 64400001 64400005 0b00a8c9 00000000 45000021 12340000 011137c0
              64400005 0a800114 138807d0 000d30d1",
    },
    Row {
        name: "port unreachable from the device",
        program: PLANT,
        packet: "4500003d 12340000 4001427b c0a80114 64500005 0303232d 00000000 45000021 12340000 3f114387
                 64500005 c0a80114 138807d0 000d7a98 68656c6c 6f",
        out: "4500003d 12340000 3f01f9b3 0a800114 64400005 03036cf4 00000000 45000021 12340000 3f11f9bf
              64400005 0a800114 138807d0 000d30d1 68656c6c 6f",
    },
    Row {
        name: "fragmentation needed, about a segment",
        program: PLANT,
        packet: "45000047 12340000 40014284 c0a80101 64500005 03041db3 00000578 4500002b 12340000 3e064488
                 64500005 c0a80114 9c4001f6 01020304 00000007 50187210 b1010000 616263",
        out: "45000047 12340000 3f01f9bc 0a800101 64400005 0304677a 00000578 4500002b 12340000 3e06fac0
              64400005 0a800114 9c4001f6 01020304 00000007 50187210 673a0000 616263",
    },
    Row {
        name: "the same with the least of a quote",
        program: PLANT,
        packet: "45000038 12340000 40014293 c0a80101 64500005 03045547 00000578 4500002b 12340000 3e064488
                 64500005 c0a80114 9c4001f6 01020304",
        out: "45000038 12340000 3f01f9cb 0a800101 64400005 03045547 00000578 4500002b 12340000 3e06fac0
              64400005 0a800114 9c4001f6 01020304",
    },
    Row {
        name: "time exceeded about an echo request",
        program: PLANT,
        packet: "4500003c 12340000 4001428f c0a80101 64500005 0b00f4ff 00000000 45000020 12340000 01018198
                 64500005 c0a80114 0800f995 1f900009 70696e67",
        out: "4500003c 12340000 3f01f9c7 0a800101 64400005 0b00f4ff 00000000 45000020 12340000 010137d1
              64400005 0a800114 0800f995 1f900009 70696e67",
    },
    Row {
        name: "port unreachable from the user",
        program: USERS,
        packet: "4500003d 12340000 4001f8b3 64400005 0a800114 03036cf4 00000000 45000021 12340000 3c11fcbf
                 0a800114 64400005 07d01388 000d26c7 776f726c 64",
        out: "4500003d 12340000 3f01437b 64500005 c0a80114 0303232d 00000000 45000021 12340000 3c114687
              c0a80114 64500005 07d01388 000d708e 776f726c 64",
    },
    Row {
        name: "reassembly time exceeded from the user, about an echo reply",
        program: USERS,
        packet: "45000038 12340000 4001f8b8 64400005 0a800114 0b01d3cf 00000000 45000020 12340000 3c01fcd0
                 0a800114 64400005 00000196 1f900009",
        out: "45000038 12340000 3f014380 64500005 c0a80114 0b01d3cf 00000000 45000020 12340000 3c014698
              c0a80114 64500005 00000196 1f900009",
    },
];

/// Packets of IPv6 that go on, one after the other.
pub const IPV6: [Row; 20] = [
    Row {
        name: "an echo request",
        program: USERS,
        packet: "60000000 000c3a40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 80008644 1f900009 70696e67",
        out: "60000000 000c3a3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              800086d7 1f900009 70696e67",
    },
    Row {
        name: "its reply",
        program: PLANT,
        packet: "60000000 000c3a40 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 810085d7 1f900009 70696e67",
        out: "60000000 000c3a3f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              81008544 1f900009 70696e67",
    },
    Row {
        name: "a SYN with a maximum segment size",
        program: USERS,
        packet: "600a1234 00180640 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 9c4001f6 01020304 00000000 60027210 88e30000 020405a0",
        out: "600a1234 0018063f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              9c4001f6 01020304 00000000 60027210 8a520000 020404c4",
    },
    Row {
        name: "a SYN and ACK with one at an odd place",
        program: PLANT,
        packet: "60000000 001c0640 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 01f69c40 01020304 01020305 70127210 d5f30000 01020405 a0040200",
        out: "60000000 001c063f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              01f69c40 01020304 01020305 70127210 b1610000 01020404 c4040200",
    },
    Row {
        name: "a datagram",
        program: USERS,
        packet: "60000000 000d1140 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 138807d0 000da59f 68656c6c 6f",
        out: "60000000 000d113f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              138807d0 000da632 68656c6c 6f",
    },
    Row {
        name: "its answer",
        program: PLANT,
        packet: "60000000 000e1140 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 07d01388 000e9c05 776f726c 6421",
        out: "60000000 000e113f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              07d01388 000e9b72 776f726c 6421",
    },
    Row {
        name: "a datagram by the real address",
        program: USERS,
        packet: "60000000 000d1140 fd640000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
                 138907d0 000da61d 68656c6c 6f",
        out: "60000000 000d113f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              138907d0 000da631 68656c6c 6f",
    },
    Row {
        name: "an atomic fragment",
        program: USERS,
        packet: "60000000 00142c40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 11000000 01020304 138807d0 000c1892 61746f6d",
        out: "60000000 00142c3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              11000000 01020304 138807d0 000c1925 61746f6d",
    },
    Row {
        name: "a first fragment",
        program: USERS,
        packet: "60000000 00182c40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 11000001 cafebeef 138807d0 002064bb 00010203 04050607",
        out: "60000000 00182c3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              11000001 cafebeef 138807d0 0020654e 00010203 04050607",
    },
    Row {
        name: "the one behind it",
        program: USERS,
        packet: "60000000 00182c40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 11000010 cafebeef 08090a0b 0c0d0e0f 10111213 14151617",
        out: "60000000 00182c3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              11000010 cafebeef 08090a0b 0c0d0e0f 10111213 14151617",
    },
    Row {
        name: "a first fragment from the plant",
        program: PLANT,
        packet: "60000000 00182c40 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 11000001 00decade 07d01388 0020654e 00010203 04050607",
        out: "60000000 00182c3f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              11000001 00decade 07d01388 002064bb 00010203 04050607",
    },
    Row {
        name: "the last one behind it",
        program: PLANT,
        packet: "60000000 00182c40 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 11000010 00decade 08090a0b 0c0d0e0f 10111213 14151617",
        out: "60000000 00182c3f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              11000010 00decade 08090a0b 0c0d0e0f 10111213 14151617",
    },
    Row {
        name: "time exceeded at a router of the plant",
        program: PLANT,
        packet: "60000000 003d3a40 fd010000 00000000 00000000 00000001 fd500000 00000000 00000000 00000005
                 0300913f 00000000 60000000 000d1101 fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 138807d0 000da632 68656c6c 6f",
        out: "60000000 003d3a3f fd800000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              030090ac 00000000 60000000 000d1101 fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 138807d0 000da59f 68656c6c 6f",
    },
    Row {
        name: "time exceeded at a router beyond its subnets",
        program: PLANT,
        packet: "60000000 003d3a40 20010db8 00000000 00000000 00000009 fd500000 00000000 00000000 00000005
                 03006080 00000000 60000000 000d1101 fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 138807d0 000da632 68656c6c 6f",
        out: "60000000 003d3a3f fd640000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              030090c8 00000000 60000000 000d1101 fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 138807d0 000da59f 68656c6c 6f",
    },
    Row {
        name: "port unreachable from the device",
        program: PLANT,
        packet: "60000000 003d3a40 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 010492de 00000000 60000000 000d113f fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 138807d0 000da632 68656c6c 6f",
        out: "60000000 003d3a3f fd800000 00000000 00000000 00000020 fd640000 00000000 00000000 00000005
              0104924b 00000000 60000000 000d113f fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 138807d0 000da59f 68656c6c 6f",
    },
    Row {
        name: "packet too big, about a segment",
        program: PLANT,
        packet: "60000000 00473a40 fd010000 00000000 00000000 00000001 fd500000 00000000 00000000 00000005
                 020097d9 00000514 60000000 0017063e fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 9c4001f6 01020304 00000007 50187210 dc9b0000 616263",
        out: "60000000 00473a3f fd800000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              02009746 00000514 60000000 0017063e fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 9c4001f6 01020304 00000007 50187210 dc080000 616263",
    },
    Row {
        name: "the same with the least of a quote",
        program: PLANT,
        packet: "60000000 00383a40 fd010000 00000000 00000000 00000001 fd500000 00000000 00000000 00000005
                 0200fb16 00000514 60000000 0017063e fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 9c4001f6 01020304",
        out: "60000000 00383a3f fd800000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              0200f9f0 00000514 60000000 0017063e fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 9c4001f6 01020304",
    },
    Row {
        name: "time exceeded about an echo request",
        program: PLANT,
        packet: "60000000 003c3a40 fd010000 00000000 00000000 00000001 fd500000 00000000 00000000 00000005
                 03006869 00000000 60000000 000c3a01 fd500000 00000000 00000000 00000005 fd010000 00000000
                 00000000 00000020 800086d7 1f900009 70696e67",
        out: "60000000 003c3a3f fd800000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              030067d6 00000000 60000000 000c3a01 fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 80008644 1f900009 70696e67",
    },
    Row {
        name: "port unreachable from the user",
        program: USERS,
        packet: "60000000 003d3a40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 0104924e 00000000 60000000 000d113c fd800000 00000000 00000000 00000020 fd640000 00000000
                 00000000 00000005 07d01388 000d9b95 776f726c 64",
        out: "60000000 003d3a3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              010492e1 00000000 60000000 000d113c fd010000 00000000 00000000 00000020 fd500000 00000000
              00000000 00000005 07d01388 000d9c28 776f726c 64",
    },
    Row {
        name: "an echo reply was unwanted",
        program: USERS,
        packet: "60000000 003c3a40 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 0401667b 00000000 60000000 000c3a3c fd800000 00000000 00000000 00000020 fd640000 00000000
                 00000000 00000005 81008544 1f900009 70696e67",
        out: "60000000 003c3a3f fd500000 00000000 00000000 00000005 fd010000 00000000 00000000 00000020
              0401670e 00000000 60000000 000c3a3c fd010000 00000000 00000000 00000020 fd500000 00000000
              00000000 00000005 810085d7 1f900009 70696e67",
    },
];

/// Packets of IPv4 that are refused with an answer, in [`narrow`] after a datagram has opened the flow.
pub const ANSWERS_V4: [Row; 5] = [
    Row {
        name: "time exceeded, to the user",
        program: USERS,
        packet: "45000024 12340000 011137bd 64400005 0a800114 138807d0 001004ef 6c617374 20686f70",
        out: "45000040 00000000 4001b237 64400001 64400005 0b0064fa 00000000 45000024 12340000 011137bd
              64400005 0a800114 138807d0 001004ef 6c617374 20686f70",
    },
    Row {
        name: "time exceeded, to the device",
        program: PLANT,
        packet: "45000024 12340000 01118184 c0a80114 64500005 07d01388 00104eb6 6c617374 20686f70",
        out: "45000040 00000000 400154b0 64500001 c0a80114 0b001b33 00000000 45000024 12340000 01118184
              c0a80114 64500005 07d01388 00104eb6 6c617374 20686f70",
    },
    Row {
        name: "fragmentation needed, to the user",
        program: USERS,
        packet: "4500003d 12340000 4011f8a3 64400005 0a800114 138807d0 0029746b 00000000 00000000 00000000
                 00000000 00000000 00000000 00000000 00000000 00",
        out: "45000058 00000000 4001b21f 64400001 64400005 03046cd3 0000003c 4500003d 12340000 4011f8a3
              64400005 0a800114 138807d0 0029746b 00000000 00000000 00000000 00000000 00000000 00000000
              00000000 00000000",
    },
    Row {
        name: "fragmentation needed, to the device",
        program: PLANT,
        packet: "45000038 12340000 40114270 c0a80114 64500005 07d01388 0024be3c 00000000 00000000 00000000
                 00000000 00000000 00000000 00000000",
        out: "45000054 00000000 4001549c 64500001 c0a80114 0304230f 00000034 45000038 12340000 40114270
              c0a80114 64500005 07d01388 0024be3c 00000000 00000000 00000000 00000000 00000000 00000000
              00000000",
    },
    Row {
        name: "prohibited, to the user",
        program: USERS,
        packet: "45000028 12340000 4006f7c3 64400005 0a800214 9c400016 01020304 00000000 50027210 2c9d0000",
        out: "45000044 00000000 4001b233 64400001 64400005 030d6de6 00000000 45000028 12340000 4006f7c3
              64400005 0a800214 9c400016 01020304 00000000 50027210 2c9d0000",
    },
];

/// The same of IPv6.
pub const ANSWERS_V6: [Row; 5] = [
    Row {
        name: "time exceeded, to the user",
        program: USERS,
        packet: "60000000 00101101 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 138807d0 001079bd 6c617374 20686f70",
        out: "60000000 00403a40 fd640000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              030090c5 00000000 60000000 00101101 fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 138807d0 001079bd 6c617374 20686f70",
    },
    Row {
        name: "time exceeded, to the device",
        program: PLANT,
        packet: "60000000 00101100 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 07d01388 00107a50 6c617374 20686f70",
        out: "60000000 00403a40 fd500000 00000000 00000000 00000001 fd010000 00000000 00000000 00000020
              03009122 00000000 60000000 00101100 fd010000 00000000 00000000 00000020 fd500000 00000000
              00000000 00000005 07d01388 00107a50 6c617374 20686f70",
    },
    Row {
        name: "packet too big, to the user",
        program: USERS,
        packet: "60000000 00191140 fd640000 00000000 00000000 00000005 fd800000 00000000 00000000 00000020
                 138807d0 0019e959 00000000 00000000 00000000 00000000 00",
        out: "60000000 00483a40 fd640000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              02009142 0000003c 60000000 00191140 fd640000 00000000 00000000 00000005 fd800000 00000000
              00000000 00000020 138807d0 0019e959 00000000 00000000 00000000 00000000",
    },
    Row {
        name: "packet too big, to the device",
        program: PLANT,
        packet: "60000000 00101140 fd010000 00000000 00000000 00000020 fd500000 00000000 00000000 00000005
                 07d01388 0010e9fe 00000000 00000000",
        out: "60000000 00403a40 fd500000 00000000 00000000 00000001 fd010000 00000000 00000000 00000020
              020091ae 00000034 60000000 00101140 fd010000 00000000 00000000 00000020 fd500000 00000000
              00000000 00000005 07d01388 0010e9fe 00000000 00000000",
    },
    Row {
        name: "prohibited, to the user",
        program: USERS,
        packet: "60000000 00140640 fd640000 00000000 00000000 00000005 fd800002 00000000 00000000 00000020
                 9c400016 01020304 00000000 50027210 a2690000",
        out: "60000000 00443a40 fd640000 00000000 00000000 00000001 fd640000 00000000 00000000 00000005
              01019d76 00000000 60000000 00140640 fd640000 00000000 00000000 00000005 fd800002 00000000
              00000000 00000020 9c400016 01020304 00000000 50027210 a2690000",
    },
];
