//! Sizes of the maps, and whether pinned maps have them: a pinned map is opened by its name alone.

use std::path::Path;

use aya::maps::MapInfo;
use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey},
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    fragment::{FragmentKey, Fragmented},
    gateway::Gateway,
    names,
    peer::Peer,
    plant::Plant,
    route::{Route, RouteKey},
    service::ServiceKey,
    usage::Usage,
    ways::{PLACES, Ways},
};

use super::Error;
use crate::pools::Pools;

/// Services of the gateway itself, at most; as in the object.
pub const SERVICES_MAX: u32 = 256;

/// How many entries each map holds. Memory for flows and peers is taken at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Addresses of the pool of tunnel addresses, of which PEERS has one place for each.
    pub tunnel_addresses: u32,
    /// Certificates.
    pub peers_max: u32,
    /// Routes over all route sets, with room for the sets of a change beside the old ones.
    pub routes_max: u32,
    /// Plants.
    pub plants_max: u32,
    /// Live flows; a packet that would open one more is dropped.
    pub flows_max: u32,
    /// Finished flows that wait for the collector.
    pub closed_max: u32,
    /// Refused destinations of one minute and the one before.
    pub denials_max: u32,
    /// Fragmented packets on their way.
    pub fragments_max: u32,
    /// Bytes of the ring buffer, a power of two of at least a page.
    pub events_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            tunnel_addresses: Pools::default().tunnel_addresses(),
            peers_max: 16_384,
            routes_max: 131_072,
            plants_max: 4_096,
            flows_max: 131_072,
            closed_max: 16_384,
            denials_max: 65_536,
            fragments_max: 16_384,
            events_bytes: 1024 * 1024,
        }
    }
}

impl Sizes {
    /// The size by the name of the map.
    #[must_use]
    pub const fn by_map(&self) -> [(&'static str, u32); 10] {
        [
            (names::PEERS, self.tunnel_addresses),
            (names::USAGE, self.peers_max),
            (names::RELEASED, self.peers_max),
            (names::FRAGMENTS, self.fragments_max),
            (names::ROUTES, self.routes_max),
            (names::PLANTS, self.plants_max),
            (names::FLOWS, self.flows_max),
            (names::CLOSED, self.closed_max),
            (names::DENIED, self.denials_max),
            (names::EVENTS, self.events_bytes),
        ]
    }

    fn entries(&self, name: &str) -> u32 {
        match name {
            names::GATEWAY => 1,
            names::SERVICES => SERVICES_MAX,
            names::STATS => Verdict::COUNT as u32,
            names::WAYS => PLACES,
            name => self.by_map().into_iter().find(|(map, _)| *map == name).map_or(0, |(_, entries)| entries),
        }
    }
}

/// Compares the pinned maps in `dir`, as far as there are any, with what the programs expect.
pub(super) fn check(dir: &Path, sizes: &Sizes) -> Result<(), Error> {
    for name in names::MAPS {
        let path = dir.join(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|source| Error::Map { map: name, source })?;
        let (key, value) = key_and_value(name);
        // PEERS alone is made anew for another number of places.
        let entries = if name == names::PEERS { info.max_entries() } else { sizes.entries(name) };
        for (what, found, wanted) in [
            ("the key size", info.key_size(), key),
            ("the value size", info.value_size(), value),
            ("the number of entries", info.max_entries(), entries),
        ] {
            if found != wanted {
                return Err(Error::Shape { path, what, found, wanted });
            }
        }
    }
    Ok(())
}

/// Sizes in bytes of what the programs put into the map.
fn key_and_value(name: &str) -> (u32, u32) {
    let (key, value) = match name {
        names::PEERS => (4, size_of::<Peer>()),
        // The kernel counts the prefix length in front of the key.
        names::ROUTES => (4 + size_of::<RouteKey>(), size_of::<Route>()),
        names::PLANTS => (4, size_of::<Plant>()),
        names::GATEWAY => (4, size_of::<Gateway>()),
        names::FLOWS => (size_of::<FlowKey>(), size_of::<Flow>()),
        names::CLOSED => (size_of::<ClosedKey>(), size_of::<Flow>()),
        names::DENIED => (size_of::<DenialKey>(), size_of::<Denial>()),
        names::STATS => (4, size_of::<Traffic>()),
        names::SERVICES => (size_of::<ServiceKey>(), 4),
        names::USAGE => (4, size_of::<Usage>()),
        names::RELEASED => (4, 8),
        names::WAYS => (4, size_of::<Ways>()),
        names::FRAGMENTS => (size_of::<FragmentKey>(), size_of::<Fragmented>()),
        _ => (0, 0),
    };
    (key as u32, value as u32)
}
