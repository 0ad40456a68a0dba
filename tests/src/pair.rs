//! The programs in the kernel and their reference model side by side: whatever happens, happens to both.

use std::{thread, time::Duration};

use vpn_agent::datapath::TEST_RUN_LINK_HEADER;
use vpn_ebpf_common::{
    Verdict,
    event::Event,
    flow::{Age, Traffic},
    names::PLANT,
    ways::Ways,
};

use crate::{
    checksums::Checksums,
    gate::{Run, TICK_NS, now_ns},
    kernel::Kernel,
    model::{Action, Capacities, Model, Outcome},
    records::{Records, timeless_event},
    scenario::{Change, Step},
    topology::Topology,
    traffic::Packet,
};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Before the end of a second no packet is begun, so that both sides see it in the same one.
const MARGIN: u64 = 1_000_000;

/// Both.
pub struct Pair {
    kernel: Kernel,
    model: Model,
    /// What the counters of the kernel must be, by verdict.
    counted: Vec<Traffic>,
    /// Since when there may be flows that settle, which takes a second.
    settling_since: Option<u64>,
}

impl Pair {
    /// With empty maps of these sizes.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new(capacities: Capacities, topology: Topology) -> Self {
        let kernel = Kernel::new(capacities);
        let counted = vec![Traffic::default(); Verdict::COUNT];
        Self { kernel, model: Model::new(topology, capacities), counted, settling_since: None }
    }

    /// The model as it is now.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the kernel has written.
    #[must_use]
    pub fn kernel_records(&self) -> Records {
        self.kernel.records()
    }

    /// By which addresses a peer has opened flows, in the kernel. The model always looks under both.
    pub fn ways(&mut self, peer: u32) -> Ways {
        self.kernel.ways(peer)
    }

    /// Forgets everything but the counters.
    pub fn clear(&mut self) {
        self.model = Model::new(self.model.topology.clone(), self.model.capacities);
        self.kernel.set_records(&self.model.records);
        self.kernel.forget_ways();
        self.kernel.events();
        for (verdict, counted) in Verdict::ALL.iter().zip(&mut self.counted) {
            *counted = self.kernel.counter(*verdict);
        }
        self.settling_since = None;
    }

    /// Has something happen to both. Gives what became of a packet.
    ///
    /// # Errors
    /// What is not the same afterwards.
    pub fn step(&mut self, step: &Step) -> Result<Option<Outcome>, String> {
        match step {
            Step::Packet(packet) => return self.packet(packet).map(Some),
            Step::Install(topology) => {
                self.kernel.install(topology);
                self.model.topology = topology.as_ref().clone();
            }
            Step::Records(change) => self.edit(|records, now| change.apply(records, now)),
        }
        Ok(None)
    }

    /// Changes the records of both, at a time (`CLOCK_BOOTTIME`, nanoseconds) that has come for the programs as well.
    pub fn edit(&mut self, change: impl Fn(&mut Records, u64)) {
        let now = now_ns() - TICK_NS;
        let mut records = self.kernel.records();
        change(&mut records, now);
        self.kernel.set_records(&records);
        change(&mut self.model.records, now);
        let is_settling = self.model.records.flows.values().any(|flow| flow.age(now) == Age::Settling);
        self.settling_since = if is_settling { self.settling_since.or(Some(now)) } else { None };
    }

    fn packet(&mut self, packet: &Packet) -> Result<Outcome, String> {
        let mut before = steady_now();
        if self.settling_since.is_some_and(|since| before - since > SECOND / 2) {
            self.edit(|records, now| Change::EndSettling.apply(records, now));
            before = steady_now();
        }
        let run = self.kernel.run(packet.program, &packet.arrival);
        let after = now_ns();
        let was_held_up = after / SECOND != before / SECOND
            || self.settling_since.is_some_and(|since| after - since > SECOND - MARGIN);
        // The program may have run at either end of so long a time.
        let is_late = was_held_up && self.is_late(packet, after);
        let outcome = packet.run(&mut self.model, if is_late { after } else { before });
        self.check(packet, &run, &outcome)?;
        let total = &mut self.counted[outcome.verdict as usize];
        *total = sum(*total, counted(packet, &outcome));
        if outcome.verdict == Verdict::FlowMoved {
            self.settling_since.get_or_insert(before);
        }
        Ok(outcome)
    }

    /// Whether what the kernel has written fits a packet that came at `after`.
    fn is_late(&self, packet: &Packet, after: u64) -> bool {
        let mut late = self.model.clone();
        packet.run(&mut late, after);
        let now = steady_now();
        let idle = late.topology.idle;
        late.records.timeless(&idle, now) == self.kernel.records().timeless(&idle, now)
    }

    /// Whether the kernel did what the model says.
    fn check(&mut self, packet: &Packet, run: &Run, outcome: &Outcome) -> Result<(), String> {
        let verdict = outcome.verdict;
        let expected = sum(self.counted[verdict as usize], counted(packet, outcome));
        if self.kernel.counter(verdict) != expected {
            let counted = self.counters();
            return Err(format!("the model counts {:?} as {verdict:?}, the kernel:\n{counted}", outcome.counted));
        }
        if run.action != outcome.action.number() {
            return Err(format!("{verdict:?}: {:?}, but the kernel does {}", outcome.action, run.action));
        }
        let is_answer = !matches!(
            verdict,
            Verdict::ToPlant
                | Verdict::ToUser
                | Verdict::ToGateway
                | Verdict::Neighbour
                | Verdict::UnrecordedToPlant
                | Verdict::UnrecordedToUser
        );
        // The kernel has not finished the checksum of a packet that it has put together, and finishes it with the answer
        // that quotes it, which is therefore made to be wrong before. In a test run it never does so.
        let is_finished = !(is_answer && outcome.counted.packets > 1);
        let (mut ours, mut theirs) = (outcome.packet.clone(), run.packet.clone());
        if !is_finished {
            for answer in [&mut ours, &mut theirs] {
                blank_icmp_checksum(answer);
            }
        }
        if outcome.action != Action::Drop && ours != theirs {
            let (ours, theirs) = (hex(&ours), hex(&theirs));
            return Err(format!("{verdict:?} gives\n  {ours}, in the kernel\n  {theirs}"));
        }
        let (before, after) = (Checksums::of(&packet.arrival.packet), Checksums::of(&run.packet));
        let is_right = match outcome.action {
            Action::Drop => true,
            _ if !is_finished => true,
            _ if is_answer => after.header != Some(false) && after.transport == Some(true),
            _ => before.kept(after),
        };
        if !is_right {
            return Err(format!("{verdict:?}: checksums were {before:?} and are {after:?}"));
        }
        Ok(())
    }

    /// Whether both have counted and written the same.
    ///
    /// # Errors
    /// What is not the same.
    pub fn compare(&mut self) -> Result<(), String> {
        let counted = self.counters();
        if !counted.is_empty() {
            return Err(format!("STATS:\n{counted}"));
        }
        let now = steady_now();
        let idle = self.model.topology.idle;
        let (model, kernel) = (self.model.records.timeless(&idle, now), self.kernel.records());
        let differences = model.differences(&kernel.timeless(&idle, now));
        if !differences.is_empty() {
            return Err(format!("first the model's, then the kernel's:\n{differences}"));
        }
        let timeless = |events: Vec<Event>| events.iter().map(|event| timeless_event(event, &idle)).collect::<Vec<_>>();
        let (ours, theirs) = (timeless(std::mem::take(&mut self.model.events)), timeless(self.kernel.events()));
        if ours != theirs {
            let same = ours.iter().zip(&theirs).take_while(|(our, their)| our == their).count();
            let (our, their) = (ours.get(same), theirs.get(same));
            return Err(format!("first the model's, then the kernel's: event {same}:\n  {our:?}\n  {their:?}"));
        }
        for (peer, usage) in &kernel.usage {
            let flows = kernel.flows.keys().filter(|key| key.peer == *peer).count() as u64;
            let released = kernel.released.get(peer).copied().unwrap_or(0);
            if usage.opened != released + flows {
                return Err(format!(
                    "peer {peer} has opened {}, {released} were released, {flows} are left",
                    usage.opened
                ));
            }
        }
        Ok(())
    }

    /// Counters that are not what they should be, a line each.
    fn counters(&mut self) -> String {
        let mut lines = String::new();
        for (verdict, expected) in Verdict::ALL.iter().zip(&self.counted) {
            let counted = self.kernel.counter(*verdict);
            if counted != *expected {
                let more = counted.packets - expected.packets;
                lines += &format!("  {verdict:?}: {more} more, {} bytes\n", counted.bytes - expected.bytes);
            }
        }
        lines
    }
}

