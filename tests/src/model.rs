//! What the two programs do with a packet, once more, in the plainest way: the reference that they are held against.
//!
//! It shares the types of the maps' keys and values with the programs, and nothing that they calculate with: addresses
//! are those of [`std::net`], networks those of [`topology`](crate::topology), and each checksum is the sum of all that
//! it covers. Time is an argument.

use vpn_ebpf_common::{Verdict, event::Event, flow::Traffic};

use crate::{records::Records, topology::Topology};

mod admission;
mod answer;
pub mod checksum;
mod denial;
mod error;
mod fragment;
mod parse;
mod plant;
mod refusal;
mod rewrite;
mod usage;
mod users;

use parse::{is_neighbour_discovery, parse, without_padding};

/// A packet and how it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Interface index.
    pub ingress: u32,
    /// From the first byte of the IP header.
    pub packet: Vec<u8>,
    /// Set if the kernel has put several segments together.
    pub coalesced: Option<Coalesced>,
}

/// Segments of one TCP connection that the kernel has put together (GRO), or somebody else before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesced {
    /// How many; zero if they were not counted.
    pub segments: u32,
    /// Bytes of payload in each but the last.
    pub size: u32,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its fate.
    pub verdict: Verdict,
    /// What the kernel is told.
    pub action: Action,
    /// The packet afterwards, or the answer to it.
    pub packet: Vec<u8>,
    /// What it counts for in STATS.
    pub counted: Traffic,
}

/// What the kernel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to the host's own stack.
    Pass,
    /// It goes nowhere.
    Drop,
    /// It goes out by this interface.
    Redirect(u32),
}

impl Action {
    /// Its number in the kernel's uapi/linux/pkt_cls.h.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Pass => 0,
            Self::Drop => 2,
            Self::Redirect(_) => 7,
        }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// From a user.
    ToPlant,
    /// From a plant.
    ToUser,
}

/// How many entries those maps can have that can be full.
#[derive(Clone, Copy, Debug)]
pub struct Capacities {
    /// Of FLOWS.
    pub flows: usize,
    /// Of CLOSED.
    pub closed: usize,
    /// Of DENIED.
    pub denied: usize,
}

impl Capacities {
    /// Larger than the traffic of any test.
    pub const LARGE: Self = Self { flows: 16_384, closed: 16_384, denied: 16_384 };
}

/// The two programs and their maps.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the agent has written.
    pub topology: Topology,
    /// How large the maps are.
    pub capacities: Capacities,
    /// What was written. No fragment is ever forgotten.
    pub records: Records,
    /// What was put into EVENTS.
    pub events: Vec<Event>,
}

impl Model {
    /// With empty maps.
    #[must_use]
    pub fn new(topology: Topology, capacities: Capacities) -> Self {
        Self { topology, capacities, records: Records::default(), events: Vec::new() }
    }

    /// A packet through the program on the users' device, at `now` (`CLOCK_BOOTTIME`, nanoseconds).
    pub fn users(&mut self, arrival: &Arrival, now: u64) -> Outcome {
        let parsed = match parse(arrival, Direction::ToPlant) {
            Ok(parsed) => parsed,
            Err(verdict) => return Outcome::unparsed(verdict, arrival),
        };
        let ended = self.packet_from_user(arrival, &parsed, now);
        Outcome::new(arrival, parsed.wire.traffic, ended)
    }

    /// A packet through the program on a plant's uplink, likewise.
    pub fn plant(&mut self, arrival: &Arrival, now: u64) -> Outcome {
        let Some(plant) = self.topology.plants.get(&arrival.ingress).cloned() else {
            return Outcome::unparsed(Verdict::NoPlant, arrival);
        };
        if plant.link_header > 0 && is_neighbour_discovery(&arrival.packet) {
            return Outcome { action: Action::Pass, ..Outcome::unparsed(Verdict::Neighbour, arrival) };
        }
        let arrival = &if plant.link_header > 0 { without_padding(arrival) } else { arrival.clone() };
        let parsed = match parse(arrival, Direction::ToUser) {
            Ok(parsed) => parsed,
            Err(verdict) => return Outcome::unparsed(verdict, arrival),
        };
        let ended = self.packet_from_plant(arrival, &plant, &parsed, now);
        Outcome::new(arrival, parsed.wire.traffic, ended)
    }
}

/// How a program ends.
struct Ended {
    verdict: Verdict,
    action: Action,
    /// What goes out, if it is not what came in.
    packet: Option<Vec<u8>>,
}

impl From<Verdict> for Ended {
    /// The packet is dropped.
    fn from(verdict: Verdict) -> Self {
        Self { verdict, action: Action::Drop, packet: None }
    }
}

impl Outcome {
    fn new(arrival: &Arrival, counted: Traffic, ended: Ended) -> Self {
        let packet = ended.packet.unwrap_or_else(|| arrival.packet.clone());
        Self { verdict: ended.verdict, action: ended.action, packet, counted }
    }

    /// A packet that was dropped before it was known what is in it.
    fn unparsed(verdict: Verdict, arrival: &Arrival) -> Self {
        let counted = Traffic { packets: 1, bytes: arrival.packet.len() as u64 };
        Self::new(arrival, counted, verdict.into())
    }
}
