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

/// Writes the flow of a later fragment to `flow`.
#[inline(never)]
pub fn find(packet: &Packet, ingress: u32, now: u64, flow: &mut FlowKey) -> Result<(), Verdict> {
    // SAFETY: the value is copied before anything else can touch the map.
    match unsafe { FRAGMENTS.get(&key(packet, ingress)) } {
        Some(fragmented) if now.saturating_sub(fragmented.first_ns) <= TIMEOUT_NS => {
            *flow = fragmented.flow;
            Ok(())
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
