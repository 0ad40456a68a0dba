//! The real programs, as the kernel runs them (`BPF_PROG_TEST_RUN`), for packets that come in by several interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use aya::{
    Pod,
    maps::{
        Array, HashMap, Map, MapData, PerCpuArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{TestRun as _, TestRunOptions},
};
use vpn_agent::datapath::{Datapath, Sizes, TEST_RUN_LINK_HEADER, read::Maps as _};
use vpn_ebpf_common::{
    Verdict,
    event::Event,
    flow::Traffic,
    gateway::Gateway,
    names,
    peer::Peer,
    route::{Route, RouteKey, SET_BITS},
    ways::{PLACES, Ways},
};

use crate::{
    gate::Run,
    interfaces,
    model::{Arrival, Capacities},
    records::Records,
    topology::Topology,
};

/// Bytes of `struct __sk_buff` of the kernel's uapi/linux/bpf.h, and where in it stand the index of the interface that a
/// packet comes in by, and how many segments of which size it was put together from.
const CONTEXT: usize = 192;
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// The largest packet that a test run gives back, link header included.
const LARGEST: usize = 4_096;

/// The loaded programs with their maps.
pub struct Kernel {
    datapath: Datapath,
    /// The frame of the next run, kept for its memory.
    frame: Vec<u8>,
    /// Ids of all peers that there ever were.
    peers: BTreeSet<u32>,
}

impl Kernel {
    /// With empty maps of these sizes, and the [`interfaces`] of tests.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new(capacities: Capacities) -> Self {
        let sizes = Sizes {
            tunnel_addresses: 65_536,
            peers_max: 64,
            routes_max: 4_096,
            plants_max: 8,
            flows_max: capacities.flows as u32,
            closed_max: capacities.closed as u32,
            denials_max: capacities.denied as u32,
            // The least recently used ones would go, which the model does not know.
            fragments_max: 65_536,
            events_bytes: 1 << 20,
        };
        let datapath = Datapath::for_test_runs(None, &sizes).expect("the programs load; this test needs root");
        interfaces::create();
        Self { datapath, frame: Vec::new(), peers: BTreeSet::new() }
    }

    /// Has the maps that the agent writes hold this, and nothing else.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn install(&mut self, topology: &Topology) {
        self.install_peers(topology);
        self.peers.extend(topology.peers.values().map(|peer| peer.id));
        replace(self.map(names::PLANTS), &topology.plant_entries());
        replace(self.map(names::SERVICES), &topology.service_entries());
        replace_routes(self.map(names::ROUTES), topology);
        let mut gateway = Array::<_, Gateway>::try_from(self.map(names::GATEWAY)).unwrap();
        gateway.set(0, topology.gateway(), 0).unwrap();
    }

    /// Runs one packet through a program. The Ethernet header that the kernel wants in front of it in a test run is put
    /// there, and taken off again.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn run(&mut self, program: &str, arrival: &Arrival) -> Run {
        self.run_as(program, arrival, ether_type(&arrival.packet))
    }

    /// As [`Kernel::run`], with this EtherType.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn run_as(&mut self, program: &str, arrival: &Arrival, ether_type: [u8; 2]) -> Run {
        const HEADER: usize = TEST_RUN_LINK_HEADER as usize;
        self.frame.clear();
        self.frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        self.frame.extend_from_slice(&ether_type);
        self.frame.extend_from_slice(&arrival.packet);
        let mut context = [0; CONTEXT];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&arrival.ingress.to_ne_bytes());
        if let Some(coalesced) = arrival.coalesced {
            context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&coalesced.segments.to_ne_bytes());
            context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&coalesced.size.to_ne_bytes());
        }
        let mut out = vec![0; LARGEST];
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.datapath.program(program).test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        out.drain(..HEADER.min(out.len()));
        Run { action: result.return_value, packet: out }
    }

    /// Packets and bytes of one verdict.
    ///
    /// # Panics
    /// If the map cannot be read.
    #[must_use]
    pub fn counter(&mut self, verdict: Verdict) -> Traffic {
        let map = PerCpuArray::<_, Traffic>::try_from(self.map(names::STATS)).unwrap();
        let cpus = map.get(&(verdict as u32), 0).unwrap();
        cpus.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            packets: sum.packets + cpu.packets,
            bytes: sum.bytes + cpu.bytes,
        })
    }

    /// What the programs have written.
    ///
    /// # Panics
    /// If a map cannot be read.
    #[must_use]
    pub fn records(&self) -> Records {
        Records {
            flows: self.datapath.flows().unwrap(),
            closed: self.datapath.closed().unwrap(),
            denied: self.datapath.denials().unwrap(),
            usage: self.datapath.usage().unwrap(),
            released: self.datapath.released().unwrap(),
            fragments: self.datapath.fragments().unwrap(),
        }
    }

    /// Has the maps that the programs write hold this, and nothing else.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn set_records(&mut self, records: &Records) {
        replace(self.map(names::FLOWS), &records.flows);
        replace(self.map(names::CLOSED), &records.closed);
        replace(self.map(names::DENIED), &records.denied);
        replace(self.map(names::USAGE), &records.usage);
        replace(self.map(names::RELEASED), &records.released);
        replace(self.map(names::FRAGMENTS), &records.fragments);
    }

    /// Has the programs forget by which addresses peers have opened flows. There must be none.
    ///
    /// # Panics
    /// If the map cannot be written.
    pub fn forget_ways(&mut self) {
        let peers = self.peers.clone();
        let mut ways = self.ways_map();
        peers.into_iter().for_each(|peer| ways.set(peer % PLACES, Ways::default(), 0).unwrap());
    }

    /// By which addresses a peer has opened flows.
    ///
    /// # Panics
    /// If the map cannot be read.
    pub fn ways(&mut self, peer: u32) -> Ways {
        self.ways_map().get(&(peer % PLACES), 0).unwrap()
    }

    fn ways_map(&mut self) -> Array<&mut MapData, Ways> {
        self.map(names::WAYS).try_into().unwrap()
    }

    /// Takes what is in EVENTS.
    ///
    /// # Panics
    /// If there is something that is no event.
    pub fn events(&mut self) -> Vec<Event> {
        let mut ring = RingBuf::try_from(self.map(names::EVENTS)).unwrap();
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            events.push(Event::parse(&record).expect("a record of this layout"));
        }
        events
    }

    fn install_peers(&self, topology: &Topology) {
        let table = self.datapath.peer_table();
        for number in table.entries().keys().filter(|number| !topology.peers.contains_key(number)) {
            assert!(table.set(*number, Peer::NOBODY));
        }
        for (number, peer) in &topology.peers {
            assert!(table.set(*number, *peer), "the table has no place {number}");
        }
    }

    fn map(&mut self, name: &'static str) -> &mut Map {
        self.datapath.map_mut(name)
    }
}

