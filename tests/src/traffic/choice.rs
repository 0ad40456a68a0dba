//! Packets that are all right, first ones and those that follow on others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vpn_ebpf_common::{
    names::{PLANT, USERS},
    tcp::{ACK, FIN, RST, SYN},
};

use super::{
    Packet, Passed, Traffic,
    blueprint::{Blueprint, Transport},
    world::peer_addresses,
};
use crate::{
    interfaces::{UPLINKS, USERS_DEVICE},
    model::checksum,
    topology::{Subnet, Topology},
};

/// MTUs of [`world`](super::world), and what is worth trying besides.
const SIZES: [usize; 5] = [576, 1_280, 1_420, 1_500, 2_000];

impl Traffic {
    /// A packet that follows on no other.
    pub(super) fn fresh(&mut self, topology: &Topology) -> Packet {
        if self.random.percent(80) { self.some_users_packet(topology) } else { self.some_plants_packet(topology) }
    }

    fn some_users_packet(&mut self, topology: &Topology) -> Packet {
        let is_v4 = self.random.percent(50);
        let source = self.some_user(is_v4);
        let destination = match self.random.below(100) {
            0..84 => {
                let uplinks: Vec<_> = topology.plants.keys().copied().collect();
                let uplink = if uplinks.is_empty() { 0 } else { self.random.pick(&uplinks) };
                match self.some_device(topology, uplink, is_v4) {
                    Some((real, twin)) => self.random.pick(&[real, twin, twin]),
                    None => self.anywhere(is_v4),
                }
            }
            84..95 => topology.address[usize::from(!is_v4)],
            _ => self.anywhere(is_v4),
        };
        let is_usual = self.random.percent(97);
        let packet = self.between(source, destination, is_usual).build();
        self.arriving(USERS, packet)
    }

    fn some_plants_packet(&mut self, topology: &Topology) -> Packet {
        if self.random.percent(5) {
            return self.neighbour_discovery();
        }
        let is_v4 = self.random.percent(50);
        let uplink = self.random.pick(&UPLINKS);
        let user = self.some_user(is_v4);
        let source = match self.some_device(topology, uplink, is_v4) {
            Some((real, _)) if self.random.percent(90) => real,
            _ => self.anywhere(is_v4),
        };
        let destination = if self.random.percent(95) { topology.seen_by_plants(user) } else { user };
        let is_usual = self.random.percent(97);
        let packet = self.between(source, destination, is_usual).build();
        let mut packet = self.arriving(PLANT, packet);
        packet.arrival.ingress = uplink;
        packet
    }

    /// What is between a plant's devices and the host itself.
    fn neighbour_discovery(&mut self) -> Packet {
        let (source, destination) = (self.anywhere(false), self.anywhere(false));
        let kind = self.random.pick(&[133, 134, 135, 136, 137]);
        let transport = Transport::Icmp { kind, code: 0, rest: [0; 4] };
        let hops = self.random.pick(&[255, 255, 255, 254, 64]);
        let payload = vec![0; 16];
        let packet = Blueprint { source, destination, hops, atomic: None, transport, payload }.build();
        self.arriving(PLANT, packet)
    }

    /// An answer to a packet that went on, from where it went to.
    pub(super) fn reply(&mut self) -> Option<Packet> {
        let (egress, blueprint) = self.some_passed(|passed| (passed.egress, Blueprint::of(&passed.out)))?;
        let blueprint = self.varied(blueprint?.reversed());
        Some(self.coming_back(egress, blueprint.build()))
    }

    /// A packet like one that went on, the same way.
    pub(super) fn again(&mut self) -> Option<Packet> {
        let (mut packet, blueprint) =
            self.some_passed(|passed| (passed.packet.clone(), Blueprint::of(&passed.packet.arrival.packet)))?;
        if let Some(blueprint) = blueprint {
            packet.arrival.packet = self.varied(blueprint).build();
        }
        Some(packet)
    }

    /// The first of the fragments of a packet; the others come later.
    pub(super) fn fragmented(&mut self, topology: &Topology) -> Packet {
        let whole = self.reply().filter(|_| self.random.percent(50)).unwrap_or_else(|| self.fresh(topology));
        let identification = self.random.below(6) as u32;
        let Some(fragments) = self.cut(&whole.arrival.packet, identification) else {
            return whole;
        };
        let mut fragments = fragments.into_iter().map(|packet| {
            let mut fragment = whole.clone();
            fragment.arrival.packet = packet;
            fragment
        });
        let first = fragments.next().expect("a packet has at least one fragment");
        self.fragments.extend(fragments);
        // At times nobody sees the first one before the others.
        if self.random.percent(85) {
            return first;
        }
        self.fragments.push(first);
        self.fragments.swap_remove(0)
    }

