//! What a peer takes of what all share.

use vpn_ebpf_common::{
    denial::window,
    usage::{UNRECORDED_SECONDS, Usage, second},
};

use super::Model;

impl Model {
    /// The peer's entry, made on first use, in which what was about an earlier second or window is forgotten.
    pub(super) fn usage_at(&mut self, peer: u32, now: u64) -> &mut Usage {
        let usage = self.records.usage.entry(peer).or_default();
        if usage.second != second(now) {
            *usage = Usage { second: second(now), new_flows: 0, answers: 0, ..*usage };
        }
        if usage.window != window(now) {
            *usage = Usage { window: window(now), denials: 0, ..*usage };
        }
        usage
    }

    /// How many flows of the peer are in FLOWS, as the programs reckon.
    pub(super) fn live_flows(&mut self, peer: u32, now: u64) -> u64 {
        let released = self.records.released.get(&peer).copied().unwrap_or(0);
        self.usage_at(peer, now).opened.saturating_sub(released)
    }

    /// Whether a packet without a flow may belong to one of the peer's that could not be recorded.
    pub(super) fn was_unrecorded(&self, peer: u32, now: u64) -> bool {
        let then = self.records.usage.get(&peer).map_or(0, |usage| usage.unrecorded_second);
        then != 0 && second(now) - then <= UNRECORDED_SECONDS
    }
}
