//! The one way out of both programs.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    helpers::{bpf_redirect, bpf_redirect_neigh},
};
use vpn_ebpf_common::{Verdict, flow::Traffic};

use crate::{
    frame::{ETHERNET, Frame},
    stats,
};

/// Where a packet goes.
pub struct Hop {
    /// Interface index; [`NOWHERE`], or [`HOST`].
    pub interface: u32,
    /// Bytes of link header that the interface wants.
    pub link_header: u32,
    /// The largest packet that it takes, in bytes of IP packet, as far as it is known.
    pub mtu: u32,
}

/// The packet is dropped. No interface has this index: the kernel counts in an `int`.
pub const NOWHERE: u32 = u32::MAX;

/// The packet is for the host's own network stack. No interface has this index.
pub const HOST: u32 = 0;

impl Hop {
    #[inline(always)]
    pub const fn none() -> Self {
        Self { interface: NOWHERE, link_header: 0, mtu: 0 }
    }
}

/// Counts the verdict and tells the kernel.
#[inline(always)]
pub fn leave(frame: &mut Frame, verdict: Verdict, traffic: &Traffic, hop: &Hop) -> i32 {
    let (verdict, action) = match hop.interface {
        NOWHERE => (verdict, TC_ACT_SHOT),
        // Whatever was translated on its way here is not for the host, which could forward it: an interface of zero is
        // then one that the agent has taken away meanwhile.
        HOST if matches!(verdict, Verdict::ToGateway | Verdict::Neighbour) => (verdict, TC_ACT_OK),
        HOST => (Verdict::NotConfigured, TC_ACT_SHOT),
        interface => match send(frame, interface, hop.link_header) {
            Ok(action) => (verdict, action),
            Err(why) => (why, TC_ACT_SHOT),
        },
    };
    stats::count(verdict, traffic);
    action
}

#[inline(always)]
fn send(frame: &mut Frame, interface: u32, link_header: u32) -> Result<i32, Verdict> {
    if link_header != ETHERNET as u32 {
        frame.drop_tag()?;
        // The kernel takes an Ethernet header off for an interface that wants none (`__bpf_redirect_no_mac`).
        // SAFETY: the helper takes two integers and remembers them for this packet.
        return Ok(unsafe { bpf_redirect(interface, 0) as i32 });
    }
    frame.become_ethernet()?;
    // SAFETY: as above; without parameters the next hop comes from the host's routes of that interface.
    Ok(unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 })
}
