//! How many of a peer's flows have left FLOWS: the collector's half of the account by which the programs limit them.
//!
//! A peer has `USAGE.opened` less `RELEASED` entries in FLOWS. The programs count the first number up when they add an
//! entry, the collector counts the second up when it removes one, so each number has one writer, and what is between
//! them needs no lock. A program that moves a flow to CLOSED and opens the next one under the same key removes one entry
//! and adds one, and changes neither.
//!
//! # How the account heals
//!
//! Two things remove an entry and leave the account one too high: a collector that ends between the removal and the
//! writing, and a program that has moved a flow to CLOSED and may then not open the next one. Neither leaves a trace. So
//! each sweep counts the entries that it finds, and compares: [`Census`]. What is missing is the *drift*,
//!
//! ```text
//! drift = opened - entries found - released
//! ```
//!
//! and RELEASED has to grow by it. Removing an entry and counting that changes both of the last two numbers, and not
//! their sum; so the drift that was found is still the drift when this sweep has removed what is over.
//!
//! FLOWS changes while it is counted. What that can do to a drift:
//!
//! - A program opens a flow. It adds the entry and then counts it, microseconds later. If it does so between the first
//!   reading of `opened` and the last, the two differ, and nothing is concluded. If it has added the entry, and counts it
//!   after the last reading, one entry too many was found.
//! - A program puts the next flow in the place of one that is over. The entry is out of the table for less than a
//!   microsecond, and may come back in a place that was looked at already. One entry too few was found.
//! - The kernel begins anew where the entry that it stood at has gone. Keys are counted once.
//! - Nobody but the collector removes an entry otherwise, and it removes none while it counts.
//!
//! So a false drift lasts no longer than one run of a program, and is found by one sweep. Only what two sweeps have found
//! is corrected, see [`Suspicions`]. Should two different runs hit the same peer in two sweeps, the account is off by one
//! until two others have found that: the account is corrected towards what is in the map, never by what was once assumed,
//! so errors do not add up.
//!
//! A peer that has no entry in USAGE gets none in RELEASED, and what is there is removed: the agent removes both when the
//! peer is gone, in any order, and may be overtaken by a write of the collector's. RELEASED is never made more than
//! `opened`, whatever happened to the two.

use std::collections::HashMap;

/// The numbers of one sweep.
#[derive(Debug)]
pub struct Census {
    peers: HashMap<u32, Count>,
    orphans: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    /// [`Usage::opened`](vpn_ebpf_common::usage::Usage::opened), read before FLOWS.
    opened: u64,
    /// The peer's value in RELEASED, read before FLOWS.
    released: u64,
    /// Entries that were found.
    present: u64,
    /// Entries that this sweep has removed.
    removed: u64,
    /// What was missing.
    correction: i64,
}

impl Count {
    /// By how much RELEASED is too low. A peer that is back may have more entries than it has opened; all that can be
    /// said then is that none is gone.
    const fn drift(&self) -> i64 {
        self.opened.saturating_sub(self.present).wrapping_sub(self.released).cast_signed()
    }
}

impl Census {
    /// Begins with what USAGE and RELEASED say, by peer.
    pub fn new(opened: impl IntoIterator<Item = (u32, u64)>, released: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let count = |opened| Count { opened, released: 0, present: 0, removed: 0, correction: 0 };
        let mut peers: HashMap<_, _> = opened.into_iter().map(|(peer, opened)| (peer, count(opened))).collect();
        let mut orphans = Vec::new();
        for (peer, released) in released {
            match peers.get_mut(&peer) {
                Some(count) => count.released = released,
                None => orphans.push(peer),
            }
        }
        Self { peers, orphans }
    }

    /// Counts an entry of FLOWS. To be called once for each key.
    pub fn found(&mut self, peer: u32) {
        if let Some(count) = self.peers.get_mut(&peer) {
            count.present += 1;
        }
    }

    /// Counts an entry that the collector has removed from FLOWS.
    pub fn removed(&mut self, peer: u32) {
        if let Some(count) = self.peers.get_mut(&peer) {
            count.removed += 1;
        }
    }

