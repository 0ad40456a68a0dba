//! What a packet is made from.

use std::net::IpAddr;

use vpn_ebpf_common::protocol::{ICMP, ICMPV6, IPV6_FRAGMENT, TCP, UDP};

use crate::model::checksum;

/// Everything about a packet that is all right.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hops: u8,
    /// Has an IPv6 fragment header although it is whole.
    pub atomic: Option<u32>,
    pub transport: Transport,
    pub payload: Vec<u8>,
}

/// Its transport header.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Tcp { source: u16, destination: u16, flags: u8, options: Vec<u8> },
    Udp { source: u16, destination: u16, has_checksum: bool },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(u8),
}

impl Transport {
    fn protocol(&self, is_v4: bool) -> u8 {
        match self {
            Self::Tcp { .. } => TCP,
            Self::Udp { .. } => UDP,
            Self::Icmp { .. } if is_v4 => ICMP,
            Self::Icmp { .. } => ICMPV6,
            Self::Other(protocol) => *protocol,
        }
    }
}

impl Blueprint {
    /// The packet.
    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [high, low] = (20 + segment.len() as u16).to_be_bytes();
                let protocol = self.transport.protocol(true);
                let mut packet = vec![0x45, 0, high, low, 0x5a, 0xa5, 0x40, 0, self.hops, protocol, 0, 0];
                packet.extend(source.octets());
                packet.extend(destination.octets());
                let check = checksum::of(&packet);
                packet[10..12].copy_from_slice(&check.to_be_bytes());
                packet.extend(segment);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let protocol = self.transport.protocol(false);
                let (next, extension) = match self.atomic {
                    None => (protocol, Vec::new()),
                    Some(identification) => {
                        let mut header = vec![protocol, 0, 0, 0];
                        header.extend(identification.to_be_bytes());
                        (IPV6_FRAGMENT, header)
                    }
                };
                let [high, low] = ((extension.len() + segment.len()) as u16).to_be_bytes();
                let mut packet = vec![0x60, 0, 0, 0, high, low, next, self.hops];
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(extension);
                packet.extend(segment);
                packet
            }
            _ => panic!("a packet is of one family"),
        }
    }

    /// All behind the IP header.
    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        match &self.transport {
            Transport::Tcp { source, destination, flags, options } => {
                segment.extend(source.to_be_bytes());
                segment.extend(destination.to_be_bytes());
                segment.extend([0x11; 8]);
                segment.extend([(5 + options.len() as u8 / 4) << 4, *flags, 0x20, 0, 0, 0, 0, 0]);
                segment.extend(options);
            }
            Transport::Udp { source, destination, .. } => {
                segment.extend(source.to_be_bytes());
                segment.extend(destination.to_be_bytes());
                segment.extend((8 + self.payload.len() as u16).to_be_bytes());
                segment.extend([0, 0]);
            }
            Transport::Icmp { kind, code, rest } => {
                segment.extend([*kind, *code, 0, 0]);
                segment.extend(rest);
            }
            Transport::Other(_) => {}
        }
        segment.extend(&self.payload);
        let at = match self.transport {
            Transport::Tcp { .. } => 16,
            Transport::Udp { has_checksum: true, .. } => 6,
            Transport::Icmp { .. } => 2,
            Transport::Udp { .. } | Transport::Other(_) => return segment,
        };
        let protocol = self.transport.protocol(self.source.is_ipv4());
        let mut covered = Vec::new();
        if protocol != ICMP {
            covered = checksum::pseudo_header(self.source, self.destination, protocol, segment.len());
        }
        covered.extend(&segment);
        let check = match checksum::of(&covered) {
            0 if protocol == UDP => 0xffff,
            check => check,
        };
        segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
        segment
    }

    /// What a packet was made from, as far as it matters; none if it is not one that is all right.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, start): (IpAddr, IpAddr, _, _) = match packet.first()? {
            0x45 if packet.len() >= 20 => {
                let address = |at: usize| packet[at..].first_chunk::<4>();
                ((*address(12)?).into(), (*address(16)?).into(), packet[9], 20)
            }
            0x60..=0x6f if packet.len() >= 40 => {
                let address = |at: usize| packet[at..].first_chunk::<16>();
                let (source, destination) = ((*address(8)?).into(), (*address(24)?).into());
                match packet[6] {
                    IPV6_FRAGMENT => (source, destination, *packet.get(40)?, 48),
                    next => (source, destination, next, 40),
                }
            }
            _ => return None,
        };
        let segment = packet.get(start..)?;
        let half = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
        let (transport, header) = match protocol {
            TCP => {
                let flags = *segment.get(13)?;
                (Transport::Tcp { source: half(0)?, destination: half(2)?, flags, options: Vec::new() }, 20)
            }
            UDP => (Transport::Udp { source: half(0)?, destination: half(2)?, has_checksum: half(6)? != 0 }, 8),
            ICMP | ICMPV6 => {
                let rest = *segment.get(4..)?.first_chunk::<4>()?;
                (Transport::Icmp { kind: segment[0], code: segment[1], rest }, 8)
            }
            protocol => (Transport::Other(protocol), 0),
        };
        let payload = segment.get(header..)?.to_vec();
        Some(Self { source, destination, hops: 64, atomic: None, transport, payload })
    }

    /// Whether it quotes another packet itself.
    pub fn is_icmp_error(&self) -> bool {
        matches!(self.transport, Transport::Icmp { kind: 1..=7 | 9..=127, .. })
    }

    /// A packet back to where this one came from.
    pub fn reversed(&self) -> Self {
        let transport = match self.transport.clone() {
            Transport::Tcp { source, destination, flags, options } => {
                Transport::Tcp { source: destination, destination: source, flags, options }
            }
            Transport::Udp { source, destination, has_checksum } => {
                Transport::Udp { source: destination, destination: source, has_checksum }
            }
            Transport::Icmp { kind, code, rest } => {
                // Echo requests become replies and the other way round.
                let kind = match kind {
                    0 => 8,
                    8 => 0,
                    128 => 129,
                    129 => 128,
                    kind => kind,
                };
                Transport::Icmp { kind, code, rest }
            }
            Transport::Other(protocol) => Transport::Other(protocol),
        };
        Self { source: self.destination, destination: self.source, transport, ..self.clone() }
    }
}
