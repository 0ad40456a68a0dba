//! What has changed in the kernel since it was last stored.
//!
//! Nothing is handed out twice without need, and nothing is taken as stored before ClickHouse said so. The memory
//! of what was stored is an economy only: after a restart everything is sent once more, which changes nothing.

use std::collections::HashMap;

use vpn_ebpf_common::{
    denial::{Denial, DenialKey},
    event::Event,
    flow::{Age, ClosedKey, Flow, FlowKey},
};

use crate::kernel::{Error, Kernel};

/// A flow's totals at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which flow.
    pub key: ClosedKey,
    /// Its totals.
    pub flow: Flow,
    /// Whether they are final.
    pub closed: bool,
}

/// What is to be stored next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Flows that moved or ended.
    pub flows: Vec<Snapshot>,
    /// Destinations that were refused again.
    pub denials: Vec<(DenialKey, Denial)>,
}

impl Batch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.denials.is_empty()
    }
}

/// Remembers what was stored.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Packets of each live flow, both ways, when it was last stored.
    flows: HashMap<ClosedKey, u64>,
    /// First refusal and number of attempts when each was last stored.
    denials: HashMap<DenialKey, (u64, u64)>,
}

impl Sweep {
    /// New flows and new refusals from the ring buffer, at most `limit`.
    pub fn events(&self, kernel: &mut Kernel, limit: usize) -> Batch {
        let mut batch = Batch::default();
        for event in std::iter::from_fn(|| kernel.event()).take(limit) {
            match event {
                Event::FlowOpened(opened) => self.add_live(&mut batch, opened.key, opened.flow),
                Event::Denied(denied) => self.add_denial(&mut batch, denied.key, denied.denial),
            }
        }
        batch
    }

    /// Everything that changed. Flows that are over at `now_ns` (`CLOCK_BOOTTIME`) are ended first.
    ///
    /// # Errors
    /// See [`Error`]; nothing is lost by it.
    pub fn all(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<Batch, Error> {
        let limits = kernel.idle_limits()?;
        let mut batch = Batch::default();
        let mut over = Vec::new();
        for entry in kernel.flows() {
            let (key, flow) = entry?;
            if flow.age(now_ns, limits.of(key.protocol)) == Age::Over {
                over.push(key);
            } else {
                self.add_live(&mut batch, key, flow);
            }
        }
        for key in over {
            kernel.end(&key, now_ns, &limits)?;
        }
        for entry in kernel.closed() {
            let (key, flow) = entry?;
            batch.flows.push(Snapshot { key, flow, closed: true });
        }
        let denials = kernel.denials().collect::<Result<HashMap<_, _>, _>>()?;
        // What the kernel has forgotten need not be remembered here.
        self.denials.retain(|key, _| denials.contains_key(key));
        for (key, denial) in denials {
            self.add_denial(&mut batch, key, denial);
        }
        Ok(batch)
    }

    /// Notes that a batch was stored, and lets the kernel forget finished flows.
    ///
    /// # Errors
    /// See [`Error`]; a flow that the kernel still has is stored again, which changes nothing.
    pub fn stored(&mut self, kernel: &mut Kernel, batch: &Batch) -> Result<(), Error> {
        for Snapshot { key, flow, closed } in &batch.flows {
            if *closed {
                kernel.forget(key)?;
                self.flows.remove(key);
            } else {
                self.flows.insert(*key, packets(flow));
            }
        }
        for (key, denial) in &batch.denials {
            self.denials.insert(*key, (denial.first_ns, denial.attempts));
        }
        Ok(())
    }

    fn add_live(&self, batch: &mut Batch, key: FlowKey, flow: Flow) {
        let key = ClosedKey { flow: key, opened_ns: flow.opened_ns };
        if self.flows.get(&key) != Some(&packets(&flow)) {
            batch.flows.push(Snapshot { key, flow, closed: false });
        }
    }

    fn add_denial(&self, batch: &mut Batch, key: DenialKey, denial: Denial) {
        if self.denials.get(&key) != Some(&(denial.first_ns, denial.attempts)) {
            batch.denials.push((key, denial));
        }
    }
}

/// A flow that moved has more packets.
const fn packets(flow: &Flow) -> u64 {
    flow.to_plant.packets + flow.to_user.packets
}
