//! Values of the map WAYS: by which of a device's two addresses peers open flows.

use crate::{Address, shared};

/// Places of WAYS. A peer's is its id modulo this; who share one are taken for one.
pub const PLACES: u32 = 65_536;

/// What the peers of one place have done, ever; nothing is taken back. The device of a flow and the address it is under
/// never change, so every flow to a device that is in FLOWS has its way here. Each word has one value besides zero, so that
/// CPUs may write them at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ways {
    /// One once a flow was about to be opened under the address that its device has at the plant.
    pub real: u32,
    /// One once a flow was about to be opened under the address that its device has in the virtual subnet.
    pub twin: u32,
}

shared!(Ways: 4 + 4);

/// Which of a device's two addresses a flow is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The one it has at its plant, be it the only one.
    Real,
    /// The one it has in the virtual subnet.
    Twin,
}

impl Way {
    /// That of a flow to `device` under `addressed`.
    #[inline(always)]
    #[must_use]
    pub const fn of(addressed: &Address, device: &Address) -> Self {
        if device.is(addressed) { Self::Real } else { Self::Twin }
    }
}

impl Ways {
    /// Whether there may be a flow that goes the other way.
    #[inline(always)]
    #[must_use]
    pub const fn have_other_than(&self, way: Way) -> bool {
        match way {
            Way::Real => self.twin != 0,
            Way::Twin => self.real != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_the_other_way_may_be_there_once_there_was_one() {
        let (real, twin) = (Address([0, 0, 0, 1]), Address([0, 0, 0, 2]));
        assert_eq!([Way::of(&real, &real), Way::of(&twin, &real)], [Way::Real, Way::Twin]);
        for (real, twin) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let ways = Ways { real, twin };
            assert_eq!(ways.have_other_than(Way::Real), twin == 1, "{ways:?}");
            assert_eq!(ways.have_other_than(Way::Twin), real == 1, "{ways:?}");
        }
    }
}
