//! Why a packet goes no further.

use vpn_ebpf_common::Verdict;

use super::parse::Parsed;

/// Why a packet goes no further, and what an answer to it needs to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub verdict: Verdict,
    /// The MTU that was exceeded, or zero.
    pub mtu: u32,
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, mtu: 0 }
    }
}

impl Parsed {
    /// Whether it may go on by an interface with this MTU.
    pub fn check_egress(&self, mtu: u32) -> Result<(), Refusal> {
        if self.hops <= 1 {
            Err(Verdict::TtlExpired.into())
        } else if self.wire.largest > mtu {
            Err(Refusal { verdict: Verdict::TooBig, mtu })
        } else {
            Ok(())
        }
    }
}