/// What a packet counts for in the kernel. Of an interface that is no plant's nobody knows whether packets have a link
/// header in front, so its bytes count as well.
fn counted(packet: &Packet, outcome: &Outcome) -> Traffic {
    let is_unknown = packet.program == PLANT && outcome.verdict == Verdict::NoPlant;
    let link_header = if is_unknown { u64::from(TEST_RUN_LINK_HEADER) } else { 0 };
    Traffic { bytes: outcome.counted.bytes + link_header, ..outcome.counted }
}

/// The time, of which the programs know as well that this second has begun, and which is not close to its end.
fn steady_now() -> u64 {
    loop {
        let now = now_ns();
        if (TICK_NS..SECOND - MARGIN).contains(&(now % SECOND)) {
            return now;
        }
        thread::sleep(Duration::from_nanos(MARGIN));
    }
}

fn sum(one: Traffic, other: Traffic) -> Traffic {
    Traffic { packets: one.packets + other.packets, bytes: one.bytes + other.bytes }
}

/// Takes the checksum out of an answer of the gateway.
fn blank_icmp_checksum(answer: &mut [u8]) {
    let at = if answer.first().is_some_and(|first| first >> 4 == 4) { 22 } else { 42 };
    if let Some(check) = answer.get_mut(at..at + 2) {
        check.fill(0);
    }
}

fn hex(packet: &[u8]) -> String {
    packet.iter().map(|byte| format!("{byte:02x}")).collect()
}
