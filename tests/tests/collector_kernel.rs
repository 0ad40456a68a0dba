//! The collector against the kernel's real maps, which the programs fill by test runs: nothing is reported twice
//! without need, nothing is removed before it was stored, and a flow's end takes its exact totals along.

use std::{path::Path, process::Command};

use tempfile::TempDir;
use vpn_agent::datapath::read::Maps as _;
use vpn_collector::{
    kernel::Kernel,
    sweep::{Snapshot, Sweep},
};
use vpn_ebpf_common::{
    Verdict,
    flow::{ClosedKey, Flow, SETTLE_NS},
    names::{PLANT, USERS},
};
use vpn_tests::{
    gate::{Gate, IDLE, USER, back, flow, key, now_ns, out},
    packet::{Ends, tcp},
};

#[test]
fn events_tell_of_new_flows_and_new_refusals_once() {
    let Lab { mut gate, mut kernel, sweep, .. } = Lab::new();
    let refused = tcp(Ends::new((USER, 1), ("10.128.2.20", 22)), b"");
    for packet in [tcp(out(), b""), tcp(out(), b""), refused.clone(), refused] {
        gate.run(USERS, &packet);
    }
    let batch = sweep.events(&mut kernel, 100);
    assert_eq!(batch.flows.iter().map(|snapshot| snapshot.key.flow).collect::<Vec<_>>(), [key()]);
    assert_eq!(batch.flows[0].flow.to_plant.packets, 1);
    let (denial_key, denial) = batch.denials[0];
    assert_eq!(batch.denials.len(), 1);
    assert_eq!((denial_key.verdict, denial.attempts), (Verdict::NoRoute as u8, 1));
    assert!(sweep.events(&mut kernel, 100).is_empty());
}

#[test]
fn only_what_moved_since_it_was_stored_is_reported() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    gate.run(USERS, &tcp(out(), b"one"));
    let first = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(first.flows, [live(gate.flow().unwrap())]);
    assert_eq!(sweep.all(&mut kernel, now_ns()).unwrap(), first, "not stored yet, so it is reported again");

    sweep.stored(&mut kernel, &first).unwrap();
    assert!(sweep.all(&mut kernel, now_ns()).unwrap().is_empty());

    gate.run(PLANT, &tcp(back(), b"reply"));
    let second = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(second.flows, [live(gate.flow().unwrap())]);
    assert_eq!(second.flows[0].flow.to_user.packets, 1);

    // Totals that were stored before the last packet do not hide it.
    gate.run(PLANT, &tcp(back(), b"more"));
    sweep.stored(&mut kernel, &second).unwrap();
    assert_eq!(sweep.all(&mut kernel, now_ns()).unwrap().flows, [live(gate.flow().unwrap())]);
}

#[test]
fn an_idle_flow_is_ended_with_its_totals_and_goes_when_they_are_stored() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    gate.run(USERS, &tcp(out(), b"the only one"));
    let last = gate.flow().unwrap();
    let idle = IDLE.as_nanos() as u64;

    let settling = last.last_ns + idle + SETTLE_NS;
    assert_eq!(sweep.all(&mut kernel, settling).unwrap().flows, [live(last)], "nobody ends a flow that settles");
    assert!(gate.flow().is_some());

    let over = settling + 1;
    let batch = sweep.all(&mut kernel, over).unwrap();
    assert_eq!(batch.flows, [closed(last)]);
    assert_eq!(gate.flow(), None);
    assert_eq!(gate.datapath.closed().unwrap().len(), 1, "kept until it is stored");
    assert_eq!(sweep.all(&mut kernel, over).unwrap(), batch, "and reported until then");

    sweep.stored(&mut kernel, &batch).unwrap();
    assert!(gate.datapath.closed().unwrap().is_empty());
    assert!(sweep.all(&mut kernel, over).unwrap().is_empty());
}

#[test]
fn a_program_that_opens_the_next_flow_leaves_the_last_for_the_collector() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(IDLE + std::time::Duration::from_millis(1_001));
    gate.put_flow(key(), old);
    gate.run(USERS, &tcp(out(), b"next"));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap()), closed(old)]);
}

#[test]
fn a_claim_whose_owner_died_heals() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(IDLE + std::time::Duration::from_millis(1_001));
    gate.put_flow(key(), old);
    gate.put_closed(key(), old);
    for _ in 0..2 {
        let batch = sweep.all(&mut kernel, now_ns()).unwrap();
        assert_eq!(batch.flows, [closed(old)], "the same totals under the same id");
        sweep.stored(&mut kernel, &batch).unwrap();
    }
    assert_eq!(gate.flow(), None);
    assert!(gate.datapath.closed().unwrap().is_empty());
}

#[test]
fn a_collector_that_starts_anew_misses_nothing() {
    let Lab { mut gate, mut kernel, mut sweep, pins } = Lab::new();
    gate.run(USERS, &tcp(out(), b"before"));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    sweep.stored(&mut kernel, &batch).unwrap();
    drop(kernel);

    let mut kernel = Kernel::open(pins.path()).unwrap();
    let batch = Sweep::default().all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap())]);
}

fn live(flow: Flow) -> Snapshot {
    Snapshot { key: ClosedKey { flow: key(), opened_ns: flow.opened_ns }, flow, closed: false }
}

fn closed(flow: Flow) -> Snapshot {
    Snapshot { closed: true, ..live(flow) }
}

struct Lab {
    gate: Gate,
    kernel: Kernel,
    sweep: Sweep,
    pins: Pins,
}

impl Lab {
    fn new() -> Self {
        let pins = Pins::new();
        let gate = Gate::pinned(pins.path());
        let kernel = Kernel::open(pins.path()).unwrap();
        Self { gate, kernel, sweep: Sweep::default(), pins }
    }
}

/// A BPF file system of this test's own.
struct Pins(TempDir);

impl Pins {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status().unwrap();
        assert!(status.success(), "a BPF file system can be mounted; this test needs root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
