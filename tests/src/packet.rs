//! Packets of both families for the tests: made, and changed, by a library that shares no code with the programs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, PacketBuilderStep, checksum::Sum16BitWords, ip_number,
};

/// The two ends of a packet: address and port, or for ICMP echo the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub source: (IpAddr, u16),
    /// Receiver.
    pub destination: (IpAddr, u16),
}

impl Ends {
    /// From text, for tables: `("100.64.0.5", 40000)`.
    ///
    /// # Panics
    /// If an address is none.
    #[must_use]
    pub fn new(source: (&str, u16), destination: (&str, u16)) -> Self {
        let parse = |(address, port): (&str, u16)| (address.parse().expect("an address"), port);
        Self { source: parse(source), destination: parse(destination) }
    }
}

/// A TCP segment with valid checksums, and no flags.
#[must_use]
pub fn tcp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    segment(ends, 0, &[], payload)
}

/// A TCP segment with valid checksums, with these flags and options.
///
/// # Panics
/// If there are more than 40 bytes of options.
#[must_use]
pub fn segment(ends: Ends, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let builder = ip(ends).tcp(ends.source.1, ends.destination.1, 0x0102_0304, 0x7210);
    let builder = builder.options_raw(options).expect("so many options");
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).expect("a packet in memory");
    let at = transport(&packet) + 13;
    packet[at] = flags;
    with_checksum(packet)
}

/// A UDP datagram with valid checksums.
#[must_use]
pub fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(ends).udp(ends.source.1, ends.destination.1).write(&mut packet, payload).expect("a packet in memory");
    packet
}

/// A UDP datagram without a checksum.
#[must_use]
pub fn udp_without_checksum(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut packet = udp(ends, payload);
    let at = transport(&packet) + 6;
    packet[at..at + 2].fill(0);
    packet
}

/// An ICMP echo request with the source's port as its identifier.
#[must_use]
pub fn echo_request(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let kind = if ends.source.0.is_ipv4() { 8 } else { 128 };
    echo(ends, kind, ends.source.1, payload)
}

/// An ICMP echo reply with the destination's port as its identifier.
#[must_use]
pub fn echo_reply(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let kind = if ends.source.0.is_ipv4() { 0 } else { 129 };
    echo(ends, kind, ends.destination.1, payload)
}

fn echo(ends: Ends, kind: u8, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    icmp(ends, kind, 0, [high, low, 0, 9], payload)
}

/// Any ICMP message of the family: its type, code, the four bytes behind the checksum, and the rest.
#[must_use]
pub fn icmp(ends: Ends, kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = ip(ends);
    let written = if ends.source.0.is_ipv4() {
        builder.icmpv4_raw(kind, code, rest).write(&mut packet, payload)
    } else {
        builder.icmpv6_raw(kind, code, rest).write(&mut packet, payload)
    };
    written.expect("a packet in memory");
    packet
}

/// A packet of any other protocol.
#[must_use]
pub fn other(ends: Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    // The library would look for the extension headers that some numbers announce.
    ip(ends).write(&mut packet, ip_number::EXPERIMENTAL_AND_TESTING_0, payload).expect("a packet in memory");
    if ends.source.0.is_ipv4() {
        with_ipv4(&packet, |ip| ip.protocol = IpNumber(protocol))
    } else {
        with_ipv6(&packet, |ip| ip.next_header = IpNumber(protocol))
    }
}

/// The packet with its IPv4 header changed, and that header's checksum made right again.
///
/// # Panics
/// If it is no IPv4 packet.
#[must_use]
pub fn with_ipv4(packet: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (mut header, rest) = Ipv4Header::from_slice(packet).expect("an IPv4 header");
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), rest].concat()
}

/// The packet with its IPv6 header changed.
///
/// # Panics
/// If it is no IPv6 packet.
#[must_use]
pub fn with_ipv6(packet: &[u8], change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let (mut header, rest) = Ipv6Header::from_slice(packet).expect("an IPv6 header");
    change(&mut header);
    [header.to_bytes().as_slice(), rest].concat()
}

/// The packet with another time to live or hop limit.
#[must_use]
pub fn with_hops(packet: &[u8], hops: u8) -> Vec<u8> {
    if is_v4(packet) {
        with_ipv4(packet, |ip| ip.time_to_live = hops)
    } else {
        with_ipv6(packet, |ip| ip.hop_limit = hops)
    }
}

