//! UDP packets of 200 bytes.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use vpn_ebpf_common::Address;

/// Bytes of every packet.
pub const LENGTH: usize = 200;

/// Bytes of the headers in front of a payload, by family.
const HEADERS: [usize; 2] = [20 + 8, 40 + 8];

/// A packet with valid checksums and a payload of zeros.
///
/// # Panics
/// If the two addresses are not of one family.
pub fn udp((source, source_port): (Address, u16), (destination, destination_port): (Address, u16)) -> Vec<u8> {
    let mut packet = Vec::with_capacity(LENGTH);
    let (builder, family) = match (source.to_ip(), destination.to_ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (PacketBuilder::ipv4(source.octets(), destination.octets(), 64), 0)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            (PacketBuilder::ipv6(source.octets(), destination.octets(), 64), 1)
        }
        _ => panic!("{source} and {destination} are of two families"),
    };
    let payload = vec![0; LENGTH - HEADERS[family]];
    builder.udp(source_port, destination_port).write(&mut packet, &payload).expect("a packet in memory");
    packet
}
