//! Keys and values of the maps FLOWS and CLOSED, and when a flow ends.

use crate::{Address, shared};

/// One conversation of a peer with a device, under the address that the user wrote.
///
/// A packet from the user gives the whole key, so that it finds its flow without a route look-up. One from the plant
/// gives it by the virtual twin of its source, or by the source itself where the user wrote the real address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// The device's address as the user wrote it.
    pub addressed: Address,
    /// Peer id.
    pub peer: u32,
    /// Port on the user's side, network byte order; for ICMP echo the identifier.
    pub user_port: u16,
    /// Port on the device's side, network byte order; zero for ICMP echo.
    pub device_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub reserved: [u8; 3],
}

shared!(FlowKey: 16 + 4 + 2 + 2 + 1 + 3);

impl FlowKey {
    /// The key of a flow, made of whole words: compilers make loops over bytes of the parts of a structure, and a processor
    /// that hashes words must wait for bytes that were stored one by one.
    #[inline(always)]
    #[must_use]
    pub const fn new(addressed: &Address, peer: u32, user_port: u16, device_port: u16, protocol: u8) -> Self {
        let [a, b, c, d] = addressed.0;
        let ports = (user_port.to_le() as u32 | (device_port.to_le() as u32) << 16).to_le();
        let words = [a, b, c, d, peer, ports, (protocol as u32).to_le()];
        // SAFETY: the type is `repr(C)` and consists of integers alone; both types have the same size.
        unsafe { core::mem::transmute::<[u32; 7], Self>(words) }
    }

    /// A number that two keys have in common by chance only. The kernel gives the memory of a removed entry to the
    /// next one at once; a program that found the entry just before recognises by its tag that it is another's now.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self) -> u32 {
        /// Any large odd numbers. Each bit of a word reaches the upper half of its product, which is the tag.
        const FACTORS: [u64; 7] = [
            0x9e37_79b9_7f4a_7c15,
            0xc2b2_ae3d_27d4_eb4f,
            0x1656_67b1_9e37_79f9,
            0x85eb_ca77_c2b2_ae63,
            0x27d4_eb2f_1656_67c5,
            0xff51_afd7_ed55_8ccd,
            0xc4ce_b9fe_1a85_ec53,
        ];
        let words = core::ptr::from_ref(self).cast::<u32>();
        let (mut sum, mut at) = (0_u64, 0);
        while at < FACTORS.len() {
            // SAFETY: the type is `repr(C)` and consists of seven words' worth of integers, without padding, aligned to one.
            let word = unsafe { *words.add(at) };
            sum = sum.wrapping_add(FACTORS[at].wrapping_mul(word as u64));
            at += 1;
        }
        (sum >> 32) as u32
    }
}

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

/// The state of a flow: its counters, and all that a packet of it needs besides. Counters only grow, and every report
/// is a snapshot of them.
///
/// What a packet from the user needs of it first, and counts in, lies together. With the kernel's own 48 bytes and the key
/// in front an entry of FLOWS fills three cache lines of 64 bytes; the second one ends behind [`Self::to_plant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// [`FlowKey::tag`] of the flow's key. First, so that it changes before anything else when the memory is used again.
    pub tag: u32,
    /// [`tcp`](crate::tcp) flags seen from the user; zero for other protocols.
    pub tcp_user: u8,
    /// [`tcp`](crate::tcp) flags seen from the plant; zero for other protocols.
    pub tcp_plant: u8,
    /// Bytes of link header that the uplink wants in front of the IP header: 0, or 14 for Ethernet.
    pub link_header: u16,
    /// The route set that it was admitted under. Where the peer has another one now, the next packet is checked again.
    pub route_set: u32,
    /// [`Gateway::generation`](crate::gateway::Gateway::generation) that it was admitted under, likewise.
    pub generation: u32,
    /// `CLOCK_BOOTTIME` of the last packet, nanoseconds, to a tick of the kernel.
    pub last_ns: u64,
    /// `CLOCK_BOOTTIME` at which it ends unless a packet comes, nanoseconds. One word, so that whoever reads it while
    /// another CPU shortens it (a TCP reset) sees the old time or the new one.
    pub expires_ns: u64,
    /// Forwarded to the plant.
    pub to_plant: Traffic,
    /// Forwarded to the user.
    pub to_user: Traffic,
    /// `CLOCK_BOOTTIME` of the first packet, nanoseconds, to a tick of the kernel. With the key it names this flow for
    /// ever: a later flow under the same key has a later start, for an ended one stays for [`SETTLE_NS`].
    pub opened_ns: u64,
    /// Real address of the device.
    pub device: Address,
    /// Interface index of the plant's uplink; zero for a service of the gateway itself.
    pub egress: u32,
    /// The largest packet that its uplink takes, in bytes of IP packet.
    pub mtu: u32,
    /// Plant id; zero for a service of the gateway itself.
    pub plant: u32,
    /// The route that admitted it.
    pub route: u32,
    /// Always zero.
    pub reserved: u64,
}

