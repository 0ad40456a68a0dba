//! Where the programs run: at the ingress of an interface, in front of everything else.
//!
//! Linux 6.6 and later: tcx, whose link is pinned and can be moved to another program in one step. Before: a filter of a
//! clsact qdisc, which the kernel keeps without a pin and replaces in one step as well; so that one knows what is where,
//! the program is pinned in the link's place.

use std::{fs, io, path::Path};

use aya::{
    programs::{
        LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};

use super::Error;
use crate::interface::of_pin;

/// The filter's place on kernels without tcx: the first that a packet meets.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// The kind of hook that this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// See the module.
    Tcx,
    /// See the module.
    Filter,
}

impl Hook {
    /// The one that this kernel has.
    #[must_use]
    pub fn of_kernel() -> Self {
        let tcx = KernelVersion::new(6, 6, 0);
        if KernelVersion::current().is_ok_and(|version| version >= tcx) { Self::Tcx } else { Self::Filter }
    }

    /// Attaches a program and pins it at `pin`; one that is there already is replaced without a moment in which the
    /// interface has none.
    pub(super) fn attach(
        self,
        name: &'static str,
        program: &mut SchedClassifier,
        interface: &str,
        pin: &Path,
    ) -> Result<(), Error> {
        let failed = |source| Error::Program { program: name, source };
        match self {
            Self::Tcx => attach_tcx(name, program, interface, pin),
            Self::Filter => {
                attach_filter(program, interface).map_err(failed)?;
                super::unpin(pin)?;
                program.pin(pin).map_err(|source| Error::Pin { path: pin.to_owned(), source: io::Error::other(source) })
            }
        }
    }

    /// Detaches what is pinned at `pin`; fine if it, or the interface, is gone already.
    pub(super) fn detach(self, interface: &str, pin: &Path) -> Result<(), Error> {
        if self == Self::Filter
            && let Ok(link) = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        {
            // Deletes the filter. Fails if there is none.
            drop(link);
        }
        super::end(pin)
    }

    /// The id of the program that is pinned at `pin`.
    pub(super) fn pinned(self, pin: &Path) -> Result<u32, LinkError> {
        match self {
            Self::Tcx => Ok(PinnedLink::from_pin(pin).and_then(|pinned| FdLink::from(pinned).info())?.program_id()),
            Self::Filter => match ProgramInfo::from_pin(pin) {
                Ok(info) => Ok(info.id()),
                Err(ProgramError::SyscallError(error)) => Err(LinkError::SyscallError(error)),
                Err(_) => Err(LinkError::InvalidLink),
            },
        }
    }
}

fn attach_tcx(name: &'static str, program: &mut SchedClassifier, interface: &str, pin: &Path) -> Result<(), Error> {
    let failed = |source| Error::Program { program: name, source };
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let link = SchedClassifierLink::try_from(FdLink::from(pinned))
            .map_err(|source| Error::Link { path: pin.to_owned(), source })?;
        if let Ok(id) = program.attach_to_link(link) {
            // Not kept open: the pin alone holds the link, so that removing it detaches at once.
            drop(program.take_link(id).map_err(failed)?);
            return Ok(());
        }
        // The interface that it belonged to is gone, and the link with it.
        super::unpin(pin)?;
    }
    // First, so that no other program lets a packet by.
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(failed)?;
    let link = program.take_link(id).map_err(failed)?;
    let link = FdLink::try_from(link).map_err(|_| Error::NoLink { program: name })?;
    match link.pin(pin) {
        Ok(_) => Ok(()),
        // `vpn-agent detach` has just removed the folder.
        Err(_) if pin.parent().is_some_and(|links| !links.exists()) => Err(Error::Detached),
        Err(source) => Err(Error::Pin { path: pin.to_owned(), source: io::Error::other(source) }),
    }
}

fn attach_filter(program: &mut SchedClassifier, interface: &str) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        added => added?,
    }
    let there = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None);
    let replaced =
        there.map_err(TcError::IoError).map_err(ProgramError::from).and_then(|link| program.attach_to_link(link));
    let id = match replaced {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?
        }
    };
    // Dropping it would delete the filter, which shall outlive this program.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Detaches everything that is pinned in a folder, and removes the folder.
pub(super) fn detach_all(links: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| Error::Pin { path: links.to_owned(), source })?,
    };
    let hook = Hook::of_kernel();
    for entry in entries {
        let entry = entry.map_err(|source| Error::Pin { path: links.to_owned(), source })?;
        hook.detach(&of_pin(&entry.file_name().to_string_lossy()), &entry.path())?;
    }
    super::remove(links)
}
