//! Which way packets take between a site router and the gateways, counted on the wire in front of the router.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use anyhow::Result;

use crate::{capture::Capture, namespace::Namespace};

/// IANA number of UDP.
const UDP: u8 = 17;
/// Bytes of an IPv4 header without options, and of a UDP header.
const HEADERS: usize = 28;
/// First byte of a WireGuard message that carries a packet.
const DATA: u8 = 4;
/// Bytes of such a message without a packet in it, which keeps a path open.
const KEEPALIVE: usize = 32;

/// A direction between a site router and one of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the peer with this address.
    From(Ipv4Addr),
    /// To it.
    To(Ipv4Addr),
}

/// Counts packets in WireGuard's messages by peer and direction.
#[derive(Debug)]
pub struct Ways(Capture<Way>);

impl Ways {
    /// Starts to count on a router with this address towards its peers.
    ///
    /// # Errors
    /// Without root.
    pub fn watch(router: &Namespace, own: Ipv4Addr) -> Result<Self> {
        Ok(Self(Capture::start(router, move |_: Instant, packet: &[u8]| way(packet, own))?))
    }

    /// How many packets there were.
    ///
    /// # Errors
    /// If some could not be looked at.
    pub fn finish(self) -> Result<BTreeMap<Way, u64>> {
        let mut counts = BTreeMap::new();
        for way in self.0.finish()? {
            *counts.entry(way).or_default() += 1;
        }
        Ok(counts)
    }
}

/// The way of a message with a packet in it; none for anything else.
fn way(packet: &[u8], own: Ipv4Addr) -> Option<Way> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let (source, destination) = (address(12)?, address(16)?);
    let is_message = packet[0] == 0x45 && packet[9] == UDP && packet.get(HEADERS) == Some(&DATA);
    if !is_message || packet.len() <= HEADERS + KEEPALIVE {
        return None;
    }
    match (source == own, destination == own) {
        (true, false) => Some(Way::To(destination)),
        (false, true) => Some(Way::From(source)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 11, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 21, 2);

    fn message(source: Ipv4Addr, destination: Ipv4Addr, kind: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![0; HEADERS + length];
        packet[0] = 0x45;
        packet[9] = UDP;
        packet[12..16].copy_from_slice(&source.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        packet[HEADERS] = kind;
        packet
    }

    #[test]
    fn only_messages_with_a_packet_count() {
        assert_eq!(way(&message(PEER, OWN, DATA, 64), OWN), Some(Way::From(PEER)));
        assert_eq!(way(&message(OWN, PEER, DATA, 64), OWN), Some(Way::To(PEER)));
        assert_eq!(way(&message(PEER, OWN, DATA, KEEPALIVE), OWN), None, "a keepalive");
        assert_eq!(way(&message(PEER, OWN, 1, 148), OWN), None, "a handshake");
        assert_eq!(way(&message(PEER, PEER, DATA, 64), OWN), None, "between others");
        assert_eq!(way(&[0x45; 12], OWN), None);
        assert_eq!(way(&[], OWN), None);
    }
}
