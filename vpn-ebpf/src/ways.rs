//! By which of a device's two addresses a peer opens flows: who has only ever used one of them has no flow under the other,
//! which need not be looked for. That look is where nothing else of the packet is in the flow table, and takes a sixth of a
//! new flow.

use core::ptr::{NonNull, addr_of, addr_of_mut};

use vpn_ebpf_common::ways::{PLACES, Way, Ways};

use crate::maps::WAYS;

/// The place of one peer, and of those who share it.
pub struct Place(NonNull<Ways>);

impl Place {
    /// None only for the verifier: every peer has one.
    #[inline(always)]
    pub fn of(peer: u32) -> Option<Self> {
        WAYS.get_ptr_mut(peer % PLACES).and_then(NonNull::new).map(Self)
    }

    /// Whether there may be a flow that goes the other way.
    #[inline(always)]
    pub fn has_other_than(&self, way: Way) -> bool {
        // SAFETY: a live map value of two aligned words. A peer's packets arrive one after the other, so that all it wrote
        // is there; what those who share the place write meanwhile can only add a look.
        unsafe { *self.0.as_ptr() }.have_other_than(way)
    }

    /// Remembers the way of a flow. To be called before the flow is in the table.
    #[inline(always)]
    pub fn note(&self, way: Way) {
        let ways = self.0.as_ptr();
        // SAFETY: as above; a word that nobody sets to anything else. Read first, so that CPUs which have nothing to add do
        // not take the line from each other.
        unsafe {
            let word = match way {
                Way::Real => addr_of_mut!((*ways).real),
                Way::Twin => addr_of_mut!((*ways).twin),
            };
            if addr_of!(*word).read() == 0 {
                word.write(1);
            }
        }
    }
}
