//! What has changed in the kernel since it was last stored.
//!
//! Nothing is handed out twice without need, and nothing is taken as stored before ClickHouse said so. The memory
//! of what was stored is an economy only: after a restart everything is sent once more, which changes nothing.

use std::collections::HashMap;

use vpn_ebpf_common::{
    denial::{Denial, DenialKey},
    event::{Denied, Event, FlowOpened},
    flow::{Age, ClosedKey, Flow, FlowKey},
};

use crate::kernel::{End, Error, Kernel};

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
    /// State of each live flow when it was last stored, and the pass that saw it last.
    flows: HashMap<ClosedKey, (Flow, u64)>,
    /// State of each refused destination when it was last stored.
    denials: HashMap<DenialKey, Denial>,
    /// Counts calls of [`Sweep::all`].
    pass: u64,
}

impl Sweep {
    /// New flows and new refusals from the ring buffer, at most `limit`.
    pub fn events(&self, kernel: &mut Kernel, limit: usize) -> Batch {
        let mut batch = Batch::default();
        for event in std::iter::from_fn(|| kernel.event()).take(limit) {
            match event {
                Event::FlowOpened(FlowOpened { key, flow, .. }) => {
                    batch.flows.push(live(key, flow));
                }
                Event::Denied(Denied { key, denial, .. }) => batch.denials.push((key, denial)),
            }
        }
        batch.flows.retain(|snapshot| !self.flows.contains_key(&snapshot.key));
        batch.denials.retain(|(key, _)| !self.denials.contains_key(key));
        batch
    }

    /// Everything that changed. Flows that are over at `now_ns` (`CLOCK_BOOTTIME`) are ended first.
    ///
    /// # Errors
    /// See [`Error`]; nothing is lost by it.
    pub fn all(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<Batch, Error> {
        let limits = kernel.idle_limits()?;
        self.pass += 1;
        let mut batch = Batch::default();
        let mut over = Vec::new();
        for entry in kernel.flows() {
            let (key, flow) = entry?;
            if flow.age(now_ns, limits.of(key.protocol)) == Age::Over {
                over.push((key, flow));
            } else {
                self.add_live(&mut batch, key, flow);
            }
        }
        let mut full = false;
        for (key, flow) in over {
            full = full || kernel.end(&key, now_ns, &limits)? == End::Full;
            if full {
                // It has to wait for room, but its totals need not.
                self.add_live(&mut batch, key, flow);
            }
        }
        let pass = self.pass;
        self.flows.retain(|_, (_, seen)| *seen == pass);
        for entry in kernel.closed() {
            let (key, flow) = entry?;
            batch.flows.push(Snapshot { key, flow, closed: true });
        }
        let denials = kernel.denials().collect::<Result<HashMap<_, _>, _>>()?;
        // What the kernel has forgotten need not be remembered here.
        self.denials.retain(|key, _| denials.contains_key(key));
        batch.denials.extend(denials.into_iter().filter(|(key, denial)| self.denials.get(key) != Some(denial)));
        Ok(batch)
    }

    /// Notes that flows were stored, and lets the kernel forget finished ones.
    ///
    /// # Errors
    /// See [`Error`]; a flow that the kernel still has is stored again, which changes nothing.
    pub fn flows_stored(&mut self, kernel: &mut Kernel, flows: &[Snapshot]) -> Result<(), Error> {
        for Snapshot { key, flow, closed } in flows {
            if *closed {
                kernel.forget(key)?;
                self.flows.remove(key);
            } else {
                self.flows.insert(*key, (*flow, self.pass));
            }
        }
        Ok(())
    }

    /// Notes that refusals were stored.
    pub fn denials_stored(&mut self, denials: &[(DenialKey, Denial)]) {
        self.denials.extend(denials.iter().copied());
    }

    /// All of the state is compared, not a counter alone: a copy that the kernel made between two additions to the
    /// same flow must not be taken for the whole.
    fn add_live(&mut self, batch: &mut Batch, key: FlowKey, flow: Flow) {
        let snapshot = live(key, flow);
        match self.flows.get_mut(&snapshot.key) {
            Some((stored, seen)) if *stored == flow => *seen = self.pass,
            Some((_, seen)) => {
                *seen = self.pass;
                batch.flows.push(snapshot);
            }
            None => batch.flows.push(snapshot),
        }
    }
}

const fn live(key: FlowKey, flow: Flow) -> Snapshot {
    Snapshot { key: ClosedKey { flow: key, opened_ns: flow.opened_ns }, flow, closed: false }
}
