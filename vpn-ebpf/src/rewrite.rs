//! New addresses, with every checksum that covers them kept right.

use network_types::{ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};
use vpn_ebpf_common::{Address, Verdict, checksum::Difference, protocol};

use crate::{
    frame::Frame,
    packet::{Packet, TRANSPORT},
};

/// Replaces both addresses and takes one hop off the time to live. Nothing here can fail for a parsed packet;
/// the bounds are checked again because the verifier forgot them.
#[inline(always)]
pub fn addresses(frame: &mut Frame, packet: &Packet, source: &Address, destination: &Address) -> Result<(), Verdict> {
    let addresses = Difference::none().v4(&packet.source, source).v4(&packet.destination, destination);

    let ip = frame.header_mut::<Ipv4Hdr>(0)?;
    let ttl = ip.ttl - 1;
    let check = addresses
        .half(u16::from_ne_bytes([ip.ttl, ip.proto]), u16::from_ne_bytes([ttl, ip.proto]))
        .apply(u16::from_ne_bytes(ip.check));
    ip.ttl = ttl;
    ip.check = check.to_ne_bytes();
    ip.src_addr = source.v4_word().to_ne_bytes();
    ip.dst_addr = destination.v4_word().to_ne_bytes();

    match packet.protocol {
        protocol::TCP => {
            let tcp = frame.header_mut::<TcpHdr>(TRANSPORT)?;
            tcp.check = addresses.apply(u16::from_ne_bytes(tcp.check)).to_ne_bytes();
        }
        protocol::UDP => {
            let udp = frame.header_mut::<UdpHdr>(TRANSPORT)?;
            udp.check = addresses.apply_udp(u16::from_ne_bytes(udp.check)).to_ne_bytes();
        }
        // ICMP for IPv4 has no pseudo-header.
        _ => {}
    }
    Ok(())
}
