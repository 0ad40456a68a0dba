//! Names of maps, programs and pins. The XDP programs cannot take a name from a constant, so a test holds
//! these against the object that was built.

/// Name of the program on the users' device.
pub const USERS: &str = "users";
/// Name of the program on a plant's uplink.
pub const PLANT: &str = "plant";

/// Tunnel address to [`Peer`](crate::peer::Peer). Written by the agent.
pub const PEERS: &str = "PEERS";
/// Longest-prefix map of [`RouteKey`](crate::route::RouteKey) to [`Route`](crate::route::Route). Written by the agent.
pub const ROUTES: &str = "ROUTES";
/// Interface index to [`Plant`](crate::plant::Plant). Written by the agent.
pub const PLANTS: &str = "PLANTS";
/// Array of one [`Gateway`](crate::gateway::Gateway). Written by the agent.
pub const GATEWAY: &str = "GATEWAY";
/// [`FlowKey`](crate::flow::FlowKey) to [`Flow`](crate::flow::Flow). The programs add, the collector removes.
pub const FLOWS: &str = "FLOWS";
/// [`ClosedKey`](crate::flow::ClosedKey) to [`Flow`](crate::flow::Flow): finished flows that wait for the collector.
pub const CLOSED: &str = "CLOSED";
/// LRU map of [`DenialKey`](crate::denial::DenialKey) to [`Denial`](crate::denial::Denial).
pub const DENIED: &str = "DENIED";
/// Ring buffer of the records in [`event`](crate::event).
pub const EVENTS: &str = "EVENTS";
/// Per-CPU array of [`Traffic`](crate::flow::Traffic), indexed by [`Verdict`](crate::Verdict).
pub const STATS: &str = "STATS";

/// All maps.
pub const MAPS: [&str; 9] = [PEERS, ROUTES, PLANTS, GATEWAY, FLOWS, CLOSED, DENIED, EVENTS, STATS];

/// Where maps and links are pinned unless the configuration says otherwise. The layout's version is a folder below.
pub const PIN_DIR: &str = "/sys/fs/bpf/vpn";
