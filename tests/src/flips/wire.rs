//! What the hosts at both ends have seen of each port of the user's.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use anyhow::Result;
use vpn_ebpf_common::flow::Traffic;

use crate::{capture::Capture, device::UDP_PORT, namespace::Namespace};

use super::load::{LINE_PORT, Protocol};

/// A port of the user's, and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Of which protocol.
    pub protocol: Protocol,
    /// The port.
    pub user: u16,
    /// Whether it is towards the device.
    pub to_device: bool,
}

/// A packet that was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    port: Port,
    bytes: u64,
    is_reset: bool,
}

/// What a host has seen.
#[derive(Debug, Default)]
pub struct Account {
    /// By port and direction.
    pub ports: BTreeMap<Port, Traffic>,
    /// Resets that the device has sent.
    pub resets: u64,
}

/// A host that watches its packets with the device.
#[derive(Debug)]
pub struct Wire(Capture<Seen>);

impl Wire {
    /// Starts to watch what a host exchanges with the servers that [`Load`](super::load::Load) uses.
    ///
    /// # Errors
    /// Without root.
    pub fn watch(host: &Namespace, device: Ipv4Addr) -> Result<Self> {
        Ok(Self(Capture::start(host, move |_: Instant, packet: &[u8]| look(packet, device))?))
    }

    /// Ends.
    ///
    /// # Errors
    /// If packets were missed.
    pub fn finish(self) -> Result<Account> {
        let mut account = Account::default();
        for Seen { port, bytes, is_reset } in self.0.finish()? {
            let traffic = account.ports.entry(port).or_default();
            traffic.packets += 1;
            traffic.bytes += bytes;
            account.resets += u64::from(is_reset && !port.to_device);
        }
        Ok(account)
    }
}

/// What counts of an IPv4 packet without options.
fn look(packet: &[u8], device: Ipv4Addr) -> Option<Seen> {
    if packet.first() != Some(&0x45) {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let protocol = match packet.get(9)? {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let to_device = match (address(12)? == device, address(16)? == device) {
        (false, true) => true,
        (true, false) => false,
        _ => return None,
    };
    let (source, destination) = (word(20)?, word(22)?);
    let (user, own) = if to_device { (source, destination) } else { (destination, source) };
    if ![LINE_PORT, UDP_PORT].contains(&own) {
        return None;
    }
    let is_reset = protocol == Protocol::Tcp && packet.get(33)? & 0x04 != 0;
    Some(Seen { port: Port { protocol, user, to_device }, bytes: u64::from(word(2)?), is_reset })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);
    const USER: Ipv4Addr = Ipv4Addr::new(100, 80, 0, 2);

    fn packet(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), protocol: u8, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[3] = 40;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&source.0.octets());
        packet[16..20].copy_from_slice(&destination.0.octets());
        packet[20..22].copy_from_slice(&source.1.to_be_bytes());
        packet[22..24].copy_from_slice(&destination.1.to_be_bytes());
        packet[33] = flags;
        packet
    }

    #[test]
    fn packets_count_for_the_port_of_the_user() {
        let seen = look(&packet((USER, 40_000), (DEVICE, LINE_PORT), 6, 0x02), DEVICE).unwrap();
        assert_eq!(seen.port, Port { protocol: Protocol::Tcp, user: 40_000, to_device: true });
        assert_eq!((seen.bytes, seen.is_reset), (40, false));
        let seen = look(&packet((DEVICE, LINE_PORT), (USER, 40_000), 6, 0x14), DEVICE).unwrap();
        assert_eq!(seen.port, Port { protocol: Protocol::Tcp, user: 40_000, to_device: false });
        assert!(seen.is_reset);
        let seen = look(&packet((DEVICE, LINE_PORT), (USER, 40_000), 17, 0x14), DEVICE).unwrap();
        assert_eq!(seen.port.protocol, Protocol::Udp);
        assert!(!seen.is_reset);
        for other in [
            packet((USER, 1), (USER, 2), 6, 0),
            packet((USER, 1), (DEVICE, LINE_PORT), 1, 0),
            packet((USER, 1), (DEVICE, 80), 6, 0),
            vec![0x45; 20],
            vec![],
        ] {
            assert!(look(&other, DEVICE).is_none());
        }
    }
}
