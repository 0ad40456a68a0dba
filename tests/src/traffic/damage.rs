//! What is wrong with packets.

use vpn_ebpf_common::protocol::TCP;

use super::{Packet, Traffic, choice::fix_header};
use crate::{interfaces::UPLINKS, model::Coalesced};

impl Traffic {
    /// The packet, at times with something wrong in it, or put together from several.
    pub(super) fn damaged(&mut self, mut packet: Packet) -> Packet {
        if self.random.percent(14) {
            for _ in 0..1 + self.random.below(2) {
                self.damage(&mut packet.arrival.packet);
            }
            let bytes = &mut packet.arrival.packet;
            if bytes.len() >= 20 && bytes[0] >> 4 == 4 && self.random.percent(60) {
                fix_header(bytes);
            }
        }
        if self.random.percent(1) {
            packet.arrival.ingress = self.random.pick(&UPLINKS);
        }
        if self.random.percent(3)
            && let Some(headers) = headers_of_tcp(&packet.arrival.packet)
        {
            let segments = self.random.pick(&[0, 1, 2, 3, 5]);
            // Many are just as large as they may be, or not.
            let largest = self.random.pick(&[400, 1_280, 1_420, 1_500]) + self.random.below(3) as u32 - 1;
            packet.arrival.coalesced = Some(Coalesced { segments, size: largest.saturating_sub(headers) });
        }
        // The kernel runs programs on a byte at least.
        packet.arrival.packet.resize(packet.arrival.packet.len().max(1), 0x45);
        packet
    }

    fn damage(&mut self, packet: &mut Vec<u8>) {
        if packet.len() < 20 {
            return;
        }
        let is_v4 = packet[0] >> 4 == 4;
        let header = if is_v4 { 20 } else { 40 };
        let near = packet.len().min(header + 24);
        match self.random.below(15) {
            0..3 => {
                let at = self.random.below(near);
                packet[at] = self.random.byte();
            }
            3 => {
                let at = self.random.below(near);
                packet[at] ^= 1 << self.random.below(8);
            }
            4 => packet.truncate(self.random.below(near)),
            5 => {
                // Cut, and the length says so.
                packet.truncate(self.random.below(near).max(1));
                set_length(packet);
            }
            6 => packet.extend([0; 4]),
            7 => {
                let at = if is_v4 { 3 } else { 5 };
                packet[at] = packet[at].wrapping_add(self.random.pick(&[1, 4, 0xff]));
            }
            8 => packet[if is_v4 { 9 } else { 6 }] = self.random.pick(&[0, 1, 6, 17, 43, 44, 47, 50, 58, 60, 135]),
            9 => packet[if is_v4 { 8 } else { 7 }] = self.random.pick(&[0, 1, 2]),
            10 if is_v4 => packet[6] = self.random.pick(&[0x20, 0x80, 0x60, 0x01, 0]),
            11 if is_v4 => packet[0] = self.random.pick(&[0x46, 0x44, 0x4f, 0x40]),
            12 if !is_v4 && packet.len() >= 40 => {
                // An IPv4 address in its mapped form.
                let at = self.random.pick(&[8, 24]);
                packet[at..at + 12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
            _ => {
                // One of the transport checksums, if it is there; or what stands in its place.
                let at = header + self.random.pick(&[2, 6, 16]);
                if let Some(byte) = packet.get_mut(at) {
                    *byte = self.random.pick(&[0, 0xff, *byte ^ 1]);
                }
            }
        }
    }
}

/// Has the IP header say how long the packet is.
fn set_length(packet: &mut [u8]) {
    let length = packet.len();
    if packet[0] >> 4 == 4 && length >= 20 {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    } else if length >= 40 {
        packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    }
}

/// Bytes of headers, if it is a TCP segment.
fn headers_of_tcp(packet: &[u8]) -> Option<u32> {
    let (protocol, ip) = if packet.first()? >> 4 == 4 { (9, 20) } else { (6, 40) };
    let tcp = 4 * u32::from(packet.get(ip as usize + 12)? >> 4);
    (packet[protocol] == TCP).then_some(ip + tcp)
}
