//! ICMP errors that the gateway sends itself.

use std::net::IpAddr;

use vpn_ebpf_common::{
    Verdict,
    gateway::ANSWER_REFUSALS,
    protocol::{ICMP, ICMPV6},
};

use super::{Action, Arrival, Ended, Model, checksum, parse::Parsed, refusal::Refusal};

/// Most bytes of the refused packet that are sent back.
const QUOTE: usize = 512;

impl Model {
    /// Drops a packet, and answers it `from` an address on the account of a peer if that is to be.
    pub(super) fn refuse(
        &mut self,
        arrival: &Arrival,
        parsed: &Parsed,
        refusal: Refusal,
        from: IpAddr,
        peer: u32,
        now: u64,
    ) -> Ended {
        let Some(message) = self.message(refusal, parsed) else {
            return refusal.verdict.into();
        };
        let limit = self.topology.limits.answers_per_second;
        let usage = self.usage_at(peer, now);
        if usage.answers >= limit {
            return refusal.verdict.into();
        }
        usage.answers += 1;
        let packet = message.about(&arrival.packet, from, parsed.source);
        Ended { verdict: refusal.verdict, action: Action::Redirect(arrival.ingress), packet: Some(packet) }
    }

    /// What to say, if the packet is one that is answered.
    fn message(&self, refusal: Refusal, parsed: &Parsed) -> Option<Message> {
        let is_to_many = match parsed.destination {
            IpAddr::V4(address) => address.octets()[0] >= 224,
            IpAddr::V6(address) => address.octets()[0] == 0xff,
        };
        if parsed.is_later_fragment() || parsed.is_icmp_error || is_to_many {
            return None;
        }
        let (v4, v6) = match refusal.verdict {
            Verdict::TtlExpired => ((11, 0), (3, 0)),
            Verdict::TooBig => ((3, 4), (2, 0)),
            Verdict::NoRoute
            | Verdict::AddressInUse
            | Verdict::NoConnection
            | Verdict::PeerFlows
            | Verdict::FlowsFull
            | Verdict::ClosedFull
                if self.topology.options & ANSWER_REFUSALS != 0 =>
            {
                ((3, 13), (1, 1))
            }
            _ => return None,
        };
        let (kind, code) = if parsed.source.is_ipv4() { v4 } else { v6 };
        // IPv4 has two bytes for it, behind two that are zero.
        let mtu = if parsed.source.is_ipv4() { refusal.mtu & 0xffff } else { refusal.mtu };
        Some(Message { kind, code, mtu })
    }
}

/// An ICMP error.
#[derive(Clone, Copy, Debug)]
struct Message {
    kind: u8,
    code: u8,
    /// Zero in messages that have none.
    mtu: u32,
}

impl Message {
    /// The whole packet that tells it.
    fn about(self, refused: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
        let quoted = refused.len().min(QUOTE) / 4 * 4;
        let mut icmp = vec![self.kind, self.code, 0, 0];
        icmp.extend(self.mtu.to_be_bytes());
        icmp.extend(&refused[..quoted]);
        let mut packet = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let check = checksum::of(&icmp);
                icmp[2..4].copy_from_slice(&check.to_be_bytes());
                let [high, low] = (20 + icmp.len() as u16).to_be_bytes();
                let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, ICMP, 0, 0];
                header.extend(from.octets());
                header.extend(to.octets());
                let check = checksum::of(&header);
                header[10..12].copy_from_slice(&check.to_be_bytes());
                header
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut covered = checksum::pseudo_header(from, to, ICMPV6, icmp.len());
                covered.extend(&icmp);
                icmp[2..4].copy_from_slice(&checksum::of(&covered).to_be_bytes());
                let [high, low] = (icmp.len() as u16).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, high, low, ICMPV6, 64];
                header.extend(source.octets());
                header.extend(destination.octets());
                header
            }
            _ => panic!("the gateway has an address of each family"),
        };
        packet.extend(icmp);
        packet
    }
}
