//! What the benchmarks put around the programs of the gateway, and beside them.
//!
//! A test run repeats one program on one packet. [`next`] makes many packets of that: it writes the headers of the next
//! one and jumps to the program that is measured. So a whole round is one system call, which reads the clock twice, and
//! the measured program runs warm but for the maps that it visits at random. What [`next`] itself costs is what it
//! costs with [`nothing`].

#![no_std]
#![no_main]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "map methods take references only from the next release of the library on"
)]
#![expect(missing_docs, reason = "the functions that the classifier macro generates")]

mod slot;

use core::ptr::addr_of;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, TC_ACT_SHOT},
    btf_maps::{Array, HashMap, ProgramArray},
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_ktime_get_ns, bpf_redirect},
    macros::{btf_map, classifier},
    programs::TcContext,
};
use vpn_ebpf_common::{
    flow::{Flow, FlowKey},
    peer::Peer,
    plant::Plant,
};

use crate::slot::{Keys, Slot};

/// Bytes of Ethernet header that a test run's packets have in front.
const ETHERNET: usize = 14;

/// The packets, in the order in which they come.
#[btf_map]
static PACKETS: Array<Slot, 1> = Array::new();

/// Where [`next`] is in [`PACKETS`].
#[repr(C)]
struct Cursor {
    at: u64,
    /// Number of packets.
    count: u64,
}

#[btf_map]
static CURSOR: Array<Cursor, 1> = Array::new();

/// The keys of the present packet.
#[btf_map]
static KEYS: Array<Keys, 1> = Array::new();

/// The program that is measured.
#[btf_map]
static MEASURED: ProgramArray<1> = ProgramArray::new();

// The gateway's own, opened by their pins.

#[btf_map]
static PEERS: Array<Peer, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static PLANTS: HashMap<u32, Plant, 1> = HashMap::new();

#[btf_map]
static FLOWS: HashMap<FlowKey, Flow, 1> = HashMap::new();

/// Interface index for [`redirect`].
#[unsafe(no_mangle)]
static REDIRECT_TO: u32 = 0;

/// Makes the test run's packet the next one and runs the measured program on it.
#[classifier]
pub fn next(ctx: TcContext) -> i32 {
    let (Some(cursor), Some(keys)) = (CURSOR.get_ptr_mut(0), KEYS.get_ptr_mut(0)) else { return -1 };
    // SAFETY: both are live map values, which only this program and what it jumps to use.
    unsafe {
        // What the last program still had to wait for counts as its time.
        settle();
        let at = (*cursor).at;
        (*cursor).at = if at + 1 < (*cursor).count { at + 1 } else { 0 };
        let Some(slot) = PACKETS.get(at as u32) else { return -1 };
        if ctx.store(ETHERNET, &slot.headers, 0).is_err() {
            return -1;
        }
        copy(&slot.keys, keys);
        // The headers are in memory, and nothing of this program reaches into the next.
        settle();
        MEASURED.tail_call(&ctx, 0);
    }
    -1
}

/// What [`next`] costs.
#[classifier]
pub fn nothing(_: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// Work that needs no memory.
#[classifier]
pub fn work(_: TcContext) -> i32 {
    work_hard()
}

/// The look-ups of [`floor_users`], and [`work`] behind them.
#[classifier]
pub fn floor_and_work(_: TcContext) -> i32 {
    match look_up_flow() {
        TC_ACT_SHOT => work_hard(),
        failed => failed,
    }
}

/// The clock of flows, read once.
#[classifier]
pub fn clock(_: TcContext) -> i32 {
    // SAFETY: the helper takes nothing and only reads the clock.
    unsafe { bpf_ktime_get_boot_ns() };
    TC_ACT_SHOT
}

/// The look-ups that a packet from a user cannot avoid.
#[classifier]
pub fn floor_users(_: TcContext) -> i32 {
    look_up_flow()
}

/// The look-ups that a packet from a plant cannot avoid.
#[classifier]
pub fn floor_plant(ctx: TcContext) -> i32 {
    // SAFETY: a field of the kernel's context of this run.
    let interface = unsafe { (*ctx.skb.skb).ifindex };
    // SAFETY: the value is not read.
    if unsafe { PLANTS.get(&interface) }.is_none() {
        return -1;
    }
    look_up_flow()
}

/// A redirect and nothing else.
#[classifier]
pub fn redirect(_: TcContext) -> i32 {
    // SAFETY: a constant of the object that the loader has replaced; volatile, so that the compiler does not use the value
    // that stands here.
    let interface = unsafe { addr_of!(REDIRECT_TO).read_volatile() };
    // SAFETY: the helper takes two integers and remembers them for this packet.
    unsafe { bpf_redirect(interface, 0) as i32 }
}

#[inline(always)]
fn look_up_flow() -> i32 {
    let Some(keys) = KEYS.get_ptr_mut(0) else { return -1 };
    // SAFETY: as in `next`; of the maps' values the peer's id is copied, and the flow is not read.
    unsafe {
        let Some(peer) = PEERS.get((*keys).peer) else { return -1 };
        (*keys).flow.peer = peer.id;
        if FLOWS.get(&(*keys).flow).is_none() {
            return -1;
        }
    }
    TC_ACT_SHOT
}

/// Multiplications, each of which waits for the last one. The input is the kernel's, so that all of them are made.
#[inline(always)]
fn work_hard() -> i32 {
    // SAFETY: the helper takes nothing and only reads a variable.
    let mut number = unsafe { bpf_jiffies64() };
    for _ in 0..120 {
        number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number >> 7);
    }
    // One in 2^64, so that the result is needed.
    if number == 1 { -1 } else { TC_ACT_SHOT }
}

/// Word by word: of an assignment the compiler makes a loop over bytes.
///
/// # Safety
/// `to` must point to a live map value.
#[inline(always)]
unsafe fn copy(from: &Keys, to: *mut Keys) {
    let (from, to) = (core::ptr::from_ref(from).cast::<u32>(), to.cast::<u32>());
    for word in 0..size_of::<Keys>() / size_of::<u32>() {
        // SAFETY: the caller's promise; both consist of so many aligned words. Volatile, so that the loop stays one.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}

/// Waits for all that was begun, and has nothing begin before: on x86 the kernel reads the time-stamp counter in order
/// (`rdtsc_ordered`, with LFENCE or RDTSCP). Behind a locked addition the processor goes on with the next
/// packet's look-ups while those of the last one are under way, as far as it can see ahead: what is measured then seems
/// the cheaper the shorter it is.
#[inline(always)]
fn settle() {
    // SAFETY: the helper takes nothing and only reads the clock.
    unsafe { bpf_ktime_get_ns() };
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the verifier would reject the loop.
    loop {}
}

/// Some helpers are reserved to programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
