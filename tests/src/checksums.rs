//! Whether the checksums of a packet are right: computed in full, by a library that shares no code with the programs.

use etherparse::checksum::Sum16BitWords;
use vpn_ebpf_common::protocol::{ICMP, ICMPV6, IPV6_FRAGMENT, TCP, UDP};

/// The checksums of a packet, each if there is one that can be checked: whether it is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Of the IPv4 header.
    pub header: Option<bool>,
    /// Of TCP, UDP or ICMP, unless the packet is a fragment.
    pub transport: Option<bool>,
    /// Of the IPv4 header in an ICMP error.
    pub quoted_header: Option<bool>,
    /// Of TCP, UDP or ICMP in an ICMP error that quotes a whole packet.
    pub quoted_transport: Option<bool>,
}

impl Checksums {
    /// Those of a packet, from the first byte of its IP header.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        let Some(ip) = Ip::of(packet) else {
            return Self::default();
        };
        // What is behind it in a frame is not its own.
        let packet = packet.get(..ip.length).unwrap_or(packet);
        let Some(ip) = Ip::of(packet) else {
            return Self::default();
        };
        let quoted = ip.quoted(packet);
        let inner = quoted.and_then(Ip::of);
        Self {
            header: ip.header(packet),
            transport: ip.transport(packet),
            quoted_header: inner.and_then(|inner| inner.header(quoted?)),
            quoted_transport: inner.and_then(|inner| inner.transport(quoted?)),
        }
    }

    /// Whether all that was right before still is.
    #[must_use]
    pub fn kept(self, after: Self) -> bool {
        let pairs = [
            (self.header, after.header),
            (self.transport, after.transport),
            (self.quoted_header, after.quoted_header),
            (self.quoted_transport, after.quoted_transport),
        ];
        pairs.iter().all(|(before, after)| *before != Some(true) || *after == Some(true))
    }
}

/// What of an IP header the checksums need.
#[derive(Clone, Copy, Debug)]
struct Ip {
    is_v4: bool,
    protocol: u8,
    /// Where the transport header is.
    transport: usize,
    /// Length of the packet, as it says.
    length: usize,
    is_fragment: bool,
}

impl Ip {
    fn of(packet: &[u8]) -> Option<Self> {
        let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        match packet.first()? {
            0x45 if packet.len() >= 20 => Some(Self {
                is_v4: true,
                protocol: packet[9],
                transport: 20,
                length: half(2).into(),
                is_fragment: half(6) & 0x3fff != 0,
            }),
            0x60..=0x6f if packet.len() >= 40 => {
                let ip = Self {
                    is_v4: false,
                    protocol: packet[6],
                    transport: 40,
                    length: 40 + usize::from(half(4)),
                    is_fragment: false,
                };
                let has_fragment_header = packet[6] == IPV6_FRAGMENT && packet.len() >= 48;
                Some(if has_fragment_header {
                    Self { protocol: packet[40], transport: 48, is_fragment: half(42) & !6 != 0, ..ip }
                } else {
                    ip
                })
            }
            _ => None,
        }
    }

    fn header(&self, packet: &[u8]) -> Option<bool> {
        self.is_v4.then(|| Sum16BitWords::new().add_slice(&packet[..20]).ones_complement() == 0)
    }

    fn transport(&self, packet: &[u8]) -> Option<bool> {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            ICMP if self.is_v4 => 2,
            ICMPV6 if !self.is_v4 => 2,
            _ => return None,
        };
        let segment = &packet[self.transport..];
        let check = segment.get(at..at + 2)?;
        if self.is_fragment || self.length != packet.len() || self.protocol == UDP && check == [0, 0] {
            return None;
        }
        let mut sum = Sum16BitWords::new();
        if self.protocol != ICMP {
            let addresses = if self.is_v4 { 12..20 } else { 8..40 };
            let [high, low] = (segment.len() as u16).to_be_bytes();
            sum = sum.add_slice(&packet[addresses]).add_2bytes([high, low]).add_2bytes([0, self.protocol]);
        }
        Some(sum.add_slice(segment).ones_complement() == 0)
    }

    /// What an ICMP error quotes.
    fn quoted<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let icmp = &packet[self.transport..];
        let is_error = match self.protocol {
            ICMP if self.is_v4 => matches!(icmp.first()?, 3 | 11 | 12),
            ICMPV6 if !self.is_v4 => icmp.first()? & 0x80 == 0,
            _ => false,
        };
        icmp.get(8..).filter(|_| is_error && !self.is_fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Ends, icmp, udp};

    fn ends() -> [Ends; 2] {
        [Ends::new(("100.64.0.5", 5_000), ("10.128.1.20", 2_000)), Ends::new(("fd64::5", 5_000), ("fd80::20", 2_000))]
    }

    #[test]
    fn a_changed_byte_shows_where_it_is() {
        for ends in ends() {
            let header = ends.source.0.is_ipv4().then_some(true);
            let mut packet = udp(ends, b"data");
            let right = Checksums { header, transport: Some(true), ..Checksums::default() };
            assert_eq!(Checksums::of(&packet), right);
            *packet.last_mut().unwrap() ^= 1;
            let wrong = Checksums { transport: Some(false), ..right };
            assert_eq!(Checksums::of(&packet), wrong);
            assert!(!right.kept(wrong) && wrong.kept(right));
        }
    }

    #[test]
    fn a_quote_has_checksums_of_its_own() {
        for ends in ends() {
            let is_v4 = ends.source.0.is_ipv4();
            let (kind, header) = if is_v4 { (3, Some(true)) } else { (1, None) };
            let quoted = udp(ends, b"data");
            let back = Ends { source: ends.destination, destination: ends.source };
            let right =
                Checksums { header, transport: Some(true), quoted_header: header, quoted_transport: Some(true) };
            assert_eq!(Checksums::of(&icmp(back, kind, 3, [0; 4], &quoted)), right);
            let cut = &quoted[..quoted.len() - 1];
            let cut = Checksums::of(&icmp(back, kind, 3, [0; 4], cut));
            assert_eq!(cut, Checksums { quoted_transport: None, ..right });
        }
    }
}
