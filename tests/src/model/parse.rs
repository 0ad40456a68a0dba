//! Headers become values.

use std::net::{IpAddr, Ipv6Addr};

use vpn_ebpf_common::{
    Verdict,
    flow::Traffic,
    protocol::{ICMP, ICMPV6, IPV6_FRAGMENT, TCP, UDP},
};

use super::{Arrival, Coalesced, Direction};

/// Next headers of IPv6 that are extension headers and not translated.
const EXTENSION_HEADERS: [u8; 8] = [0, 43, 51, 60, 135, 139, 140, IPV6_FRAGMENT];

/// What is known of a packet.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// Where the transport header is.
    pub transport: usize,
    pub fragment: Fragment,
    /// On the source's side: the port; of an echo request the identifier; or zero.
    pub source_port: u16,
    /// On the destination's side: the port; of an echo reply the identifier; or zero.
    pub destination_port: u16,
    /// Of TCP, or zero.
    pub tcp_flags: u8,
    pub is_icmp_error: bool,
    pub wire: Wire,
}

/// Whether it is a whole packet. A part of one has an identification, as its bytes lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Whole,
    First(u32),
    Later(u32),
}

/// What a packet is on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub traffic: Traffic,
    /// Bytes of the largest packet.
    pub largest: u32,
}

impl Parsed {
    /// Where what exists for each family is to be found.
    pub fn family(&self) -> usize {
        family(self.source)
    }

    pub fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Fragment::Later(_))
    }
}

pub(super) fn family(address: IpAddr) -> usize {
    if address.is_ipv4() { 0 } else { 1 }
}

pub(super) fn parse(arrival: &Arrival, direction: Direction) -> Result<Parsed, Verdict> {
    let packet = &arrival.packet;
    if packet.len() < 20 {
        return Err(Verdict::Truncated);
    }
    let mut parsed = match packet[0] >> 4 {
        4 => ipv4(packet)?,
        6 => ipv6(packet)?,
        _ => return Err(Verdict::NotIp),
    };
    match parsed.protocol {
        TCP | UDP => {}
        ICMP if parsed.source.is_ipv4() => {}
        ICMPV6 if parsed.source.is_ipv6() => {}
        protocol if parsed.source.is_ipv6() && EXTENSION_HEADERS.contains(&protocol) => {
            return Err(Verdict::ExtensionHeader);
        }
        _ => return Err(Verdict::Protocol),
    }
    if parsed.is_later_fragment() {
        return Ok(parsed);
    }
    let transport = &packet[parsed.transport..];
    let header = if parsed.protocol == TCP { 20 } else { 8 };
    if transport.len() < header {
        return Err(Verdict::Truncated);
    }
    match parsed.protocol {
        TCP | UDP => {
            parsed.source_port = number(transport, 0);
            parsed.destination_port = number(transport, 2);
        }
        protocol => match icmp(protocol, transport[0], transport[1]) {
            Icmp::EchoRequest if direction == Direction::ToPlant => parsed.source_port = number(transport, 4),
            Icmp::EchoReply if direction == Direction::ToUser => parsed.destination_port = number(transport, 4),
            Icmp::Error if parsed.fragment == Fragment::Whole => parsed.is_icmp_error = true,
            Icmp::Error => return Err(Verdict::Fragment),
            _ => return Err(Verdict::IcmpType),
        },
    }
    if parsed.protocol == TCP {
        parsed.tcp_flags = transport[13];
        if let Some(coalesced) = arrival.coalesced {
            let headers = parsed.transport as u32 + 4 * u32::from(transport[12] >> 4);
            parsed.wire = wire(coalesced, headers, packet.len() as u32);
        }
    }
    Ok(parsed)
}

/// The packet without what an Ethernet frame has behind it.
pub(super) fn without_padding(arrival: &Arrival) -> Arrival {
    let packet = &arrival.packet;
    let (header, length) = match packet.first() {
        Some(0x45) if packet.len() >= 20 => (20, usize::from(number(packet, 2))),
        Some(first) if first >> 4 == 6 && packet.len() >= 40 => (40, 40 + usize::from(number(packet, 4))),
        _ => return arrival.clone(),
    };
    let is_coalesced = arrival.coalesced.is_some_and(|coalesced| coalesced.size > 0);
    if is_coalesced || !(header..packet.len()).contains(&length) {
        return arrival.clone();
    }
    Arrival { packet: packet[..length].to_vec(), ..arrival.clone() }
}

