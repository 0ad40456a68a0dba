//! The Internet checksum, by the book.

use std::net::IpAddr;

/// The checksum of `bytes`, in which its own place is zero (RFC 1071).
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// Whether `bytes`, their checksum among them, are right (RFC 1071).
#[must_use]
pub fn is_right(bytes: &[u8]) -> bool {
    sum(bytes) == 0xffff
}

/// What `checksum` becomes when `before` becomes `after`, in both of which its own place is zero, whether or not it was
/// right (RFC 1624, equation 3: `HC' = ~(~HC + ~m + m')`).
#[must_use]
pub fn updated(checksum: u16, before: &[u8], after: &[u8]) -> u16 {
    let changes = words(before).zip(words(after)).map(|(old, new)| u64::from(!old) + u64::from(new));
    !folded(u64::from(!checksum) + changes.sum::<u64>())
}

/// What TCP, UDP and ICMPv6 put in front of themselves to sum it too (RFC 9293, 3.1; RFC 8200, 8.1).
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

fn sum(bytes: &[u8]) -> u16 {
    folded(words(bytes).map(u64::from).sum())
}

/// 16 bits each; a byte that is left over has a zero behind it.
fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
}

/// Adds the carries until none is left.
fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
