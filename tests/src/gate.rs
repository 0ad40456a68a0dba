//! The programs with a small topology in their maps, for tests that run single packets through them.
//!
//! ```text
//!  user 100.64.0.5 ── users ──► 100.80.0.5 ── plant 7 on interface 1 ── 192.168.1.0/24
//!                                            seen as 10.128.1.0/24 and as itself
//! ```

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use aya::{
    maps::HashMap,
    programs::{TestRun as _, TestRunOptions},
};
use vpn_agent::datapath::{Datapath, OBJECT, Sizes, fill::Content, read::Maps as _};
use vpn_ebpf_common::{
    Address, Prefix, Verdict,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    gateway::{Gateway, IdleLimits},
    names::{CLOSED, FLOWS},
    peer::Peer,
    plant::Plant,
    protocol,
    route::Route,
};

use crate::packet::Ends;

/// `XDP_DROP` of the kernel's uapi/linux/bpf.h.
pub const DROP: u32 = 1;
/// `XDP_REDIRECT`, likewise.
pub const REDIRECT: u32 = 4;

/// The interface that test runs come in by, unless told otherwise: loopback.
pub const LOOPBACK: u32 = 1;

/// An interface that no plant is registered for.
pub const NOWHERE: u32 = 4_000;

/// The peer id of [`USER`].
pub const PEER: u32 = 5;
/// The plant id.
pub const PLANT_ID: u32 = 7;
/// The route id of its subnet.
pub const ROUTE_ID: u32 = 11;
/// The set that [`USER`] has.
pub const ROUTE_SET: u32 = 3;
/// A set in which the plant's addresses lead to another plant.
pub const OTHER_SET: u32 = 4;

/// The user's tunnel address.
pub const USER: &str = "100.64.0.5";
/// The user as the plant sees it.
pub const SOURCE: &str = "100.80.0.5";
/// A device as the user addresses it.
pub const VIRTUAL: &str = "10.128.1.20";
/// The same device as the plant knows it.
pub const REAL: &str = "192.168.1.20";

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
}

/// What a program did with a packet.
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
        Self::filled(Datapath::unpinned(OBJECT, sizes).expect("the programs load; this test needs root"))
    }

    /// With small maps, pinned below a folder of a BPF file system.
    ///
    /// # Panics
    /// Without root.
    pub fn pinned(pin_dir: &Path) -> Self {
        Self::filled(Datapath::open(pin_dir, &sizes()).expect("the programs load; this test needs root"))
    }

    /// With programs that ask for more room in front of the packet than the kernel has, to see what they do when they
    /// do not get it: the kernel always has the 14 bytes that they ask for.
    ///
    /// # Panics
    /// Without root, or if the object has changed so that the places are not found.
    #[must_use]
    pub fn without_headroom() -> Self {
        /// `r2 = -14`, the second argument of `bpf_xdp_adjust_head`, without its first byte: compilers write it as a
        /// move of 32 bits, of 64, or as a wide load.
        const ASK: [u8; 7] = [2, 0, 0, 0xf2, 0xff, 0xff, 0xff];
        const MOVES: [u8; 3] = [0xb4, 0xb7, 0x18];
        let mut object = OBJECT.to_vec();
        let asks = |at: &usize| MOVES.contains(&object[*at]) && object[at + 1..at + 8] == ASK;
        let places: Vec<_> = (0..object.len() / 8).map(|at| 8 * at).filter(asks).collect();
        assert_eq!(places.len(), 2, "one in each program");
        for at in places {
            object[at + 4..at + 8].copy_from_slice(&(-4_096_i32).to_le_bytes());
        }
        Self::filled(Datapath::unpinned(&object, &sizes()).expect("the programs load; this test needs root"))
    }

    fn filled(mut datapath: Datapath) -> Self {
        datapath.configure(&gateway()).unwrap();
        // A state that does not fit is one test's subject; it fills again itself.
        let _ = datapath.fill(&content());
        Self { datapath }
    }

    /// Runs one packet through a program, as if it came in by [`LOOPBACK`].
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn run(&mut self, program: &str, packet: &[u8]) -> Run {
        let mut out = vec![0; 4_096];
        let result = self
            .datapath
            .program(program)
            .test_run(TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::new() })
            .unwrap();
        out.truncate(result.data_size_out as usize);
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
        closed.insert(ClosedKey { flow: key, opened_ns: flow.opened_ns }, flow, 0).unwrap();
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
        peers_max: 8,
        routes_max: 64,
        plants_max: 8,
        flows_max: 64,
        closed_max: 64,
        denials_max: 64,
        events_bytes: 65_536,
    }
}

/// The settings of this host.
#[must_use]
pub fn gateway() -> Gateway {
    let idle = IDLE.as_nanos() as u64;
    Gateway {
        users: LOOPBACK,
        users_mtu: USERS_MTU as u32,
        tunnel: prefix("100.64.0.0", 16),
        idle: IdleLimits { tcp_ns: idle, udp_ns: idle, icmp_ns: idle },
    }
}

/// The topology above; in [`OTHER_SET`] its addresses lead to another plant.
#[must_use]
pub fn content() -> Content {
    let route = |plant, egress| Route { plant, id: ROUTE_ID, egress, real: prefix("192.168.1.0", 24) };
    let set = |plant| {
        BTreeMap::from([
            ((address("10.128.1.0"), 96 + 24), route(plant, LOOPBACK)),
            ((address("192.168.1.0"), 96 + 24), route(plant, LOOPBACK)),
            ((address("10.128.9.0"), 96 + 24), route(plant, NOWHERE)),
        ])
    };
    Content {
        peers: BTreeMap::from([(address(USER), Peer { id: PEER, route_set: ROUTE_SET })]),
        route_sets: BTreeMap::from([(ROUTE_SET, set(PLANT_ID)), (OTHER_SET, set(PLANT_ID + 1))]),
        plants: BTreeMap::from([(
            LOOPBACK,
            Plant { id: PLANT_ID, mtu: PLANT_MTU as u32, source: prefix("100.80.0.0", 16) },
        )]),
    }
}

/// The key of the flow between [`out`] and [`back`].
#[must_use]
pub fn key() -> FlowKey {
    FlowKey {
        device: address(REAL),
        peer: PEER,
        plant: PLANT_ID,
        user_port: 40_000_u16.to_be(),
        device_port: 502_u16.to_be(),
        protocol: protocol::TCP,
        reserved: [0; 3],
    }
}

/// A flow whose last packet was `idle` ago.
#[must_use]
pub fn flow(idle: Duration) -> Flow {
    let last_ns = now_ns() - idle.as_nanos() as u64;
    Flow {
        opened_ns: last_ns - 1,
        last_ns,
        to_plant: Traffic { packets: 2, bytes: 200 },
        to_user: Traffic { packets: 1, bytes: 100 },
        addressed: address(VIRTUAL),
        route_set: ROUTE_SET,
        route: ROUTE_ID,
    }
}

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
    text.parse::<Ipv4Addr>().unwrap().into()
}

/// An IPv4 prefix from text.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn prefix(base: &str, bits: u32) -> Prefix {
    Prefix::new(address(base), 96 + bits)
}
