//! The flow table: no packet is forwarded that was not counted here first.

use core::ptr::{NonNull, addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP};
use vpn_ebpf_common::{
    Address, Verdict,
    event::FLOW_OPENED,
    flow::{Age, ClosedKey, Flow, FlowKey, Traffic},
    gateway::IdleLimits,
    peer::Peer,
    tcp,
};

use crate::{
    atomic,
    maps::{self, CLOSED, EVENTS, FLOWS, Scratch},
    packet::Packet,
    users::Attempt,
};

/// `E2BIG`, as helpers return it.
const E2BIG: i32 = -7;
/// `EEXIST`, likewise.
const EEXIST: i32 = -17;

/// Adds a flow on the terms of `flow`, with its first packet counted.
#[inline(always)]
pub fn open(key: &FlowKey, flow: &mut Flow, attempt: &Attempt<'_>) -> Result<(), Verdict> {
    let &Attempt { gateway, packet, now, .. } = attempt;
    flow.tag = key.tag();
    flow.tcp_user = tcp::seen(0, packet.tcp_flags);
    flow.opened_ns = now;
    flow.last_ns = now;
    flow.expires_ns = now + gateway.idle.of(packet.protocol, flow.tcp_user, 0);
    flow.tcp_plant = 0;
    flow.to_plant = packet.traffic;
    // Volatile, because the compiler calls a loop over bytes to zero fields that lie side by side.
    // SAFETY: plain words of a flow that is this run's alone.
    unsafe {
        addr_of_mut!(flow.to_user.packets).write_volatile(0);
        addr_of_mut!(flow.to_user.bytes).write_volatile(0);
    }
    flow.reserved = 0;
    match FLOWS.insert(key, &*flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(E2BIG) => return Err(Verdict::FlowsFull),
        // EBUSY: this CPU was interrupted in the collector's system call, just where that takes the bucket's lock (Linux
        // 6.1, `htab_lock_bucket`). It goes on when this packet is done with, and the sender will try again.
        Err(_) => return Err(Verdict::Busy),
    }
    if let Some(mut event) = EVENTS.reserve(0) {
        let record = event.as_mut_ptr();
        // SAFETY: the reserved memory has the size of the record. Field by field: the stack has no room for another one.
        unsafe {
            addr_of_mut!((*record).kind).write(FLOW_OPENED);
            copy(flow, addr_of_mut!((*record).flow));
            addr_of_mut!((*record).key).write(*key);
            addr_of_mut!((*record).reserved).write(0);
        }
        // The collector polls; waking it for every flow would cost more than the flow itself.
        event.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    Ok(())
}

/// Copies a flow, which others may write to meanwhile, word by word: of a copy as a whole the compiler makes a call of a
/// loop over bytes.
///
/// # Safety
/// `from` can be read, `to` can be written, and they are two.
#[inline(always)]
unsafe fn copy(from: *const Flow, to: *mut Flow) {
    const { assert!(align_of::<Flow>() == align_of::<u64>() && size_of::<Flow>().is_multiple_of(size_of::<u64>())) };
    for word in 0..size_of::<Flow>() / size_of::<u64>() {
        // SAFETY: the caller's promise; both are aligned to words, and have so many.
        unsafe { to.cast::<u64>().add(word).write_volatile(from.cast::<u64>().add(word).read_volatile()) };
    }
}

/// A flow in the table, which other CPUs count in at the same time.
#[derive(Clone, Copy)]
pub struct Entry(NonNull<Flow>);

impl Entry {
    #[inline(always)]
    pub fn find(key: &FlowKey) -> Option<Self> {
        FLOWS.get_ptr_mut(key).and_then(NonNull::new).map(Self)
    }

    /// The flow's age. The kernel gives the memory of a removed entry to the next flow at once; where that happened
    /// since the look-up, the flow that was looked up is over.
    #[inline(always)]
    pub fn age(&self, key: &FlowKey, now: u64) -> Age {
        // The tag after the expiry: whoever uses the memory again writes the tag first.
        // SAFETY: see `get`. Volatile, so that they are read in this order.
        let (expires_ns, tag) = unsafe {
            let flow = self.0.as_ptr();
            (addr_of!((*flow).expires_ns).read_volatile(), addr_of!((*flow).tag).read_volatile())
        };
        let age = Age::of(expires_ns, now);
        if tag == key.tag() { age } else { Age::Over }
    }

    /// Whether nothing has changed for the peer or the gateway since it was admitted.
    #[inline(always)]
    pub fn is_admitted(&self, peer: &Peer, generation: u32) -> bool {
        self.get().route_set == peer.route_set && self.get().generation == generation
    }

    /// Whether it is a flow to this device of this plant.
    #[inline(always)]
    pub fn leads_to(&self, plant: u32, device: &Address) -> bool {
        self.get().plant == plant && self.get().device.is(device)
    }

    /// Where its packets go, and how. To be read only: who counts does that here.
    #[inline(always)]
    pub fn terms(&self) -> &Flow {
        self.get()
    }

    /// Counts a packet from the user. The flow is one of `protocol`; an ICMP error about it is not.
    #[inline(always)]
    pub fn count_to_plant(&self, packet: &Packet, protocol: u8, idle: &IdleLimits, now: u64) {
        let flow = self.0.as_ptr();
        let tcp_user = tcp::seen(self.get().tcp_user, packet.tcp_flags);
        // SAFETY: see `get`. All packets of a peer arrive one after the other, so this field has one writer.
        unsafe {
            (*flow).tcp_user = tcp_user;
            self.count(addr_of_mut!((*flow).to_plant), &packet.traffic);
        }
        self.stay(idle.of(protocol, tcp_user, self.get().tcp_plant), now);
    }

    /// Counts a packet from the plant, likewise.
    #[inline(always)]
    pub fn count_to_user(&self, packet: &Packet, protocol: u8, idle: &IdleLimits, now: u64) {
        let flow = self.0.as_ptr();
        let tcp_plant = tcp::seen(self.get().tcp_plant, packet.tcp_flags);
        // SAFETY: see `get`. Packets from a plant arrive one after the other, so this field has one writer.
        unsafe {
            (*flow).tcp_plant = tcp_plant;
            self.count(addr_of_mut!((*flow).to_user), &packet.traffic);
        }
        self.stay(idle.of(protocol, self.get().tcp_user, tcp_plant), now);
    }

    /// # Safety
    /// `counters` must be a field of this entry.
    #[inline(always)]
    unsafe fn count(&self, counters: *mut Traffic, traffic: &Traffic) {
        // SAFETY: the caller's promise, and `get`; the fields are aligned to 8 bytes.
        unsafe {
            atomic::add(addr_of_mut!((*counters).packets), traffic.packets);
            atomic::add(addr_of_mut!((*counters).bytes), traffic.bytes);
        }
    }

    /// Two CPUs may store these in either order; they differ by no more than a tick.
    #[inline(always)]
    fn stay(&self, idle_ns: u64, now: u64) {
        // SAFETY: see `get`; plain words.
        unsafe {
            (*self.0.as_ptr()).last_ns = now;
            (*self.0.as_ptr()).expires_ns = now + idle_ns;
        }
    }

    /// Remembers under what the flow is allowed now. `device` and `plant` are as they were.
    #[inline(always)]
    pub fn admit(&self, terms: &Flow) {
        let flow = self.0.as_ptr();
        // SAFETY: see `get`. All packets of a peer arrive one after the other, so nobody uses the flow towards the plant
        // meanwhile. The set and the generation are written last: who sees them sees the rest.
        unsafe {
            (*flow).mtu = terms.mtu;
            (*flow).egress = terms.egress;
            (*flow).link_header = terms.link_header;
            (*flow).route = terms.route;
            (*flow).route_set = terms.route_set;
            (*flow).generation = terms.generation;
        }
    }

    /// Has the flow end: nobody counts in it from now on.
    #[inline(always)]
    pub fn expire(&self, now: u64) {
        // SAFETY: see `get`; a plain word.
        unsafe { (*self.0.as_ptr()).expires_ns = now - 1 };
    }

    /// Moves a flow that is over to CLOSED. Its totals are final, see [`Age`]. False if it is not there.
    #[inline(never)]
    pub fn close(key: &FlowKey, now: u64) -> Result<bool, Verdict> {
        let Some(entry) = Self::find(key) else { return Ok(false) };
        let flow = maps::scratch(Scratch::Closing).ok_or(Verdict::NoMemory)?;
        // SAFETY: an entry and room for a flow.
        unsafe { copy(entry.0.as_ptr(), flow) };
        // The copy is the flow's if the flow was still in the table after it was made.
        match Self::find(key) {
            Some(again) if again.0 == entry.0 && flow.tag == key.tag() && flow.age(now) == Age::Over => {}
            _ => return Err(Verdict::FlowIdle),
        }
        match CLOSED.insert(&ClosedKey::new(*key, flow.opened_ns), &*flow, u64::from(BPF_NOEXIST)) {
            Ok(()) => {
                // Nobody else may remove it. Where the kernel cannot take the bucket's lock (EBUSY), the entry stays
                // with its claim, and the collector resolves both.
                let _ = FLOWS.remove(key);
                Ok(true)
            }
            // Someone else is ending it at this moment.
            Err(EEXIST) => Err(Verdict::FlowIdle),
            Err(E2BIG) => Err(Verdict::ClosedFull),
            // As in `open`.
            Err(_) => Err(Verdict::Busy),
        }
    }

    #[inline(always)]
    fn get(&self) -> &Flow {
        // SAFETY: the pointer came from a look-up in this run, so it is an aligned map value that stays mapped until
        // the run ends. Other CPUs may write to it meanwhile; all fields are plain words, and nothing here depends on
        // two of them being of one moment. For the memory of a removed entry see `age`.
        unsafe { self.0.as_ref() }
    }
}
