//! The protocols that are translated, by their IANA numbers.

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// The fragment header of IPv6 (RFC 8200, 4.5).
pub const IPV6_FRAGMENT: u8 = 44;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;
