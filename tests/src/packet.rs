//! Packets for the tests: made, and taken apart again, by a library that shares no code with the programs.

use std::net::Ipv4Addr;

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, IpHeaders, IpNumber, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader,
};

/// The two ends of a packet: address and port, or for ICMP echo the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub source: (Ipv4Addr, u16),
    /// Receiver.
    pub destination: (Ipv4Addr, u16),
}

impl Ends {
    /// From text, for tables: `("100.64.0.5", 40000)`.
    ///
    /// # Panics
    /// If an address is none.
    #[must_use]
    pub fn new(source: (&str, u16), destination: (&str, u16)) -> Self {
        let parse = |(address, port): (&str, u16)| (address.parse().expect("an IPv4 address"), port);
        Self { source: parse(source), destination: parse(destination) }
    }
}

/// A TCP segment with valid checksums.
#[must_use]
pub fn tcp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let builder = ip(ends, 64).tcp(ends.source.1, ends.destination.1, 0x0102_0304, 0x7210);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).expect("a packet in memory");
    packet
}

/// A UDP datagram with valid checksums.
#[must_use]
pub fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(ends, 64).udp(ends.source.1, ends.destination.1).write(&mut packet, payload).expect("a packet in memory");
    packet
}

/// An ICMP echo request with the source's port as its identifier.
#[must_use]
pub fn echo_request(ends: Ends, payload: &[u8]) -> Vec<u8> {
    icmp(ends, Icmpv4Type::EchoRequest(IcmpEchoHeader { id: ends.source.1, seq: 9 }), payload)
}

/// An ICMP echo reply with the destination's port as its identifier.
#[must_use]
pub fn echo_reply(ends: Ends, payload: &[u8]) -> Vec<u8> {
    icmp(ends, Icmpv4Type::EchoReply(IcmpEchoHeader { id: ends.destination.1, seq: 9 }), payload)
}

/// Any ICMP message.
#[must_use]
pub fn icmp(ends: Ends, message: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(ends, 64).icmpv4(message).write(&mut packet, payload).expect("a packet in memory");
    packet
}

/// A packet of a protocol that has no ports.
#[must_use]
pub fn other(ends: Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(ends, 64).write(&mut packet, IpNumber(protocol), payload).expect("a packet in memory");
    packet
}

/// The packet with its IPv4 header changed, and that header's checksum made right again.
///
/// # Panics
/// If it is no IPv4 packet.
#[must_use]
pub fn with_header(packet: &[u8], change: impl FnOnce(&mut etherparse::Ipv4Header)) -> Vec<u8> {
    let (mut header, rest) = etherparse::Ipv4Header::from_slice(packet).expect("an IPv4 header");
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), rest].concat()
}

/// What the packet should look like after translation: new addresses, one hop less, all checksums computed
/// anew. A UDP checksum of zero stays.
///
/// # Panics
/// If the packet does not parse.
#[must_use]
pub fn translated(packet: &[u8], source: &str, destination: &str) -> Vec<u8> {
    let headers = PacketHeaders::from_ip_slice(packet).expect("a whole packet");
    let Some(NetHeaders::Ipv4(mut ip, extensions)) = headers.net else { panic!("an IPv4 packet") };
    ip.source = source.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
    ip.destination = destination.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
    ip.time_to_live -= 1;
    ip.header_checksum = ip.calc_header_checksum();
    let payload = headers.payload.slice();
    let mut out = Vec::new();
    IpHeaders::Ipv4(ip.clone(), extensions).write(&mut out).expect("a packet in memory");
    match headers.transport.expect("a transport header") {
        TransportHeader::Tcp(mut tcp) => {
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).expect("a checksum");
            tcp.write(&mut out).expect("a packet in memory");
        }
        TransportHeader::Udp(mut udp) => {
            if udp.checksum != 0 {
                udp.checksum = udp.calc_checksum_ipv4(&ip, payload).expect("a checksum");
            }
            udp.write(&mut out).expect("a packet in memory");
        }
        TransportHeader::Icmpv4(icmp) => icmp.write(&mut out).expect("a packet in memory"),
        TransportHeader::Icmpv6(_) | TransportHeader::Igmp(_) => panic!("not a packet of these tests"),
    }
    out.extend_from_slice(payload);
    out
}

fn ip(ends: Ends, ttl: u8) -> etherparse::PacketBuilderStep<IpHeaders> {
    PacketBuilder::ipv4(ends.source.0.octets(), ends.destination.0.octets(), ttl)
}
