//! The kernel side: loads the programs, pins maps and links, fills the maps. All of aya's loading is here.
//!
//! Maps and links are pinned, so enforcement stays while the agent is down (requirement G3). The pins of one
//! layout version lie in a directory of their own: `<pin_dir>/v<LAYOUT>/{maps,links}`.
//!
//! The folder of the links is also the switch of the emergency stop: [`detach`] removes it, and a running agent, which
//! makes it only when it starts or is told to, attaches nothing without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError},
    pin::PinError,
    programs::{ProgramError, SchedClassifier, links::LinkError},
};
use vpn_ebpf_common::{LAYOUT, names, peer::Peer};

pub mod fill;
mod guard;
mod holders;
pub mod hook;
mod link;
mod loading;
pub mod look;
pub mod part;
pub mod peers;
pub mod read;
pub mod repair;
pub mod route_set;
mod routes;
mod sets;
mod shape;
mod walk;
mod ways;
pub mod withdraw;

pub use self::{
    guard::pinned_guard,
    shape::{SERVICES_MAX, Sizes},
};
use self::{holders::Holders, hook::Hook, peers::PeerTable, sets::Sets};
use crate::interface::{of_pin, pin_name};

/// The object that `build.rs` made.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vpn-ebpf"));

/// Bytes of the Ethernet header that the kernel puts in front of every packet of a `BPF_PROG_TEST_RUN`.
pub const TEST_RUN_LINK_HEADER: u32 = 14;

/// The loaded programs and their maps.
pub struct Datapath {
    ebpf: Ebpf,
    /// Where links are pinned; none in tests that never attach.
    links: Option<PathBuf>,
    /// For how many peers there are accounts.
    peers_max: u32,
    /// PEERS.
    table: PeerTable,
    /// What this process has written there, or found when it began.
    holders: Holders,
    /// What is known of ROUTES; `None` if it has to be read.
    sets: Option<Sets>,
    /// Sets that a peer has left, of which it was not looked yet whether others have them.
    left: BTreeSet<u32>,
}

/// What can go wrong between the agent and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pin directory cannot be used.
    #[error("{}: {source}; is a BPF file system mounted there, and does the agent run as root?", path.display())]
    Pin {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A map cannot be pinned.
    #[error("{}: {source}", path.display())]
    PinMap {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: PinError,
    },
    /// A map from an earlier run has another shape.
    #[error(
        "{}: {what} is {found}, the configuration says {wanted}; set it back, or stop the gateway's traffic with \
         `vpn-agent detach --forget` and start the agent again", path.display()
    )]
    Shape {
        /// The pinned map.
        path: PathBuf,
        /// Which property.
        what: &'static str,
        /// Its value in the kernel.
        found: u32,
        /// Its value by configuration.
        wanted: u32,
    },
    /// Another version of the agent, whose maps have another layout, has left programs or maps.
    #[error(
        "{}: a gateway of another version (layout {found}; this one is {LAYOUT}) has its maps there, and its programs go \
         on enforcing what they hold; let the collector of that version store what is in them, then run \
         `vpn-agent detach --forget`, which ends all traffic, and start this version", path.display()
    )]
    Layout {
        /// The folder of that layout's pins.
        path: PathBuf,
        /// Its number.
        found: u32,
    },
    /// The object was refused by the kernel or by aya.
    #[error("loading the programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program was refused or could not be attached.
    #[error("program `{program}`: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// The kernel attached the program in a way that ends with the agent.
    #[error(
        "program `{program}`: the kernel gave no BPF link, so it could not be pinned; look at the kernel's version and \
         whether it has CONFIG_NET_XGRESS"
    )]
    NoLink {
        /// Its name.
        program: &'static str,
    },
    /// A link cannot be pinned or opened.
    #[error("{}: {source}", path.display())]
    Link {
        /// The pinned link.
        path: PathBuf,
        /// Why.
        source: LinkError,
    },
    /// `vpn-agent detach` was called since the programs were loaded.
    #[error("detached by `vpn-agent detach`; restart `vpn-agent run`, or send it SIGHUP, to attach the programs again")]
    Detached,
    /// A map operation failed.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// A peer's address is not in the pool that the maps were made for.
    #[error("PEERS has no place for the address number {number}; restart the agent after a change of `pools.tunnel`")]
    NoPlace {
        /// The host number of the address.
        number: u32,
    },
    /// A map is full.
    #[error("map {map} is full: {wanted} entries do not fit; raise `datapath.{setting}`")]
    Full {
        /// Its name.
        map: &'static str,
        /// How many entries the state needs.
        wanted: usize,
        /// The setting that holds its size.
        setting: &'static str,
    },
}

