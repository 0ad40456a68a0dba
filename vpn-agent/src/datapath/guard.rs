//! The XDP program in front of Ethernet uplinks whose driver runs XDP itself. An uplink without it works as well.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use vpn_ebpf_common::names;

use super::{Datapath, Error, layout_dir, loading, unpin};
use crate::interface::pin_name;

/// The folder of the guards' links, beside that of the programs at the ingress hook.
pub(super) const PINS: &str = "guards";

/// Where the link of an interface's guard is pinned; `links` is the folder of the others.
pub(super) fn pin(links: &Path, interface: &str) -> PathBuf {
    links.with_file_name(PINS).join(pin_name(interface))
}

pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), Error> {
    let program = program(ebpf);
    loading::patiently(|| program.load()).map_err(failed)
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf.program_mut(names::GUARD).expect("the object has the programs that it was built with");
    program.try_into().expect("the guard is an XDP program")
}

const fn failed(source: ProgramError) -> Error {
    Error::Program { program: names::GUARD, source }
}

impl Datapath {
    /// Attaches the guard to an Ethernet interface and pins its link. Gives the program's id; none where the driver does
    /// not run XDP, as with VLANs and bridges.
    ///
    /// # Errors
    /// [`Error::Program`], [`Error::Link`], [`Error::Pin`].
    pub fn attach_guard(&mut self, interface: &str, ifindex: u32) -> Result<Option<u32>, Error> {
        let Some(pin) = self.links.as_ref().map(|links| pin(links, interface)) else { return Ok(None) };
        if let Some(dir) = pin.parent() {
            fs::create_dir_all(dir).map_err(|source| Error::Pin { path: dir.to_owned(), source })?;
        }
        let guard = program(&mut self.ebpf);
        let own = guard.info().map_err(failed)?.id();
        if let Ok(pinned) = PinnedLink::from_pin(&pin) {
            let link =
                XdpLink::try_from(FdLink::from(pinned)).map_err(|source| Error::Link { path: pin.clone(), source })?;
            if let Ok(id) = guard.attach_to_link(link) {
                // Not kept open: the pin alone holds the link.
                drop(guard.take_link(id).map_err(failed)?);
                return Ok(Some(own));
            }
            // The interface that it belonged to is gone, and the link with it.
            unpin(&pin)?;
        }
        let Ok(id) = guard.attach_to_if_index(ifindex, XdpMode::Driver) else { return Ok(None) };
        let link = guard.take_link(id).map_err(failed)?;
        // Without a link, the kernel would take the program off with the agent: then rather none.
        let Ok(link) = FdLink::try_from(link) else { return Ok(None) };
        link.pin(&pin).map_err(|source| Error::Pin { path: pin.clone(), source: io::Error::other(source) })?;
        Ok(Some(own))
    }
}

/// The id of the guard that is pinned for an interface; none if there is none.
#[must_use]
pub fn pinned_guard(pin_dir: &Path, interface: &str) -> Option<u32> {
    let pin = pin(&layout_dir(pin_dir).join("links"), interface);
    PinnedLink::from_pin(pin).and_then(|pinned| FdLink::from(pinned).info()).ok().map(|info| info.program_id())
}
