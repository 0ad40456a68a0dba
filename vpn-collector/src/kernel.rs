//! The pinned maps as the collector uses them: it reads all, and removes what has been stored.

use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, RingBuf};
use vpn_ebpf_common::{
    LAYOUT,
    denial::{Denial, DenialKey},
    event::Event,
    flow::{Age, ClosedKey, Flow, FlowKey},
    gateway::{Gateway, IdleLimits},
    names,
};

/// `BPF_NOEXIST` of the kernel's uapi/linux/bpf.h: insert, or fail if the key is there.
const NO_EXIST: u64 = 1;

/// The maps.
pub struct Kernel {
    /// The kernel's number of FLOWS.
    flows_id: u32,
    flows: HashMap<MapData, FlowKey, Flow>,
    closed: HashMap<MapData, ClosedKey, Flow>,
    denied: HashMap<MapData, DenialKey, Denial>,
    gateway: Array<MapData, Gateway>,
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
    /// It is in CLOSED.
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
            gateway: open(names::GATEWAY)?.try_into().map_err(typed(names::GATEWAY))?,
            events: open(names::EVENTS)?.try_into().map_err(typed(names::EVENTS))?,
        })
    }

    /// Live flows. One that is opened or removed meanwhile may or may not appear.
    pub fn flows(&self) -> impl Iterator<Item = Result<(FlowKey, Flow), Error>> {
        self.flows.iter().map(|entry| entry.map_err(|source| Error { map: names::FLOWS, source }))
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

    /// The idle limits that the programs go by.
    ///
    /// # Errors
    /// [`Error`].
    pub fn idle_limits(&self) -> Result<IdleLimits, Error> {
        let gateway = self.gateway.get(&0, 0).map_err(|source| Error { map: names::GATEWAY, source })?;
        Ok(gateway.idle)
    }

    /// Moves a flow that is over from FLOWS to CLOSED.
    ///
    /// Adding to CLOSED is the claim, as in the programs: whoever succeeds removes it from FLOWS. A claim whose
    /// owner died before that heals by itself: once it is stored and forgotten, the flow is claimed again and stored
    /// again under the same id with the same totals, which changes nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub fn end(&mut self, key: &FlowKey, now_ns: u64, limits: &IdleLimits) -> Result<End, Error> {
        let flows = |source| Error { map: names::FLOWS, source };
        // Read again: the sweep's copy may be from before the flow's last packet.
        let flow = match self.flows.get(key, 0) {
            Ok(flow) if flow.age(now_ns, limits.of(key.protocol)) == Age::Over => flow,
            Ok(_) | Err(MapError::KeyNotFound) => return Ok(End::NotNow),
            Err(source) => return Err(flows(source)),
        };
        let closed = ClosedKey { flow: *key, opened_ns: flow.opened_ns };
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
        self.flows.remove(key).map_err(flows)?;
        Ok(End::Moved)
    }

    /// Removes a finished flow that has been stored. One that is gone already is as good as removed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forget(&mut self, key: &ClosedKey) -> Result<(), Error> {
        match self.closed.remove(key) {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(source) if errno(&source) != Some(libc::ENOENT) => Err(Error { map: names::CLOSED, source }),
            _ => Ok(()),
        }
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

/// The error number of a failed system call.
fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}
