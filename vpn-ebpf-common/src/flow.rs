//! Keys and values of the maps FLOWS and CLOSED, and when a flow ends.

use crate::{Address, shared};

/// One conversation of a peer with a device. Both directions build the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// Real address of the device.
    pub device: Address,
    /// Peer id.
    pub peer: u32,
    /// Plant id.
    pub plant: u32,
    /// Port on the user's side, network byte order; for ICMP echo the identifier.
    pub user_port: u16,
    /// Port on the device's side, network byte order; zero for ICMP echo.
    pub device_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub reserved: [u8; 3],
}

shared!(FlowKey: 16 + 4 + 4 + 2 + 2 + 1 + 3);

/// Packets and their bytes, counted from the first byte of the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packet, headers included.
    pub bytes: u64,
}

shared!(Traffic: 8 + 8);

/// The state of a flow. Counters only grow, and every report is a snapshot of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// `CLOCK_BOOTTIME` of the first packet, nanoseconds. With the key it names this flow for ever: a later
    /// flow under the same key has a later start.
    pub opened_ns: u64,
    /// `CLOCK_BOOTTIME` of the last packet, nanoseconds.
    pub last_ns: u64,
    /// Forwarded to the plant.
    pub to_plant: Traffic,
    /// Forwarded to the user.
    pub to_user: Traffic,
    /// The device's address as the user wrote it; replies carry it as their source.
    pub addressed: Address,
    /// The route set that the user's last packet was admitted under.
    pub route_set: u32,
    /// The route that admitted it.
    pub route: u32,
}

shared!(Flow: 2 * 8 + 2 * 16 + 16 + 2 * 4);

/// Key of CLOSED: one finished flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ClosedKey {
    /// The key it had in FLOWS.
    pub flow: FlowKey,
    /// Its [`Flow::opened_ns`].
    pub opened_ns: u64,
}

shared!(ClosedKey: 32 + 8);

/// How close a flow is to its end.
///
/// Ending a flow means reading its totals for the last time, so nobody may add to them any more. Programs add
/// only while a flow is `Live`; programs and the collector end it only when it is `Over`. Between the two lies
/// [`SETTLE_NS`], in which nobody does either: a program that saw the flow alive has long finished by then (a
/// program runs for microseconds), so the totals that are read are final, without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Packets count.
    Live,
    /// Packets are dropped; for a second.
    Settling,
    /// The totals are final; a packet from the user may open the next flow.
    Over,
}

/// Length of [`Age::Settling`], nanoseconds.
pub const SETTLE_NS: u64 = 1_000_000_000;

impl Flow {
    /// The flow's age at `now_ns` (`CLOCK_BOOTTIME`) under an idle limit. A last packet "in the future" is
    /// one that another CPU has just counted.
    #[inline(always)]
    #[must_use]
    pub const fn age(&self, now_ns: u64, idle_limit_ns: u64) -> Age {
        let idle = now_ns.saturating_sub(self.last_ns);
        if idle <= idle_limit_ns {
            Age::Live
        } else if idle <= idle_limit_ns.saturating_add(SETTLE_NS) {
            Age::Settling
        } else {
            Age::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_lives_settles_and_ends() {
        let limit = 60_000_000_000;
        let flow = Flow {
            opened_ns: 5,
            last_ns: 1_000,
            to_plant: Traffic::default(),
            to_user: Traffic::default(),
            addressed: Address([0; 4]),
            route_set: 1,
            route: 1,
        };
        for (now, age) in [
            (0, Age::Live),
            (1_000 + limit, Age::Live),
            (1_001 + limit, Age::Settling),
            (1_000 + limit + SETTLE_NS, Age::Settling),
            (1_001 + limit + SETTLE_NS, Age::Over),
            (u64::MAX, Age::Over),
        ] {
            assert_eq!(flow.age(now, limit), age, "at {now}");
        }
        assert_eq!(flow.age(u64::MAX, u64::MAX), Age::Live, "a limit that is never reached");
    }
}