    /// The fragments of a packet without fragment header.
    fn cut(&mut self, packet: &[u8], identification: u32) -> Option<Vec<Vec<u8>>> {
        let is_v4 = packet.first()? >> 4 == 4;
        let header = if is_v4 { 20 } else { 40 };
        let segment = packet.get(header..).filter(|segment| !segment.is_empty())?;
        // The first one mostly has a whole transport header.
        let size = 8 * self.random.pick(&[1, 3, 3, 4, 8]);
        let mut fragments = Vec::new();
        for (number, part) in segment.chunks(size).enumerate() {
            let more = u16::from((number + 1) * size < segment.len());
            let mut fragment = packet[..header].to_vec();
            if is_v4 {
                fragment[2..4].copy_from_slice(&((header + part.len()) as u16).to_be_bytes());
                fragment[4..6].copy_from_slice(&(identification as u16).to_be_bytes());
                let offset = (number * size / 8) as u16 | more << 13;
                fragment[6..8].copy_from_slice(&offset.to_be_bytes());
                fix_header(&mut fragment);
            } else {
                let next = std::mem::replace(&mut fragment[6], vpn_ebpf_common::protocol::IPV6_FRAGMENT);
                fragment[4..6].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
                fragment.extend([next, 0]);
                fragment.extend(((number * size) as u16 | more).to_be_bytes());
                fragment.extend(identification.to_be_bytes());
            }
            fragment.extend(part);
            fragments.push(fragment);
        }
        fragments.truncate(4);
        Some(fragments)
    }

    /// One of the packets that went on.
    pub(super) fn some_passed<T>(&mut self, of: impl FnOnce(&Passed) -> T) -> Option<T> {
        if self.passed.is_empty() {
            return None;
        }
        Some(of(&self.passed[self.random.below(self.passed.len())]))
    }

    /// A packet that comes in where another one went out.
    pub(super) fn coming_back(&mut self, egress: u32, packet: Vec<u8>) -> Packet {
        let program = if egress == USERS_DEVICE { USERS } else { PLANT };
        let mut packet = self.arriving(program, packet);
        packet.arrival.ingress = egress;
        packet
    }

    /// The real and the unique address of one of few devices behind an uplink.
    pub(super) fn some_device(&mut self, topology: &Topology, uplink: u32, is_v4: bool) -> Option<(IpAddr, IpAddr)> {
        let plant = topology.plants.get(&uplink)?;
        let subnets: Vec<Subnet> =
            plant.subnets.iter().filter(|subnet| subnet.real.address.is_ipv4() == is_v4).copied().collect();
        if subnets.is_empty() {
            return None;
        }
        let subnet = self.random.pick(&subnets);
        let host = self.random.pick(&[1, 5, 65, 129]);
        let host: IpAddr = if is_v4 {
            Ipv4Addr::new(0, 0, 1, host).into()
        } else {
            Ipv6Addr::new(0, 0, 0, 1, 0, 0, 0, host.into()).into()
        };
        Some((subnet.real.with_host_of(host), subnet.twin.with_host_of(host)))
    }

    /// The tunnel address of a user; rarely one that nobody has.
    fn some_user(&mut self, is_v4: bool) -> IpAddr {
        let number = if self.random.percent(98) { self.random.below(4) as u8 } else { 9 };
        peer_addresses(number)[usize::from(!is_v4)]
    }

    /// An address of no plant, rarely of many hosts.
    pub(super) fn anywhere(&mut self, is_v4: bool) -> IpAddr {
        if is_v4 {
            let first = self.random.pick(&[10, 172, 192, 198, 224, 255]);
            Ipv4Addr::new(first, self.random.below(3) as u8, 0, 1).into()
        } else {
            let first = self.random.pick(&[0x2001, 0xfd80, 0xfd01, 0xff02]);
            Ipv6Addr::new(first, 0, 0, 0, 0, self.random.below(3) as u16, 0, 1).into()
        }
    }

