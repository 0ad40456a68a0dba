//! From headers to values.

use network_types::{icmp::Icmpv4Hdr, ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};
use vpn_ebpf_common::{Address, Verdict, protocol};

use crate::frame::Frame;

/// Offset of the transport header: IPv4 options are refused.
pub const TRANSPORT: usize = Ipv4Hdr::LEN;

/// Version 4, header length 5 words: the first byte of an IPv4 header without options.
const PLAIN_IPV4: u8 = 0x45;

/// Fragment offset and the more-fragments flag, in network byte order (RFC 791).
const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();

/// ICMP echo reply (RFC 792).
const ECHO_REPLY: u8 = 0;
/// ICMP echo request.
const ECHO_REQUEST: u8 = 8;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToPlant,
    ToUser,
}

/// What the programs need to know of a packet. Ports in network byte order.
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    /// For ICMP echo the identifier if the user sent it, else zero.
    pub source_port: u16,
    /// For ICMP echo the identifier if the plant sent it, else zero.
    pub destination_port: u16,
    pub protocol: u8,
    pub ttl: u8,
    /// Bytes of IP packet.
    pub length: u32,
}

impl Packet {
    /// Reads the headers and refuses what cannot be translated.
    #[inline(always)]
    pub fn parse(frame: &Frame, direction: Direction) -> Result<Self, Verdict> {
        let ip = frame.header::<Ipv4Hdr>(0)?;
        if ip.vihl != PLAIN_IPV4 {
            return Err(if ip.version() == 4 { Verdict::IpOptions } else { Verdict::NotIpv4 });
        }
        // Bytes beyond the packet's own length would reach the other side without being counted.
        let length = u32::from(u16::from_be_bytes(ip.tot_len));
        if u64::from(length) != frame.len() {
            return Err(Verdict::Length);
        }
        if u16::from_ne_bytes(ip.frags) & FRAGMENT_MASK != 0 {
            return Err(Verdict::Fragment);
        }
        let (source_port, destination_port) = match ip.proto {
            protocol::TCP => {
                let tcp = frame.header::<TcpHdr>(TRANSPORT)?;
                (u16::from_ne_bytes(tcp.source), u16::from_ne_bytes(tcp.dest))
            }
            protocol::UDP => {
                let udp = frame.header::<UdpHdr>(TRANSPORT)?;
                (u16::from_ne_bytes(udp.src), u16::from_ne_bytes(udp.dst))
            }
            protocol::ICMP => {
                let icmp = frame.header::<Icmpv4Hdr>(TRANSPORT)?;
                let identifier = u16::from_ne_bytes([icmp.data[0], icmp.data[1]]);
                match (direction, icmp.type_, icmp.code) {
                    (Direction::ToPlant, ECHO_REQUEST, 0) => (identifier, 0),
                    (Direction::ToUser, ECHO_REPLY, 0) => (0, identifier),
                    _ => return Err(Verdict::IcmpType),
                }
            }
            _ => return Err(Verdict::Protocol),
        };
        Ok(Self {
            source: Address::from_v4_word(u32::from_ne_bytes(ip.src_addr)),
            destination: Address::from_v4_word(u32::from_ne_bytes(ip.dst_addr)),
            source_port,
            destination_port,
            protocol: ip.proto,
            ttl: ip.ttl,
            length,
        })
    }

    /// Refuses what the egress interface would drop without a word, and what has travelled too far.
    #[inline(always)]
    pub fn check_egress(&self, mtu: u32) -> Result<(), Verdict> {
        if self.ttl <= 1 {
            return Err(Verdict::TtlExpired);
        }
        if self.length > mtu {
            return Err(Verdict::TooBig);
        }
        Ok(())
    }
}
