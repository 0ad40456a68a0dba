//! The fate of a packet.

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Every way a packet can leave the programs. One variant is one counter in STATS and one label of
        /// the metric, and it is the error type of every step, so nothing is dropped without a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Verdict {
            /// All verdicts, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Name in metrics, audit rows and documents.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+),)+
                }
            }
        }
    };
}

verdicts! {
    /// Counted, translated and sent to the plant.
    ToPlant = "to-plant",
    /// Counted, translated and sent to the user.
    ToUser = "to-user",
    /// Counted and given to a service of the gateway itself.
    ToGateway = "to-gateway",
    /// Neighbour discovery of an Ethernet uplink, given to the host's own network stack.
    Neighbour = "neighbour",
    /// Sent to the plant without a flow, because the table is full and the configuration prefers that.
    UnrecordedToPlant = "unrecorded-to-plant",
    /// Sent to the user without a flow, likewise.
    UnrecordedToUser = "unrecorded-to-user",
    /// Shorter than its headers.
    Truncated = "truncated",
    /// Neither IPv4 nor IPv6.
    NotIp = "not-ip",
    /// Carries IP options, which are not translated.
    IpOptions = "ip-options",
    /// Carries an IPv6 extension header other than a fragment header, which is not translated.
    ExtensionHeader = "extension-header",
    /// The length in the IP header is not the packet's.
    Length = "length",
    /// A later fragment of a packet whose first one was not seen or not let through.
    Fragment = "fragment",
    /// Neither TCP, UDP nor ICMP.
    Protocol = "protocol",
    /// ICMP, but neither an error nor an echo request from a user or an echo reply from a plant.
    IcmpType = "icmp-type",
    /// An ICMP error about a packet that belongs to no flow.
    IcmpNoFlow = "icmp-no-flow",
    /// The agent has not configured the gateway yet.
    NotConfigured = "not-configured",
    /// No peer owns the tunnel address.
    NoPeer = "no-peer",
    /// No route of the peer leads to the destination.
    NoRoute = "no-route",
    /// No plant is registered for the interface.
    NoPlant = "no-plant",
    /// From a plant, to something that is not a user's address on this uplink.
    NotForUser = "not-for-user",
    /// From a plant, without a flow that a user opened.
    NoFlow = "no-flow",
    /// From a plant, in a flow that the user may no longer have.
    Revoked = "revoked",
    /// In a flow that is being ended because it was idle.
    FlowIdle = "flow-idle",
    /// The address leads to another device than before; the flow to that one is being ended.
    FlowMoved = "flow-moved",
    /// The user already talks to this device under its other address, from the same port.
    AddressInUse = "address-in-use",
    /// By a real address, inside a TCP connection that has no flow; it may have been one with another plant.
    NoConnection = "no-connection",
    /// More new flows in a second than a peer may open.
    PeerRate = "peer-rate",
    /// The peer has as many live flows as it may have.
    PeerFlows = "peer-flows",
    /// The flow table is full, so the flow cannot be recorded.
    FlowsFull = "flows-full",
    /// The table of finished flows is full, so the flow before this one cannot be kept.
    ClosedFull = "closed-full",
    /// Its time to live, or hop limit, ends here.
    TtlExpired = "ttl-expired",
    /// Larger than the interface it must leave by.
    TooBig = "too-big",
    /// The kernel had no memory to rewrite the packet.
    NoMemory = "no-memory",
    /// The kernel was just changing the flow table on this processor.
    Busy = "busy",
}

impl Verdict {
    /// The verdict with this number, as it stands in maps.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_and_labels_name_one_verdict_each() {
        let labels: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.label()).collect();
        assert_eq!(labels.len(), Verdict::COUNT);
        for (number, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, number);
            assert_eq!(Verdict::from_number(number as u8), Some(*verdict));
        }
        assert_eq!(Verdict::from_number(Verdict::COUNT as u8), None);
    }
}
