//! The programs with a small topology in their maps, for tests that run single packets through them.
//!
//! ```text
//!  user 100.64.0.5 ── users ──► 100.80.0.5 ── plant 7 on interface 1 ── 192.168.1.0/24
//!       fd64::5                 fd80::5                                 seen as 10.128.1.0/24 and as itself
//!                                                                       2001:db8:1::/64, seen as fd10:1::/64 and as itself
//! ```

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc, time::Duration};

use aya::{
    maps::HashMap,
    programs::{TestRun as _, TestRunOptions},
};
use vpn_agent::datapath::{Datapath, Sizes, TEST_RUN_LINK_HEADER, fill::Content, read::Maps as _};
use vpn_ebpf_common::{
    Address, Prefix, Verdict,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    gateway::{ANSWER_REFUSALS, Gateway, IdleLimits, Limits},
    names::{CLOSED, FLOWS},
    peer::Peer,
    plant::{MAX_SUBNETS, Plant, Subnet},
    protocol,
    route::{Route, V4_OFFSET},
    service::ServiceKey,
};

use crate::packet::Ends;

/// `TC_ACT_OK` of the kernel's uapi/linux/pkt_cls.h: on to the host's own network stack.
pub const PASS: u32 = 0;
/// `TC_ACT_SHOT`, likewise.
pub const DROP: u32 = 2;
/// `TC_ACT_REDIRECT`, likewise.
pub const REDIRECT: u32 = 7;

/// The interface that test runs come in by, unless told otherwise: loopback.
pub const LOOPBACK: u32 = 1;

/// An interface that no plant is registered for.
pub const NOWHERE: u32 = 4_000;

/// The peer id of [`USER`].
pub const PEER: u32 = 5;
/// The plant id.
pub const PLANT_ID: u32 = 7;
/// The route id of its IPv4 subnet; the next is that of its IPv6 subnet.
pub const ROUTE_ID: u32 = 11;
/// The route id of the gateway's own service.
pub const SERVICE_ID: u32 = 21;
/// The set that [`USER`] has.
pub const ROUTE_SET: u32 = 3;
/// A set in which the plant's addresses lead to another plant.
pub const OTHER_SET: u32 = 4;

/// The user's tunnel address.
pub const USER: &str = "100.64.0.5";
/// The host number of that.
pub const USER_NUMBER: u32 = 5;
/// The user as the plant sees it.
pub const SOURCE: &str = "100.80.0.5";
/// A device as the user addresses it.
pub const VIRTUAL: &str = "10.128.1.20";
/// The same device as the plant knows it.
pub const REAL: &str = "192.168.1.20";
/// The gateway's own tunnel address, where it has a service on [`SERVICE_PORT`] over UDP.
pub const GATEWAY: &str = "100.64.0.1";
/// See [`GATEWAY`].
pub const SERVICE_PORT: u16 = 53;

/// [`USER`], [`SOURCE`], [`VIRTUAL`], [`REAL`] and [`GATEWAY`] of the other family.
pub const USER6: &str = "fd64::5";
/// See [`USER6`].
pub const SOURCE6: &str = "fd80::5";
/// See [`USER6`].
pub const VIRTUAL6: &str = "fd10:1::20";
/// See [`USER6`].
pub const REAL6: &str = "2001:db8:1::20";
/// See [`USER6`].
pub const GATEWAY6: &str = "fd64::1";

/// The largest packet to the plant, bytes.
pub const PLANT_MTU: usize = 1_420;
/// The largest packet to the user, bytes.
pub const USERS_MTU: usize = 1_280;
/// After this time without a packet a flow is at its end.
pub const IDLE: Duration = Duration::from_secs(10);

/// The ends of a request.
#[must_use]
pub fn out() -> Ends {
    Ends::new((USER, 40_000), (VIRTUAL, 502))
}

/// The ends of its reply.
#[must_use]
pub fn back() -> Ends {
    Ends::new((REAL, 502), (SOURCE, 40_000))
}

/// The programs with the topology above.
pub struct Gate {
    /// The loaded programs and maps.
    pub datapath: Datapath,
    /// The frame of the next run, kept for its memory.
    frame: Vec<u8>,
}

