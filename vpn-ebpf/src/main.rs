//! The programs of the VPN gateway: `users` on the users' WireGuard device, `plant` on each plant's uplink.
//!
//! Both are classifiers at the ingress of their device (tcx, or a clsact filter before Linux 6.6), not XDP programs:
//! WireGuard has no native XDP, and generic XDP switches off the coalescing of TCP segments on its device and copies the
//! head of each packet.
//!
//! On an Ethernet uplink whose driver runs XDP itself, `guard` stands in front and drops what is for no user.
//!
//! A packet leaves through one door ([`exit`]) with one [`Verdict`], which is counted. What is neither redirected into the
//! right tunnel nor for a service on the gateway's own list is dropped, so nothing else reaches the host's network stack.
//!
//! Order of a packet: [`frame`] (pointers into it) → [`packet`] (headers to values, by words, see [`header`]) → [`maps`]
//! (peer) → [`flows`] (admitted already, or [`admission`]; counted or not forwarded) → [`rewrite`] → redirect. What stops a
//! packet goes to [`denials`] and [`answer`].

#![no_std]
#![no_main]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "map methods take references only from the next release of the library on"
)]
#![expect(missing_docs, reason = "the functions that the macros generate")]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "atomic addition exists for this target as an intrinsic only")]

mod admission;
mod answer;
mod atomic;
mod clock;
mod denials;
mod exit;
mod flows;
mod fragments;
mod frame;
mod guard;
mod header;
mod icmp;
mod limits;
mod maps;
mod mss;
mod neighbour;
mod packet;
mod plant;
mod rewrite;
mod stats;
mod users;
mod ways;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::{
    exit::Hop,
    frame::{ETHERNET, Frame},
};

/// Bytes of link header in front of packets out of tunnels: none. Test runs, which always come with an Ethernet header, set
/// it at load time.
#[unsafe(no_mangle)]
static TUNNEL_LINK_HEADER: u32 = 0;

/// From users to plants.
#[classifier]
pub fn users(ctx: TcContext) -> i32 {
    users::forward(&mut from_tunnel(ctx))
}

/// From a plant back to users.
#[classifier]
pub fn plant(ctx: TcContext) -> i32 {
    // SAFETY: a field of the kernel's context of this run.
    let interface = unsafe { (*ctx.skb.skb).ifindex };
    match maps::plant(interface) {
        Ok(plant) => {
            let is_ethernet = plant.link_header == ETHERNET as u32;
            let mut frame = if is_ethernet { Frame::new(ctx, ETHERNET, false) } else { from_tunnel(ctx) };
            plant::forward(&mut frame, plant)
        }
        Err(why) => {
            let mut frame = Frame::new(ctx, 0, false);
            let traffic = frame.traffic();
            exit::leave(&mut frame, why, &traffic, &Hop::none())
        }
    }
}

#[inline(always)]
fn from_tunnel(ctx: TcContext) -> Frame {
    // SAFETY: a constant of the object that the loader may have replaced; volatile, so that the compiler does not use
    // the value that stands here.
    let link_header = unsafe { core::ptr::addr_of!(TUNNEL_LINK_HEADER).read_volatile() };
    // One of two numbers, as the verifier wants to know.
    Frame::new(ctx, if link_header == ETHERNET as u32 { ETHERNET } else { 0 }, true)
}

/// In front of `plant` on an Ethernet uplink whose driver runs XDP.
#[xdp]
pub fn guard(ctx: XdpContext) -> u32 {
    guard::filter(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the verifier would reject the loop.
    loop {}
}

/// Some helpers are reserved to programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