/// The first `length` bytes, with an IP header that says so.
#[must_use]
pub fn resized(packet: &[u8], length: usize) -> Vec<u8> {
    let packet = &packet[..length];
    if is_v4(packet) {
        with_ipv4(packet, |ip| ip.total_len = length as u16)
    } else {
        with_ipv6(packet, |ip| ip.payload_length = length as u16 - 40)
    }
}

/// The fragment of a packet that has `bytes` of what is behind its IP header; where they begin is a multiple of 8.
///
/// # Panics
/// If the packet has not so many.
#[must_use]
pub fn fragment(packet: &[u8], identification: u32, bytes: Range<usize>) -> Vec<u8> {
    let header = transport(packet);
    let is_last = header + bytes.end == packet.len();
    let part = &packet[header + bytes.start..header + bytes.end];
    if is_v4(packet) {
        let whole = [&packet[..header], part].concat();
        with_ipv4(&whole, |ip| {
            ip.identification = identification as u16;
            ip.fragment_offset = ((bytes.start / 8) as u16).try_into().expect("an offset");
            ip.more_fragments = !is_last;
            ip.total_len = whole.len() as u16;
        })
    } else {
        let mut fragment_header = vec![packet[6], 0];
        fragment_header.extend((bytes.start as u16 | u16::from(!is_last)).to_be_bytes());
        fragment_header.extend(identification.to_be_bytes());
        let whole = [&packet[..header], &fragment_header, part].concat();
        with_ipv6(&whole, |ip| {
            ip.next_header = ip_number::IPV6_FRAGMENTATION_HEADER;
            ip.payload_length = (whole.len() - 40) as u16;
        })
    }
}

/// What the packet should look like after translation: new addresses, one hop less, all checksums computed
/// anew. A UDP checksum of zero stays.
///
/// # Panics
/// If the packet is not whole, or an address is none of its family.
#[must_use]
pub fn translated(packet: &[u8], source: &str, destination: &str) -> Vec<u8> {
    let hops = packet[if is_v4(packet) { 8 } else { 7 }] - 1;
    with_hops(&addressed(packet, source, destination), hops)
}

/// The packet with other addresses, all checksums computed anew. A UDP checksum of zero stays.
///
/// # Panics
/// If the packet is not whole, or an address is none of its family.
#[must_use]
pub fn addressed(packet: &[u8], source: &str, destination: &str) -> Vec<u8> {
    let packet = if is_v4(packet) {
        with_ipv4(packet, |ip| {
            ip.source = source.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
            ip.destination = destination.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
        })
    } else {
        with_ipv6(packet, |ip| {
            ip.source = source.parse::<Ipv6Addr>().expect("an IPv6 address").octets();
            ip.destination = destination.parse::<Ipv6Addr>().expect("an IPv6 address").octets();
        })
    };
    with_checksum(packet)
}

/// The packet with its transport checksum made right; a UDP checksum of zero stays.
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let start = transport(&packet);
    let protocol = IpNumber(packet[if is_v4(&packet) { 9 } else { 6 }]);
    let at = start
        + match protocol {
            ip_number::TCP => 16,
            ip_number::UDP if packet[start + 6..start + 8] != [0, 0] => 6,
            ip_number::IPV6_ICMP => 2,
            _ => return packet,
        };
    packet[at..at + 2].fill(0);
    let addresses = if is_v4(&packet) { 12..20 } else { 8..40 };
    let sum = Sum16BitWords::new()
        .add_slice(&packet[addresses])
        .add_2bytes(((packet.len() - start) as u16).to_be_bytes())
        .add_2bytes([0, protocol.0])
        .add_slice(&packet[start..]);
    let check = if protocol == ip_number::UDP { sum.to_ones_complement_with_no_zero() } else { sum.ones_complement() };
    packet[at..at + 2].copy_from_slice(&check.to_ne_bytes());
    packet
}

fn is_v4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

/// Where the transport header of a packet without fragment header is.
fn transport(packet: &[u8]) -> usize {
    if is_v4(packet) { 20 } else { 40 }
}

fn ip(ends: Ends) -> PacketBuilderStep<IpHeaders> {
    match (ends.source.0, ends.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => PacketBuilder::ipv4(source.octets(), destination.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(destination)) => PacketBuilder::ipv6(source.octets(), destination.octets(), 64),
        _ => panic!("a packet is of one family"),
    }
}
