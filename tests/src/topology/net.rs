//! Networks, in the plainest way.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A network of either family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Net {
    /// Its address, whose host bits are zero.
    pub address: IpAddr,
    /// How many bits are not host bits.
    pub length: u8,
}

impl Net {
    /// The network of this length that `address` is in.
    ///
    /// # Panics
    /// If an address of this family has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        let (bits, width) = bits(address);
        assert!(length <= width, "{address} has {width} bits, not {length}");
        let hosts = hosts(width - length);
        Self { address: from_bits(bits & !hosts, address), length }
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.length) == *self
    }

    /// Which address of the network it is, counted from its first one; none if it is outside.
    #[must_use]
    pub fn host_number(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| bits(address).0 - bits(self.address).0)
    }

    /// The address in it with the host bits of `address`.
    ///
    /// # Panics
    /// If `address` is of the other family.
    #[must_use]
    pub fn with_host_of(&self, address: IpAddr) -> IpAddr {
        assert_eq!(address.is_ipv4(), self.address.is_ipv4(), "{address} has no host bits for {self}");
        let (network, width) = bits(self.address);
        let (host, _) = bits(address);
        from_bits(network | host & hosts(width - self.length), address)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number that an address is, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The address of this number, of the family of `like`.
fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// So many ones at the end.
fn hosts(count: u8) -> u128 {
    if count == 128 { u128::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, length: u8) -> Net {
        Net::new(address.parse().unwrap(), length)
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        assert_eq!(net("192.168.1.77", 24).to_string(), "192.168.1.0/24");
        assert!(net("192.168.1.0", 24).contains(ip("192.168.1.255")));
        assert!(!net("192.168.1.0", 24).contains(ip("192.168.2.0")));
        assert!(net("192.168.1.20", 32).contains(ip("192.168.1.20")));
        assert!(!net("192.168.1.20", 32).contains(ip("192.168.1.21")));
        assert!(net("0.0.0.0", 0).contains(ip("255.255.255.255")));
        assert!(!net("0.0.0.0", 0).contains(ip("::")));
        assert!(net("::", 0).contains(ip("ffff::1")));
        assert!(net("fd00:1::", 65).contains(ip("fd00:1::7fff:0:0:1")));
        assert!(!net("fd00:1::", 65).contains(ip("fd00:1::8000:0:0:1")));
    }

    #[test]
    fn host_bits_go_from_one_network_to_another() {
        assert_eq!(net("10.128.4.0", 24).with_host_of(ip("192.168.1.77")), ip("10.128.4.77"));
        assert_eq!(net("10.128.4.16", 29).with_host_of(ip("192.168.1.77")), ip("10.128.4.21"));
        assert_eq!(net("fd80:4::", 64).with_host_of(ip("fd01::1:2:3:4")), ip("fd80:4::1:2:3:4"));
        assert_eq!(net("fd80::4", 128).with_host_of(ip("fd01::9")), ip("fd80::4"));
    }
}
