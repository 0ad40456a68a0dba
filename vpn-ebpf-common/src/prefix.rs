//! Translation between prefixes of the same length.

use crate::{Address, shared};

/// A network prefix in the form the translation needs: two masks and no shift per packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix {
    /// The network's address; its host bits are zero.
    pub base: Address,
    /// Ones where the host bits are.
    pub host_mask: Address,
}

shared!(Prefix: 16 + 16);

impl Prefix {
    /// The prefix of the first `bits` bits of `address`, counted in the 128 bits of [`Address`]: an IPv4 /24
    /// is 96 + 24. Bits beyond 128 count as 128.
    #[must_use]
    pub fn new(address: Address, bits: u32) -> Self {
        let mut host_mask = Address([0; 4]);
        let mut base = address;
        for (word, (mask, base)) in host_mask.0.iter_mut().zip(&mut base.0).enumerate() {
            let network_bits = bits.saturating_sub(32 * word as u32).min(32);
            *mask = u32::MAX.checked_shr(network_bits).unwrap_or(0).to_be();
            *base &= !*mask;
        }
        Self { base, host_mask }
    }

    /// Whether `address` lies in this prefix.
    #[inline(always)]
    #[must_use]
    pub const fn contains(&self, address: &Address) -> bool {
        let [b0, b1, b2, b3] = self.base.0;
        let [m0, m1, m2, m3] = self.host_mask.0;
        let [a0, a1, a2, a3] = address.0;
        (a0 & !m0) ^ b0 | (a1 & !m1) ^ b1 | (a2 & !m2) ^ b2 | (a3 & !m3) ^ b3 == 0
    }

    /// Which address of the prefix it is, counted from its first one; none if it is outside, or beyond 2³². Both are of
    /// this [`family`](Address::family).
    #[inline(always)]
    #[must_use]
    pub const fn host_number(&self, family: usize, address: &Address) -> Option<u32> {
        let [m0, m1, m2, m3] = self.host_mask.0;
        if family == 0 {
            debug_assert!(self.base.is_v4() && address.is_v4());
            let word = address.v4_word();
            return if word & !m3 == self.base.v4_word() { Some(u32::from_be(word & m3)) } else { None };
        }
        let [a0, a1, a2, a3] = address.0;
        if self.contains(address) && (a0 & m0) | (a1 & m1) | (a2 & m2) == 0 {
            Some(u32::from_be(a3 & m3))
        } else {
            None
        }
    }

    /// As [`Prefix::translate`], where both are of this [`family`](Address::family).
    #[inline(always)]
    #[must_use]
    pub const fn translate_in(&self, family: usize, address: &Address) -> Address {
        if family == 0 {
            debug_assert!(self.base.is_v4() && address.is_v4());
            return Address::from_v4_word(self.base.v4_word() | address.v4_word() & self.host_mask.v4_word());
        }
        self.translate(address)
    }

    /// The address with the same host bits in this prefix.
    #[inline(always)]
    #[must_use]
    pub const fn translate(&self, address: &Address) -> Address {
        let [b0, b1, b2, b3] = self.base.0;
        let [m0, m1, m2, m3] = self.host_mask.0;
        let [a0, a1, a2, a3] = address.0;
        Address([b0 | a0 & m0, b1 | a1 & m1, b2 | a2 & m2, b3 | a3 & m3])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn bits(address: Address) -> u128 {
        address.to_ipv6().to_bits()
    }

    /// The host mask of a prefix length, in the plainest way.
    fn naive_host_mask(length: u32) -> u128 {
        (0..128).filter(|bit| *bit >= length).map(|bit| 1_u128 << (127 - bit)).sum()
    }

    /// Requirements: C1.
    #[test]
    fn a_device_keeps_its_host_bits() {
        let prefix = Prefix::new(Ipv4Addr::new(10, 128, 4, 0).into(), 96 + 24);
        let device = Ipv4Addr::new(192, 168, 1, 77).into();
        assert_eq!(prefix.translate(&device), Ipv4Addr::new(10, 128, 4, 77).into());
    }

    #[test]
    fn an_address_has_one_number_in_both_families() {
        let v4 = Prefix::new(Ipv4Addr::new(100, 64, 0, 0).into(), 96 + 16);
        let v6 = Prefix::new(Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0).into(), 64);
        assert_eq!(v4.host_number(0, &Ipv4Addr::new(100, 64, 1, 5).into()), Some(0x105));
        assert_eq!(v6.host_number(1, &Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0x105).into()), Some(0x105));
        assert_eq!(v4.host_number(0, &Ipv4Addr::new(100, 65, 1, 5).into()), None, "outside");
        assert_eq!(v6.host_number(1, &Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 1, 0, 0x105).into()), None, "beyond 2³²");
    }

    proptest! {
        #[test]
        fn a_host_number_counts_from_the_first_address(base: u128, host: u64, length in 0..=128_u32, inside: bool) {
            let hosts = naive_host_mask(length);
            let prefix = Prefix::new(Ipv6Addr::from_bits(base).into(), length);
            let address = if inside { base & !hosts | u128::from(host) & hosts } else { base ^ u128::from(host) };
            let expected = if address & !hosts == base & !hosts { u32::try_from(address & hosts).ok() } else { None };
            prop_assert_eq!(prefix.host_number(1, &Ipv6Addr::from_bits(address).into()), expected);
        }

        /// Requirements: C1.
        #[test]
        fn translation_and_membership_equal_the_naive_ones(base: u128, address: u128, other: u128, length in 0..=128_u32) {
            let hosts = naive_host_mask(length);
            let prefix = Prefix::new(Ipv6Addr::from_bits(base).into(), length);
            let address: Address = Ipv6Addr::from_bits(address).into();
            let translated = prefix.translate(&address);
            prop_assert_eq!(bits(translated), base & !hosts | bits(address) & hosts);
            prop_assert!(prefix.contains(&translated));
            prop_assert_eq!(prefix.contains(&address), bits(address) & !hosts == base & !hosts);

            // There and back through any other prefix of the same length.
            let other = Prefix::new(Ipv6Addr::from_bits(other).into(), length);
            prop_assert_eq!(prefix.translate(&other.translate(&translated)), translated);
        }

        /// Requirements: C1.
        #[test]
        fn ipv4_goes_the_same_way_in_fewer_steps(base: u32, address: u32, near: bool, length in 0..=32_u32) {
            let prefix = Prefix::new(Ipv4Addr::from_bits(base).into(), 96 + length);
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            let address = Ipv4Addr::from_bits(if near { base & !hosts | address & hosts } else { address }).into();
            prop_assert_eq!(prefix.host_number(0, &address), prefix.host_number(1, &address));
            prop_assert_eq!(prefix.host_number(0, &address).is_some(), prefix.contains(&address));
            prop_assert_eq!(prefix.translate_in(0, &address), prefix.translate(&address));
            prop_assert_eq!(prefix.translate_in(1, &address), prefix.translate(&address));
        }
    }
}
