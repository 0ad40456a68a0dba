//! What has changed in the kernel since it was last stored.
//!
//! Nothing is handed out twice without need, and nothing is taken as stored before ClickHouse said so. The memory
//! of what was stored is an economy only: after a restart everything is sent once more, which changes nothing.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};
use vpn_ebpf_common::{
    denial::{Denial, DenialKey, WINDOW_NS},
    event::{Denied, Event, FlowOpened},
    flow::{Age, ClosedKey, Flow, FlowKey, SETTLE_NS},
};

use crate::{
    kernel::{End, Error, Kernel},
    released::{Census, Suspicions},
    unrecorded::{Growth, Unrecorded},
};

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

/// The totals of a refused destination at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which destination, in which window.
    pub key: DenialKey,
    /// Its totals.
    pub denial: Denial,
    /// Whether they are final.
    pub last: bool,
}

/// What is to be stored next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Flows that moved or ended.
    pub flows: Vec<Snapshot>,
    /// Destinations that were refused again.
    pub denials: Vec<Refusal>,
    /// Refused packets that are in none of `denials`. There is no row for them.
    pub unrecorded: Vec<Growth>,
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
    suspicions: Suspicions,
    unrecorded: Unrecorded,
}

impl Sweep {
    /// New flows and new refusals from the ring buffer, at most `limit`.
    pub fn events(&self, kernel: &mut Kernel, limit: usize) -> Batch {
        let mut batch = Batch::default();
        for event in std::iter::from_fn(|| kernel.event()).take(limit) {
            match event {
                Event::FlowOpened(FlowOpened { key, flow, .. }) if flow.tag == key.tag() => {
                    batch.flows.push(live(key, flow));
                }
                Event::FlowOpened(_) => {}
                Event::Denied(Denied { key, denial, .. }) => {
                    batch.denials.push(Refusal { key, denial, last: false });
                }
            }
        }
        batch.flows.retain(|snapshot| !self.flows.contains_key(&snapshot.key));
        batch.denials.retain(|refusal| !self.denials.contains_key(&refusal.key));
        batch
    }

    /// Everything that changed. What is over at `now_ns` (`CLOCK_BOOTTIME`) is ended: flows go from FLOWS to CLOSED, and
    /// refused destinations whose totals are stored go.
    ///
    /// # Errors
    /// See [`Error`]; nothing is lost by it.
    pub fn all(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let usage = kernel.usage().collect::<Result<Vec<_>, _>>()?;
        let opened = usage.iter().map(|(peer, usage)| (*peer, usage.opened));
        let mut census = Census::new(opened, kernel.released().collect::<Result<Vec<_>, _>>()?);
        self.flows(kernel, now_ns, &mut batch, &mut census)?;
        for entry in kernel.closed() {
            let (key, flow) = entry?;
            if flow.tag == key.flow.tag() {
                batch.flows.push(Snapshot { key, flow, closed: true });
            } else {
                // Whoever ends a flow makes sure of this. Better no row than one with another flow's totals.
                warn!(?key, ?flow, "map CLOSED has an entry that is not of its flow, and keeps it; please report this");
            }
        }
        self.denials(kernel, now_ns, &mut batch)?;
        batch.unrecorded = self.unrecorded.grown(&usage);
        Ok(batch)
    }

    /// Live flows that changed. Those that are over are ended.
    fn flows(&mut self, kernel: &mut Kernel, now_ns: u64, batch: &mut Batch, census: &mut Census) -> Result<(), Error> {
        self.pass += 1;
        let mut over = Vec::new();
        let mut seen = HashSet::new();
        for entry in kernel.flows() {
            let (key, flow) = entry?;
            if !seen.insert(key) {
                continue;
            }
            census.found(key.peer);
            if flow.age(now_ns) == Age::Over {
                over.push((key, flow));
            } else {
                self.add_live(kernel, batch, key, flow)?;
            }
        }
        drop(seen);
        self.suspicions.examine(census, |peer| kernel.opened(peer))?;
        let ended = self.end(kernel, now_ns, &over, batch, census);
        // After a failure, too: what was removed is removed.
        release(kernel, census);
        ended?;
        let pass = self.pass;
        self.flows.retain(|_, (_, seen)| *seen == pass);
        Ok(())
    }

