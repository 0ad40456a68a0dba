//! Brings the maps to the wanted content, in an order in which no packet ever sees a half-made change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aya::{
    Pod,
    maps::{Array, HashMap, MapError},
};
use vpn_ebpf_common::{gateway::Gateway, names, peer::Peer, plant::Plant, service::ServiceKey, usage::Usage};

use super::{Datapath, Error, read::Maps as _, route_set::RouteSet};

/// So many routes of old sets are removed while a change is made. More go later, in pieces.
const AT_ONCE: usize = 4_096;

/// The wanted content of the maps that the agent writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// By the host number of their tunnel addresses.
    pub peers: BTreeMap<u32, Peer>,
    /// By route-set id.
    pub route_sets: BTreeMap<u32, Arc<RouteSet>>,
    /// By interface index.
    pub plants: BTreeMap<u32, Plant>,
    /// What users may reach on the gateway itself, with route ids.
    pub services: BTreeMap<ServiceKey, u32>,
}

/// What [`Datapath::fill`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries added or changed.
    pub set: usize,
    /// Entries removed.
    pub removed: usize,
}

impl Datapath {
    /// Writes the settings of this host. Until then every packet is dropped. The generation counts on by itself.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn configure(&mut self, gateway: &Gateway) -> Result<(), Error> {
        let failed = |source| Error::Map { map: names::GATEWAY, source };
        let mut map = Array::<_, Gateway>::try_from(self.map_mut(names::GATEWAY)).map_err(failed)?;
        let generation = map.get(&0, 0).map_err(failed)?.generation;
        map.set(0, Gateway { generation: generation.wrapping_add(1), ..*gateway }, 0).map_err(failed)
    }

    /// Has the next packet of every flow look at PLANTS and SERVICES again.
    pub(super) fn count_generation(&mut self) -> Result<(), Error> {
        match self.gateway()? {
            Some(gateway) => self.configure(&gateway),
            None => Ok(()),
        }
    }

    /// Makes the maps hold `content`, writing only differences.
    ///
    /// What takes something away from a peer comes first and does not depend on the rest, see
    /// [`Datapath::withdraw`]. New route sets are complete before a peer points to them, and old ones go after the
    /// last peer has left (requirement C5), large ones later, see [`Datapath::remove_resting_routes`]. A route of a set
    /// that is in use already is left alone: sets never change.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Full`], [`Error::NoPlace`]. Peers then still have their old route sets, or less.
    pub fn fill(&mut self, content: &Content) -> Result<Written, Error> {
        // Before the sets that lead to them. That plants do not fit holds no withdrawal back.
        let plants = self.set(names::PLANTS, "plants_max", &content.plants);
        let withdrawn = self.withdraw(content, || Ok::<_, Error>(()))?;
        let (set, old_plants) = plants?;
        let mut written = Written { set: set + withdrawn.narrowed, removed: withdrawn.removed };
        let (services, old_services) = self.set(names::SERVICES, "services", &content.services)?;
        let removed = self.remove::<_, u32>(names::SERVICES, &old_services)?;
        if set + services + removed > 0 {
            self.count_generation()?;
        }
        written.set += services;
        written.removed += removed;

        for (set, routes) in &content.route_sets {
            match self.write_set(*set, routes, || content.route_sets.keys().copied().collect()) {
                Ok(set) => written.set += set,
                Err(error) => {
                    // A map that stays full would be in the way of the next withdrawal.
                    self.make_room(BTreeSet::new())?;
                    return Err(error);
                }
            }
        }
        written.set += self.set_peers(&content.peers)?;

        let keep = content.route_sets.keys().copied().collect();
        self.sets_mut()?.retire_all_but(&keep);
        self.left.clear();
        if self.resting_routes() <= AT_ONCE {
            written.removed += self.remove_resting_routes(AT_ONCE)?;
        }
        if !old_plants.is_empty() {
            written.removed += self.remove::<_, Plant>(names::PLANTS, &old_plants)?;
            self.count_generation()?;
        }
        self.close_accounts(content)?;
        Ok(written)
    }

    /// Adds and changes peers.
    fn set_peers(&mut self, wanted: &BTreeMap<u32, Peer>) -> Result<usize, Error> {
        self.check_count(wanted.len())?;
        let mut count = 0;
        for (number, peer) in wanted {
            count += usize::from(self.give(*number, *peer)?);
        }
        Ok(count)
    }

    /// Whether there are accounts for so many peers.
    pub(super) const fn check_count(&self, wanted: usize) -> Result<(), Error> {
        if wanted > self.peers_max as usize {
            return Err(Error::Full { map: names::USAGE, wanted, setting: "peers_max" });
        }
        Ok(())
    }

    /// Removes what was counted for peers that are gone. Their ids are never used again.
    fn close_accounts(&mut self, content: &Content) -> Result<(), Error> {
        let peers: BTreeSet<_> = content.peers.values().map(|peer| peer.id).collect();
        let gone = |id: &u32| !peers.contains(id);
        let usage = self.usage()?.into_keys().filter(gone).collect();
        let released = self.released()?.into_keys().filter(gone).collect();
        self.remove::<_, Usage>(names::USAGE, &usage)?;
        self.remove::<_, u64>(names::RELEASED, &released)?;
        Ok(())
    }

    /// Adds and changes entries of a hash map; also gives the keys that should not be there.
    pub(super) fn set<K: Pod + Ord, V: Pod + PartialEq>(
        &mut self,
        name: &'static str,
        setting: &'static str,
        wanted: &BTreeMap<K, V>,
    ) -> Result<(usize, BTreeSet<K>), Error> {
        let failed = |source| Error::Map { map: name, source };
        let mut map = HashMap::<_, K, V>::try_from(self.map_mut(name)).map_err(failed)?;
        let old = map.iter().collect::<Result<BTreeMap<K, V>, _>>().map_err(failed)?;
        let mut count = 0;
        for (key, value) in wanted {
            if old.get(key) != Some(value) {
                map.insert(key, value, 0).map_err(|source| full_or(source, name, setting, wanted.len()))?;
                count += 1;
            }
        }
        Ok((count, old.into_keys().filter(|key| !wanted.contains_key(key)).collect()))
    }

    /// Gives how many there were.
    pub(super) fn remove<K: Pod, V: Pod>(&mut self, name: &'static str, keys: &BTreeSet<K>) -> Result<usize, Error> {
        let failed = |source| Error::Map { map: name, source };
        let mut map = HashMap::<_, K, V>::try_from(self.map_mut(name)).map_err(failed)?;
        let mut count = 0;
        for key in keys {
            match map.remove(key) {
                Ok(()) => count += 1,
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(count)
    }
}

/// Whether there was nothing to remove.
pub(super) fn is_missing(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::ENOENT))
}

/// `E2BIG` from a hash map and `ENOSPC` from a trie say that it is full.
pub(super) fn full_or(source: MapError, map: &'static str, setting: &'static str, wanted: usize) -> Error {
    match &source {
        MapError::SyscallError(error) if matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) => {
            Error::Full { map, wanted, setting }
        }
        _ => Error::Map { map, source },
    }
}
