//! What may happen to the gateway in a few seconds: packets, and now and then that somebody changes the maps.

use std::fmt;

use vpn_ebpf_common::flow::{Age, Flow, FlowKey};

use crate::{
    model::{Model, Outcome},
    random::Random,
    records::Records,
    topology::Topology,
    traffic::{Packet, Traffic, world::World},
};

/// One thing that happens.
#[derive(Clone)]
pub enum Step {
    /// A packet comes in.
    Packet(Packet),
    /// The agent writes.
    Install(Box<Topology>),
    /// Time passes for the records.
    Records(Change),
}

/// What becomes of the records without a packet.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A flow has had no packet for so long that it settles.
    Settle(FlowKey),
    /// A flow has had no packet for so long that it is over.
    End(FlowKey),
    /// So do all flows that have not much time left until then.
    EndSettling,
    /// The collector takes what is over.
    Collect,
    /// The collector takes what was refused, and late fragments are not waited for any more.
    Forget,
}

/// Things that happen one after the other, all of which follow from a seed.
#[derive(Debug)]
pub struct Scenario {
    random: Random,
    world: World,
    traffic: Traffic,
    begun: bool,
}

impl Scenario {
    /// The one of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = World::new(&mut random);
        let traffic = Traffic::new(random.number());
        Self { random, world, traffic, begun: false }
    }

    /// The topology at present.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.world.topology
    }

    /// The next thing that happens, after all before have happened to `model`.
    pub fn next(&mut self, model: &Model) -> Step {
        if !self.begun {
            self.begun = true;
            return self.install();
        }
        if self.world.topology.users == 0 && self.random.percent(20) {
            self.world.toggle_configuration();
            return self.install();
        }
        match self.random.below(3_000) {
            0 => {
                self.world.toggle_configuration();
                self.install()
            }
            1..20 => {
                self.world.change(&mut self.random);
                self.install()
            }
            20..23 => Step::Records(Change::Collect),
            23..26 => Step::Records(Change::Forget),
            26..80 if !model.records.flows.is_empty() => {
                let place = self.random.below(model.records.flows.len());
                let key = *model.records.flows.keys().nth(place).expect("there are more");
                let change = if self.random.percent(25) { Change::Settle(key) } else { Change::End(key) };
                Step::Records(change)
            }
            _ => Step::Packet(self.traffic.next(&self.world.topology)),
        }
    }

    /// Tells what became of a packet, so that others can follow on it.
    pub fn saw(&mut self, packet: Packet, outcome: Outcome) {
        self.traffic.saw(packet, outcome);
    }

    fn install(&self) -> Step {
        Step::Install(Box::new(self.world.topology.clone()))
    }
}

impl Change {
    /// Changes the records at `now` (`CLOCK_BOOTTIME`, nanoseconds).
    pub fn apply(self, records: &mut Records, now: u64) {
        /// Far from the end of anything that takes a second.
        const LONG: u64 = 10_000_000_000;
        // A flow that is over began long ago, and none began with the one that follows it under the same key.
        let end = |flow: &mut Flow| {
            flow.opened_ns = now - 2 * LONG;
            flow.expires_ns = now - LONG;
        };
        match self {
            Self::Settle(key) => {
                if let Some(flow) = records.flows.get_mut(&key).filter(|flow| flow.age(now) == Age::Live) {
                    flow.expires_ns = now - 1;
                }
            }
            Self::End(key) => {
                records.flows.get_mut(&key).into_iter().for_each(end);
            }
            Self::EndSettling => {
                records.flows.values_mut().filter(|flow| flow.age(now) == Age::Settling).for_each(end);
            }
            Self::Collect => {
                records.closed.clear();
                records.flows.retain(|key, flow| {
                    let is_over = flow.age(now) == Age::Over;
                    if is_over {
                        *records.released.entry(key.peer).or_default() += 1;
                    }
                    !is_over
                });
            }
            Self::Forget => {
                records.denied.clear();
                records.fragments.clear();
            }
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(Packet { program, arrival }) => {
                write!(f, "{program}, interface {}: ", arrival.ingress)?;
                if let Some(coalesced) = arrival.coalesced {
                    write!(f, "{} segments of {}: ", coalesced.segments, coalesced.size)?;
                }
                arrival.packet.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Install(topology) => write!(f, "{topology:?}"),
            Self::Records(change) => write!(f, "{change:?}"),
        }
    }
}
