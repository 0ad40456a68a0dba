//! From headers to values, for both address families.

use core::mem::offset_of;

use network_types::{
    icmp::Icmpv4Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};
use vpn_ebpf_common::{Address, Verdict, flow::Traffic, protocol};

use crate::{
    frame::Frame,
    header::{Addressed as _, half, word},
};

/// Version 4, header length 5 words: the first byte of an IPv4 header without options.
pub const PLAIN_IPV4: u8 = 0x45;

/// The more-fragments flag and the offset of a fragment, in an IPv4 header (RFC 791, 3.1).
const V4_FRAGMENT: u16 = 0x3fff;
/// The offset alone.
pub const V4_OFFSET: u16 = 0x1fff;
/// The offset in an IPv6 fragment header, in its own units of 8 bytes (RFC 8200, 4.5).
const V6_OFFSET: u16 = 0xfff8;
/// The more-fragments flag there.
const V6_MORE: u16 = 1;

/// Extension headers of IPv6 that are not translated: hop-by-hop options, routing, another fragment header,
/// authentication, destination options, mobility, host identity, shim6 (RFC 7045, 3).
const EXTENSIONS: [u8; 8] = [0, 43, protocol::IPV6_FRAGMENT, 51, 60, 135, 139, 140];

/// Types of ICMP messages, by family.
pub const ECHO_REQUEST: [u8; 2] = [8, 128];
/// See [`ECHO_REQUEST`].
pub const ECHO_REPLY: [u8; 2] = [0, 129];

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToPlant,
    ToUser,
}

/// What a packet is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A whole packet.
    Whole,
    /// The first fragment of one, which has the ports.
    First,
    /// A later fragment, which has not.
    Later,
}

/// What the programs need to know of a packet. Ports in network byte order.
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    /// The user as the other side knows it: where plants see the sender, or the tunnel address of the recipient.
    pub user_beyond: Address,
    /// What it counts as.
    pub traffic: Traffic,
    /// Bytes of its largest segment, as IP packet; its own unless it was coalesced.
    pub largest: u32,
    /// Identification of a fragmented packet, network byte order.
    pub identification: u32,
    /// Offset of the transport header.
    pub transport: usize,
    /// 0 for IPv4, 1 for IPv6.
    pub family: usize,
    /// Both ports as they lie in a header, the source's first: a processor that reads a word must wait for halves that were
    /// stored one by one. See [`Packet::source_port`].
    ports: u32,
    pub protocol: u8,
    pub ttl: u8,
    /// For TCP, else zero.
    pub tcp_flags: u8,
    pub part: Part,
    /// Whether it is an ICMP error, which quotes the packet that it is about.
    pub is_error: bool,
}