shared!(Flow: 4 + 1 + 1 + 2 + 2 * 4 + 2 * 8 + 2 * 16 + 8 + 16 + 4 * 4 + 8);

/// Key of CLOSED: one finished flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ClosedKey {
    /// Its [`Flow::opened_ns`].
    pub opened_ns: u64,
    /// The key it had in FLOWS.
    pub flow: FlowKey,
    /// Always zero: the key is compared byte by byte.
    pub reserved: u32,
}

shared!(ClosedKey: 8 + 28 + 4);

impl ClosedKey {
    /// The key of a flow that was opened at `opened_ns`.
    #[inline(always)]
    #[must_use]
    pub const fn new(flow: FlowKey, opened_ns: u64) -> Self {
        Self { opened_ns, flow, reserved: 0 }
    }
}

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

impl Age {
    /// The age of a flow with this [`Flow::expires_ns`] at `now_ns` (`CLOCK_BOOTTIME`).
    #[inline(always)]
    #[must_use]
    pub const fn of(expires_ns: u64, now_ns: u64) -> Self {
        if now_ns <= expires_ns {
            Self::Live
        } else if now_ns <= expires_ns.saturating_add(SETTLE_NS) {
            Self::Settling
        } else {
            Self::Over
        }
    }
}

impl Flow {
    /// The flow's age at `now_ns` (`CLOCK_BOOTTIME`).
    #[inline(always)]
    #[must_use]
    pub const fn age(&self, now_ns: u64) -> Age {
        Age::of(self.expires_ns, now_ns)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_flow_lives_settles_and_ends() {
        let expires = 60_000_000_000;
        for (now, age) in [
            (0, Age::Live),
            (expires, Age::Live),
            (expires + 1, Age::Settling),
            (expires + SETTLE_NS, Age::Settling),
            (expires + SETTLE_NS + 1, Age::Over),
            (u64::MAX, Age::Over),
        ] {
            assert_eq!(Age::of(expires, now), age, "at {now}");
        }
        assert_eq!(Age::of(u64::MAX, u64::MAX), Age::Live, "a time that never comes");
    }

    #[test]
    fn neighbouring_keys_have_tags_of_their_own() {
        let mut tags = HashSet::new();
        for last in 0..32 {
            for (port, device_port) in (0..32).flat_map(|port| (0..32).map(move |device_port| (port, device_port))) {
                for peer in 0..4 {
                    let key = FlowKey {
                        addressed: Address::from_v4_word(u32::from_ne_bytes([10, 128, 0, last])),
                        peer,
                        user_port: (40_000_u16 + port).to_be(),
                        device_port: (490_u16 + device_port).to_be(),
                        protocol: 6,
                        reserved: [0; 3],
                    };
                    tags.insert(key.tag());
                }
            }
        }
        assert!(tags.len() > 32 * 32 * 32 * 4 - 16, "{} of {}", tags.len(), 32 * 32 * 32 * 4);
    }
}