impl Datapath {
    /// Loads the programs. Maps that an earlier run pinned are used again, entries and all.
    ///
    /// # Errors
    /// [`Error::Pin`], [`Error::Layout`], [`Error::Shape`] if a pinned map is not what `sizes` asks for,
    /// [`Error::Load`], [`Error::Program`] if the verifier refuses a program.
    pub fn open(pin_dir: &Path, sizes: &Sizes) -> Result<Self, Error> {
        Self::load(OBJECT, Some(pin_dir), sizes, 0)
    }

    /// As [`Datapath::open`], for packets that come with an Ethernet header as in a test run; without `pin_dir` with maps
    /// of its own that end with the value.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn for_test_runs(pin_dir: Option<&Path>, sizes: &Sizes) -> Result<Self, Error> {
        Self::load(OBJECT, pin_dir, sizes, TEST_RUN_LINK_HEADER)
    }

    /// Loads an object, [`OBJECT`] as a rule. `tunnel_link_header` is the number of bytes in front of the IP header of
    /// packets out of tunnels.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn load(object: &[u8], pin_dir: Option<&Path>, sizes: &Sizes, tunnel_link_header: u32) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        let mut links = None;
        let (mut resized, mut has_lost_ways) = (None, false);
        if let Some(pin_dir) = pin_dir {
            if let Some((found, path)) = layouts(pin_dir)?.into_iter().find(|(layout, _)| *layout != LAYOUT) {
                return Err(Error::Layout { path, found });
            }
            let dirs = [layout_dir(pin_dir).join("maps"), layout_dir(pin_dir).join("links")];
            for dir in &dirs {
                fs::create_dir_all(dir).map_err(|source| Error::Pin { path: dir.clone(), source })?;
            }
            let [maps, own_links] = dirs;
            shape::check(&maps, sizes)?;
            has_lost_ways = ways::is_lost(&maps);
            let peers_pin = maps.join(names::PEERS);
            let kept = peers::of_other_size(&peers_pin, sizes.tunnel_addresses)?;
            for name in names::MAPS {
                // Its successor takes its place only once everything is loaded.
                if name != names::PEERS || kept.is_none() {
                    loader.map_pin_path(name, maps.join(name));
                }
            }
            resized = kept.map(|peers| (peers_pin, peers));
            links = Some(own_links);
        }
        for (name, entries) in sizes.by_map() {
            loader.map_max_entries(name, entries);
        }
        loader.override_global(names::TUNNEL_LINK_HEADER, &tunnel_link_header, true);
        let mut ebpf = loader.load(object)?;
        if has_lost_ways {
            ways::assume_all(ebpf.map_mut(names::WAYS).expect("the object has all maps"))?;
        }
        for program in [names::USERS, names::PLANT] {
            let failed = |source| Error::Program { program, source };
            let classifier = classifier(&mut ebpf, program);
            loading::patiently(|| classifier.load()).map_err(failed)?;
        }
        guard::load(&mut ebpf)?;
        let table = peers::of(peers_array(&ebpf), true)?;
        let holders = Holders::found(&table.entries());
        let (peers_max, left) = (sizes.peers_max, BTreeSet::new());
        let mut datapath = Self { ebpf, links, peers_max, table, holders, sets: None, left };
        if let Some((pin, peers)) = resized {
            for (number, peer) in peers {
                // Who has no place any more is no peer any more.
                let _ = datapath.set_peer(number, peer);
            }
            // Interfaces go on with programs that look into the old array until they get the new ones, within one apply.
            peers::replace_pin(peers_array(&datapath.ebpf), &pin)?;
        }
        Ok(datapath)
    }

    /// Attaches a program, [`names::USERS`] or [`names::PLANT`], to the ingress of an interface and pins that under the
    /// interface's name. Gives the program's id.
    ///
    /// A program that an earlier run attached is replaced in one step, without a moment in which the interface has none.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Program`], [`Error::NoLink`], [`Error::Link`], [`Error::Pin`].
    pub fn attach(&mut self, program: &'static str, interface: &str) -> Result<u32, Error> {
        if self.is_detached() {
            return Err(Error::Detached);
        }
        let Some(path) = self.links.as_ref().map(|links| links.join(pin_name(interface))) else {
            return Err(Error::NoLink { program });
        };
        let classifier = self.program(program);
        let own = classifier.info().map_err(|source| Error::Program { program, source })?.id();
        Hook::of_kernel().attach(program, classifier, interface, &path)?;
        Ok(own)
    }

    /// Detaches the program of an interface, if there is still such an interface; fine if that is done already.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn detach_interface(&self, name: &str) -> Result<(), Error> {
        let Some(links) = &self.links else { return Ok(()) };
        end(&guard::pin(links, name))?;
        Hook::of_kernel().detach(name, &links.join(pin_name(name)))
    }

    /// The interfaces that have a program pinned, whether or not they still exist.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn pinned_interfaces(&self) -> Result<Vec<String>, Error> {
        self.links.as_ref().map_or(Ok(Vec::new()), |links| {
            let failed = |source| Error::Pin { path: links.clone(), source };
            let entries = match fs::read_dir(links) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries.map_err(failed)?,
            };
            entries.map(|entry| Ok(of_pin(&entry.map_err(failed)?.file_name().to_string_lossy()))).collect()
        })
    }

    /// Whether [`detach()`] was called since this was opened.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.links.as_ref().is_some_and(|links| !links.exists())
    }

    /// The program by its name, for `BPF_PROG_TEST_RUN`.
    ///
    /// # Panics
    /// If the object has no such program, which its build would not survive.
    pub fn program(&mut self, name: &str) -> &mut SchedClassifier {
        classifier(&mut self.ebpf, name)
    }

    /// PEERS itself. What is written through it is taken for a change that something else has made.
    #[must_use]
    pub const fn peer_table(&self) -> &PeerTable {
        &self.table
    }

    /// As [`PeerTable::set`].
    #[must_use]
    fn set_peer(&mut self, number: u32, peer: Peer) -> bool {
        let is_set = self.table.set(number, peer);
        if is_set {
            self.left.extend(self.holders.note(number, peer));
        }
        is_set
    }

    /// Makes a host number this peer's. False if it was before.
    ///
    /// # Errors
    /// [`Error::NoPlace`].
    fn give(&mut self, number: u32, peer: Peer) -> Result<bool, Error> {
        if self.table.get(number) == Some(peer) {
            // Something else may have written it.
            self.left.extend(self.holders.note(number, peer));
            return Ok(false);
        }
        if self.set_peer(number, peer) { Ok(true) } else { Err(Error::NoPlace { number }) }
    }

    fn map(&self, name: &'static str) -> &Map {
        self.ebpf.map(name).expect("the object has the maps that it was built with")
    }

    /// The map with this name, one of [`names::MAPS`], to be written: for tests and benchmarks.
    ///
    /// # Panics
    /// If the object has no such map.
    pub fn map_mut(&mut self, name: &'static str) -> &mut Map {
        self.ebpf.map_mut(name).expect("the object has the maps that it was built with")
    }
}

