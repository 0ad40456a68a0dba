//! New addresses, with every checksum that covers them kept right.

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use vpn_ebpf_common::{Address, Verdict, checksum::Difference, protocol};

use crate::{
    frame::Frame,
    header::{Addressed as _, half, set_half},
    packet::{Packet, Part},
};

/// Where the checksum stands in an IPv4 header.
const IPV4_CHECK: usize = offset_of!(Ipv4Hdr, check);
/// Where the checksum stands in a transport header.
pub const TCP_CHECK: usize = 16;
/// See [`TCP_CHECK`].
pub const UDP_CHECK: usize = 6;
/// See [`TCP_CHECK`].
pub const ICMP_CHECK: usize = 2;

/// Replaces both addresses of a packet and takes one hop off its time to live.
#[inline(always)]
pub fn packet(frame: &mut Frame, packet: &Packet, source: &Address, destination: &Address) -> Result<(), Verdict> {
    let addresses = difference(packet, source, destination);
    // First, because it may fail, and then nothing was written.
    if packet.part != Part::Later {
        match packet.protocol {
            protocol::TCP => frame.update_checksum(packet.transport + TCP_CHECK, addresses, false)?,
            protocol::UDP => frame.update_checksum(packet.transport + UDP_CHECK, addresses, true)?,
            protocol::ICMPV6 => frame.update_checksum(packet.transport + ICMP_CHECK, addresses, false)?,
            // ICMP for IPv4 has no pseudo-header.
            _ => {}
        }
    }
    header(frame, packet, source, destination)
}

/// What the new addresses do to every checksum over them.
#[inline(always)]
pub const fn difference(packet: &Packet, source: &Address, destination: &Address) -> Difference {
    Difference::none().address(packet.family, &packet.source, source).address(
        packet.family,
        &packet.destination,
        destination,
    )
}

/// The IP header alone. Nothing here can fail for a parsed packet; the bounds are checked again because the verifier
/// forgot them.
#[inline(always)]
pub fn header(frame: &mut Frame, packet: &Packet, source: &Address, destination: &Address) -> Result<(), Verdict> {
    if packet.family == 0 {
        let ip = frame.header_mut::<Ipv4Hdr>(0)?;
        let ttl = ip.ttl - 1;
        let check = difference(packet, source, destination)
            .half(u16::from_ne_bytes([ip.ttl, ip.proto]), u16::from_ne_bytes([ttl, ip.proto]))
            .apply(half::<IPV4_CHECK, _>(ip));
        ip.ttl = ttl;
        set_half::<IPV4_CHECK, _>(ip, check);
        ip.set_addresses(source, destination);
    } else {
        let ip = frame.header_mut::<Ipv6Hdr>(0)?;
        ip.hop_limit -= 1;
        ip.set_addresses(source, destination);
    }
    Ok(())
}
