//! The array PEERS, mapped into this process: no system call promises to copy a peer as a whole, and a packet could see
//! half of the old one and half of the new one.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    fs, io,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{MapData, MapError};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vpn_ebpf_common::{names, peer::Peer};

use super::Error;

/// See the module.
pub struct PeerTable {
    words: NonNull<AtomicU64>,
    count: usize,
    is_writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread, and its words are atomic.
unsafe impl Send for PeerTable {}

// SAFETY: as above; nothing but the words is shared.
unsafe impl Sync for PeerTable {}

impl PeerTable {
    /// Maps the array with so many places, to read it alone or to write it too.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn map(array: BorrowedFd<'_>, count: u32, is_writable: bool) -> io::Result<Self> {
        let count = count as usize;
        let access = if is_writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at a place that the kernel chooses takes nothing away from anybody.
        let at = unsafe { mmap(ptr::null_mut(), count * size_of::<u64>(), access, MapFlags::SHARED, array, 0) }?;
        let words = NonNull::new(at.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { words, count, is_writable })
    }

    /// The peer at a host number, if it is somebody's.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Peer> {
        let peer = Peer::from_word(self.words().get(number as usize)?.load(Ordering::Relaxed));
        (peer != Peer::NOBODY).then_some(peer)
    }

    /// Makes the host number this peer's, in one store. False if there is no such number, or if it is mapped for reading.
    #[must_use]
    pub fn set(&self, number: u32, peer: Peer) -> bool {
        match self.words().get(number as usize) {
            // What a peer's route set leads to is in its place before the peer points to it.
            Some(word) if self.is_writable => {
                word.store(peer.to_word(), Ordering::Release);
                true
            }
            _ => false,
        }
    }

    /// Everybody, by host number.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<u32, Peer> {
        self.range(0..self.count as u32)
    }

    /// Those with these host numbers.
    #[must_use]
    pub fn range(&self, numbers: Range<u32>) -> BTreeMap<u32, Peer> {
        let words = self.words().iter().take(numbers.end as usize).skip(numbers.start as usize);
        let peers = numbers.zip(words).map(|(number, word)| (number, Peer::from_word(word.load(Ordering::Relaxed))));
        peers.filter(|(_, peer)| *peer != Peer::NOBODY).collect()
    }

    /// How many host numbers there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count as u32
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds so many words of 8 bytes each, begins at a page, and lives as long as `self`. The
        // programs only read it, and whoever writes it does so by such words.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }
}

impl Drop for PeerTable {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `map` with this length, and nothing that was borrowed from it is left.
        let _ = unsafe { munmap(self.words.as_ptr().cast::<c_void>(), self.count * size_of::<u64>()) };
    }
}

/// What a pinned array holds that has another number of places than `count`, as after a change of the pool of tunnel
/// addresses; `None` if there is none to take over.
pub(super) fn of_other_size(pin: &Path, count: u32) -> Result<Option<BTreeMap<u32, Peer>>, Error> {
    if !pin.exists() {
        return Ok(None);
    }
    let failed = |source| Error::Map { map: names::PEERS, source };
    let old = MapData::from_pin(pin).map_err(failed)?;
    // One of another shape altogether is refused by who compares the shapes.
    if old.info().map_err(failed)?.max_entries() == count {
        return Ok(None);
    }
    Ok(Some(of(&old, false)?.entries()))
}

/// Pins an array in the place of another one, without a moment in which none is there.
pub(super) fn replace_pin(array: &MapData, pin: &Path) -> Result<(), Error> {
    // Not the name of a map. One that is there was left by a run that ended just here.
    let beside = pin.with_file_name("PEERS_next");
    super::unpin(&beside)?;
    array.pin(&beside).map_err(|source| Error::PinMap { path: beside.clone(), source })?;
    fs::rename(&beside, pin).map_err(|source| Error::Pin { path: pin.to_owned(), source })
}

/// Maps PEERS.
pub(super) fn of(map: &MapData, is_writable: bool) -> Result<PeerTable, Error> {
    let failed = |source| Error::Map { map: names::PEERS, source };
    let count = map.info().map_err(failed)?.max_entries();
    let io = |error| failed(MapError::IoError(error));
    PeerTable::map(map.fd().as_fd(), count, is_writable).map_err(io)
}
