//! Neighbour discovery on Ethernet uplinks, which is between the host's own network stack and the plant's devices.

use network_types::{icmp::Icmpv4Hdr, ip::Ipv6Hdr};
use vpn_ebpf_common::protocol;

use crate::frame::Frame;

/// EtherType of ARP.
const ARP: u16 = 0x0806;

/// The hop limit of neighbour discovery: no router lets such a packet through (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;

/// ICMPv6 neighbour solicitation and advertisement.
const TYPES: [u8; 2] = [135, 136];

/// Whether a packet is ARP, or neighbour solicitation or advertisement.
#[inline(always)]
pub fn is_discovery(frame: &Frame) -> bool {
    if frame.ether_type() == ARP {
        return true;
    }
    let Ok(ip) = frame.header::<Ipv6Hdr>(0) else { return false };
    if ip.vcf[0] >> 4 != 6 || ip.next_hdr != protocol::ICMPV6 || ip.hop_limit != HOP_LIMIT {
        return false;
    }
    frame.header::<Icmpv4Hdr>(Ipv6Hdr::LEN).is_ok_and(|icmp| icmp.type_ == TYPES[0] || icmp.type_ == TYPES[1])
}