    fn end(
        &mut self,
        kernel: &mut Kernel,
        now_ns: u64,
        over: &[(FlowKey, Flow)],
        batch: &mut Batch,
        census: &mut Census,
    ) -> Result<(), Error> {
        let mut full = false;
        for (key, flow) in over {
            if !full {
                match kernel.end(key, now_ns)? {
                    End::Moved => census.removed(key.peer),
                    End::NotNow => {}
                    End::Full => full = true,
                }
            }
            if full {
                // It has to wait for room, but its totals need not.
                self.add_live(kernel, batch, *key, *flow)?;
            }
        }
        Ok(())
    }

    /// Refused destinations that changed. Those that are over and stored are removed.
    fn denials(&mut self, kernel: &mut Kernel, now_ns: u64, batch: &mut Batch) -> Result<(), Error> {
        let denials = kernel.denials().collect::<Result<HashMap<_, _>, _>>()?;
        // What the kernel does not have need not be remembered here.
        self.denials.retain(|key, _| denials.contains_key(key));
        for (key, denial) in denials {
            let last = is_past(key.window, now_ns);
            if self.denials.get(&key) != Some(&denial) {
                batch.denials.push(Refusal { key, denial, last });
            } else if last {
                // They were stored before it was known that nothing more would come.
                kernel.forget_denial(&key)?;
                self.denials.remove(&key);
            }
        }
        Ok(())
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

    /// Notes that refusals were stored, and lets the kernel forget those whose totals were final.
    ///
    /// # Errors
    /// See [`Error`]; a refusal that the kernel still has is stored again, which changes nothing.
    pub fn denials_stored(&mut self, kernel: &mut Kernel, denials: &[Refusal]) -> Result<(), Error> {
        for Refusal { key, denial, last } in denials {
            if *last {
                kernel.forget_denial(key)?;
                self.denials.remove(key);
            } else {
                self.denials.insert(*key, *denial);
            }
        }
        Ok(())
    }

    /// All of the state is compared, not a counter alone: a copy that the kernel made between two additions to the
    /// same flow must not be taken for the whole.
    fn add_live(&mut self, kernel: &Kernel, batch: &mut Batch, key: FlowKey, flow: Flow) -> Result<(), Error> {
        let snapshot = live(key, flow);
        if let Some((stored, seen)) = self.flows.get_mut(&snapshot.key) {
            *seen = self.pass;
            if *stored == flow {
                return Ok(());
            }
        }
        if kernel.confirms(&key, &flow)? {
            batch.flows.push(snapshot);
        }
        Ok(())
    }
}

/// Writes what has become of the peers' accounts. An account that cannot be written is set right by a later sweep;
/// rows need not wait for it.
fn release(kernel: &mut Kernel, census: &Census) {
    for (peer, by) in census.corrections() {
        info!(peer, by, "the number of a peer's flows was wrong and is set right");
    }
    let mut written = Ok(());
    for (peer, released) in census.changes() {
        written = written.and(kernel.release(peer, released));
    }
    for peer in census.orphans() {
        written = written.and(kernel.forget_released(*peer));
    }
    if let Err(error) = written {
        warn!("some peers count as having more flows than they have, until this is repeated: {error}");
    }
}

/// Whether nobody adds to a refused destination of this window any more. Programs add in the present window only, and
/// one that began in it has long finished when [`SETTLE_NS`] have passed.
const fn is_past(window: u32, now_ns: u64) -> bool {
    now_ns > (window as u64 + 1).saturating_mul(WINDOW_NS).saturating_add(SETTLE_NS)
}

const fn live(key: FlowKey, flow: Flow) -> Snapshot {
    Snapshot { key: ClosedKey::new(key, flow.opened_ns), flow, closed: false }
}

#[cfg(test)]
mod tests {
    use vpn_ebpf_common::denial::window;

    use super::*;

    #[test]
    fn a_window_is_past_when_its_programs_have_finished() {
        let last_ns = 3 * WINDOW_NS - 1;
        assert_eq!(window(last_ns), 2);
        for (now_ns, expected) in [
            (0, false),
            (last_ns, false),
            (last_ns + 1 + SETTLE_NS, false),
            (last_ns + 2 + SETTLE_NS, true),
            (u64::MAX, true),
        ] {
            assert_eq!(is_past(2, now_ns), expected, "at {now_ns}");
        }
        assert!(!is_past(u32::MAX, u64::MAX), "one that never comes");
    }
}
