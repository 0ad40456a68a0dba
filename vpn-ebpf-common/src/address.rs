//! One address type for both families.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::shared;

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2), so that one key
/// type and one code path serve both families.
///
/// Four words whose bytes in memory are those on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Address(pub [u32; 4]);

shared!(Address: 16);

/// The third word of every mapped IPv4 address.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Address {
    /// The mapped form of the IPv4 address whose four bytes, in wire order, are `word` in memory.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// The last word: the whole address if it is IPv4, as it stands on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn v4_word(&self) -> u32 {
        self.0[3]
    }

    /// Whether this is a mapped IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// Whether both are one address, by words: compilers make a loop over bytes of the comparison of arrays, which costs
    /// a program in the kernel more than everything else about the address.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, other: &Self) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }

    /// The sixteen bytes as they stand on the wire, for IPv4 in its mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Where the settings of its family stand: 0 for IPv4, 1 for IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn family(&self) -> usize {
        if self.is_v4() { 0 } else { 1 }
    }

    /// The address for user space, IPv4 where it is mapped.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        IpAddr::V6(self.to_ipv6()).to_canonical()
    }

    /// The address for user space, IPv4 left in its mapped form.
    #[must_use]
    pub fn to_ipv6(self) -> Ipv6Addr {
        let [a, b, c, d] = self.0.map(u32::from_be);
        Ipv6Addr::from_bits(u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d))
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4_word(address.to_bits().to_be())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        Self([96, 64, 32, 0].map(|shift| ((bits >> shift) as u32).to_be()))
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{format, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn bytes(address: Address) -> Vec<u8> {
        address.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn ipv4_lies_in_memory_in_its_mapped_form() {
        let address = Address::from(Ipv4Addr::new(192, 168, 1, 20));
        assert_eq!(bytes(address), Ipv4Addr::new(192, 168, 1, 20).to_ipv6_mapped().octets());
        assert!(address.is_v4());
        assert_eq!(format!("{address}"), "192.168.1.20");
    }

    proptest! {
        #[test]
        fn every_address_survives_the_way_there_and_back(octets: [u8; 16]) {
            let ip = Ipv6Addr::from(octets);
            prop_assert_eq!(bytes(Address::from(ip)), octets);
            prop_assert_eq!(Address::from(ip).to_ipv6(), ip);
            prop_assert_eq!(Address::from(ip).is_v4(), ip.to_ipv4_mapped().is_some());
        }

        #[test]
        fn every_ipv4_address_survives_too(octets: [u8; 4]) {
            let ip = Ipv4Addr::from(octets);
            prop_assert_eq!(Address::from(ip).to_ip(), IpAddr::V4(ip));
            prop_assert_eq!(Address::from(ip).v4_word().to_ne_bytes(), octets);
        }
    }
}