/// What a program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it told the kernel.
    pub action: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// With small maps that end with the value.
    ///
    /// # Panics
    /// Without root.
    pub fn new() -> Self {
        Self::with(&sizes())
    }

    /// With maps of other sizes.
    ///
    /// # Panics
    /// Without root.
    pub fn with(sizes: &Sizes) -> Self {
        Self::filled(Datapath::for_test_runs(None, sizes).expect("the programs load; this test needs root"))
    }

    /// With small maps, pinned below a folder of a BPF file system.
    ///
    /// # Panics
    /// Without root.
    pub fn pinned(pin_dir: &Path) -> Self {
        let datapath = Datapath::for_test_runs(Some(pin_dir), &sizes());
        Self::filled(datapath.expect("the programs load; this test needs root"))
    }

    /// With a datapath of the caller's, as it is.
    #[must_use]
    pub fn of(datapath: Datapath) -> Self {
        Self { datapath, frame: Vec::new() }
    }

    fn filled(mut datapath: Datapath) -> Self {
        datapath.configure(&gateway()).unwrap();
        // A state that does not fit is one test's subject; it fills again itself.
        let _ = datapath.fill(&content());
        Self { datapath, frame: Vec::new() }
    }

    /// Runs one packet through a program, as if it came in by [`LOOPBACK`]. The Ethernet header that the kernel wants in
    /// front of it in a test run is put there, and taken off again.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn run(&mut self, program: &str, packet: &[u8]) -> Run {
        const HEADER: usize = TEST_RUN_LINK_HEADER as usize;
        let kind: [u8; 2] = if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [0x08, 0] };
        self.frame.clear();
        self.frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        self.frame.extend_from_slice(&kind);
        self.frame.extend_from_slice(packet);
        let mut out = vec![0; 4_096];
        let options = TestRunOptions { data_in: Some(&self.frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = self.datapath.program(program).test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        out.drain(..HEADER.min(out.len()));
        Run { action: result.return_value, packet: out }
    }

    /// The flow between [`out`] and [`back`].
    ///
    /// # Panics
    /// If the map cannot be read.
    pub fn flow(&self) -> Option<Flow> {
        self.datapath.flows().unwrap().get(&key()).copied()
    }

    /// Refused packets that were recorded under a verdict.
    ///
    /// # Panics
    /// If the map cannot be read.
    pub fn denied(&self, verdict: Verdict) -> u64 {
        let denials = self.datapath.denials().unwrap();
        denials.iter().filter(|(key, _)| key.verdict == verdict as u8).map(|(_, denial)| denial.attempts).sum()
    }

    /// Puts a flow into FLOWS.
    ///
    /// # Panics
    /// If it is full.
    pub fn put_flow(&mut self, key: FlowKey, flow: Flow) {
        let mut flows = HashMap::<_, FlowKey, Flow>::try_from(self.datapath.map_mut(FLOWS)).unwrap();
        flows.insert(key, flow, 0).unwrap();
    }

    /// Puts a flow into CLOSED.
    ///
    /// # Panics
    /// If it is full.
    pub fn put_closed(&mut self, key: FlowKey, flow: Flow) {
        let mut closed = HashMap::<_, ClosedKey, Flow>::try_from(self.datapath.map_mut(CLOSED)).unwrap();
        closed.insert(ClosedKey::new(key, flow.opened_ns), flow, 0).unwrap();
    }

    /// Fills the maps with a changed topology.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn change(&mut self, change: impl FnOnce(&mut Content)) {
        let mut content = content();
        change(&mut content);
        self.datapath.fill(&content).unwrap();
    }
}

/// Small maps.
#[must_use]
pub fn sizes() -> Sizes {
    Sizes {
        tunnel_addresses: 65_536,
        peers_max: 8,
        routes_max: 64,
        plants_max: 8,
        flows_max: 64,
        closed_max: 64,
        denials_max: 64,
        fragments_max: 64,
        events_bytes: 65_536,
    }
}

/// The settings of this host. Limits are out of the way.
#[must_use]
pub fn gateway() -> Gateway {
    let idle = IDLE.as_millis() as u32;
    Gateway {
        users: LOOPBACK,
        users_mtu: USERS_MTU as u32,
        generation: 0,
        options: ANSWER_REFUSALS,
        tunnel: [prefix("100.64.0.0", 16), prefix("fd64::", 64)],
        source: [prefix("100.80.0.0", 16), prefix("fd80::", 64)],
        address: [address(GATEWAY), address(GATEWAY6)],
        idle: IdleLimits { tcp_ms: idle, tcp_transitory_ms: idle, tcp_closed_ms: idle, udp_ms: idle, icmp_ms: idle },
        limits: Limits {
            new_flows_per_second: u32::MAX,
            live_flows: u32::MAX,
            answers_per_second: u32::MAX,
            denials_per_window: u32::MAX,
            reserved: 0,
        },
    }
}

