//! Headers, laid over the bytes of a packet wherever they lie.
//!
//! The compiler reads and writes byte by byte what is not aligned. The kernel lets programs use packets at any address
//! where the processor does (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`, as on x86-64 and arm64; elsewhere it refuses to
//! load them), so here a word is one instruction.

use core::{
    arch::asm,
    hint::assert_unchecked,
    mem::offset_of,
    ptr::{from_mut, from_ref},
};

use network_types::{
    icmp::Icmpv4Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};
use vpn_ebpf_common::Address;

/// A header that may be laid over packet bytes.
///
/// # Safety
/// The type is `repr(C)`, aligned to one byte, and every bit pattern is a valid value of it.
pub unsafe trait Header: Copy {}

// SAFETY: all of them are `repr(C)` structures of `u8` and `[u8; N]`.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Header for Ipv6Hdr {}
// SAFETY: as above.
unsafe impl Header for TcpHdr {}
// SAFETY: as above.
unsafe impl Header for UdpHdr {}
// SAFETY: as above.
unsafe impl Header for Icmpv4Hdr {}
// SAFETY: an array of bytes.
unsafe impl<const N: usize> Header for [u8; N] {}

/// Four bytes at `AT`, as they lie there.
#[inline(always)]
pub fn word<const AT: usize, T: Header>(header: &T) -> u32 {
    const { assert!(AT + 4 <= size_of::<T>()) };
    let word: u64;
    // SAFETY: reads four bytes of the header into the lower half of a register, and zeros into the upper one.
    unsafe {
        asm!(
            "{word} = *(u32 *)({header} + {at})",
            word = out(reg) word,
            header = in(reg) from_ref(header),
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
        assert_unchecked(word <= u32::MAX as u64);
    }
    word as u32
}

/// Two bytes at `AT`, as they lie there.
#[inline(always)]
pub fn half<const AT: usize, T: Header>(header: &T) -> u16 {
    const { assert!(AT + 2 <= size_of::<T>()) };
    let half: u64;
    // SAFETY: reads two bytes of the header, likewise.
    unsafe {
        asm!(
            "{half} = *(u16 *)({header} + {at})",
            half = out(reg) half,
            header = in(reg) from_ref(header),
            at = const AT,
            options(pure, readonly, nostack, preserves_flags),
        );
        assert_unchecked(half <= u16::MAX as u64);
    }
    half as u16
}

/// Replaces four bytes at `AT`.
#[inline(always)]
fn set_word<const AT: usize, T: Header>(header: &mut T, word: u32) {
    const { assert!(AT + 4 <= size_of::<T>()) };
    // SAFETY: writes four bytes of the header, which takes any, and does nothing else.
    unsafe {
        asm!(
            "*(u32 *)({header} + {at}) = {word}",
            word = in(reg) u64::from(word),
            header = in(reg) from_mut(header),
            at = const AT,
            options(nostack, preserves_flags),
        );
    }
}

/// Replaces two bytes at `AT`.
#[inline(always)]
pub fn set_half<const AT: usize, T: Header>(header: &mut T, half: u16) {
    const { assert!(AT + 2 <= size_of::<T>()) };
    // SAFETY: writes two bytes of the header, which takes any, and does nothing else.
    unsafe {
        asm!(
            "*(u16 *)({header} + {at}) = {half}",
            half = in(reg) u64::from(half),
            header = in(reg) from_mut(header),
            at = const AT,
            options(nostack, preserves_flags),
        );
    }
}

/// A header with the addresses of a packet.
pub trait Addressed: Header {
    /// Of whom it is.
    fn source(&self) -> Address;
    /// To whom it is.
    fn destination(&self) -> Address;
    /// Replaces both.
    fn set_addresses(&mut self, source: &Address, destination: &Address);
}

/// Offsets of the addresses.
const V4: [usize; 2] = [offset_of!(Ipv4Hdr, src_addr), offset_of!(Ipv4Hdr, dst_addr)];
/// Likewise.
const V6: [usize; 2] = [offset_of!(Ipv6Hdr, src_addr), offset_of!(Ipv6Hdr, dst_addr)];

impl Addressed for Ipv4Hdr {
    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_v4_word(word::<{ V4[0] }, _>(self))
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_v4_word(word::<{ V4[1] }, _>(self))
    }

    #[inline(always)]
    fn set_addresses(&mut self, source: &Address, destination: &Address) {
        set_word::<{ V4[0] }, _>(self, source.v4_word());
        set_word::<{ V4[1] }, _>(self, destination.v4_word());
    }
}

impl Addressed for Ipv6Hdr {
    #[inline(always)]
    fn source(&self) -> Address {
        v6::<{ V6[0] }, { V6[0] + 4 }, { V6[0] + 8 }, { V6[0] + 12 }>(self)
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        v6::<{ V6[1] }, { V6[1] + 4 }, { V6[1] + 8 }, { V6[1] + 12 }>(self)
    }

    #[inline(always)]
    fn set_addresses(&mut self, source: &Address, destination: &Address) {
        set_v6::<{ V6[0] }, { V6[0] + 4 }, { V6[0] + 8 }, { V6[0] + 12 }>(self, source);
        set_v6::<{ V6[1] }, { V6[1] + 4 }, { V6[1] + 8 }, { V6[1] + 12 }>(self, destination);
    }
}

#[inline(always)]
fn v6<const A: usize, const B: usize, const C: usize, const D: usize>(ip: &Ipv6Hdr) -> Address {
    Address([word::<A, _>(ip), word::<B, _>(ip), word::<C, _>(ip), word::<D, _>(ip)])
}

#[inline(always)]
fn set_v6<const A: usize, const B: usize, const C: usize, const D: usize>(ip: &mut Ipv6Hdr, address: &Address) {
    let [a, b, c, d] = address.0;
    set_word::<A, _>(ip, a);
    set_word::<B, _>(ip, b);
    set_word::<C, _>(ip, c);
    set_word::<D, _>(ip, d);
}
