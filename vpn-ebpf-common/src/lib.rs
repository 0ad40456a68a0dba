//! What the eBPF programs and user space share: map layouts, verdicts, names, and pure packet arithmetic.
//!
//! Everything that lies in a map or a ring buffer is `repr(C)`, has no padding (proved at compile time beside
//! each type) and holds addresses and ports in network byte order, as in the packet. Numbers that never
//! stand in a packet (ids, counters, times) are in the byte order of the machine.
//!
//! The crate does no I/O and allocates nothing. The feature `user` lets user space move the types through aya.

#![no_std]

pub mod address;
pub mod checksum;
pub mod denial;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod gateway;
pub mod names;
pub mod peer;
pub mod plant;
pub mod prefix;
pub mod protocol;
pub mod route;
pub mod service;
pub mod tcp;
pub mod usage;
pub mod verdict;
pub mod ways;

pub use address::Address;
pub use prefix::Prefix;
pub use verdict::Verdict;

/// Version of everything in this crate that crosses the kernel border. It is part of the pin directory's name,
/// so programs and user space of different layouts never open each other's maps.
pub const LAYOUT: u32 = 7;

/// Marks a `repr(C)` type without padding as safe to copy through BPF maps, and proves its size.
macro_rules! shared {
    ($($type:ty: $size:expr),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size, "padding would leak memory and split equal keys");

        // SAFETY: the type is `repr(C)` and consists of integers and arrays of integers alone; the assertion
        // above proves that no byte of it is padding, so every byte is initialised and any bit pattern is valid.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    )+};
}
pub(crate) use shared;
