//! The flow table: no packet is forwarded that was not counted here first.

use core::ptr::{NonNull, addr_of_mut};

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP};
use vpn_ebpf_common::{
    Address, Verdict,
    event::{FLOW_OPENED, FlowOpened},
    flow::{Age, ClosedKey, Flow, FlowKey, Traffic},
};

use crate::{
    atomic,
    clock::boot_ns,
    maps::{CLOSED, EVENTS, FLOWS},
};

/// `EEXIST`, as helpers return it.
const EEXIST: i32 = -17;

/// What admitted a packet from a user.
pub struct Admission {
    pub addressed: Address,
    pub route_set: u32,
    pub route: u32,
}

/// Counts a packet from the user in its flow; opens the flow if there is none, or the next one if the last
/// has been idle for too long.
#[inline(always)]
pub fn count_to_plant(key: &FlowKey, admission: &Admission, bytes: u64, idle_limit_ns: u64) -> Result<(), Verdict> {
    // A second round where another CPU opened the flow in between, or the bucket was busy.
    for _ in 0..2 {
        let now = boot_ns();
        if let Some(flow) = Entry::find(key) {
            match flow.age(now, idle_limit_ns) {
                Age::Live => {
                    if flow.addressed() != admission.addressed {
                        return Err(Verdict::AddressInUse);
                    }
                    flow.admit(admission);
                    flow.count_to_plant(bytes, now);
                    return Ok(());
                }
                Age::Settling => return Err(Verdict::FlowIdle),
                Age::Over => flow.close(key)?,
            }
        }
        if open(key, admission, bytes, now) {
            return Ok(());
        }
    }
    Err(Verdict::FlowsFull)
}

/// Adds a flow with its first packet counted. False if it was not added.
#[inline(always)]
fn open(key: &FlowKey, admission: &Admission, bytes: u64, now: u64) -> bool {
    let flow = Flow {
        opened_ns: now,
        last_ns: now,
        to_plant: Traffic { packets: 1, bytes },
        to_user: Traffic { packets: 0, bytes: 0 },
        addressed: admission.addressed,
        route_set: admission.route_set,
        route: admission.route,
    };
    if FLOWS.insert(key, &flow, u64::from(BPF_NOEXIST)).is_err() {
        return false;
    }
    if let Some(mut event) = EVENTS.reserve(0) {
        event.write(FlowOpened { kind: FLOW_OPENED, key: *key, flow });
        // The collector polls; waking it for every flow would cost more than the flow itself.
        event.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    true
}

/// A flow in the table, which other CPUs count in at the same time.
pub struct Entry(NonNull<Flow>);

impl Entry {
    #[inline(always)]
    pub fn find(key: &FlowKey) -> Option<Self> {
        FLOWS.get_ptr_mut(key).and_then(NonNull::new).map(Self)
    }

    #[inline(always)]
    pub fn age(&self, now: u64, idle_limit_ns: u64) -> Age {
        self.get().age(now, idle_limit_ns)
    }

    #[inline(always)]
    pub fn addressed(&self) -> Address {
        self.get().addressed
    }

    #[inline(always)]
    pub fn route_set(&self) -> u32 {
        self.get().route_set
    }

    #[inline(always)]
    pub fn count_to_user(&self, bytes: u64, now: u64) {
        // SAFETY: the field lies in the map value; see `get`.
        self.count(unsafe { addr_of_mut!((*self.0.as_ptr()).to_user) }, bytes, now);
    }

    #[inline(always)]
    fn count_to_plant(&self, bytes: u64, now: u64) {
        // SAFETY: the field lies in the map value; see `get`.
        self.count(unsafe { addr_of_mut!((*self.0.as_ptr()).to_plant) }, bytes, now);
    }

    #[inline(always)]
    fn count(&self, traffic: *mut Traffic, bytes: u64, now: u64) {
        // SAFETY: `traffic` is a field of the map value, which the kernel keeps until this run ends and which
        // is aligned to 8 bytes. Two CPUs may store `last_ns` in either order; they differ by microseconds.
        unsafe {
            atomic::add(addr_of_mut!((*traffic).packets), 1);
            atomic::add(addr_of_mut!((*traffic).bytes), bytes);
            (*self.0.as_ptr()).last_ns = now;
        }
    }

    /// Remembers the route set that the flow is allowed under now.
    #[inline(always)]
    fn admit(&self, admission: &Admission) {
        if self.route_set() != admission.route_set {
            // SAFETY: see `get`. Both are plain words; a reader that sees one of them old looks the route up again.
            unsafe {
                (*self.0.as_ptr()).route_set = admission.route_set;
                (*self.0.as_ptr()).route = admission.route;
            }
        }
    }

    /// Moves a flow that is over to CLOSED. Its totals are final, see [`Age`].
    #[inline(always)]
    fn close(&self, key: &FlowKey) -> Result<(), Verdict> {
        let flow = self.get();
        let closed = ClosedKey { flow: *key, opened_ns: flow.opened_ns };
        match CLOSED.insert(&closed, flow, u64::from(BPF_NOEXIST)) {
            Ok(()) => {
                // Nobody else may remove it. Where the kernel cannot take the bucket's lock (EBUSY), the entry stays
                // with its claim, and the collector resolves both.
                let _ = FLOWS.remove(key);
                Ok(())
            }
            // Someone else is ending it at this moment.
            Err(EEXIST) => Err(Verdict::FlowIdle),
            Err(_) => Err(Verdict::ClosedFull),
        }
    }

    #[inline(always)]
    fn get(&self) -> &Flow {
        // SAFETY: the pointer came from a look-up in this run, so it is an aligned map value that stays mapped until
        // the run ends. Other CPUs may add to the counters meanwhile; they are words, and nothing here depends on
        // two of them being of one moment. The kernel may give the memory of a removed entry to another flow; only
        // a flow that is over is ever removed, and such a one is not counted in.
        unsafe { self.0.as_ref() }
    }
}
