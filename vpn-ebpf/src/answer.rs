//! ICMP errors that the gateway itself sends, so that no packet vanishes without a word.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use vpn_ebpf_common::{
    Address, Verdict,
    checksum::Difference,
    gateway::{ANSWER_REFUSALS, Gateway},
    protocol,
};

use crate::{
    exit::Hop,
    frame::{ETHERNET, Frame, SUMMED},
    header::Addressed as _,
    limits::Account,
    packet::{Packet, Part},
    plant::Reply,
    rewrite::TCP_CHECK,
    users::Attempt,
};

/// Bytes of ICMP header.
const HEADER: usize = 8;

/// Time to live of what the gateway sends.
const TTL: u8 = 64;

/// The packet that is answered, and at whose cost.
pub struct Question<'a> {
    packet: &'a Packet,
    gateway: &'a Gateway,
    /// Whether it came from a plant.
    is_reply: bool,
    peer: u32,
    now: u64,
}

/// What is answered.
struct Answer {
    kind: u8,
    code: u8,
    /// The four bytes behind the checksum.
    rest: [u8; 4],
}

impl<'a> Question<'a> {
    /// From a user.
    #[inline(always)]
    pub const fn of(attempt: &Attempt<'a>) -> Self {
        let &Attempt { packet, gateway, now, ref peer, .. } = attempt;
        Self { packet, gateway, is_reply: false, peer: peer.id, now }
    }

    /// From a plant.
    #[inline(always)]
    pub const fn about(reply: &Reply<'a>) -> Self {
        let &Reply { packet, gateway, now, ref peer, .. } = reply;
        Self { packet, gateway, is_reply: true, peer: peer.id, now }
    }

    /// The gateway's address on the side that the packet came from.
    #[inline(always)]
    const fn gateway_address(&self) -> Address {
        let (own, source) = if self.packet.family == 0 {
            (&self.gateway.address[0], &self.gateway.source[0])
        } else {
            (&self.gateway.address[1], &self.gateway.source[1])
        };
        if self.is_reply { source.translate(own) } else { *own }
    }

    /// The answer to a refusal, if it deserves one.
    #[inline(always)]
    fn answer(&self, verdict: Verdict, mtu: u32) -> Option<Answer> {
        let packet = self.packet;
        let is_v4 = packet.family == 0;
        let first = if is_v4 { packet.destination.bytes()[12] } else { packet.destination.bytes()[0] };
        let is_for_many = if is_v4 { first >= 224 } else { first == 0xff };
        // An error about an error could go round for ever, and only a first fragment names a flow (RFC 1122, 3.2.2).
        if packet.is_error || packet.part == Part::Later || is_for_many {
            return None;
        }
        let mut rest = [0; 4];
        let (kind, code) = match verdict {
            // Time exceeded in transit.
            Verdict::TtlExpired => {
                if is_v4 {
                    (11, 0)
                } else {
                    (3, 0)
                }
            }
            // Fragmentation needed, packet too big.
            Verdict::TooBig => {
                rest = mtu.to_be_bytes();
                if is_v4 { (3, 4) } else { (2, 0) }
            }
            // Communication administratively prohibited.
            Verdict::NoRoute
            | Verdict::AddressInUse
            | Verdict::NoConnection
            | Verdict::PeerFlows
            | Verdict::FlowsFull
            | Verdict::ClosedFull
                if self.gateway.options & ANSWER_REFUSALS != 0 =>
            {
                if is_v4 {
                    (3, 13)
                } else {
                    (1, 1)
                }
            }
            _ => return None,
        };
        Some(Answer { kind, code, rest })
    }
}

/// Turns the packet into the answer to its refusal, which goes [`back`] to where it came from. False if it is just to be
/// dropped.
#[inline(never)]
pub fn refuse(frame: &mut Frame, question: &Question<'_>, verdict: Verdict, mtu: u32) -> bool {
    let Some(answer) = question.answer(verdict, mtu) else { return false };
    let Some(account) = Account::of(question.peer) else { return false };
    account.take_answer(&question.gateway.limits, question.now) && write(frame, question, &answer).is_ok()
}

/// Where an answer goes.
#[inline(always)]
pub fn back(frame: &Frame) -> Hop {
    Hop { interface: frame.ingress(), link_header: if frame.is_from_tunnel() { 0 } else { ETHERNET as u32 }, mtu: 0 }
}

