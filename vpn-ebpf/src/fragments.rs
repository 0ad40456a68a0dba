//! Which flow the later fragments of a packet belong to.

use vpn_ebpf_common::{
    Verdict,
    flow::FlowKey,
    fragment::{FragmentKey, Fragmented, TIMEOUT_NS},
};

use crate::{maps::FRAGMENTS, packet::Packet};

/// Remembers the flow of a first fragment that was let through.
#[inline(never)]
pub fn remember(packet: &Packet, ingress: u32, flow: &FlowKey, now: u64) {
    let fragmented = Fragmented { first_ns: now, flow: *flow, reserved: 0 };
    // Without the entry the later fragments are dropped, and counted as such.
    let _ = FRAGMENTS.insert(&key(packet, ingress), &fragmented, 0);
}

/// Writes the flow of a later fragment to `flow`, which is one of the same peer.
#[inline(never)]
pub fn find(packet: &Packet, ingress: u32, now: u64, flow: &mut FlowKey) -> Result<(), Verdict> {
    let peer = flow.peer;
    // SAFETY: plain words of a map value, which stays mapped until the run ends. Another CPU may give the entry to
    // another packet meanwhile, so the copy is what is checked.
    match unsafe { FRAGMENTS.get(&key(packet, ingress)) } {
        Some(fragmented) if now.saturating_sub(fragmented.first_ns) <= TIMEOUT_NS => {
            *flow = fragmented.flow;
            if flow.peer == peer { Ok(()) } else { Err(Verdict::Fragment) }
        }
        _ => Err(Verdict::Fragment),
    }
}

#[inline(always)]
const fn key(packet: &Packet, ingress: u32) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        identification: packet.identification,
        ingress,
        protocol: packet.protocol,
        reserved: [0; 3],
    }
}
