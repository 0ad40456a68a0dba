//! The maps, each with who writes it and what a full one means. Sizes are defaults; the agent sets its own.
//! Values are copied out at once, or reached through [`crate::flows`], [`crate::denials`] and [`crate::stats`].

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use vpn_ebpf_common::{
    Address, Verdict,
    denial::{Denial, DenialKey},
    event::FlowOpened,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    gateway::Gateway,
    peer::Peer,
    plant::Plant,
    route::{KEY_BITS, Route, RouteKey},
};

/// Settings of this host. Written by the agent.
#[btf_map]
static GATEWAY: Array<Gateway, 1> = Array::new();

/// Tunnel address to peer. Written by the agent, which refuses a state that does not fit.
#[btf_map]
static PEERS: HashMap<Address, Peer, 131_072> = HashMap::new();

/// Route sets. Written by the agent; a set is complete before a peer points to it.
#[btf_map]
static ROUTES: LpmTrie<RouteKey, Route, 1_048_576> = LpmTrie::new();

/// Uplink interface to plant. Written by the agent.
#[btf_map]
static PLANTS: HashMap<u32, Plant, 16_384> = HashMap::new();

/// Live flows. Added here, removed by the collector. Full: the packet is dropped, because it could not be recorded.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Flow, 131_072> = HashMap::new();

/// Finished flows, until the collector has stored them. Inserting here is the claim to end a flow: whoever
/// succeeds, and nobody else, removes it from [`FLOWS`]. Full: the packet that would open the next flow is dropped.
#[btf_map]
pub static CLOSED: HashMap<ClosedKey, Flow, 16_384> = HashMap::new();

/// Refused destinations. Added here, read by the collector. Full: the least recently used one goes; its packets
/// are still counted in [`STATS`].
#[btf_map]
pub static DENIED: LruHashMap<DenialKey, Denial, 65_536> = LruHashMap::new();

/// Hints for the collector. Full: the hint is lost, the maps still tell the truth.
#[btf_map]
pub static EVENTS: RingBuf<FlowOpened, { 1024 * 1024 }> = RingBuf::new();

/// Packets and bytes by [`Verdict`]. Summed over CPUs by the reader.
#[btf_map]
pub static STATS: PerCpuArray<Traffic, { Verdict::COUNT }> = PerCpuArray::new();

#[inline(always)]
pub fn gateway() -> Result<&'static Gateway, Verdict> {
    match GATEWAY.get(0) {
        Some(gateway) if gateway.users != 0 => Ok(gateway),
        _ => Err(Verdict::NotConfigured),
    }
}

#[inline(always)]
pub fn peer(address: &Address) -> Result<Peer, Verdict> {
    // SAFETY: the value is copied before anything else can touch the map.
    unsafe { PEERS.get(address) }.copied().ok_or(Verdict::NoPeer)
}

#[inline(always)]
pub fn plant(interface: u32) -> Result<Plant, Verdict> {
    // SAFETY: the value is copied before anything else can touch the map.
    unsafe { PLANTS.get(&interface) }.copied().ok_or(Verdict::NoPlant)
}

/// The route of the longest prefix in `set` that holds `destination`.
#[inline(always)]
pub fn route(set: u32, destination: &Address) -> Result<&'static Route, Verdict> {
    let key = Key::new(KEY_BITS, RouteKey { set, destination: *destination });
    ROUTES.get(&key).ok_or(Verdict::NoRoute)
}
