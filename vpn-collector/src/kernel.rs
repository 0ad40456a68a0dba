//! The pinned maps as the collector uses them: it reads all, removes what has been stored, and counts what it removed.

use std::path::{Path, PathBuf};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, MapInfo, RingBuf},
};
use vpn_ebpf_common::{
    LAYOUT,
    denial::{Denial, DenialKey},
    event::Event,
    flow::{Age, ClosedKey, Flow, FlowKey, Traffic},
    names,
    usage::Usage,
};

/// `BPF_NOEXIST` of the kernel's uapi/linux/bpf.h: insert, or fail if the key is there.
const NO_EXIST: u64 = 1;

/// How often an entry is read whose memory is being used again. Once more is enough, unless that happens again meanwhile.
const READS: usize = 4;

/// The maps.
pub struct Kernel {
    /// The kernel's number of FLOWS.
    flows_id: u32,
    flows: HashMap<MapData, FlowKey, Flow>,
    closed: HashMap<MapData, ClosedKey, Flow>,
    denied: HashMap<MapData, DenialKey, Denial>,
    usage: HashMap<MapData, u32, Usage>,
    released: HashMap<MapData, u32, u64>,
    events: RingBuf<MapData>,
}

/// A map operation failed.
#[derive(Debug, thiserror::Error)]
#[error("map {map}: {source}")]
pub struct Error {
    map: &'static str,
    source: MapError,
}

/// What became of the wish to end a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is in CLOSED, and no longer in FLOWS.
    Moved,
    /// It is not over, or someone else is ending it.
    NotNow,
    /// CLOSED is full; the flow stays in FLOWS, where it is as safe.
    Full,
}

