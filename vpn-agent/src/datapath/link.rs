//! Ending a pinned link at once. Removing its pin alone ends it, too, but only after the kernel has waited for everyone who
//! may still look at the pin: packets pass for milliseconds more.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `BPF_OBJ_GET` of uapi/linux/bpf.h.
const OBJ_GET: libc::c_long = 7;
/// `BPF_LINK_DETACH`, likewise (Linux 5.9).
const LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that both commands read.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// For `BPF_OBJ_GET` the address of the path; for `BPF_LINK_DETACH` the descriptor, in its first half.
    first: u64,
    rest: u64,
}

/// Detaches what is pinned at `pin`; the pin stays. Fine if there is nothing, or nothing that is attached.
///
/// # Errors
/// What the system says, if the pin cannot be opened.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attributes = Attributes { first: path.as_ptr() as u64, rest: 0 };
    // SAFETY: the path is a string that outlives the call, and the kernel reads as many bytes as it is told there are.
    let link = match unsafe { bpf(OBJ_GET, &attributes) } {
        // SAFETY: a descriptor that the kernel has just given, and nobody else has.
        Ok(descriptor) => unsafe { OwnedFd::from_raw_fd(descriptor) },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let attributes = Attributes { first: u64::from(link.as_raw_fd().unsigned_abs()), rest: 0 };
    // Refused if it is no link but a program, or the interface has gone: then there is nothing to end.
    // SAFETY: the descriptor is open, and the kernel reads as many bytes as it is told there are.
    let _ = unsafe { bpf(LINK_DETACH, &attributes) };
    Ok(())
}

/// # Safety
/// What `attributes` point to must be valid for the command.
unsafe fn bpf(command: libc::c_long, attributes: &Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