impl Packet {
    /// Forgets what was read, as far as [`Packet::read`] does not always set it.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.traffic.packets = 1;
        self.identification = 0;
        self.family = 0;
        self.ports = 0;
        self.tcp_flags = 0;
        self.part = Part::Whole;
        self.is_error = false;
    }

    /// Reads the headers and refuses what cannot be translated. In place: the stack has no room for a packet.
    #[inline(always)]
    pub fn read(&mut self, frame: &mut Frame, direction: Direction) -> Result<(), Verdict> {
        self.measure(frame);
        // Both families have more than this; for a single byte the verifier does not follow the comparison.
        let [first, ..] = *frame.header::<[u8; Ipv4Hdr::LEN]>(0)?;
        match first >> 4 {
            4 => self.read_v4(frame)?,
            6 => self.read_v6(frame)?,
            _ => return Err(Verdict::NotIp),
        }
        if self.part == Part::Later {
            return Ok(());
        }
        match self.protocol {
            protocol::TCP => self.read_tcp(frame),
            protocol::UDP => {
                let udp = frame.header::<UdpHdr>(self.transport)?;
                self.ports = word::<0, _>(udp);
                Ok(())
            }
            _ => self.read_icmp(frame, direction),
        }
    }

    #[inline(always)]
    fn measure(&mut self, frame: &Frame) {
        self.traffic.bytes = u64::from(frame.len());
        self.largest = frame.len();
    }

    /// Has the packet end where its header says. What is behind it would reach the other side without being counted.
    #[inline(always)]
    fn end_at(&mut self, frame: &mut Frame, length: u32, header: usize) -> Result<(), Verdict> {
        if length == frame.len() {
            return Ok(());
        }
        if length < header as u32 || length > frame.len() || !frame.may_be_padded() {
            return Err(Verdict::Length);
        }
        frame.resize(length)?;
        self.measure(frame);
        Ok(())
    }

    #[inline(always)]
    fn read_v4(&mut self, frame: &mut Frame) -> Result<(), Verdict> {
        let ip = frame.header::<Ipv4Hdr>(0)?;
        if ip.vihl != PLAIN_IPV4 {
            return Err(Verdict::IpOptions);
        }
        self.end_at(frame, u32::from(u16::from_be(half::<{ offset_of!(Ipv4Hdr, tot_len) }, _>(ip))), Ipv4Hdr::LEN)?;
        let ip = frame.header::<Ipv4Hdr>(0)?;
        if !matches!(ip.proto, protocol::ICMP | protocol::TCP | protocol::UDP) {
            return Err(Verdict::Protocol);
        }
        self.source = ip.source();
        self.destination = ip.destination();
        self.identification = u32::from(half::<{ offset_of!(Ipv4Hdr, id) }, _>(ip));
        self.transport = Ipv4Hdr::LEN;
        self.protocol = ip.proto;
        self.ttl = ip.ttl;
        let fragment = u16::from_be(half::<{ offset_of!(Ipv4Hdr, frags) }, _>(ip));
        self.part = match (fragment & V4_OFFSET, fragment & V4_FRAGMENT) {
            (_, 0) => Part::Whole,
            (0, _) => Part::First,
            _ => Part::Later,
        };
        Ok(())
    }

    #[inline(always)]
    fn read_v6(&mut self, frame: &mut Frame) -> Result<(), Verdict> {
        let ip = frame.header::<Ipv6Hdr>(0)?;
        let length = Ipv6Hdr::LEN as u32 + u32::from(u16::from_be(half::<{ offset_of!(Ipv6Hdr, payload_len) }, _>(ip)));
        self.end_at(frame, length, Ipv6Hdr::LEN)?;
        let ip = frame.header::<Ipv6Hdr>(0)?;
        self.family = 1;
        self.source = ip.source();
        self.destination = ip.destination();
        // On the wire a mapped address is nobody's (RFC 4291, 2.5.5.2); here it would stand for an IPv4 one.
        if self.source.is_v4() || self.destination.is_v4() {
            return Err(Verdict::NotIp);
        }
        self.transport = Ipv6Hdr::LEN;
        self.protocol = ip.next_hdr;
        self.ttl = ip.hop_limit;
        if self.protocol == protocol::IPV6_FRAGMENT {
            // Next header, reserved, offset and flag, identification.
            let [next, _, a, b, identification @ ..] = *frame.header::<[u8; 8]>(Ipv6Hdr::LEN)?;
            let fragment = u16::from_be_bytes([a, b]);
            self.transport = Ipv6Hdr::LEN + 8;
            self.protocol = next;
            self.identification = u32::from_ne_bytes(identification);
            self.part = match (fragment & V6_OFFSET, fragment & V6_MORE) {
                (0, 0) => Part::Whole,
                (0, _) => Part::First,
                _ => Part::Later,
            };
        }
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => Ok(()),
            other if EXTENSIONS.contains(&other) => Err(Verdict::ExtensionHeader),
            _ => Err(Verdict::Protocol),
        }
    }

    #[inline(always)]
    fn read_tcp(&mut self, frame: &Frame) -> Result<(), Verdict> {
        let tcp = frame.header::<[u8; TcpHdr::LEN]>(self.transport)?;
        self.ports = word::<0, _>(tcp);
        self.tcp_flags = tcp[13];
        // TCP segments of one connection are coalesced; each had these headers.
        let (mut segments, payload) = frame.segments();
        let headers = self.transport as u32 + u32::from(tcp[12] >> 4) * 4;
        // A virtual machine's network card coalesces without saying how many.
        if segments == 0 && payload != 0 {
            segments = frame.len().saturating_sub(headers).div_ceil(payload);
        }
        if segments > 1 {
            self.traffic.packets = u64::from(segments);
            self.traffic.bytes += u64::from((segments - 1) * headers);
            self.largest = headers + payload;
        }
        Ok(())
    }

    #[inline(always)]
    fn read_icmp(&mut self, frame: &Frame, direction: Direction) -> Result<(), Verdict> {
        let icmp = frame.header::<Icmpv4Hdr>(self.transport)?;
        let identifier = u32::from(half::<{ offset_of!(Icmpv4Hdr, data) }, _>(icmp).to_le());
        let is_v4 = self.family == 0;
        let (request, reply) = if is_v4 { (ECHO_REQUEST[0], ECHO_REPLY[0]) } else { (ECHO_REQUEST[1], ECHO_REPLY[1]) };
        match (direction, icmp.type_, icmp.code) {
            (Direction::ToPlant, kind, 0) if kind == request => self.ports = identifier.to_le(),
            (Direction::ToUser, kind, 0) if kind == reply => self.ports = (identifier << 16).to_le(),
            // Destination unreachable, time exceeded, parameter problem (RFC 792); for IPv6 also packet too big (RFC 4443).
            (_, kind, _) if (is_v4 && matches!(kind, 3 | 11 | 12)) || (!is_v4 && matches!(kind, 1..=4)) => {
                if self.part == Part::First {
                    return Err(Verdict::Fragment);
                }
                self.is_error = true;
            }
            _ => return Err(Verdict::IcmpType),
        }
        Ok(())
    }

    /// For ICMP echo the identifier if the user sent it, else zero.
    #[inline(always)]
    pub const fn source_port(&self) -> u16 {
        u16::from_le(u32::from_le(self.ports) as u16)
    }

    /// For ICMP echo the identifier if the plant sent it, else zero.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        u16::from_le((u32::from_le(self.ports) >> 16) as u16)
    }

    /// Refuses what has travelled too far, and what the egress would drop without a word.
    #[inline(always)]
    pub const fn check_egress(&self, mtu: u32) -> Result<(), Verdict> {
        if self.ttl <= 1 {
            return Err(Verdict::TtlExpired);
        }
        if self.largest > mtu {
            return Err(Verdict::TooBig);
        }
        Ok(())
    }
}
