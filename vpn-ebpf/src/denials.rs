//! The record of refused attempts (requirement F5).

use core::ptr::addr_of_mut;

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP};
use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey, window},
    event::{DENIED as DENIED_EVENT, Denied},
    flow::Traffic,
};

use crate::{
    atomic,
    limits::Account,
    maps::{DENIED, EVENTS},
    users::Attempt,
};

/// Counts a packet that was stopped: under its destination, or, where its peer has had too many of these, under the
/// verdict alone.
#[inline(never)]
pub fn record(attempt: &Attempt<'_>, verdict: Verdict) {
    let Attempt { packet, now, .. } = *attempt;
    let mut key = DenialKey {
        addressed: packet.destination,
        peer: attempt.peer.id,
        window: window(now),
        port: packet.destination_port(),
        protocol: packet.protocol,
        verdict: verdict as u8,
    };
    if add(&key, &packet.traffic, now) {
        return;
    }
    let Some(account) = Account::of(attempt.peer.id) else { return };
    if account.take_denial(&attempt.gateway.limits, now) {
        if insert(&key, &packet.traffic, now) {
            return;
        }
        account.return_denial();
    }
    key = DenialKey::further(key.peer, key.window, key.verdict);
    if !add(&key, &packet.traffic, now) && !insert(&key, &packet.traffic, now) {
        account.count_unrecorded(&packet.traffic);
    }
}

/// Adds to an entry that is there.
#[inline(always)]
fn add(key: &DenialKey, traffic: &Traffic, now: u64) -> bool {
    let Some(denial) = DENIED.get_ptr_mut(key) else { return false };
    // SAFETY: the pointer came from the look-up above, so it is a live, aligned map value. It is removed a second after
    // its window at the earliest, and this window is the present one.
    unsafe {
        atomic::add(addr_of_mut!((*denial).attempts), traffic.packets);
        atomic::add(addr_of_mut!((*denial).bytes), traffic.bytes);
        (*denial).last_ns = now;
    }
    true
}

#[inline(always)]
fn insert(key: &DenialKey, traffic: &Traffic, now: u64) -> bool {
    let denial = Denial { first_ns: now, last_ns: now, attempts: traffic.packets, bytes: traffic.bytes };
    if DENIED.insert(key, &denial, u64::from(BPF_NOEXIST)).is_err() {
        return false;
    }
    if let Some(mut event) = EVENTS.reserve_untyped::<Denied>(0) {
        event.write(Denied { kind: DENIED_EVENT, denial, key: *key, reserved: 0 });
        event.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    true
}