impl Kernel {
    /// Opens the maps that the agent pinned below `pin_dir`.
    ///
    /// # Errors
    /// [`Error`]; a missing map means that no agent of this layout version has run since the machine started.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        let maps = maps_dir(pin_dir);
        let open = |map| {
            let data = MapData::from_pin(maps.join(map)).map_err(|source| Error { map, source })?;
            Map::from_map_data(data).map_err(|source| Error { map, source })
        };
        let typed = |map| move |source| Error { map, source };
        let flows_info = MapInfo::from_pin(maps.join(names::FLOWS)).map_err(typed(names::FLOWS))?;
        Ok(Self {
            flows_id: flows_info.id(),
            flows: open(names::FLOWS)?.try_into().map_err(typed(names::FLOWS))?,
            closed: open(names::CLOSED)?.try_into().map_err(typed(names::CLOSED))?,
            denied: open(names::DENIED)?.try_into().map_err(typed(names::DENIED))?,
            usage: open(names::USAGE)?.try_into().map_err(typed(names::USAGE))?,
            released: open(names::RELEASED)?.try_into().map_err(typed(names::RELEASED))?,
            events: open(names::EVENTS)?.try_into().map_err(typed(names::EVENTS))?,
        })
    }

    /// Entries of FLOWS. One that is added or removed meanwhile may or may not appear, and one may appear twice.
    pub fn flows(&self) -> impl Iterator<Item = Result<(FlowKey, Flow), Error>> {
        let flows = self.flows.keys().map(|key| {
            let key = key.map_err(|source| Error { map: names::FLOWS, source })?;
            Ok(self.flow(&key)?.map(|flow| (key, flow)))
        });
        flows.filter_map(Result::transpose)
    }

    /// The flow that has this key now.
    fn flow(&self, key: &FlowKey) -> Result<Option<Flow>, Error> {
        for _ in 0..READS {
            match self.flows.get(key, 0) {
                Ok(flow) if flow.tag == key.tag() => return Ok(Some(flow)),
                // The entry was removed while it was read, and its memory is another flow's now.
                Ok(_) => {}
                Err(MapError::KeyNotFound) => break,
                Err(source) => return Err(Error { map: names::FLOWS, source }),
            }
        }
        Ok(None)
    }

    /// Whether a copy from [`Kernel::flows`] holds nothing of another flow.
    ///
    /// The kernel gives the memory of a removed entry to the next one at once, so a copy that is made meanwhile may be of
    /// both, even of two flows under one key. If it says to be of the flow that ended, a later copy is of another flow,
    /// or there is none. If it says to be of the one that began, a later copy has less than what it took from the other.
    ///
    /// # Errors
    /// [`Error`].
    pub fn confirms(&self, key: &FlowKey, copy: &Flow) -> Result<bool, Error> {
        Ok(self.flow(key)?.is_some_and(|later| is_later(&later, copy)))
    }

    /// Finished flows that have not been stored yet. Their totals are final.
    pub fn closed(&self) -> impl Iterator<Item = Result<(ClosedKey, Flow), Error>> {
        self.closed.iter().map(|entry| entry.map_err(|source| Error { map: names::CLOSED, source }))
    }

    /// Refused destinations.
    pub fn denials(&self) -> impl Iterator<Item = Result<(DenialKey, Denial), Error>> {
        self.denied.iter().map(|entry| entry.map_err(|source| Error { map: names::DENIED, source }))
    }

    /// The next record of the ring buffer, if there is one. Records of an unknown kind are passed over.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let record = self.events.next()?;
            if let Some(event) = Event::parse(&record) {
                return Some(event);
            }
        }
    }

    /// What peers use, by peer id.
    pub fn usage(&self) -> impl Iterator<Item = Result<(u32, Usage), Error>> {
        self.usage.iter().map(|entry| entry.map_err(|source| Error { map: names::USAGE, source }))
    }

    /// [`Usage::opened`] of a peer; none if it has no entry.
    ///
    /// # Errors
    /// [`Error`].
    pub fn opened(&self, peer: u32) -> Result<Option<u64>, Error> {
        match self.usage.get(&peer, 0) {
            Ok(usage) => Ok(Some(usage.opened)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error { map: names::USAGE, source }),
        }
    }

    /// How many of a peer's flows are no longer in FLOWS, by peer id.
    pub fn released(&self) -> impl Iterator<Item = Result<(u32, u64), Error>> {
        self.released.iter().map(|entry| entry.map_err(|source| Error { map: names::RELEASED, source }))
    }

    /// Says how many of a peer's flows are no longer in FLOWS. Nothing is said of a peer that the agent has removed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn release(&mut self, peer: u32, released: u64) -> Result<(), Error> {
        if self.opened(peer)?.is_some() {
            self.released.insert(peer, released, 0).map_err(|source| Error { map: names::RELEASED, source })?;
        }
        Ok(())
    }

    /// Removes what was said of a peer that is gone.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forget_released(&mut self, peer: u32) -> Result<(), Error> {
        remove(&mut self.released, &peer, names::RELEASED)
    }

    /// Moves a flow that is over from FLOWS to CLOSED.
    ///
    /// Adding to CLOSED is the claim, as in the programs: whoever succeeds removes it from FLOWS. A claim whose
    /// owner died before that heals by itself: once it is stored and forgotten, the flow is claimed again and stored
    /// again under the same id with the same totals, which changes nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub fn end(&mut self, key: &FlowKey, now_ns: u64) -> Result<End, Error> {
        // Read again: the sweep's copy may be from before the flow's last packet. And twice: nothing changes in a flow
        // that is over, so two equal copies are no mixture with another one, see `confirms`.
        let flow = match (self.flow(key)?, self.flow(key)?) {
            (Some(flow), Some(again)) if flow == again && flow.age(now_ns) == Age::Over => flow,
            _ => return Ok(End::NotNow),
        };
        let closed = ClosedKey::new(*key, flow.opened_ns);
        match self.closed.insert(closed, flow, NO_EXIST) {
            Ok(()) => {}
            Err(source) => {
                return match errno(&source) {
                    Some(libc::EEXIST) => Ok(End::NotNow),
                    Some(libc::E2BIG) => Ok(End::Full),
                    _ => Err(Error { map: names::CLOSED, source }),
                };
            }
        }
        self.flows.remove(key).map_err(|source| Error { map: names::FLOWS, source })?;
        Ok(End::Moved)
    }

    /// Removes a finished flow that has been stored. One that is gone already is as good as removed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forget(&mut self, key: &ClosedKey) -> Result<(), Error> {
        remove(&mut self.closed, key, names::CLOSED)
    }

    /// Removes a refused destination whose last totals have been stored.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forget_denial(&mut self, key: &DenialKey) -> Result<(), Error> {
        remove(&mut self.denied, key, names::DENIED)
    }

    /// Whether these maps are the ones that are pinned below `pin_dir` now. The agent makes new ones when it was
    /// told to forget the old.
    #[must_use]
    pub fn is_pinned(&self, pin_dir: &Path) -> bool {
        let pinned = MapInfo::from_pin(maps_dir(pin_dir).join(names::FLOWS)).map(|info| info.id());
        pinned.is_ok_and(|id| id == self.flows_id)
    }
}

/// Where the agent pins the maps of this layout version.
fn maps_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT}")).join("maps")
}

/// Whether `later` may be a copy of the same flow that was made after `earlier`.
const fn is_later(later: &Flow, earlier: &Flow) -> bool {
    const fn is_no_less(later: &Traffic, earlier: &Traffic) -> bool {
        later.packets >= earlier.packets && later.bytes >= earlier.bytes
    }
    later.opened_ns == earlier.opened_ns
        && is_no_less(&later.to_plant, &earlier.to_plant)
        && is_no_less(&later.to_user, &earlier.to_user)
}

/// Removes an entry. One that is gone already is as good as removed.
fn remove<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, key: &K, name: &'static str) -> Result<(), Error> {
    match map.remove(key) {
        Err(source) if errno(&source) != Some(libc::ENOENT) => Err(Error { map: name, source }),
        _ => Ok(()),
    }
}

/// The error number of a failed system call.
fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}
