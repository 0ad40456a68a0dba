//! Records of the ring buffer EVENTS: hints that make the collector quick. What they tell stands in the maps
//! as well, so a lost record costs time and nothing else.

use crate::{
    denial::{Denial, DenialKey},
    flow::{Flow, FlowKey},
    shared,
};

/// [`FlowOpened::kind`].
pub const FLOW_OPENED: u64 = 1;

/// [`Denied::kind`].
pub const DENIED: u64 = 2;

/// A flow was added to FLOWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowOpened {
    /// [`FLOW_OPENED`].
    pub kind: u64,
    /// Its state, the first packet counted.
    pub flow: Flow,
    /// The new key.
    pub key: FlowKey,
    /// Always zero.
    pub reserved: u32,
}

shared!(FlowOpened: 8 + 112 + 28 + 4);

/// A destination was refused for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Denied {
    /// [`DENIED`].
    pub kind: u64,
    /// Its state, the first attempt counted.
    pub denial: Denial,
    /// The new key.
    pub key: DenialKey,
    /// Always zero.
    pub reserved: u32,
}

shared!(Denied: 8 + 32 + 28 + 4);

/// A record of EVENTS, told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`FlowOpened`].
    FlowOpened(FlowOpened),
    /// See [`Denied`].
    Denied(Denied),
}

impl Event {
    /// Reads the bytes of one record. None if they are no record of this layout.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        let kind = u64::from_ne_bytes(*record.first_chunk()?);
        match (kind, record.len()) {
            (FLOW_OPENED, len) if len == size_of::<FlowOpened>() => {
                // SAFETY: the slice has the type's size, and `shared!` proves that any bytes are a valid value of it.
                let opened = unsafe { record.as_ptr().cast::<FlowOpened>().read_unaligned() };
                Some(Self::FlowOpened(opened))
            }
            (DENIED, len) if len == size_of::<Denied>() => {
                // SAFETY: as above.
                let denied = unsafe { record.as_ptr().cast::<Denied>().read_unaligned() };
                Some(Self::Denied(denied))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;

    #[test]
    fn records_are_told_apart_by_kind_and_length() {
        let mut record = vec![0; size_of::<FlowOpened>()];
        record[..8].copy_from_slice(&FLOW_OPENED.to_ne_bytes());
        record[120 + 16..120 + 20].copy_from_slice(&77_u32.to_ne_bytes());
        let Some(Event::FlowOpened(opened)) = Event::parse(&record) else { panic!("a flow") };
        assert_eq!(opened.key.peer, 77);
        assert_eq!(Event::parse(&record[..record.len() - 1]), None, "too short for its kind");

        record.truncate(size_of::<Denied>());
        record[..8].copy_from_slice(&DENIED.to_ne_bytes());
        assert!(matches!(Event::parse(&record), Some(Event::Denied(_))));
        record[0] = 99;
        assert_eq!(Event::parse(&record), None, "an unknown kind");
        assert_eq!(Event::parse(&[]), None);
    }
}