/// What the Ethernet header says is behind it. The kernel runs no program on less than the IP header that it announces,
/// so with such a packet it announces something else (IEEE 802, local experiments).
fn ether_type(packet: &[u8]) -> [u8; 2] {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => [0x08, 0x00],
        Some(6) if packet.len() >= 40 => [0x86, 0xdd],
        _ => [0x88, 0xb5],
    }
}

/// Writes what is different.
fn replace<K: Pod + Ord + Debug, V: Pod + PartialEq>(map: &mut Map, wanted: &BTreeMap<K, V>) {
    let mut map = HashMap::<_, K, V>::try_from(map).unwrap();
    let present: BTreeMap<K, V> = map.iter().collect::<Result<_, _>>().unwrap();
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key).unwrap();
    }
    for (key, value) in wanted.iter().filter(|(key, value)| present.get(key) != Some(value)) {
        map.insert(key, value, 0).unwrap();
    }
}

fn replace_routes(map: &mut Map, topology: &Topology) {
    let mut map = LpmTrie::<_, RouteKey, Route>::try_from(map).unwrap();
    let wanted: BTreeMap<_, _> = topology
        .route_entries()
        .into_iter()
        .map(|((set, destination, bits), route)| ((SET_BITS + bits, set, destination), route))
        .collect();
    let mut present = BTreeMap::new();
    for entry in map.iter() {
        let (key, route) = entry.unwrap();
        present.insert((key.prefix_len(), key.data().set, key.data().destination), route);
    }
    let key = |(bits, set, destination)| Key::new(bits, RouteKey { set, destination });
    for place in present.keys().filter(|place| !wanted.contains_key(place)) {
        map.remove(&key(*place)).unwrap();
    }
    for (place, route) in wanted.iter().filter(|(place, route)| present.get(place) != Some(route)) {
        map.insert(&key(*place), route, 0).unwrap();
    }
}
