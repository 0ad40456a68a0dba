//! What one peer may take of what all share.

use core::ptr::{NonNull, addr_of_mut};

use aya_ebpf::bindings::BPF_NOEXIST;
use vpn_ebpf_common::{
    Verdict,
    denial::window,
    flow::Traffic,
    gateway::Limits,
    usage::{UNRECORDED_SECONDS, Usage, second},
};

use crate::{
    atomic,
    maps::{USAGE, released},
};

/// The account of one peer.
pub struct Account {
    usage: NonNull<Usage>,
    peer: u32,
}

impl Account {
    /// The account of a peer, opened on first use. None if there is no room: then the peer may do nothing that is limited.
    #[inline(always)]
    pub fn of(peer: u32) -> Option<Self> {
        if let Some(account) = Self::find(peer) {
            return Some(account);
        }
        // Another CPU may be first; then that one's is found.
        let _ = USAGE.insert(&peer, &EMPTY, u64::from(BPF_NOEXIST));
        Self::find(peer)
    }

    #[inline(always)]
    fn find(peer: u32) -> Option<Self> {
        let usage = USAGE.get_ptr_mut(&peer).and_then(NonNull::new)?;
        Some(Self { usage, peer })
    }

    /// Whether the peer may open a flow now; `replaces` if it takes the place of one that has just been removed.
    #[inline(always)]
    pub fn check_flow(&self, limits: &Limits, replaces: bool, now: u64) -> Result<(), Verdict> {
        self.enter_second(now);
        let usage = self.get();
        if usage.new_flows >= limits.new_flows_per_second {
            return Err(Verdict::PeerRate);
        }
        // The collector may have healed its count upwards while this ran.
        let live = usage.opened.saturating_sub(released(self.peer));
        if !replaces && live >= u64::from(limits.live_flows) {
            return Err(Verdict::PeerFlows);
        }
        Ok(())
    }

    /// Counts a flow that was opened.
    #[inline(always)]
    pub fn count_flow(&self, replaces: bool) {
        let usage = self.usage.as_ptr();
        // SAFETY: see `get`.
        unsafe {
            (*usage).new_flows += 1;
            if !replaces {
                atomic::add(addr_of_mut!((*usage).opened), 1);
            }
        }
    }

    /// Counts a flow that is forwarded without a record.
    #[inline(always)]
    pub fn count_unrecorded_flow(&self, now: u64) {
        let usage = self.usage.as_ptr();
        // SAFETY: see `get`.
        unsafe { (*usage).unrecorded_second = second(now) };
    }

    /// Whether replies without a flow are let through to this peer now.
    #[inline(always)]
    pub fn has_unrecorded_flows(&self, now: u64) -> bool {
        let since = self.get().unrecorded_second;
        since != 0 && second(now).wrapping_sub(since) <= UNRECORDED_SECONDS
    }

    /// Takes an answer from what the peer has left in this second; false if there is none.
    #[inline(always)]
    pub fn take_answer(&self, limits: &Limits, now: u64) -> bool {
        self.enter_second(now);
        if self.get().answers >= limits.answers_per_second {
            return false;
        }
        // SAFETY: see `get`. An answer to a plant may be counted at the same time; one of them is then lost.
        unsafe { (*self.usage.as_ptr()).answers += 1 };
        true
    }

    /// Takes an entry in DENIED from what the peer has left in this window; false if there is none.
    #[inline(always)]
    pub fn take_denial(&self, limits: &Limits, now: u64) -> bool {
        let usage = self.usage.as_ptr();
        // SAFETY: see `get`.
        unsafe {
            if (*usage).window != window(now) {
                (*usage).window = window(now);
                (*usage).denials = 0;
            }
            if (*usage).denials >= limits.denials_per_window {
                return false;
            }
            (*usage).denials += 1;
        }
        true
    }

    /// Gives it back: DENIED had no room.
    #[inline(always)]
    pub fn return_denial(&self) {
        // SAFETY: see `get`.
        unsafe { (*self.usage.as_ptr()).denials -= 1 };
    }

    /// Counts a refused packet that has no place in DENIED.
    #[inline(always)]
    pub fn count_unrecorded(&self, traffic: &Traffic) {
        let unrecorded = self.usage.as_ptr();
        // SAFETY: see `get`; the fields are aligned to 8 bytes.
        unsafe {
            atomic::add(addr_of_mut!((*unrecorded).unrecorded.packets), traffic.packets);
            atomic::add(addr_of_mut!((*unrecorded).unrecorded.bytes), traffic.bytes);
        }
    }

    #[inline(always)]
    fn enter_second(&self, now: u64) {
        let usage = self.usage.as_ptr();
        // SAFETY: see `get`.
        unsafe {
            // The clocks of two CPUs differ by a tick, so a second does not come back.
            if second(now) > (*usage).second {
                (*usage).second = second(now);
                (*usage).new_flows = 0;
                (*usage).answers = 0;
            }
        }
    }

    #[inline(always)]
    fn get(&self) -> &Usage {
        // SAFETY: the pointer came from a look-up in this run, so it is an aligned map value that stays mapped until the
        // run ends. Only packets of this peer write to it, which arrive one after the other; a packet from a plant may
        // take an answer meanwhile. The entry is removed only once its peer is gone from PEERS.
        unsafe { self.usage.as_ref() }
    }
}

const EMPTY: Usage = Usage {
    opened: 0,
    second: 0,
    new_flows: 0,
    answers: 0,
    window: 0,
    denials: 0,
    unrecorded_second: 0,
    unrecorded: Traffic { packets: 0, bytes: 0 },
};
