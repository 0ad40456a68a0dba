//! Reading ROUTES in pieces: the library's iterators begin at the start each time, and cost two system calls an entry.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use vpn_ebpf_common::{
    Address,
    route::{Route, RouteKey, SET_BITS},
};

/// `BPF_MAP_LOOKUP_BATCH` of uapi/linux/bpf.h (for tries Linux 5.14).
const LOOKUP_BATCH: libc::c_long = 24;

/// A key as the kernel has it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct TrieKey {
    bits: u32,
    key: RouteKey,
}

/// Where a walk goes on.
#[derive(Clone, Copy, Debug)]
pub struct Place(TrieKey);

/// The part of `union bpf_attr` that the command reads.
#[repr(C)]
struct Attributes {
    in_batch: *const TrieKey,
    out_batch: *mut TrieKey,
    keys: *mut TrieKey,
    values: *mut Route,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Routes by set, destination, and prefix length in the 128 bits of [`Address`].
pub(super) type Entries = Vec<((u32, Address, u32), Route)>;

/// The next entries behind `after`, at most so many, and the place where to go on; `None` at the end. An entry that is
/// there all the time is seen. Where the entry at `after` was removed in the meantime, the walk begins at the start.
///
/// # Errors
/// What the kernel says.
pub(super) fn routes(map: BorrowedFd<'_>, after: Option<&Place>, most: usize) -> io::Result<(Entries, Option<Place>)> {
    let nothing = TrieKey { bits: 0, key: RouteKey { set: 0, destination: Address([0; 4]) } };
    let mut last = nothing;
    let mut keys = Vec::<TrieKey>::with_capacity(most);
    let mut values = Vec::<Route>::with_capacity(most);
    let mut attributes = Attributes {
        in_batch: after.map_or(std::ptr::null(), |Place(key)| key),
        out_batch: &raw mut last,
        keys: keys.as_mut_ptr(),
        values: values.as_mut_ptr(),
        count: most as u32,
        map: map.as_raw_fd().unsigned_abs(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads a key at `in_batch`, writes one at `out_batch`, at most `count` keys and values of the
    // map's sizes to where there is room for so many, and their number to `count`. `shape::check` has compared the sizes
    // of a pinned map with those of the types, and one that was loaded has them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>()) };
    let is_end = if result < 0 {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT) => true,
            // An entry was removed while it was read; what was read before it counts.
            Some(libc::EINTR) if attributes.count > 0 => false,
            _ => return Err(error),
        }
    } else {
        false
    };
    let count = (attributes.count as usize).min(most);
    // SAFETY: the kernel has written so many of either.
    unsafe {
        keys.set_len(count);
        values.set_len(count);
    }
    let entry = |(TrieKey { bits, key }, route): (TrieKey, Route)| {
        ((key.set, key.destination, bits.saturating_sub(SET_BITS)), route)
    };
    Ok((keys.into_iter().zip(values).map(entry).collect(), (!is_end).then_some(Place(last))))
}
