//! The addresses of one family in the topology of `vpn_tests::by_hand`, and packets between them.

use std::net::IpAddr;

use vpn_ebpf_common::{
    flow::FlowKey,
    protocol::{ICMP, ICMPV6},
};
use vpn_tests::{
    by_hand::PEER,
    packet::{Ends, icmp, with_ipv4},
};

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub is_v4: bool,
    pub user: &'static str,
    /// Nobody's tunnel address.
    pub stranger: &'static str,
    pub gateway: &'static str,
    /// The user as plants see it, and the gateway.
    pub source: &'static str,
    pub gateway_source: &'static str,
    /// A device as the user addresses it, and as the plant does.
    pub device: &'static str,
    pub real: &'static str,
    /// Another one in the same subnet, as the plant addresses it.
    pub neighbour: &'static str,
    /// An address that no route leads to.
    pub nowhere: &'static str,
    /// Many hosts.
    pub many: &'static str,
}

pub const V4: Family = Family {
    is_v4: true,
    user: "100.64.0.5",
    stranger: "100.64.0.6",
    gateway: "100.64.0.1",
    source: "100.80.0.5",
    gateway_source: "100.80.0.1",
    device: "10.128.1.20",
    real: "192.168.1.20",
    neighbour: "192.168.1.21",
    nowhere: "10.128.2.20",
    many: "224.0.0.1",
};

pub const V6: Family = Family {
    is_v4: false,
    user: "fd64::5",
    stranger: "fd64::6",
    gateway: "fd64::1",
    source: "fd50::5",
    gateway_source: "fd50::1",
    device: "fd80::20",
    real: "fd01::20",
    neighbour: "fd01::21",
    nowhere: "fd80:2::20",
    many: "ff02::1",
};

/// Type and code of what the gateway answers, by family.
pub type Kinds = [(u8, u8); 2];

pub const EXPIRED: Kinds = [(11, 0), (3, 0)];
pub const TOO_BIG: Kinds = [(3, 4), (2, 0)];
pub const PROHIBITED: Kinds = [(3, 13), (1, 1)];

impl Family {
    /// The ends of a request.
    pub fn out(self) -> Ends {
        Ends::new((self.user, 40_000), (self.device, 502))
    }

    /// The ends of a request to the real address.
    pub fn out_real(self) -> Ends {
        Ends::new((self.user, 40_000), (self.real, 502))
    }

    /// The ends of a reply.
    pub fn back(self) -> Ends {
        Ends::new((self.real, 502), (self.source, 40_000))
    }

    /// The ends of a request to the gateway itself.
    pub fn to_gateway(self, port: u16) -> Ends {
        Ends::new((self.user, 40_000), (self.gateway, port))
    }

    pub fn icmp(self) -> u8 {
        if self.is_v4 { ICMP } else { ICMPV6 }
    }

    /// Length of the IP header.
    pub fn header(self) -> usize {
        if self.is_v4 { 20 } else { 40 }
    }

    /// The largest segment that goes through to the user.
    pub fn largest_segment(self) -> u16 {
        if self.is_v4 { 1_240 } else { 1_220 }
    }

    /// "Port unreachable", about `quote`.
    pub fn error(self, from: &str, to: &str, quote: &[u8]) -> Vec<u8> {
        let (kind, code) = if self.is_v4 { (3, 3) } else { (1, 4) };
        icmp(Ends::new((from, 0), (to, 0)), kind, code, [0; 4], quote)
    }

    /// What the gateway answers to a packet that it refused.
    pub fn answer(self, from: &str, to: &str, kinds: Kinds, mtu: u32, refused: &[u8]) -> Vec<u8> {
        let (kind, code) = kinds[usize::from(!self.is_v4)];
        let quote = &refused[..refused.len().min(512) / 4 * 4];
        let answer = icmp(Ends::new((from, 0), (to, 0)), kind, code, mtu.to_be_bytes(), quote);
        if self.is_v4 { with_ipv4(&answer, |ip| ip.dont_fragment = false) } else { answer }
    }

    /// The key of the flow of [`Family::out`] by a protocol.
    pub fn key(self, protocol: u8) -> FlowKey {
        self.key_to(self.device, protocol)
    }

    /// The key of the flow of [`Family::out_real`].
    pub fn key_real(self, protocol: u8) -> FlowKey {
        self.key_to(self.real, protocol)
    }

    fn key_to(self, addressed: &str, protocol: u8) -> FlowKey {
        FlowKey {
            addressed: addressed.parse::<IpAddr>().unwrap().into(),
            peer: PEER.id,
            user_port: 40_000_u16.to_be(),
            device_port: if protocol == self.icmp() { 0 } else { 502_u16.to_be() },
            protocol,
            reserved: [0; 3],
        }
    }
}
