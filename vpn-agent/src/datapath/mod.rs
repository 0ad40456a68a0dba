//! The kernel side: loads the programs, pins maps and links, fills the maps. All of aya's loading is here.
//!
//! Maps and links are pinned, so enforcement stays while the agent is down (requirement G3). The pins of one
//! layout version lie in a directory of their own: `<pin_dir>/v<LAYOUT>/{maps,links}`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapError},
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};
use vpn_ebpf_common::{LAYOUT, names};

pub mod fill;
pub mod read;
mod shape;

pub use shape::Sizes;

/// The object that `build.rs` made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vpn-ebpf"));

/// The loaded programs and their maps.
pub struct Datapath {
    ebpf: Ebpf,
    /// Where links are pinned; none in tests that never attach.
    links: Option<PathBuf>,
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
    /// The object was refused by the kernel or by aya.
    #[error("loading the XDP programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program was refused or could not be attached.
    #[error("XDP program `{program}`: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// The kernel attached the program in a way that ends with the agent.
    #[error(
        "XDP program `{program}`: the kernel gave no BPF link, so it could not be pinned; Linux 5.9 or later is needed"
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
    /// A map operation failed.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: MapError,
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
    /// [`Error::Pin`], [`Error::Shape`] if a pinned map is not what `sizes` asks for, [`Error::Load`],
    /// [`Error::Program`] if the verifier refuses a program.
    pub fn open(pin_dir: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let maps = layout_dir(pin_dir).join("maps");
        let links = layout_dir(pin_dir).join("links");
        for dir in [&maps, &links] {
            fs::create_dir_all(dir).map_err(|source| Error::Pin { path: dir.clone(), source })?;
        }
        shape::check(&maps, sizes)?;
        let mut loader = EbpfLoader::new();
        for name in names::MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
        Ok(Self { ebpf: load(&mut loader, sizes)?, links: Some(links) })
    }

    /// Loads the programs with maps of their own that end with the value: for tests and benchmarks.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn unpinned(sizes: &Sizes) -> Result<Self, Error> {
        Ok(Self { ebpf: load(&mut EbpfLoader::new(), sizes)?, links: None })
    }

    /// Attaches the program `users` to an interface and pins the link as `name`.
    ///
    /// # Errors
    /// [`Error::Program`], [`Error::NoLink`], [`Error::Link`].
    pub fn attach_users(&mut self, name: &str, interface: u32) -> Result<(), Error> {
        self.attach(names::USERS, name, interface)
    }

    /// Attaches the program `plant` to an interface and pins the link as `name`.
    ///
    /// # Errors
    /// As [`Datapath::attach_users`].
    pub fn attach_plant(&mut self, name: &str, interface: u32) -> Result<(), Error> {
        self.attach(names::PLANT, name, interface)
    }

    /// The program by its name, for `BPF_PROG_TEST_RUN`.
    ///
    /// # Panics
    /// If the object has no such program, which its build would not survive.
    pub fn program(&mut self, name: &str) -> &mut Xdp {
        let program = self.ebpf.program_mut(name).expect("the object has the programs that it was built with");
        program.try_into().expect("both programs are XDP programs")
    }

    /// A link that an earlier run pinned is moved to this run's program in one step, without a moment in which
    /// the interface has none.
    fn attach(&mut self, program: &'static str, name: &str, interface: u32) -> Result<(), Error> {
        let Some(path) = self.links.as_ref().map(|links| links.join(name)) else {
            return Err(Error::NoLink { program });
        };
        let xdp = self.program(program);
        let failed = |source| Error::Program { program, source };
        if let Ok(pinned) = PinnedLink::from_pin(&path) {
            let link =
                XdpLink::try_from(FdLink::from(pinned)).map_err(|source| Error::Link { path: path.clone(), source })?;
            if xdp.attach_to_link(link).is_ok() {
                return Ok(());
            }
            // The interface that it belonged to is gone, and the link with it.
            fs::remove_file(&path).map_err(|source| Error::Pin { path: path.clone(), source })?;
        }
        // WireGuard devices have no XDP of their own; generic mode it is.
        let id = xdp.attach_to_if_index(interface, XdpMode::Skb).map_err(failed)?;
        let link = xdp.take_link(id).map_err(failed)?;
        let link = FdLink::try_from(link).map_err(|_| Error::NoLink { program })?;
        link.pin(&path).map_err(|source| Error::Pin { path: path.clone(), source: io::Error::other(source) })?;
        Ok(())
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

/// Detaches the programs from all interfaces by removing the pinned links: nothing is forwarded from then on.
/// With `forget`, the maps go too, and with them counters and flows that the collector has not stored yet.
///
/// # Errors
/// [`Error::Pin`].
pub fn detach(pin_dir: &Path, forget: bool) -> Result<(), Error> {
    let layout = layout_dir(pin_dir);
    remove(&layout.join("links"))?;
    if forget {
        remove(&layout.join("maps"))?;
    }
    Ok(())
}

/// Directory of this layout version's pins.
#[must_use]
pub fn layout_dir(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT}"))
}

/// Removes a folder of pins; none is as good as removed.
fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Pin { path: dir.to_owned(), source }),
        _ => Ok(()),
    }
}

fn load(loader: &mut EbpfLoader<'_>, sizes: &Sizes) -> Result<Ebpf, Error> {
    for (name, entries) in sizes.by_map() {
        loader.map_max_entries(name, entries);
    }
    let mut ebpf = loader.load(OBJECT)?;
    for program in [names::USERS, names::PLANT] {
        let failed = |source| Error::Program { program, source };
        let xdp: &mut Xdp = ebpf
            .program_mut(program)
            .expect("the object has the programs that it was built with")
            .try_into()
            .map_err(failed)?;
        xdp.load().map_err(failed)?;
    }
    Ok(ebpf)
}
