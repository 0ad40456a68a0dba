//! The one value of the array GATEWAY: what holds for every packet of this host.

use crate::{Prefix, protocol, shared};

/// Settings of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gateway {
    /// Interface index of the users' WireGuard device. Zero until the agent has written this value: packets
    /// are then dropped.
    pub users: u32,
    /// The largest packet the users' device takes, in bytes of IP packet.
    pub users_mtu: u32,
    /// The prefix that all tunnel addresses lie in.
    pub tunnel: Prefix,
    /// See [`IdleLimits`].
    pub idle: IdleLimits,
}

shared!(Gateway: 4 + 4 + 32 + 24);

/// For how long a flow lives without a packet, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IdleLimits {
    /// TCP; RFC 5382 asks translators for at least 2 hours 4 minutes.
    pub tcp_ns: u64,
    /// UDP; RFC 4787 asks for at least 2 minutes and recommends 5.
    pub udp_ns: u64,
    /// ICMP echo; RFC 5508 asks for at least 60 seconds.
    pub icmp_ns: u64,
}

shared!(IdleLimits: 3 * 8);

impl IdleLimits {
    /// The limit for a protocol that flows exist for.
    #[inline(always)]
    #[must_use]
    pub const fn of(&self, protocol: u8) -> u64 {
        match protocol {
            protocol::TCP => self.tcp_ns,
            protocol::UDP => self.udp_ns,
            _ => self.icmp_ns,
        }
    }
}