    /// What RELEASED has to say now, for the peers where that is something else.
    pub fn changes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.peers.iter().filter_map(|(peer, count)| {
            let released = (count.released + count.removed).saturating_add_signed(count.correction);
            let released = released.min(count.opened);
            (released != count.released).then_some((*peer, released))
        })
    }

    /// Peers whose account was wrong, and by how much their RELEASED grows for it.
    pub fn corrections(&self) -> impl Iterator<Item = (u32, i64)> {
        self.peers.iter().filter(|(_, count)| count.correction != 0).map(|(peer, count)| (*peer, count.correction))
    }

    /// Peers that have an entry in RELEASED and none in USAGE.
    #[must_use]
    pub fn orphans(&self) -> &[u32] {
        &self.orphans
    }
}

/// Drifts that one sweep has found and no other has confirmed.
#[derive(Debug, Default)]
pub struct Suspicions(HashMap<u32, i64>);

impl Suspicions {
    /// Decides what is corrected. To be called when FLOWS was looked through, and before anything is removed from it;
    /// `opened` reads a peer's number in USAGE again.
    ///
    /// # Errors
    /// Those of `opened`.
    pub fn examine<E>(
        &mut self,
        census: &mut Census,
        mut opened: impl FnMut(u32) -> Result<Option<u64>, E>,
    ) -> Result<(), E> {
        let earlier = std::mem::take(&mut self.0);
        for (peer, count) in &mut census.peers {
            let drift = count.drift();
            if drift == 0 {
                continue;
            }
            let suspected = earlier.get(peer).copied().unwrap_or(0);
            let left = if opened(*peer)? == Some(count.opened) {
                count.correction = both(suspected, drift);
                drift - count.correction
            } else {
                suspected
            };
            if left != 0 {
                self.0.insert(*peer, left);
            }
        }
        Ok(())
    }
}

