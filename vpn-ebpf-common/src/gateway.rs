//! The one value of the array GATEWAY: what holds for every packet of this host.

use crate::{Address, Prefix, protocol, shared, tcp};

/// Settings of this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Gateway {
    /// Interface index of the users' WireGuard device. Zero until the agent has written this value: packets
    /// are then dropped.
    pub users: u32,
    /// The largest packet the users' device takes, in bytes of IP packet.
    pub users_mtu: u32,
    /// Grows whenever PLANTS, SERVICES or these settings change, so that flows which were admitted before are checked
    /// again.
    pub generation: u32,
    /// [`ANSWER_REFUSALS`] and [`FORWARD_UNRECORDED`].
    pub options: u32,
    /// The prefixes that all tunnel addresses lie in, by [`family`](crate::address::Address::family).
    pub tunnel: [Prefix; 2],
    /// The prefixes that tunnel addresses are translated into towards plants, likewise. The sites' routers return packets
    /// to them, so they differ from region to region (requirement E2).
    pub source: [Prefix; 2],
    /// The gateway's own tunnel addresses, which its ICMP errors come from, by family.
    pub address: [Address; 2],
    /// See [`IdleLimits`].
    pub idle: IdleLimits,
    /// See [`Limits`].
    pub limits: Limits,
}

shared!(Gateway: 4 * 4 + 2 * 32 + 2 * 32 + 2 * 16 + 5 * 4 + 4 * 4 + 4);

/// Refused packets are answered with ICMP "administratively prohibited".
pub const ANSWER_REFUSALS: u32 = 1;

/// When the flow table is full, new flows are forwarded without a record of their own.
pub const FORWARD_UNRECORDED: u32 = 2;

/// For how long a flow lives without a packet, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IdleLimits {
    /// Established TCP; RFC 5382 asks translators for at least 2 hours 4 minutes.
    pub tcp_ms: u32,
    /// TCP that is opening or half closed; RFC 5382 asks for at least 4 minutes.
    pub tcp_transitory_ms: u32,
    /// TCP that is finished or reset: long enough for segments that are sent again.
    pub tcp_closed_ms: u32,
    /// UDP; RFC 4787 asks for at least 2 minutes and recommends 5.
    pub udp_ms: u32,
    /// ICMP echo; RFC 5508 asks for at least 60 seconds.
    pub icmp_ms: u32,
}

/// What one peer may take of what all share. Zero allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Limits {
    /// New flows in one second.
    pub new_flows_per_second: u32,
    /// Flows in FLOWS at a time.
    pub live_flows: u32,
    /// ICMP errors that the gateway sends on the peer's account, in one second.
    pub answers_per_second: u32,
    /// Distinct refused destinations recorded in one [`window`](crate::denial::window); further ones are counted
    /// together.
    pub denials_per_window: u32,
    /// Always zero.
    pub reserved: u32,
}

impl IdleLimits {
    /// The limit in nanoseconds for a flow of `protocol`, for TCP by the flags seen from both sides.
    #[inline(always)]
    #[must_use]
    pub const fn of(&self, protocol: u8, tcp_user: u8, tcp_plant: u8) -> u64 {
        let milliseconds = match protocol {
            protocol::TCP => match tcp::state(tcp_user, tcp_plant) {
                tcp::State::Established => self.tcp_ms,
                tcp::State::Transitory => self.tcp_transitory_ms,
                tcp::State::Closed => self.tcp_closed_ms,
            },
            protocol::UDP => self.udp_ms,
            _ => self.icmp_ms,
        };
        milliseconds as u64 * 1_000_000
    }
}
