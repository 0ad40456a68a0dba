//! What is changed in a packet that goes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vpn_ebpf_common::{
    protocol::{ICMP, ICMPV6, TCP, UDP},
    tcp::SYN,
};

use super::{
    checksum,
    error::Quote,
    parse::{Parsed, number},
};

/// Most TCP options that are looked at.
const OPTIONS: usize = 10;

/// Source and destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub source: IpAddr,
    pub destination: IpAddr,
}

/// The packet with other addresses and one hop less. `largest` is the largest packet that fits all the way.
pub(super) fn translated(packet: &[u8], parsed: &Parsed, addresses: Addresses, largest: u32) -> Vec<u8> {
    let header = Header::of(parsed);
    let mut out = packet.to_vec();
    addresses.write(&mut out, &header);
    header.take_a_hop(&mut out);
    header.renew(packet, &mut out);
    if !parsed.is_later_fragment() {
        if parsed.tcp_flags & SYN != 0 {
            let headers = if header.is_v4 { 40 } else { 60 };
            lower_mss(&mut out[header.transport..], largest.saturating_sub(headers));
        }
        header.renew_transport(packet, &mut out);
    }
    out
}

/// An ICMP error with other addresses, one hop less, and other addresses in what it quotes.
pub(super) fn translated_error(
    packet: &[u8],
    parsed: &Parsed,
    addresses: Addresses,
    quote: &Quote,
    quoted: Addresses,
) -> Vec<u8> {
    let (outer, inner) = (Header::of(parsed), &quote.header);
    let mut out = packet.to_vec();
    quoted.write(&mut out, inner);
    inner.renew(packet, &mut out);
    inner.renew_transport(packet, &mut out);
    addresses.write(&mut out, &outer);
    outer.take_a_hop(&mut out);
    outer.renew(packet, &mut out);
    // All that the quote has become is in here.
    outer.renew_transport_of(packet, &mut out, 2);
    out
}

/// An IP header in a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub is_v4: bool,
    /// Where it is.
    pub at: usize,
    /// Where its transport header is.
    pub transport: usize,
    pub protocol: u8,
}

impl Header {
    fn of(parsed: &Parsed) -> Self {
        Self { is_v4: parsed.source.is_ipv4(), at: 0, transport: parsed.transport, protocol: parsed.protocol }
    }

    pub fn source(&self, packet: &[u8]) -> IpAddr {
        self.address(packet, if self.is_v4 { 12 } else { 8 })
    }

    pub fn destination(&self, packet: &[u8]) -> IpAddr {
        self.address(packet, if self.is_v4 { 16 } else { 24 })
    }

    fn address(&self, packet: &[u8], at: usize) -> IpAddr {
        let bytes = &packet[self.at + at..];
        if self.is_v4 {
            Ipv4Addr::from(*bytes.first_chunk::<4>().expect("a whole header")).into()
        } else {
            Ipv6Addr::from(*bytes.first_chunk::<16>().expect("a whole header")).into()
        }
    }

    fn take_a_hop(&self, packet: &mut [u8]) {
        packet[self.at + if self.is_v4 { 8 } else { 7 }] -= 1;
    }

    /// Renews the checksum of the header itself, which `before` has become `after`.
    fn renew(&self, before: &[u8], after: &mut [u8]) {
        if self.is_v4 {
            renew(before, after, self.at + 10, |packet| packet[self.at..self.at + 20].to_vec());
        }
    }

    /// Renews the checksum of the transport header, where there is one that covers the addresses.
    fn renew_transport(&self, before: &[u8], after: &mut [u8]) {
        match self.protocol {
            TCP => self.renew_transport_of(before, after, 16),
            UDP => {
                let at = self.transport + 6;
                // Zero: none was computed.
                if after.len() >= at + 2 && number(before, at) != 0 {
                    self.renew_transport_of(before, after, 6);
                    if number(after, at) == 0 {
                        after[at..at + 2].fill(0xff);
                    }
                }
            }
            ICMPV6 => self.renew_transport_of(before, after, 2),
            _ => {}
        }
    }

    /// Renews the transport checksum that is `at` bytes behind the start of the transport header, if it is in the packet.
    fn renew_transport_of(&self, before: &[u8], after: &mut [u8], at: usize) {
        if after.len() < self.transport + at + 2 {
            return;
        }
        renew(before, after, self.transport + at, |packet| {
            let transport = &packet[self.transport..];
            let mut covered = Vec::new();
            if self.protocol != ICMP {
                let (source, destination) = (self.source(packet), self.destination(packet));
                covered = checksum::pseudo_header(source, destination, self.protocol, transport.len());
            }
            covered.extend(transport);
            covered
        });
    }
}

impl Addresses {
    fn write(&self, packet: &mut [u8], header: &Header) {
        let packet = &mut packet[header.at..];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) if header.is_v4 => {
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) if !header.is_v4 => {
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&destination.octets());
            }
            _ => panic!("a packet keeps its family"),
        }
    }
}

/// Makes the checksum at `at` fit `after`: anew where it was right in `before`, else so that it is as wrong as it was.
fn renew(before: &[u8], after: &mut [u8], at: usize, covered: impl Fn(&[u8]) -> Vec<u8>) {
    let is_right = checksum::is_right(&covered(before));
    let mut blank = before.to_vec();
    blank[at..at + 2].fill(0);
    after[at..at + 2].fill(0);
    let updated = checksum::updated(number(before, at), &covered(&blank), &covered(after));
    let check = if is_right { checksum::of(&covered(after)) } else { updated };
    assert_eq!(check, updated, "both ways lead to the same checksum");
    after[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// Lowers the maximum segment size that a TCP header announces (RFC 9293, 3.7.1).
fn lower_mss(tcp: &mut [u8], largest: u32) {
    let end = tcp.len().min(4 * usize::from(tcp[12] >> 4));
    let mut at = 20;
    for _ in 0..OPTIONS {
        match tcp.get(at..end).unwrap_or_default() {
            [1, ..] => at += 1,
            [2, 4, high, low, ..] => {
                if u32::from(u16::from_be_bytes([*high, *low])) > largest {
                    tcp[at + 2..at + 4].copy_from_slice(&(largest as u16).to_be_bytes());
                }
                return;
            }
            // An option whose end is not in the header ends the walk, as the end of all options does.
            [2..=255, length @ 2..=255, ..] if at + usize::from(*length) <= end => at += usize::from(*length),
            _ => return,
        }
    }
}
