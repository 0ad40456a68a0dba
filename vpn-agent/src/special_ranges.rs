//! Ranges whose addresses no device and no user can have.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The ranges, and what they are for.
const RANGES: [(IpNet, &str); 8] = [
    (v4(Ipv4Addr::UNSPECIFIED, 8), "\"this network\""),
    (v4(Ipv4Addr::LOCALHOST, 8), "loopback"),
    (v4(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
    (v4(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved"),
    // With the unspecified address and loopback.
    (v6(Ipv6Addr::UNSPECIFIED, 96), "reserved"),
    // Maps hold IPv4 addresses in this form, so an IPv6 subnet in it would be taken for an IPv4 one.
    (v6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "IPv4-mapped"),
    (v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local"),
    (v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast"),
];

/// What the addresses of `net`, or some of them, are for instead of devices; `None` if devices may have all of them.
#[must_use]
pub fn purpose(net: &IpNet) -> Option<&'static str> {
    RANGES.iter().find(|(range, _)| range.contains(net) || net.contains(range)).map(|(_, purpose)| *purpose)
}

const fn v4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

const fn v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_in_part_is_special() {
        for (net, expected) in [
            ("10.0.0.0/8", None),
            ("169.254.0.0/16", None),
            ("127.0.0.0/24", Some("loopback")),
            ("239.255.255.255/32", Some("multicast")),
            ("240.0.0.0/8", Some("reserved")),
            ("0.0.0.0/1", Some("\"this network\"")),
            ("fd00::/8", None),
            ("2001:db8::/32", None),
            ("::1/128", Some("reserved")),
            ("::/32", Some("reserved")),
            ("::ffff:10.0.0.0/104", Some("IPv4-mapped")),
            ("fe80::/64", Some("link-local")),
            ("ff02::/16", Some("multicast")),
        ] {
            assert_eq!(purpose(&net.parse().unwrap()), expected, "{net}");
        }
    }
}
