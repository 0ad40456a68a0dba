//! ICMP errors: matched by the packet they quote, which is translated as well, so that its sender recognises it
//! (requirement A6; RFC 5508, section 4).

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use vpn_ebpf_common::{
    Address, Verdict,
    checksum::Difference,
    flow::{Age, FlowKey},
    protocol,
};

use crate::{
    admission,
    exit::Hop,
    flows::Entry,
    frame::Frame,
    header::Addressed as _,
    packet::{self, ECHO_REPLY, ECHO_REQUEST, PLAIN_IPV4, Packet},
    plant::{self, Reply},
    rewrite::{self, ICMP_CHECK, TCP_CHECK, UDP_CHECK},
    users::Attempt,
};

/// Bytes of ICMP header in front of the quote.
const HEADER: usize = 8;

/// The packet that an error is about, as far as it is quoted.
struct Quote {
    /// Offset of its IP header.
    at: usize,
    /// Offset of its transport header.
    transport: usize,
    source: Address,
    destination: Address,
    /// As in [`Packet`]: for ICMP echo the identifier stands on the user's side.
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

/// From a user, about a packet that came from a plant.
#[inline(never)]
pub fn to_plant(frame: &mut Frame, attempt: &Attempt<'_>, hop: &mut Hop) -> Result<(), Verdict> {
    let &Attempt { gateway, ref peer, packet, now, generation } = attempt;
    let quote = Quote::read(frame, packet, ECHO_REPLY)?;
    if !quote.source.is(&packet.destination) || !quote.destination.is(&packet.source) {
        return Err(Verdict::IcmpNoFlow);
    }
    let key = FlowKey::new(&quote.source, peer.id, quote.destination_port, quote.source_port, quote.protocol);
    let entry = Entry::find(&key).filter(|entry| entry.terms().plant != 0).ok_or(Verdict::IcmpNoFlow)?;
    if entry.age(&key, now) != Age::Live {
        return Err(Verdict::FlowIdle);
    }
    if entry.is_admitted(peer, generation) {
        packet.check_egress(entry.terms().mtu)?;
    } else {
        admission::renew(attempt, &key, entry)?;
    }
    entry.count_to_plant(packet, key.protocol, &gateway.idle, now);
    let terms = entry.terms();
    *hop = Hop { interface: terms.egress, link_header: u32::from(terms.link_header), mtu: 0 };
    let (source, device) = (&packet.user_beyond, &terms.device);
    quote.translate(frame, packet, [source, device], [device, source])
}

/// From a plant, about a packet that came from a user.
#[inline(never)]
pub fn to_user(frame: &mut Frame, reply: &Reply<'_>) -> Result<(), Verdict> {
    let Reply { gateway, packet, now, .. } = *reply;
    let quote = Quote::read(frame, packet, ECHO_REQUEST)?;
    // A mapped address in an IPv6 quote would stand for an IPv4 device.
    if !quote.source.is(&packet.destination) || quote.destination.family() != packet.family {
        return Err(Verdict::IcmpNoFlow);
    }
    let device = quote.destination;
    let mut key = reply.key(&device, quote.source_port, quote.destination_port, quote.protocol);
    let found = reply.find(&mut key, &device).ok_or(Verdict::IcmpNoFlow)?;
    reply.check(&key, found, &device)?;
    let (entry, _) = found;
    packet.check_egress(gateway.users_mtu)?;
    entry.count_to_user(packet, key.protocol, &gateway.idle, now);
    // A router that users cannot address stands behind the gateway's own address.
    let mut from = if packet.family == 0 { gateway.address[0] } else { gateway.address[1] };
    if packet.source.is(&device) {
        from = key.addressed;
    } else {
        plant::twin(reply.plant, &packet.source, &mut from);
    }
    let user = &packet.user_beyond;
    quote.translate(frame, packet, [&from, user], [user, &key.addressed])
}

impl Quote {
    /// `echo` are the types of those echo messages that went the way of the quoted packet, by family.
    #[inline(always)]
    fn read(frame: &Frame, packet: &Packet, echo: [u8; 2]) -> Result<Self, Verdict> {
        let unreadable = |_| Verdict::IcmpNoFlow;
        let at = packet.transport + HEADER;
        let (source, destination, protocol, transport) = if packet.family == 0 {
            let ip = frame.header::<Ipv4Hdr>(at).map_err(unreadable)?;
            if ip.vihl != PLAIN_IPV4 || u16::from_be_bytes(ip.frags) & packet::V4_OFFSET != 0 {
                return Err(Verdict::IcmpNoFlow);
            }
            (ip.source(), ip.destination(), ip.proto, at + Ipv4Hdr::LEN)
        } else {
            let ip = frame.header::<Ipv6Hdr>(at).map_err(unreadable)?;
            if ip.vcf[0] >> 4 != 6 {
                return Err(Verdict::IcmpNoFlow);
            }
            (ip.source(), ip.destination(), ip.next_hdr, at + Ipv6Hdr::LEN)
        };
        // As much as every error has to quote (RFC 792).
        let [a, b, c, d, e, f, ..] = *frame.header::<[u8; 8]>(transport).map_err(unreadable)?;
        let (icmp, echo) = if packet.family == 0 { (protocol::ICMP, echo[0]) } else { (protocol::ICMPV6, echo[1]) };
        let (source_port, destination_port) = if protocol == protocol::TCP || protocol == protocol::UDP {
            (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
        } else if protocol == icmp && a == echo {
            let identifier = u16::from_ne_bytes([e, f]);
            let is_request = a == ECHO_REQUEST[0] || a == ECHO_REQUEST[1];
            if is_request { (identifier, 0) } else { (0, identifier) }
        } else {
            return Err(Verdict::IcmpNoFlow);
        };
        Ok(Self { at, transport, source, destination, source_port, destination_port, protocol })
    }

    /// Puts new addresses, source and destination, into the error and into its quote.
    #[inline(always)]
    fn translate(
        &self,
        frame: &mut Frame,
        packet: &Packet,
        [source, destination]: [&Address; 2],
        [quoted_source, quoted_destination]: [&Address; 2],
    ) -> Result<(), Verdict> {
        let addresses = Difference::none().address(packet.family, &self.source, quoted_source).address(
            packet.family,
            &self.destination,
            quoted_destination,
        );
        let mut content = addresses;
        if packet.family == 0 {
            let ip = frame.header_mut::<Ipv4Hdr>(self.at)?;
            let old = u16::from_ne_bytes(ip.check);
            let new = addresses.apply(old);
            ip.check = new.to_ne_bytes();
            ip.set_addresses(quoted_source, quoted_destination);
            content = content.half(old, new);
        } else {
            let ip = frame.header_mut::<Ipv6Hdr>(self.at)?;
            ip.set_addresses(quoted_source, quoted_destination);
        }
        let check = match self.protocol {
            protocol::TCP => Some(TCP_CHECK),
            protocol::UDP => Some(UDP_CHECK),
            protocol::ICMPV6 => Some(ICMP_CHECK),
            _ => None,
        };
        // A quote may end before it.
        if let Some(offset) = check
            && let Ok(check) = frame.header_mut::<[u8; 2]>(self.transport + offset)
        {
            let old = u16::from_ne_bytes(*check);
            let new = if self.protocol == protocol::UDP { addresses.apply_udp(old) } else { addresses.apply(old) };
            *check = new.to_ne_bytes();
            content = content.half(old, new);
        }
        if packet.family != 0 {
            content = content.and(rewrite::difference(packet, source, destination));
        }
        let check = frame.header_mut::<[u8; 2]>(packet.transport + ICMP_CHECK)?;
        *check = content.apply(u16::from_ne_bytes(*check)).to_ne_bytes();
        rewrite::header(frame, packet, source, destination)
    }
}