#[inline(always)]
fn write(frame: &mut Frame, question: &Question<'_>, answer: &Answer) -> Result<(), Verdict> {
    let packet = question.packet;
    let from = question.gateway_address();
    // As much as one addition takes; a sender looks at the first bytes only.
    let quoted = frame.len().min(SUMMED as u32) & !3;
    frame.resize(quoted)?;
    let quote = if packet.traffic.packets > 1 { coalesced(frame, packet)? } else { frame.sum(quoted)? };
    let message = Difference::none()
        .half(u16::MAX, u16::from_ne_bytes([answer.kind, answer.code]))
        .half(u16::MAX, u16::from_ne_bytes([answer.rest[0], answer.rest[1]]))
        .half(u16::MAX, u16::from_ne_bytes([answer.rest[2], answer.rest[3]]))
        .and(quote);
    let length = quoted as u16 + HEADER as u16;
    let header = |check: u16| {
        let [a, b] = check.to_ne_bytes();
        let [c, d, e, f] = answer.rest;
        [answer.kind, answer.code, a, b, c, d, e, f]
    };
    if packet.family == 0 {
        frame.grow(Ipv4Hdr::LEN + HEADER)?;
        let mut ip = Ipv4Hdr {
            vihl: 0x45,
            tos: 0,
            tot_len: (Ipv4Hdr::LEN as u16 + length).to_be_bytes(),
            id: [0; 2],
            frags: [0; 2],
            ttl: TTL,
            proto: protocol::ICMP,
            check: [0; 2],
            src_addr: from.v4_word().to_ne_bytes(),
            dst_addr: packet.source.v4_word().to_ne_bytes(),
        };
        // A checksum of zero over nothing, and then everything changes from zero.
        let check = Difference::none()
            .half(u16::MAX, u16::from_ne_bytes([ip.vihl, ip.tos]))
            .half(u16::MAX, u16::from_ne_bytes(ip.tot_len))
            .half(u16::MAX, u16::from_ne_bytes([ip.ttl, ip.proto]))
            .word(u32::MAX, from.v4_word())
            .word(u32::MAX, packet.source.v4_word())
            .apply(u16::MAX);
        ip.check = check.to_ne_bytes();
        *frame.header_mut::<Ipv4Hdr>(0)? = ip;
        *frame.header_mut::<[u8; HEADER]>(Ipv4Hdr::LEN)? = header(message.apply(u16::MAX));
    } else {
        frame.grow(Ipv6Hdr::LEN + HEADER)?;
        let nothing = Address([u32::MAX; 4]);
        let pseudo = Difference::none()
            .address(1, &nothing, &from)
            .address(1, &nothing, &packet.source)
            .half(u16::MAX, length.to_be())
            .half(u16::MAX, u16::from(protocol::ICMPV6).to_be());
        let ip = frame.header_mut::<Ipv6Hdr>(0)?;
        ip.vcf = [0x60, 0, 0, 0];
        ip.payload_len = length.to_be_bytes();
        ip.next_hdr = protocol::ICMPV6;
        ip.hop_limit = TTL;
        ip.set_addresses(&from, &packet.source);
        *frame.header_mut::<[u8; HEADER]>(Ipv6Hdr::LEN)? = header(message.and(pseudo).apply(u16::MAX));
    }
    Ok(())
}

/// The sum over the quote of a packet that the kernel has coalesced. Its TCP checksum is the sum of the pseudo-header
/// only, and on the way out the kernel puts the complement of everything from the TCP header on in its place, this quote
/// included; the sum of that is then the complement of what stands there now. The IPv4 header's own sum is all ones,
/// which adds nothing.
#[inline(always)]
fn coalesced(frame: &Frame, packet: &Packet) -> Result<Difference, Verdict> {
    let check = frame.header::<[u8; 2]>(packet.transport + TCP_CHECK)?;
    let sum = Difference::none().half(u16::MAX, !u16::from_ne_bytes(*check));
    if packet.family == 0 {
        return Ok(sum);
    }
    let words = *frame.header::<[u8; Ipv6Hdr::LEN]>(0)?;
    let mut sum = sum;
    for pair in words.as_chunks::<2>().0 {
        sum = sum.half(u16::MAX, u16::from_ne_bytes(*pair));
    }
    Ok(sum)
}