    /// A packet that a user sends, or with the ports the other way round one that a device sends. Usually the user sends
    /// echo requests and the device replies.
    fn between(&mut self, source: IpAddr, destination: IpAddr, is_usual: bool) -> Blueprint {
        let is_v4 = source.is_ipv4();
        let user_port = 40_000 + self.random.below(3) as u16;
        let device_port = self.random.pick(&[502, 80, 53]);
        let from_user = source_is_user(source);
        let (source_port, destination_port) =
            if from_user { (user_port, device_port) } else { (device_port, user_port) };
        let transport = match self.random.below(100) {
            0..50 => {
                Transport::Tcp { source: source_port, destination: destination_port, flags: 0, options: Vec::new() }
            }
            50..78 => Transport::Udp { source: source_port, destination: destination_port, has_checksum: true },
            78..96 => {
                let kind = match (is_v4, is_usual == from_user) {
                    (true, true) => 8,
                    (true, false) => 0,
                    (false, true) => 128,
                    (false, false) => 129,
                };
                let [high, low] = user_port.to_be_bytes();
                Transport::Icmp { kind, code: 0, rest: [high, low, 0, 9] }
            }
            _ => Transport::Other(self.random.pick(&[0, 2, 43, 44, 47, 50, 51, 60, 89, 132, 135, 139, 140, 58, 1])),
        };
        let blueprint = Blueprint { source, destination, hops: 64, atomic: None, transport, payload: Vec::new() };
        self.varied(blueprint)
    }

    /// The same with other flags, options, hops and payload.
    fn varied(&mut self, mut blueprint: Blueprint) -> Blueprint {
        if self.random.percent(8) {
            blueprint.hops = self.random.pick(&[0, 1, 2, 3, 255]);
        }
        let is_v4 = blueprint.source.is_ipv4();
        blueprint.atomic = (!is_v4 && self.random.percent(4)).then(|| self.random.number() as u32);
        match &mut blueprint.transport {
            Transport::Tcp { flags, options, .. } => {
                *flags = self.random.pick(&[SYN, SYN, SYN | ACK, ACK, ACK, ACK | 8, FIN | ACK, RST, RST | ACK, 0xff]);
                let has_options = if *flags & SYN != 0 { 85 } else { 15 };
                *options = if self.random.percent(has_options) { self.tcp_options() } else { Vec::new() };
            }
            Transport::Udp { has_checksum, .. } => *has_checksum = self.random.percent(85),
            Transport::Icmp { .. } | Transport::Other(_) => {}
        }
        let length = match self.random.below(100) {
            0..75 => self.random.below(40),
            75..92 => self.random.below(300),
            _ => {
                blueprint.payload.clear();
                let headers = blueprint.build().len();
                let size = self.random.pick(&SIZES) + self.random.below(3) - 1;
                size.saturating_sub(headers)
            }
        };
        blueprint.payload = vec![self.random.byte(); length];
        if let Some(last) = blueprint.payload.last_mut() {
            *last = self.random.byte();
        }
        blueprint
    }

    /// TCP options, most of them with a maximum segment size.
    fn tcp_options(&mut self) -> Vec<u8> {
        let mut options = Vec::new();
        let before = self.random.below(4);
        for _ in 0..before {
            options.extend(self.tcp_option());
        }
        if self.random.percent(85) {
            let size = self.random.pick(&[1_460_u16, 1_440, 1_380, 1_360, 1_241, 1_240, 1_221, 1_220, 536, 0xffff]);
            options.extend([2, 4]);
            options.extend(size.to_be_bytes());
        }
        if self.random.percent(20) {
            options.extend(self.tcp_option());
        }
        let filling = self.random.pick(&[0, 1]);
        options.resize(options.len().next_multiple_of(4), filling);
        options.truncate(40);
        options
    }

    /// An option that says something else, or nothing that can be understood.
    fn tcp_option(&mut self) -> Vec<u8> {
        match self.random.below(16) {
            0..6 => vec![1],
            6 | 7 => vec![4, 2],
            8 | 9 => vec![3, 3, 7],
            10 | 11 => vec![8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            12 => vec![1; 11],
            13 => vec![2, self.random.pick(&[0, 1, 3, 5, 255]), 0xff],
            14 => vec![self.random.byte(), self.random.below(4) as u8],
            _ => vec![0],
        }
    }
}

/// Makes the checksum of an IPv4 header right.
pub(super) fn fix_header(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let check = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
}

fn source_is_user(source: IpAddr) -> bool {
    (0..16).any(|number| peer_addresses(number).contains(&source))
}