/// Detaches the programs from all interfaces, those of other versions too, and removes the folders of the links: nothing is forwarded from then on, and a
/// running agent attaches nothing until it is restarted or gets SIGHUP.
/// With `forget`, the maps go too, and with them counters and flows that the collector has not stored yet.
///
/// # Errors
/// [`Error::Pin`].
pub fn detach(pin_dir: &Path, forget: bool) -> Result<(), Error> {
    for (layout, dir) in layouts(pin_dir)? {
        hook::detach_all(&dir.join("links"))?;
        hook::detach_all(&dir.join(guard::PINS))?;
        if forget {
            remove(&dir.join("maps"))?;
        }
        // This one's folder stays: without its links it says that the programs were detached.
        if forget && layout != LAYOUT {
            remove(&dir)?;
        }
    }
    Ok(())
}

/// The id of the program that is pinned for an interface; `None` if there is no such pin.
///
/// # Errors
/// [`Error::Link`].
pub fn pinned_program(pin_dir: &Path, interface: &str) -> Result<Option<u32>, Error> {
    let path = layout_dir(pin_dir).join("links").join(pin_name(interface));
    if !path.exists() {
        return Ok(None);
    }
    Hook::of_kernel().pinned(&path).map(Some).map_err(|source| Error::Link { path, source })
}

