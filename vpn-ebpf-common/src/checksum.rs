//! Incremental update of the Internet checksum (RFC 1071, RFC 1624).
//!
//! The sum is the same in either byte order (RFC 1071, 2.B), so words are taken and given as they lie in memory.

use crate::Address;

/// What a set of changed words does to every checksum that covers them.
///
/// Collected once for a packet's addresses and applied to the IPv4 header and to the TCP or UDP checksum, whose
/// pseudo-header holds the same addresses. Room for 2^30 words before it could overflow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference(u64);

impl Difference {
    /// Nothing changed yet.
    #[inline(always)]
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// `old` became `new`, four bytes that start at an even offset of what the checksum covers.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// `old` became `new`, two bytes at an even offset.
    #[inline(always)]
    #[must_use]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The IPv4 address `old` became `new`.
    #[inline(always)]
    #[must_use]
    pub const fn v4(self, old: &Address, new: &Address) -> Self {
        self.word(old.v4_word(), new.v4_word())
    }

    /// The address `old` became `new`, in a packet of this [`family`](Address::family).
    #[inline(always)]
    #[must_use]
    pub const fn address(self, family: usize, old: &Address, new: &Address) -> Self {
        if family == 0 {
            return self.v4(old, new);
        }
        let [a, b, c, d] = old.0;
        let [e, f, g, h] = new.0;
        self.word(a, e).word(b, f).word(c, g).word(d, h)
    }

    /// Both differences together.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference in the kernel's form, `__wsum`: 32 bits, for `bpf_l4_csum_replace`.
    #[inline(always)]
    #[must_use]
    pub const fn wsum(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// The checksum that was `check` before the change (RFC 1624, equation 3).
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, check: u16) -> u16 {
        !fold(self.0 + !check as u64)
    }

    /// As [`Difference::apply`], for UDP over IPv4: zero means that there is no checksum, and stays; a sum that
    /// comes out as zero is sent as its other form (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, check: u16) -> u16 {
        if check == 0 {
            return 0;
        }
        match self.apply(check) {
            0 => 0xffff,
            check => check,
        }
    }
}

/// Adds the carries back in until 16 bits are left: from 64 bits to 33, to 32, to 17, to 16 and a carry, to 16.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The checksum of `bytes`, by the book.
    fn full(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        (!(sum as u16)).to_be()
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// Data that is not all zero, as no IP header and no pseudo-header is.
    fn data() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 8..80).prop_map(|mut data| {
            data[0] |= 0x40;
            data
        })
    }

    proptest! {
        #[test]
        fn changed_words_equal_a_full_recomputation(
            mut data in data(),
            changes in vec((any::<prop::sample::Index>(), any::<u32>()), 0..6),
            half: u16,
        ) {
            let before = full(&data);
            let mut difference = Difference::none();
            for (at, new) in changes {
                let at = 2 + at.index((data.len() - 4) / 2) * 2;
                if at + 4 <= data.len() {
                    difference = difference.word(word(&data, at), new);
                    data[at..at + 4].copy_from_slice(&new.to_ne_bytes());
                }
            }
            difference = difference.half(u16::from_ne_bytes([data[4], data[5]]), half);
            data[4..6].copy_from_slice(&half.to_ne_bytes());
            prop_assert_eq!(difference.apply(before), full(&data));
        }

        #[test]
        fn udp_never_turns_a_checksum_into_none(old: u32, new: u32, check: u16) {
            let after = Difference::none().word(old, new).apply_udp(check);
            prop_assert_eq!(after == 0, check == 0);
        }
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_ones() {
        // ~(~0x1234 + ~0 + 0x1234) = 0
        assert_eq!(Difference::none().half(0, 0x1234).apply(0x1234), 0);
        assert_eq!(Difference::none().half(0, 0x1234).apply_udp(0x1234), 0xffff);
    }
}