/// The topology above; in [`OTHER_SET`] its addresses lead to another plant.
#[must_use]
pub fn content() -> Content {
    let net = |base: &str, bits: u32| (address(base), if address(base).is_v4() { V4_OFFSET + bits } else { bits });
    let v4 = |plant, egress| Route {
        plant,
        id: ROUTE_ID,
        egress,
        real: prefix("192.168.1.0", 24),
        twin: address("10.128.1.0"),
    };
    let v6 = |plant, egress| Route {
        plant,
        id: ROUTE_ID + 1,
        egress,
        real: prefix("2001:db8:1::", 64),
        twin: address("fd10:1::"),
    };
    let set = |plant| {
        let routes = [
            (net("10.128.1.0", 24), v4(plant, LOOPBACK)),
            (net("192.168.1.0", 24), v4(plant, LOOPBACK)),
            (net("10.128.9.0", 24), v4(plant, NOWHERE)),
            (net("fd10:1::", 64), v6(plant, LOOPBACK)),
            (net("2001:db8:1::", 64), v6(plant, LOOPBACK)),
        ];
        Arc::new(routes.into_iter().collect())
    };
    let mut subnets = [Subnet::NONE; MAX_SUBNETS];
    subnets[0] = Subnet { real: prefix("192.168.1.0", 24), twin: address("10.128.1.0") };
    subnets[1] = Subnet { real: prefix("2001:db8:1::", 64), twin: address("fd10:1::") };
    let plant =
        Plant { id: PLANT_ID, mtu: PLANT_MTU as u32, link_header: TEST_RUN_LINK_HEADER, subnet_count: 2, subnets };
    let peer = Peer { id: PEER, route_set: ROUTE_SET };
    let service =
        ServiceKey { address: address(GATEWAY), port: SERVICE_PORT.to_be(), protocol: protocol::UDP, reserved: 0 };
    Content {
        peers: BTreeMap::from([(USER_NUMBER, peer)]),
        route_sets: BTreeMap::from([(ROUTE_SET, set(PLANT_ID)), (OTHER_SET, set(PLANT_ID + 1))]),
        plants: BTreeMap::from([(LOOPBACK, plant)]),
        services: BTreeMap::from([(service, SERVICE_ID)]),
    }
}

/// The key of the flow between [`out`] and [`back`].
#[must_use]
pub fn key() -> FlowKey {
    FlowKey {
        addressed: address(VIRTUAL),
        peer: PEER,
        user_port: 40_000_u16.to_be(),
        device_port: 502_u16.to_be(),
        protocol: protocol::TCP,
        reserved: [0; 3],
    }
}

/// A flow under [`key`] that expired so long ago, also for the programs, admitted under the present settings.
#[must_use]
pub fn flow(expired: Duration) -> Flow {
    let expires_ns = now_ns() - TICK_NS - expired.as_nanos() as u64;
    let last_ns = expires_ns - IDLE.as_nanos() as u64;
    Flow {
        tag: key().tag(),
        mtu: PLANT_MTU as u32,
        tcp_user: 0,
        tcp_plant: 0,
        opened_ns: last_ns - 1,
        last_ns,
        expires_ns,
        to_plant: Traffic { packets: 2, bytes: 200 },
        to_user: Traffic { packets: 1, bytes: 100 },
        device: address(REAL),
        plant: PLANT_ID,
        route: ROUTE_ID,
        route_set: ROUTE_SET,
        generation: 0,
        egress: LOOPBACK,
        link_header: TEST_RUN_LINK_HEADER as u16,
        reserved: 0,
    }
}

/// The longest tick of a kernel, nanoseconds. What the programs take for the present may be so long ago.
pub const TICK_NS: u64 = 10_000_000;

/// `CLOCK_BOOTTIME`, nanoseconds.
#[must_use]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap().as_nanos() as u64
}

/// An address from text.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// A prefix from text.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn prefix(base: &str, bits: u32) -> Prefix {
    let base = address(base);
    Prefix::new(base, if base.is_v4() { V4_OFFSET + bits } else { bits })
}
