//! The largest segment that a TCP connection announces, kept to what fits through the tunnels: segments that fit need no
//! path-MTU discovery.

use network_types::tcp::TcpHdr;
use vpn_ebpf_common::{Verdict, checksum::Difference, protocol, tcp};

use crate::{
    frame::Frame,
    packet::{Packet, Part},
    rewrite::TCP_CHECK,
};

/// End of the options (RFC 9293, 3.2).
const END: u8 = 0;
/// No operation, one byte.
const NOP: u8 = 1;
/// Maximum segment size, four bytes.
const MSS: u8 = 2;

/// Options that are looked at. Senders put this one first.
const MAX_OPTIONS: usize = 10;

/// Bytes of IP and TCP header without options, by family, which the announced size does not count (RFC 6691).
const HEADERS: [u32; 2] = [40, 60];

/// Whether the packet can announce one.
#[inline(always)]
pub const fn may_have(packet: &Packet) -> bool {
    packet.protocol == protocol::TCP && packet.tcp_flags & tcp::SYN != 0 && !matches!(packet.part, Part::Later)
}

/// Lowers the announced size to what packets of `mtu` bytes carry.
#[inline(never)]
pub fn clamp(frame: &mut Frame, packet: &Packet, mtu: u32) -> Result<(), Verdict> {
    let headers = if packet.family == 0 { HEADERS[0] } else { HEADERS[1] };
    let most = mtu.saturating_sub(headers);
    let tcp = frame.header::<[u8; TcpHdr::LEN]>(packet.transport)?;
    let end = packet.transport + usize::from(tcp[12] >> 4) * 4;
    let mut at = packet.transport + TcpHdr::LEN;
    for _ in 0..MAX_OPTIONS {
        if at >= end {
            return Ok(());
        }
        let Ok([kind, length]) = frame.header::<[u8; 2]>(at) else { return Ok(()) };
        match *kind {
            END => return Ok(()),
            NOP => at += 1,
            kind => {
                let length = usize::from(*length);
                if length < 2 || at + length > end {
                    return Ok(());
                }
                if kind == MSS && length == 4 {
                    return lower(frame, packet, at + 2, most);
                }
                at += length;
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn lower(frame: &mut Frame, packet: &Packet, at: usize, most: u32) -> Result<(), Verdict> {
    let Ok(bytes) = frame.header_mut::<[u8; 2]>(at) else { return Ok(()) };
    let old = u16::from_be_bytes(*bytes);
    if u32::from(old) <= most {
        return Ok(());
    }
    let new = most as u16;
    *bytes = new.to_be_bytes();
    // A field at an odd offset stands across two words of the checksum, which sees its bytes swapped.
    let (old, new) = (old.to_be(), new.to_be());
    let difference = if (at - packet.transport).is_multiple_of(2) {
        Difference::none().half(old, new)
    } else {
        Difference::none().half(old.swap_bytes(), new.swap_bytes())
    };
    frame.update_checksum_of_content(packet.transport + TCP_CHECK, difference)
}
