//! What the kernel holds now, for `status` and for reconciling.

use std::{collections::BTreeMap, path::Path};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, lpm_trie::LpmTrie},
};
use serde::Serialize;
use vpn_ebpf_common::{
    Address, Verdict,
    denial::{Denial, DenialKey},
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    fragment::{FragmentKey, Fragmented},
    gateway::Gateway,
    names,
    peer::Peer,
    plant::Plant,
    route::{Route, RouteKey, SET_BITS},
    service::ServiceKey,
    usage::Usage,
};

use super::{Datapath, Error, layout_dir, peers};

/// The pinned maps, opened by name: the kernel's truth, whether or not an agent runs.
#[derive(Debug)]
pub struct Pinned {
    maps: BTreeMap<&'static str, Map>,
    /// Most entries of each map.
    capacities: BTreeMap<&'static str, u32>,
}

impl Pinned {
    /// Opens the maps below `pin_dir`.
    ///
    /// # Errors
    /// [`Error::Map`] if one is missing: no agent of this version has run since the machine started.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        let dir = layout_dir(pin_dir).join("maps");
        let mut pinned = Self { maps: BTreeMap::new(), capacities: BTreeMap::new() };
        for name in names::MAPS {
            let failed = |source| Error::Map { map: name, source };
            let data = MapData::from_pin(dir.join(name)).map_err(failed)?;
            pinned.capacities.insert(name, data.info().map_err(failed)?.max_entries());
            pinned.maps.insert(name, Map::from_map_data(data).map_err(failed)?);
        }
        Ok(pinned)
    }

    /// How many entries each map has, and how many it can have; of those maps that can be full. Maps that change while
    /// they are counted are counted about right.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn fill_levels(&self) -> Result<[FillLevel; 6], Error> {
        let level = |map: &'static str, entries| FillLevel { map, entries, capacity: self.capacities[map] };
        Ok([
            // It has a place for every address, but there are accounts for fewer peers.
            FillLevel { capacity: self.capacities[names::USAGE], ..level(names::PEERS, self.peers()?.len()) },
            level(names::ROUTES, self.routes()?.len()),
            level(names::PLANTS, self.plants()?.len()),
            level(names::FLOWS, count::<FlowKey, Flow>(names::FLOWS, self.map(names::FLOWS))?),
            level(names::CLOSED, count::<ClosedKey, Flow>(names::CLOSED, self.map(names::CLOSED))?),
            level(names::DENIED, count::<DenialKey, Denial>(names::DENIED, self.map(names::DENIED))?),
        ])
    }
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FillLevel {
    /// Its name.
    pub map: &'static str,
    /// How many entries it has.
    pub entries: usize,
    /// How many it can have.
    pub capacity: u32,
}

impl Maps for Pinned {
    fn map(&self, name: &'static str) -> &Map {
        &self.maps[name]
    }
}

impl Maps for Datapath {
    fn map(&self, name: &'static str) -> &Map {
        self.map(name)
    }
}

/// Reading the maps, the same for pinned and for loaded ones. Every method fails with [`Error::Map`] alone.
pub trait Maps {
    /// The map with this name, one of [`names::MAPS`].
    fn map(&self, name: &'static str) -> &Map;

    /// Packets and bytes by verdict, over all CPUs.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn stats(&self) -> Result<Vec<(Verdict, Traffic)>, Error> {
        let failed = |source| Error::Map { map: names::STATS, source };
        let map = PerCpuArray::<_, Traffic>::try_from(self.map(names::STATS)).map_err(failed)?;
        Verdict::ALL
            .iter()
            .map(|verdict| {
                let cpus = map.get(&(*verdict as u32), 0).map_err(failed)?;
                let sum = cpus.iter().fold(Traffic::default(), |sum, cpu| Traffic {
                    packets: sum.packets + cpu.packets,
                    bytes: sum.bytes + cpu.bytes,
                });
                Ok((*verdict, sum))
            })
            .collect()
    }

