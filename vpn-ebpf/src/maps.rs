//! The maps, each with who writes it and what a full one means. Sizes are defaults; the agent sets its own.
//! Values are copied out at once, or reached through [`crate::flows`], [`crate::ways`], [`crate::denials`], [`crate::limits`]
//! and [`crate::stats`].

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use vpn_ebpf_common::{
    Address, Verdict,
    denial::{Denial, DenialKey},
    event::FlowOpened,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    fragment::{FragmentKey, Fragmented},
    gateway::Gateway,
    peer::Peer,
    plant::Plant,
    route::{KEY_BITS, Route, RouteKey},
    service::ServiceKey,
    usage::Usage,
    ways::{PLACES, Ways},
};

use crate::{clock::Clock, packet::Packet};

/// Settings of this host. Written by the agent.
#[btf_map]
static GATEWAY: Array<Gateway, 1> = Array::new();

/// Host number of tunnel addresses to peer. Written by the agent, which has it mapped: no system call promises to copy a
/// value as a whole.
#[btf_map]
static PEERS: Array<Peer, 65_536, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Route sets. Written by the agent; a set is complete before a peer points to it.
#[btf_map]
static ROUTES: LpmTrie<RouteKey, Route, 1_048_576> = LpmTrie::new();

/// Uplink interface to plant. Written by the agent.
#[btf_map]
static PLANTS: HashMap<u32, Plant, 4_096> = HashMap::new();

/// What users may reach on the gateway itself, to route ids. Written by the agent.
#[btf_map]
static SERVICES: HashMap<ServiceKey, u32, 256> = HashMap::new();

/// Live flows. Added here, removed by the collector. Full: the packet is dropped, because it could not be recorded.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Flow, 131_072> = HashMap::new();

/// Finished flows, until the collector has stored them. Inserting here is the claim to end a flow: whoever
/// succeeds, and nobody else, removes it from [`FLOWS`]. Full: the packet that would open the next flow is dropped.
#[btf_map]
pub static CLOSED: HashMap<ClosedKey, Flow, 16_384> = HashMap::new();

/// Refused destinations, minute by minute. Added here, removed by the collector. Full: the packet is counted in
/// [`USAGE`] alone.
#[btf_map]
pub static DENIED: HashMap<DenialKey, Denial, 65_536> = HashMap::new();

/// What each peer takes of what all share. Full: the peer opens no flows; it has room for every certificate.
#[btf_map]
pub static USAGE: HashMap<u32, Usage, 131_072> = HashMap::new();

/// How many of a peer's flows the collector has removed from [`FLOWS`].
#[btf_map]
static RELEASED: HashMap<u32, u64, 131_072> = HashMap::new();

/// By which addresses of devices peers have opened flows, as long as there is [`FLOWS`]. Written here; it has a place for
/// every peer.
#[btf_map]
pub static WAYS: Array<Ways, { PLACES as usize }> = Array::new();

/// Fragmented packets on their way. Full: the one that was looked up longest ago goes, and the rest of its packet is
/// dropped.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Fragmented, 16_384> = LruHashMap::new();

/// Hints for the collector. Full: the hint is lost, the maps still tell the truth.
#[btf_map]
pub static EVENTS: RingBuf<FlowOpened, { 1024 * 1024 }> = RingBuf::new();

/// Packets and bytes by [`Verdict`]. Summed over CPUs by the reader.
#[btf_map]
pub static STATS: PerCpuArray<Traffic, { Verdict::COUNT }> = PerCpuArray::new();

/// Flows that are being put together or looked at: the stack has no room for them. A CPU runs one program at a time.
#[btf_map]
static SCRATCH: PerCpuArray<Flow, 2> = PerCpuArray::new();

/// A place of [`SCRATCH`].
#[derive(Clone, Copy)]
pub enum Scratch {
    Opening,
    Closing,
}

/// Room for a flow, with whatever was in it last.
#[inline(always)]
pub fn scratch(place: Scratch) -> Option<&'static mut Flow> {
    // SAFETY: the slot belongs to this CPU, where no other run of a program comes between (the ingress hook runs with
    // bottom halves disabled), and in a run nothing that an earlier call gave is used after a later one for its place.
    SCRATCH.get_ptr_mut(place as u32).map(|flow| unsafe { &mut *flow })
}

/// What this CPU's runs of programs have for themselves, one after the other: the packet would take a fifth of the
/// stack.
#[repr(C)]
pub struct Run {
    /// The present run's, with whatever was read of the last one.
    pub packet: Packet,
    /// Goes on from run to run.
    pub clock: Clock,
}

/// One look-up instead of one for each part.
#[btf_map]
static RUN: PerCpuArray<Run, 1> = PerCpuArray::new();

/// The present run's.
#[inline(always)]
pub fn run() -> Result<&'static mut Run, Verdict> {
    // SAFETY: as in `scratch`.
    RUN.get_ptr_mut(0).map(|run| unsafe { &mut *run }).ok_or(Verdict::NoMemory)
}

#[inline(always)]
pub fn gateway() -> Result<&'static Gateway, Verdict> {
    match GATEWAY.get(0) {
        Some(gateway) if gateway.users != 0 => Ok(gateway),
        _ => Err(Verdict::NotConfigured),
    }
}

/// The generation at this moment.
#[inline(always)]
pub fn generation(gateway: &Gateway) -> u32 {
    // SAFETY: a field of a live map value. Volatile, so that it is not read later.
    unsafe { core::ptr::addr_of!(gateway.generation).read_volatile() }
}

/// The peer whose tunnel addresses have this host number.
#[inline(always)]
pub fn peer(number: u32) -> Result<Peer, Verdict> {
    let peer = PEERS.get_ptr(number).ok_or(Verdict::NoPeer)?;
    // SAFETY: a live map value, aligned to 8 bytes. Volatile, so that it is read at once and as a whole.
    match Peer::from_word(unsafe { peer.cast::<u64>().read_volatile() }) {
        Peer { id: 0, .. } => Err(Verdict::NoPeer),
        peer => Ok(peer),
    }
}

/// The plant behind an uplink. An update by the agent puts a new value in the old one's place, so what is read of it in
/// one run may be of two moments; [`Gateway::generation`] grows after it, and has every flow checked again.
#[inline(always)]
pub fn plant(interface: u32) -> Result<&'static Plant, Verdict> {
    // SAFETY: the kernel keeps the value mapped until this run ends.
    unsafe { PLANTS.get(&interface) }.ok_or(Verdict::NoPlant)
}

/// The route of the longest prefix in `set` that holds `destination`.
#[inline(always)]
pub fn route(set: u32, destination: &Address) -> Result<&'static Route, Verdict> {
    let key = Key::new(KEY_BITS, RouteKey { set, destination: *destination });
    ROUTES.get(&key).ok_or(Verdict::NoRoute)
}

/// The route id of a service of the gateway itself.
#[inline(always)]
pub fn service(key: &ServiceKey) -> Option<u32> {
    // SAFETY: the value is copied before anything else can touch the map.
    unsafe { SERVICES.get(key) }.copied()
}

/// How many of the peer's flows are no longer in [`FLOWS`].
#[inline(always)]
pub fn released(peer: u32) -> u64 {
    // SAFETY: the value is copied before anything else can touch the map.
    unsafe { RELEASED.get(&peer) }.copied().unwrap_or(0)
}