/// What is in both differences.
const fn both(a: i64, b: i64) -> i64 {
    if a.signum() != b.signum() {
        0
    } else if a.unsigned_abs() < b.unsigned_abs() {
        a
    } else {
        b
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        convert::Infallible,
    };

    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    const PEERS: u32 = 3;
    const SLOTS: usize = 8;

    /// FLOWS, USAGE and RELEASED in the plainest way. A slot is the place of one key, and slots are looked through in
    /// their order.
    #[derive(Debug, Default)]
    struct World {
        slots: [Option<Entry>; SLOTS],
        opened: BTreeMap<u32, u64>,
        released: BTreeMap<u32, u64>,
        /// What programs have begun and not finished.
        running: Vec<Running>,
        /// Sweeps so far.
        sweeps: usize,
    }

    #[derive(Clone, Copy, Debug)]
    struct Entry {
        peer: u32,
        over: Over,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Over {
        No,
        /// Since this many sweeps had begun. A sweep judges by the time at which it began.
        Since(usize),
    }

    #[derive(Clone, Copy, Debug)]
    enum Running {
        /// Has added an entry and not counted it.
        Counts { peer: u32 },
        /// Has removed an entry and not added the next one.
        Replaces { slot: usize, peer: u32 },
    }

    /// What happens besides the collector.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Open {
            peer: u32,
            slot: usize,
        },
        Replace {
            slot: usize,
        },
        /// A program moves a flow to CLOSED, and then may not open the next one.
        MoveOnly {
            slot: usize,
        },
        Idle {
            slot: usize,
        },
        /// All programs finish.
        Finish,
        /// The agent removes a peer.
        Gone {
            peer: u32,
            usage: bool,
            released: bool,
        },
    }

    impl World {
        fn happen(&mut self, event: Event) {
            match event {
                Event::Open { peer, slot } => {
                    let is_taken =
                        self.running.iter().any(|run| matches!(run, Running::Replaces { slot: at, .. } if *at == slot));
                    if self.slots[slot].is_none() && !is_taken {
                        self.opened.entry(peer).or_insert(0);
                        self.slots[slot] = Some(Entry { peer, over: Over::No });
                        self.running.push(Running::Counts { peer });
                    }
                }
                Event::Replace { slot } => {
                    if let Some(Entry { peer, over: Over::Since(_) }) = self.slots[slot] {
                        self.slots[slot] = None;
                        self.running.push(Running::Replaces { slot, peer });
                    }
                }
                Event::MoveOnly { slot } => {
                    if self.slots[slot].is_some_and(|entry| entry.over != Over::No) {
                        self.slots[slot] = None;
                    }
                }
                Event::Idle { slot } => {
                    if let Some(entry @ Entry { over: Over::No, .. }) = &mut self.slots[slot] {
                        entry.over = Over::Since(self.sweeps);
                    }
                }
                Event::Finish => {
                    for run in std::mem::take(&mut self.running) {
                        match run {
                            // The peer may be gone meanwhile.
                            Running::Counts { peer } => {
                                self.opened.entry(peer).and_modify(|opened| *opened += 1);
                            }
                            Running::Replaces { slot, peer } => self.slots[slot] = Some(Entry { peer, over: Over::No }),
                        }
                    }
                }
                Event::Gone { peer, usage, released } => {
                    usage.then(|| self.opened.remove(&peer));
                    released.then(|| self.released.remove(&peer));
                }
            }
        }

        fn present(&self, peer: u32) -> u64 {
            self.slots.iter().flatten().filter(|entry| entry.peer == peer).count() as u64
        }

        /// One sweep as [`Sweep::all`](crate::sweep::Sweep::all) makes it. Between any two of its steps `events` may go
        /// on; it ends after `steps`, as if the collector were killed.
        fn sweep(
            &mut self,
            suspicions: &mut Suspicions,
            mut events: impl FnMut(&mut Self),
            mut steps: usize,
        ) -> Option<Census> {
            let mut step = |world: &mut Self| {
                events(world);
                steps = steps.checked_sub(1)?;
                Some(())
            };
            self.sweeps += 1;
            let now = self.sweeps;
            let is_over = |entry: Entry| matches!(entry.over, Over::Since(sweeps) if sweeps < now);
            step(self)?;
            let opened = self.opened.clone();
            step(self)?;
            let mut census = Census::new(opened, self.released.clone());
            let mut over = Vec::new();
            for slot in 0..SLOTS {
                step(self)?;
                if let Some(entry) = self.slots[slot] {
                    census.found(entry.peer);
                    is_over(entry).then(|| over.push(slot));
                }
            }
            step(self)?;
            let Ok(()) = suspicions.examine::<Infallible>(&mut census, |peer| Ok(self.opened.get(&peer).copied()));
            for slot in over {
                step(self)?;
                if let Some(entry) = self.slots[slot].take_if(|entry| is_over(*entry)) {
                    census.removed(entry.peer);
                }
            }
            for (peer, released) in census.changes() {
                step(self)?;
                if self.opened.contains_key(&peer) {
                    self.released.insert(peer, released);
                }
            }
            for peer in census.orphans() {
                self.released.remove(peer);
            }
            Some(census)
        }

        /// The account holds, for all peers that have one.
        fn assert_exact(&self) -> Result<(), TestCaseError> {
            for (peer, opened) in &self.opened {
                let released = self.released.get(peer).copied().unwrap_or(0);
                // More entries than the peer has opened are from before it was gone.
                prop_assert_eq!(released, opened.saturating_sub(self.present(*peer)), "peer {}: {:?}", peer, self);
            }
            let orphans: BTreeSet<_> = self.released.keys().filter(|peer| !self.opened.contains_key(peer)).collect();
            prop_assert!(orphans.is_empty(), "{:?}", self);
            Ok(())
        }
    }

    fn open_or_idle() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (0..PEERS, 0..SLOTS).prop_map(|(peer, slot)| Event::Open { peer, slot }),
            3 => (0..SLOTS).prop_map(|slot| Event::Idle { slot }),
        ]
    }

    fn anything() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => open_or_idle(),
            3 => (0..SLOTS).prop_map(|slot| Event::Replace { slot }),
            1 => (0..SLOTS).prop_map(|slot| Event::MoveOnly { slot }),
            3 => Just(Event::Finish),
            1 => (0..PEERS, any::<bool>(), any::<bool>())
                .prop_map(|(peer, usage, released)| Event::Gone { peer, usage, released }),
        ]
    }

    /// Events, each with whether a step of the collector follows it.
    type Script = Vec<(Event, bool)>;

    fn play(script: &Script) -> impl FnMut(&mut World) {
        let mut rest = script.clone().into_iter();
        move |world| {
            for (event, is_last) in rest.by_ref() {
                world.happen(event);
                if is_last {
                    break;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn whatever_happened_quiet_sweeps_set_the_account_right(
            sweeps in vec((vec((anything(), any::<bool>()), 0..40), prop::option::of(any::<Index>())), 0..8),
        ) {
            let mut world = World::default();
            let mut suspicions = Suspicions::default();
            for (script, killed) in &sweeps {
                let steps = killed.map_or(usize::MAX, |at| at.index(3 * SLOTS));
                if world.sweep(&mut suspicions, play(script), steps).is_none() {
                    suspicions = Suspicions::default();
                }
                // A program runs for microseconds, so none is in two sweeps.
                world.happen(Event::Finish);
            }
            // Two, and one more where the first removes entries that are from before the peer was gone.
            for _ in 0..3 {
                world.sweep(&mut suspicions, |_| (), usize::MAX);
            }
            world.assert_exact()?;
            let last = world.sweep(&mut suspicions, |_| (), usize::MAX).unwrap();
            prop_assert_eq!(last.corrections().count(), 0);
        }

        /// Requirements: F8.
        #[test]
        fn while_nothing_goes_wrong_the_account_is_exact_and_never_corrected(
            sweeps in vec(vec((open_or_idle(), any::<bool>()), 0..40), 1..8),
        ) {
            let mut world = World::default();
            let mut suspicions = Suspicions::default();
            for script in &sweeps {
                let mut events = play(script);
                let finished = |world: &mut World| {
                    events(world);
                    world.happen(Event::Finish);
                };
                let census = world.sweep(&mut suspicions, finished, usize::MAX).unwrap();
                prop_assert_eq!(census.corrections().count(), 0);
                world.assert_exact()?;
            }
        }

        #[test]
        fn what_disturbs_one_sweep_changes_nothing(
            before in vec((0..PEERS, 0..SLOTS), 0..10),
            script in vec((prop_oneof![
                open_or_idle(),
                (0..SLOTS).prop_map(|slot| Event::Replace { slot }),
                Just(Event::Finish),
            ], any::<bool>()), 0..40),
        ) {
            let mut world = World::default();
            let mut suspicions = Suspicions::default();
            for (peer, slot) in before {
                world.happen(Event::Open { peer, slot });
                world.happen(Event::Finish);
            }
            for quiet in [true, false, true, true] {
                let mut events = play(&script);
                let events = |world: &mut World| if !quiet { events(world) };
                let census = world.sweep(&mut suspicions, events, usize::MAX).unwrap();
                world.happen(Event::Finish);
                prop_assert_eq!(census.corrections().count(), 0);
                world.assert_exact()?;
            }
        }
    }

    #[test]
    fn a_drift_that_grows_all_the_time_is_corrected_by_what_is_sure() {
        let mut suspicions = Suspicions::default();
        let mut correct = |opened, present, released| {
            let mut census = Census::new([(7, opened)], [(7, released)]);
            (0..present).for_each(|_| census.found(7));
            let Ok(()) = suspicions.examine::<Infallible>(&mut census, |_| Ok(Some(opened)));
            census.changes().next().map(|(_, released)| released)
        };
        assert_eq!(correct(10, 5, 0), None, "five are missing, says one sweep");
        assert_eq!(correct(10, 3, 0), Some(5), "seven, says the next");
        assert_eq!(correct(10, 2, 5), Some(7), "and these are two of three");
        assert_eq!(correct(10, 2, 7), Some(8));
        assert_eq!(correct(10, 2, 8), None);
    }

    #[test]
    fn no_more_are_gone_than_were_ever_opened() {
        let mut census = Census::new([(7, 2), (8, 2)], [(7, 5), (8, 1), (9, 1)]);
        (0..3).for_each(|_| census.removed(8));
        census.removed(9);
        let mut changes: Vec<_> = census.changes().collect();
        changes.sort_unstable();
        assert_eq!(changes, [(7, 2), (8, 2)]);
        assert_eq!(census.orphans(), [9]);
    }

    #[test]
    fn nothing_is_concluded_while_the_peer_opens_flows() {
        let mut suspicions = Suspicions::default();
        let mut examine = |now: Option<u64>| {
            let mut census = Census::new([(7, 10)], []);
            let Ok(()) = suspicions.examine::<Infallible>(&mut census, |_| Ok(now));
            census.corrections().next()
        };
        assert_eq!(examine(Some(10)), None);
        assert_eq!(examine(Some(11)), None);
        assert_eq!(examine(None), None, "the peer is gone");
        assert_eq!(examine(Some(10)), Some((7, 10)));
    }
}
