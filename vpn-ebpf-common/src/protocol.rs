//! The protocols that are translated, by their IANA numbers.

/// ICMP for IPv4: echo only.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