/// Whether the maps of this layout version are pinned.
#[must_use]
pub fn are_maps_pinned(pin_dir: &Path) -> bool {
    layout_dir(pin_dir).join("maps").join(names::PEERS).exists()
}

/// Whether [`detach`] was called since an agent ran, and not undone by another run.
#[must_use]
pub fn is_detached(pin_dir: &Path) -> bool {
    let layout = layout_dir(pin_dir);
    layout.exists() && !layout.join("links").exists()
}

/// Directory of this layout version's pins.
#[must_use]
pub fn layout_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT}"))
}

/// The folders of pins by layout, this one's and other versions'.
fn layouts(pin_dir: &Path) -> Result<BTreeMap<u32, PathBuf>, Error> {
    let failed = |source| Error::Pin { path: pin_dir.to_owned(), source };
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(failed)?,
    };
    let mut layouts = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if let Some(Ok(layout)) = name.to_str().and_then(|name| name.strip_prefix('v')).map(str::parse) {
            layouts.insert(layout, entry.path());
        }
    }
    Ok(layouts)
}

/// Removes a folder of pins; none is as good as removed.
fn remove(dir: &Path) -> Result<(), Error> {
    loop {
        match fs::remove_dir_all(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A running agent has pinned one more in the meantime; it does so once for each interface.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(source) => return Err(Error::Pin { path: dir.to_owned(), source }),
        }
    }
}

/// Detaches what is pinned and removes the pin; none is as good as removed.
fn end(pin: &Path) -> Result<(), Error> {
    link::detach(pin).map_err(|source| Error::Pin { path: pin.to_owned(), source })?;
    unpin(pin)
}

/// Removes one pin; none is as good as removed.
fn unpin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Pin { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

fn peers_array(ebpf: &Ebpf) -> &MapData {
    let Some(Map::Array(array)) = ebpf.map(names::PEERS) else { panic!("the object has the array PEERS") };
    array
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = ebpf.program_mut(name).expect("the object has the programs that it was built with");
    program.try_into().expect("both programs are classifiers")
}

/// For tests: with small maps of its own; none where the user may not load programs.
#[cfg(test)]
fn small() -> Option<Datapath> {
    let sizes = Sizes { flows_max: 1024, closed_max: 64, denials_max: 64, events_bytes: 65_536, ..Sizes::default() };
    match Datapath::for_test_runs(None, &sizes) {
        Ok(datapath) => Some(datapath),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}
