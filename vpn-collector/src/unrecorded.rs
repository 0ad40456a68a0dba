//! Refused packets that no row tells of, because DENIED was full.

use std::collections::HashMap;

use vpn_ebpf_common::{flow::Traffic, usage::Usage};

/// What a peer has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Peer id.
    pub peer: u32,
    /// Since the last look; at the first one, since the peer was first seen.
    pub more: Traffic,
    /// In all.
    pub total: Traffic,
}

/// Remembers the totals that were reported.
#[derive(Debug, Default)]
pub struct Unrecorded(HashMap<u32, Traffic>);

impl Unrecorded {
    /// The peers for which there is more to report, in the order of their ids. A collector that has just started
    /// reports all of it: nobody may have been there to see it grow.
    pub fn grown(&mut self, usage: &[(u32, Usage)]) -> Vec<Growth> {
        let totals = usage.iter().map(|(peer, usage)| (*peer, usage.unrecorded));
        let totals: HashMap<_, _> = totals.filter(|(_, total)| *total != Traffic::default()).collect();
        let known = std::mem::replace(&mut self.0, totals);
        let mut grown: Vec<_> =
            self.0.iter().filter_map(|(peer, total)| growth(*peer, known.get(peer), *total)).collect();
        grown.sort_unstable_by_key(|growth| growth.peer);
        grown
    }
}

fn growth(peer: u32, known: Option<&Traffic>, total: Traffic) -> Option<Growth> {
    // Less than before is another account: the peer was gone and is back.
    let known = known.filter(|known| known.packets <= total.packets && known.bytes <= total.bytes);
    let known = known.copied().unwrap_or_default();
    let more = Traffic { packets: total.packets - known.packets, bytes: total.bytes - known.bytes };
    (more != Traffic::default()).then_some(Growth { peer, more, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(peer: u32, packets: u64) -> (u32, Usage) {
        (peer, Usage { unrecorded: traffic(packets), ..Usage::default() })
    }

    const fn traffic(packets: u64) -> Traffic {
        Traffic { packets, bytes: 100 * packets }
    }

    #[test]
    fn only_what_grew_is_reported() {
        let mut unrecorded = Unrecorded::default();
        let growth = |peer, more, total| Growth { peer, more: traffic(more), total: traffic(total) };
        assert_eq!(unrecorded.grown(&[usage(2, 4), usage(3, 0), usage(1, 9)]), [growth(1, 9, 9), growth(2, 4, 4)]);
        assert_eq!(unrecorded.grown(&[usage(1, 9), usage(2, 4), usage(3, 1)]), [growth(3, 1, 1)]);
        assert_eq!(unrecorded.grown(&[usage(1, 11), usage(3, 1)]), [growth(1, 2, 11)]);
        assert_eq!(unrecorded.grown(&[usage(1, 3)]), [growth(1, 3, 3)], "a new account");
        assert_eq!(unrecorded.grown(&[]), []);
    }
}
