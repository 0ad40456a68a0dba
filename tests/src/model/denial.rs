//! What users tried to reach and may not.

use std::collections::btree_map::Entry;

use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey, window},
    event::{DENIED, Denied, Event},
};

use super::{Model, parse::Parsed};

impl Model {
    /// Counts a refused packet of a peer: under its destination, or with all those beyond the limit, or as one that
    /// could not be recorded.
    pub(super) fn record_denial(&mut self, parsed: &Parsed, peer: u32, verdict: Verdict, now: u64) {
        let verdict = verdict as u8;
        let key = DenialKey {
            addressed: parsed.destination.into(),
            peer,
            window: window(now),
            port: parsed.destination_port.to_be(),
            protocol: parsed.protocol,
            verdict,
        };
        let further = DenialKey::further(peer, window(now), verdict);
        let is_in_limits = self.usage_at(peer, now).denials < self.topology.limits.denials_per_window;
        if self.add_denial(key, parsed, is_in_limits, now) || self.add_denial(further, parsed, true, now) {
            return;
        }
        let unrecorded = &mut self.usage_at(peer, now).unrecorded;
        unrecorded.packets += parsed.wire.traffic.packets;
        unrecorded.bytes += parsed.wire.traffic.bytes;
    }

    /// Adds to an entry, which is made if `may_insert`. False if there is none.
    fn add_denial(&mut self, key: DenialKey, parsed: &Parsed, may_insert: bool, now: u64) -> bool {
        let is_full = self.records.denied.len() >= self.capacities.denied;
        let counted = parsed.wire.traffic;
        match self.records.denied.entry(key) {
            Entry::Occupied(mut entry) => {
                let denial = entry.get_mut();
                denial.attempts += counted.packets;
                denial.bytes += counted.bytes;
                denial.last_ns = now;
            }
            Entry::Vacant(entry) if may_insert && !is_full => {
                let denial = Denial { first_ns: now, last_ns: now, attempts: counted.packets, bytes: counted.bytes };
                entry.insert(denial);
                self.events.push(Event::Denied(Denied { kind: DENIED, denial, key, reserved: 0 }));
                if !key.is_further() {
                    self.usage_at(key.peer, now).denials += 1;
                }
            }
            Entry::Vacant(_) => return false,
        }
        true
    }
}