    /// Live flows.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn flows(&self) -> Result<BTreeMap<FlowKey, Flow>, Error> {
        entries(names::FLOWS, self.map(names::FLOWS))
    }

    /// Finished flows that the collector has not stored yet.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn closed(&self) -> Result<BTreeMap<ClosedKey, Flow>, Error> {
        entries(names::CLOSED, self.map(names::CLOSED))
    }

    /// Refused destinations.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn denials(&self) -> Result<BTreeMap<DenialKey, Denial>, Error> {
        entries(names::DENIED, self.map(names::DENIED))
    }

    /// What each peer has taken, by peer id.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn usage(&self) -> Result<BTreeMap<u32, Usage>, Error> {
        entries(names::USAGE, self.map(names::USAGE))
    }

    /// How many of each peer's flows have left FLOWS, by peer id.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn released(&self) -> Result<BTreeMap<u32, u64>, Error> {
        entries(names::RELEASED, self.map(names::RELEASED))
    }

    /// Fragmented packets on their way.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn fragments(&self) -> Result<BTreeMap<FragmentKey, Fragmented>, Error> {
        entries(names::FRAGMENTS, self.map(names::FRAGMENTS))
    }

    /// Route ids of the gateway's own services.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn services(&self) -> Result<BTreeMap<ServiceKey, u32>, Error> {
        entries(names::SERVICES, self.map(names::SERVICES))
    }

    /// Peers by the host number of their tunnel addresses.
    ///
    /// # Errors
    /// [`Error::Map`].
    ///
    /// # Panics
    /// If PEERS is no array.
    fn peers(&self) -> Result<BTreeMap<u32, Peer>, Error> {
        let Map::Array(array) = self.map(names::PEERS) else { panic!("PEERS is an array") };
        Ok(peers::of(array, false)?.entries())
    }

    /// The peer at a host number of the tunnel addresses, as the programs take it.
    ///
    /// # Errors
    /// [`Error::Map`].
    ///
    /// # Panics
    /// If PEERS is no array.
    fn peer(&self, number: u32) -> Result<Option<Peer>, Error> {
        let Map::Array(array) = self.map(names::PEERS) else { panic!("PEERS is an array") };
        Ok(peers::of(array, false)?.get(number).filter(|peer| peer.id != 0))
    }

    /// Plants by interface index.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn plants(&self) -> Result<BTreeMap<u32, Plant>, Error> {
        entries(names::PLANTS, self.map(names::PLANTS))
    }

    /// Routes by route set, destination, and the prefix length in the 128 bits of [`Address`].
    ///
    /// # Errors
    /// [`Error::Map`].
    fn routes(&self) -> Result<BTreeMap<(u32, Address, u32), Route>, Error> {
        let failed = |source| Error::Map { map: names::ROUTES, source };
        let map = LpmTrie::<_, RouteKey, Route>::try_from(self.map(names::ROUTES)).map_err(failed)?;
        map.iter()
            .map(|entry| {
                let (key, route) = entry.map_err(failed)?;
                let RouteKey { set, destination } = key.data();
                Ok(((set, destination, key.prefix_len() - SET_BITS), route))
            })
            .collect()
    }

    /// Settings of this host; none until an agent has written them.
    ///
    /// # Errors
    /// [`Error::Map`].
    fn gateway(&self) -> Result<Option<Gateway>, Error> {
        let failed = |source| Error::Map { map: names::GATEWAY, source };
        let map = Array::<_, Gateway>::try_from(self.map(names::GATEWAY)).map_err(failed)?;
        let gateway = map.get(&0, 0).map_err(failed)?;
        Ok((gateway.users != 0).then_some(gateway))
    }
}

fn entries<K: Pod + Ord, V: Pod>(name: &'static str, map: &Map) -> Result<BTreeMap<K, V>, Error> {
    let failed = |source| Error::Map { map: name, source };
    let map = HashMap::<_, K, V>::try_from(map).map_err(failed)?;
    map.iter().collect::<Result<_, _>>().map_err(failed)
}

/// Without reading the values.
fn count<K: Pod, V: Pod>(name: &'static str, map: &Map) -> Result<usize, Error> {
    let failed = |source| Error::Map { map: name, source };
    let map = HashMap::<_, K, V>::try_from(map).map_err(failed)?;
    map.keys().try_fold(0, |count, key| key.map(|_| count + 1)).map_err(failed)
}
