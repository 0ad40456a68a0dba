//! The XDP programs of the VPN gateway: `users` on the users' WireGuard device, `plant` on each plant's uplink.
//!
//! A packet leaves through one door with one [`Verdict`], which is counted. There is no `XDP_PASS`: what is not
//! redirected into the right tunnel is dropped, so nothing reaches the host's own network stack.
//!
//! Order of a packet: [`frame`] (the only pointer arithmetic) → [`packet`] (headers to values) → [`maps`] (peer,
//! route, plant) → [`flows`] (counted or not forwarded) → [`rewrite`] → redirect.

#![no_std]
#![no_main]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "map methods take references only from the next release of the library on"
)]
#![expect(missing_docs, reason = "the functions that the xdp macro generates")]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "atomic addition exists for this target as an intrinsic only")]

mod atomic;
mod clock;
mod denials;
mod flows;
mod frame;
mod maps;
mod packet;
mod plant;
mod rewrite;
mod stats;
mod users;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use vpn_ebpf_common::Verdict;

use crate::frame::Frame;

/// From users to plants.
#[xdp]
pub fn users(ctx: XdpContext) -> u32 {
    let mut frame = Frame::new(ctx);
    let outcome = users::forward(&mut frame);
    leave(&frame, Verdict::ToPlant, outcome)
}

/// From a plant back to users.
#[xdp]
pub fn plant(ctx: XdpContext) -> u32 {
    let mut frame = Frame::new(ctx);
    let outcome = plant::forward(&mut frame);
    leave(&frame, Verdict::ToUser, outcome)
}

/// The one way out: counts the verdict and tells the kernel.
#[inline(always)]
fn leave(frame: &Frame, forwarded: Verdict, outcome: Result<Egress, Verdict>) -> u32 {
    match outcome {
        Ok(Egress(interface)) => {
            stats::count(forwarded, frame.len());
            // SAFETY: the helper takes two integers. It remembers the interface for this packet and answers
            // XDP_REDIRECT; it refuses nothing but unknown flags.
            unsafe { bpf_redirect(interface, 0) as u32 }
        }
        Err(why) => {
            stats::count(why, frame.len());
            xdp_action::XDP_DROP
        }
    }
}

/// Interface index that a rewritten packet leaves by.
#[derive(Clone, Copy)]
struct Egress(u32);

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
