//! Names of maps, programs and pins. The programs cannot take a name from a constant, so a test holds
//! these against the object that was built.

/// Name of the program on the users' device.
pub const USERS: &str = "users";
/// Name of the program on a plant's uplink.
pub const PLANT: &str = "plant";
/// Name of the XDP program in front of [`PLANT`] on Ethernet uplinks whose driver runs XDP.
pub const GUARD: &str = "guard";
/// The constant of both programs that says how many bytes of link header stand in front of packets out of tunnels: 0 on
/// WireGuard, 14 in test runs, to which the kernel gives Ethernet frames.
pub const TUNNEL_LINK_HEADER: &str = "TUNNEL_LINK_HEADER";

/// Tunnel address to [`Peer`](crate::peer::Peer). Written by the agent.
pub const PEERS: &str = "PEERS";
/// Longest-prefix map of [`RouteKey`](crate::route::RouteKey) to [`Route`](crate::route::Route). Written by the agent.
pub const ROUTES: &str = "ROUTES";
/// Interface index to [`Plant`](crate::plant::Plant). Written by the agent.
pub const PLANTS: &str = "PLANTS";
/// [`ServiceKey`](crate::service::ServiceKey) to route id. Written by the agent.
pub const SERVICES: &str = "SERVICES";
/// Array of one [`Gateway`](crate::gateway::Gateway). Written by the agent.
pub const GATEWAY: &str = "GATEWAY";
/// [`FlowKey`](crate::flow::FlowKey) to [`Flow`](crate::flow::Flow). The programs add, the collector removes.
pub const FLOWS: &str = "FLOWS";
/// [`ClosedKey`](crate::flow::ClosedKey) to [`Flow`](crate::flow::Flow): finished flows that wait for the collector.
pub const CLOSED: &str = "CLOSED";
/// [`DenialKey`](crate::denial::DenialKey) to [`Denial`](crate::denial::Denial). The programs add, the collector removes.
pub const DENIED: &str = "DENIED";
/// Peer id to [`Usage`](crate::usage::Usage). Written by the programs; the agent removes what belongs to no peer any more.
pub const USAGE: &str = "USAGE";
/// Peer id to how many of its flows were removed from FLOWS (`u64`). Written by the collector, likewise.
pub const RELEASED: &str = "RELEASED";
/// Array of [`Ways`](crate::ways::Ways), indexed by peer id modulo its length. Written by the programs.
pub const WAYS: &str = "WAYS";
/// LRU map of [`FragmentKey`](crate::fragment::FragmentKey) to [`Fragmented`](crate::fragment::Fragmented).
pub const FRAGMENTS: &str = "FRAGMENTS";
/// Ring buffer of the records in [`event`](crate::event).
pub const EVENTS: &str = "EVENTS";
/// Per-CPU array of [`Traffic`](crate::flow::Traffic), indexed by [`Verdict`](crate::Verdict).
pub const STATS: &str = "STATS";

/// All maps.
pub const MAPS: [&str; 14] =
    [PEERS, ROUTES, PLANTS, SERVICES, GATEWAY, FLOWS, CLOSED, DENIED, USAGE, RELEASED, WAYS, FRAGMENTS, EVENTS, STATS];

/// Where maps and links are pinned unless the configuration says otherwise. The layout's version is a folder below.
pub const PIN_DIR: &str = "/sys/fs/bpf/vpn";