/// What segments are on the wire that came as one packet of `length` bytes, in which their headers stand once.
fn wire(coalesced: Coalesced, headers: u32, length: u32) -> Wire {
    let segments = match coalesced {
        Coalesced { segments: 0, size: 0 } => 1,
        Coalesced { segments: 0, size } => length.saturating_sub(headers).div_ceil(size),
        Coalesced { segments, .. } => segments,
    };
    if segments <= 1 {
        return Wire { traffic: Traffic { packets: 1, bytes: length.into() }, largest: length };
    }
    let bytes = u64::from(length) + u64::from(segments - 1) * u64::from(headers);
    Wire { traffic: Traffic { packets: segments.into(), bytes }, largest: headers + coalesced.size }
}

/// Whether a packet is a neighbour solicitation or advertisement that comes from the link itself (RFC 4861, 7.1).
pub(super) fn is_neighbour_discovery(packet: &[u8]) -> bool {
    let is_from_link = packet.len() >= 48 && packet[0] >> 4 == 6 && packet[6] == ICMPV6 && packet[7] == 255;
    is_from_link && matches!(packet[40], 135 | 136)
}

fn ipv4(packet: &[u8]) -> Result<Parsed, Verdict> {
    if packet[0] != 0x45 {
        return Err(Verdict::IpOptions);
    }
    if usize::from(number(packet, 2)) != packet.len() {
        return Err(Verdict::Length);
    }
    let identification = u16::from_ne_bytes([packet[4], packet[5]]).into();
    let offset = number(packet, 6) & 0x1fff;
    let more = number(packet, 6) & 0x2000 != 0;
    let address = |at| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
    Ok(Parsed {
        source: address(12),
        destination: address(16),
        protocol: packet[9],
        hops: packet[8],
        transport: 20,
        fragment: fragment(offset, more, identification),
        ..blank(packet)
    })
}

fn ipv6(packet: &[u8]) -> Result<Parsed, Verdict> {
    if packet.len() < 40 {
        return Err(Verdict::Truncated);
    }
    if 40 + usize::from(number(packet, 4)) != packet.len() {
        return Err(Verdict::Length);
    }
    let address = |at| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen bytes"));
    let (source, destination) = (address(8), address(24));
    // IPv4 addresses in their mapped form are no addresses of packets, and would be taken for the IPv4 ones.
    if [source, destination].iter().any(|address| address.to_ipv4_mapped().is_some()) {
        return Err(Verdict::NotIp);
    }
    let parsed = Parsed {
        source: source.into(),
        destination: destination.into(),
        protocol: packet[6],
        hops: packet[7],
        transport: 40,
        ..blank(packet)
    };
    if packet[6] != IPV6_FRAGMENT {
        return Ok(parsed);
    }
    let header = packet.get(40..48).ok_or(Verdict::Truncated)?;
    let identification = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let fragment = fragment(number(header, 2) >> 3, header[3] & 1 != 0, identification);
    Ok(Parsed { protocol: header[0], transport: 48, fragment, ..parsed })
}

fn fragment(offset: u16, more: bool, identification: u32) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First(identification),
        _ => Fragment::Later(identification),
    }
}

/// Before anything is known but its length.
fn blank(packet: &[u8]) -> Parsed {
    let length = packet.len() as u32;
    Parsed {
        source: Ipv6Addr::UNSPECIFIED.into(),
        destination: Ipv6Addr::UNSPECIFIED.into(),
        protocol: 0,
        hops: 0,
        transport: 0,
        fragment: Fragment::Whole,
        source_port: 0,
        destination_port: 0,
        tcp_flags: 0,
        is_icmp_error: false,
        wire: Wire { traffic: Traffic { packets: 1, bytes: length.into() }, largest: length },
    }
}

/// What an ICMP message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Icmp {
    EchoRequest,
    EchoReply,
    Error,
    Other,
}

pub(super) fn icmp(protocol: u8, kind: u8, code: u8) -> Icmp {
    match (protocol, kind, code) {
        (ICMP, 8, 0) | (ICMPV6, 128, 0) => Icmp::EchoRequest,
        (ICMP, 0, 0) | (ICMPV6, 129, 0) => Icmp::EchoReply,
        (ICMP, 3 | 11 | 12, _) | (ICMPV6, 1..=4, _) => Icmp::Error,
        _ => Icmp::Other,
    }
}

/// The number of two bytes.
pub(super) fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
