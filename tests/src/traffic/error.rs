//! ICMP errors about packets that went on.

use std::net::IpAddr;

use super::{
    Packet, Traffic,
    blueprint::{Blueprint, Transport},
};
use crate::topology::Topology;

impl Traffic {
    /// An error about a packet that went on, from somewhere on its way or where it went to.
    pub(super) fn error(&mut self, topology: &Topology) -> Option<Packet> {
        let (egress, mut quote) = self.some_passed(|passed| (passed.egress, passed.out.clone()))?;
        let about = Blueprint::of(&quote)?;
        if about.is_icmp_error() && self.random.percent(95) {
            return None;
        }
        let is_v4 = about.source.is_ipv4();
        let source = match self.random.below(10) {
            0..5 => about.destination,
            5..8 => self.router(topology, egress, is_v4),
            8 => about.source,
            _ => self.anywhere(is_v4),
        };
        let destination = if self.random.percent(96) { about.source } else { self.anywhere(is_v4) };
        if self.random.percent(10) {
            let at = self.random.below(quote.len().min(64));
            quote[at] = self.random.byte();
        }
        let header = if is_v4 { 20 } else { 40 };
        let length = match self.random.below(20) {
            0..8 => header + 8,
            8..15 => 1_100,
            15..19 => header + 8 + self.random.below(24),
            _ => self.random.below(header + 8),
        };
        quote.truncate(length);
        if self.random.percent(5) {
            quote.extend([0x20, 0, 0, 0]);
        }
        let kinds: &[u8] = if is_v4 { &[3, 3, 3, 11, 11, 12, 4, 5] } else { &[1, 1, 2, 2, 3, 3, 4, 0, 5, 137] };
        let kind = self.random.pick(kinds);
        let code = self.random.pick(&[0, 0, 1, 3, 4, 13]);
        let rest = self.random.pick(&[[0, 0, 0, 0], [0, 0, 5, 0], [1, 2, 3, 4]]);
        let hops = if self.random.percent(95) { 64 } else { self.random.pick(&[0, 1, 2]) };
        let atomic = (!is_v4 && self.random.percent(4)).then_some(7);
        let transport = Transport::Icmp { kind, code, rest };
        let error = Blueprint { source, destination, hops, atomic, transport, payload: quote };
        Some(self.coming_back(egress, error.build()))
    }

    /// A router of the plant behind an uplink.
    fn router(&mut self, topology: &Topology, uplink: u32, is_v4: bool) -> IpAddr {
        match self.some_device(topology, uplink, is_v4) {
            Some((real, _)) => real,
            None => self.anywhere(is_v4),
        }
    }
}
