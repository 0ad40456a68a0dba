//! The record of refused attempts (requirement F5).

use core::ptr::addr_of_mut;

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP};
use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey},
    event::{DENIED as DENIED_EVENT, Denied},
    peer::Peer,
};

use crate::{
    atomic,
    clock::boot_ns,
    maps::{DENIED, EVENTS},
    packet::Packet,
};

/// Counts a packet of `peer` that was stopped.
#[inline(always)]
pub fn record(peer: &Peer, packet: &Packet, verdict: Verdict) {
    let key = DenialKey {
        addressed: packet.destination,
        peer: peer.id,
        port: packet.destination_port,
        protocol: packet.protocol,
        verdict: verdict as u8,
    };
    let now = boot_ns();
    let bytes = u64::from(packet.length);
    if let Some(denial) = DENIED.get_ptr_mut(&key) {
        // SAFETY: the pointer came from the look-up above, so it is a live, aligned map value. If the entry is
        // evicted meanwhile, a packet is counted in another denial; STATS still holds the exact sum.
        unsafe {
            atomic::add(addr_of_mut!((*denial).attempts), 1);
            atomic::add(addr_of_mut!((*denial).bytes), bytes);
            (*denial).last_ns = now;
        }
        return;
    }
    let denial = Denial { first_ns: now, last_ns: now, attempts: 1, bytes };
    if DENIED.insert(&key, &denial, u64::from(BPF_NOEXIST)).is_ok()
        && let Some(mut event) = EVENTS.reserve_untyped::<Denied>(0)
    {
        event.write(Denied { kind: DENIED_EVENT, key, denial });
        event.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
}
