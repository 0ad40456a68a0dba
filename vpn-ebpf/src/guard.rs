//! In front of an Ethernet uplink whose driver runs XDP: what is for no user is dropped before the kernel makes a packet
//! buffer of it. It lets through what `plant` looks at in any case; nothing depends on it but the cost of a flood.

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use vpn_ebpf_common::{Verdict, flow::Traffic, protocol};

use crate::{
    header::{Addressed as _, Header},
    maps, stats,
};

/// EtherTypes, as they stand in the frame.
const IPV4: u16 = 0x0800_u16.to_be();
/// See [`IPV4`].
const IPV6: u16 = 0x86dd_u16.to_be();

/// Drops IP packets whose destination is no user's address on this uplink, except for ICMPv6, in which the host finds
/// its neighbours.
#[inline(always)]
pub fn filter(ctx: &XdpContext) -> u32 {
    if is_for_nobody(ctx) {
        let bytes = (ctx.data_end() - ctx.data()).saturating_sub(EthHdr::LEN) as u64;
        stats::count(Verdict::NotForUser, &Traffic { packets: 1, bytes });
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_PASS
}

#[inline(always)]
fn is_for_nobody(ctx: &XdpContext) -> bool {
    let Ok(gateway) = maps::gateway() else { return false };
    let Some(ether_type) = read::<[u8; 2]>(ctx, EthHdr::LEN - 2) else { return false };
    match u16::from_ne_bytes(*ether_type) {
        IPV4 => read::<Ipv4Hdr>(ctx, EthHdr::LEN).is_some_and(|ip| !gateway.source[0].contains(&ip.destination())),
        IPV6 => read::<Ipv6Hdr>(ctx, EthHdr::LEN)
            .is_some_and(|ip| ip.next_hdr != protocol::ICMPV6 && !gateway.source[1].contains(&ip.destination())),
        _ => false,
    }
}

/// The `T` at `offset`; none if the frame ends before.
#[inline(always)]
fn read<T: Header>(ctx: &XdpContext, offset: usize) -> Option<&T> {
    let at = ctx.data() + offset;
    if at + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the comparison placed the whole of `T` inside the frame, and `T: Header` takes any bytes there.
    Some(unsafe { &*(at as *const T) })
}
