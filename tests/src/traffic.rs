//! Packets that are likely to be interesting: nearly all that users and plants could send to each other in a topology,
//! what follows on what has passed before, and what is wrong in one place.

use std::collections::VecDeque;

use vpn_ebpf_common::names::{PLANT, USERS};

use crate::{
    interfaces::{UPLINKS, USERS_DEVICE},
    model::{Action, Arrival, Model, Outcome},
    random::Random,
    topology::Topology,
};

mod blueprint;
mod choice;
mod damage;
mod error;
pub mod world;

/// How many of the last packets that went on are remembered.
const REMEMBERED: usize = 48;

/// A packet for one of the programs.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The program's name.
    pub program: &'static str,
    /// How it comes in.
    pub arrival: Arrival,
}

impl Packet {
    /// What the model does with it, at `now` (`CLOCK_BOOTTIME`, nanoseconds).
    pub fn run(&self, model: &mut Model, now: u64) -> Outcome {
        if self.program == USERS { model.users(&self.arrival, now) } else { model.plant(&self.arrival, now) }
    }
}

/// A source of packets.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    /// What went on lately.
    passed: VecDeque<Passed>,
    /// Fragments that are still to come.
    fragments: Vec<Packet>,
}

/// A packet that went on, and how it came out.
#[derive(Debug)]
struct Passed {
    packet: Packet,
    egress: u32,
    out: Vec<u8>,
}

impl Traffic {
    /// All packets follow from the seed and from what became of those before.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), passed: VecDeque::new(), fragments: Vec::new() }
    }

    /// The next packet.
    pub fn next(&mut self, topology: &Topology) -> Packet {
        if !self.fragments.is_empty() && self.random.percent(60) {
            let next = self.random.below(self.fragments.len());
            return self.fragments.swap_remove(next);
        }
        let packet = match self.random.below(100) {
            0..40 => self.fresh(topology),
            40..65 => self.reply().unwrap_or_else(|| self.fresh(topology)),
            65..80 => self.again().unwrap_or_else(|| self.fresh(topology)),
            80..92 => self.error(topology).unwrap_or_else(|| self.fresh(topology)),
            92..97 => self.fragmented(topology),
            _ => self.noise(),
        };
        self.damaged(packet)
    }

    /// Has later packets follow on this one.
    pub fn saw(&mut self, packet: Packet, outcome: Outcome) {
        if let Action::Redirect(egress) = outcome.action {
            self.passed.truncate(REMEMBERED - 1);
            self.passed.push_front(Passed { packet, egress, out: outcome.packet });
        }
    }

    /// Bytes that mean nothing.
    fn noise(&mut self) -> Packet {
        let length = self.random.below(100);
        let mut packet = self.random.bytes(length);
        if let Some(first) = packet.first_mut() {
            *first = self.random.pick(&[0x45, 0x45, 0x60, 0x60, *first]);
        }
        let program = self.random.pick(&[USERS, PLANT]);
        self.arriving(program, packet)
    }

    /// A packet on the way into a program, by one of its interfaces.
    fn arriving(&mut self, program: &'static str, packet: Vec<u8>) -> Packet {
        let ingress = if program == USERS { USERS_DEVICE } else { self.random.pick(&UPLINKS) };
        Packet { program, arrival: Arrival { ingress, packet, coalesced: None } }
    }
}
