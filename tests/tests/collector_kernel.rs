//! The collector against the kernel's real maps, which the programs fill by test runs: nothing is reported twice
//! without need, nothing is removed before it was stored, and a flow's end takes its exact totals along.

use std::{collections::HashSet, time::Duration};

use vpn_agent::datapath::read::Maps as _;
use vpn_collector::{
    kernel::{End, Error, Kernel},
    sweep::{Batch, Snapshot, Sweep},
};
use vpn_ebpf_common::{
    Verdict,
    flow::{ClosedKey, Flow, FlowKey, SETTLE_NS, Traffic},
    names::{PLANT, USERS},
};
use vpn_tests::{
    gate::{Gate, IDLE, USER, back, flow, key, now_ns, out, sizes},
    packet::{Ends, tcp},
    pins::Pins,
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

    store(&mut sweep, &mut kernel, &first).unwrap();
    assert!(sweep.all(&mut kernel, now_ns()).unwrap().is_empty());

    gate.run(PLANT, &tcp(back(), b"reply"));
    let second = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(second.flows, [live(gate.flow().unwrap())]);
    assert_eq!(second.flows[0].flow.to_user.packets, 1);

    // Totals that were stored before the last packet do not hide it.
    gate.run(PLANT, &tcp(back(), b"more"));
    store(&mut sweep, &mut kernel, &second).unwrap();
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

    store(&mut sweep, &mut kernel, &batch).unwrap();
    assert!(gate.datapath.closed().unwrap().is_empty());
    assert!(sweep.all(&mut kernel, over).unwrap().is_empty());
}

#[test]
fn a_packet_between_the_sweep_and_the_end_keeps_the_flow() {
    let Lab { mut gate, mut kernel, .. } = Lab::new();
    let limits = kernel.idle_limits().unwrap();
    gate.put_flow(key(), flow(Duration::ZERO));
    assert_eq!(kernel.end(&key(), now_ns(), &limits).unwrap(), End::NotNow);
    gate.put_flow(key(), flow(IDLE + Duration::from_millis(1_001)));
    assert_eq!(kernel.end(&key(), now_ns(), &limits).unwrap(), End::Moved);
    assert_eq!(kernel.end(&key(), now_ns(), &limits).unwrap(), End::NotNow, "it is gone");
}

#[test]
fn a_copy_between_two_additions_is_not_taken_for_the_whole() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let whole = flow(Duration::ZERO);
    let torn = Flow { to_plant: Traffic { bytes: whole.to_plant.bytes - 44, ..whole.to_plant }, ..whole };
    gate.put_flow(key(), torn);
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    store(&mut sweep, &mut kernel, &batch).unwrap();
    gate.put_flow(key(), whole);
    assert_eq!(sweep.all(&mut kernel, now_ns()).unwrap().flows, [live(whole)]);
}

#[test]
fn maps_that_the_agent_has_replaced_are_noticed() {
    let Lab { gate, kernel, pins, .. } = Lab::new();
    assert!(kernel.is_pinned(pins.path()));
    vpn_agent::datapath::detach(pins.path(), true).unwrap();
    assert!(!kernel.is_pinned(pins.path()), "nothing is pinned");
    drop(gate);
    let _gate = Gate::pinned(pins.path());
    assert!(!kernel.is_pinned(pins.path()), "other maps are pinned");
}

#[test]
fn a_program_that_opens_the_next_flow_leaves_the_last_for_the_collector() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(IDLE + Duration::from_millis(1_001));
    gate.put_flow(key(), old);
    gate.run(USERS, &tcp(out(), b"next"));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap()), closed(old)]);
}

#[test]
fn a_full_table_of_finished_flows_delays_the_end_of_others_and_no_report() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(IDLE + Duration::from_millis(1_001));
    let count = sizes().closed_max as usize + 10;
    for port in 0..sizes().closed_max as u16 {
        gate.put_closed(FlowKey { user_port: port, ..key() }, old);
    }
    for port in 0..10 {
        gate.put_flow(FlowKey { device_port: port, ..key() }, old);
    }
    for pass in 0..3 {
        let batch = sweep.all(&mut kernel, now_ns()).unwrap();
        if pass == 0 {
            let reported: HashSet<_> = batch.flows.iter().map(|snapshot| snapshot.key).collect();
            assert_eq!(reported.len(), count, "what has to wait is reported all the same");
        }
        store(&mut sweep, &mut kernel, &batch).unwrap();
    }
    assert_eq!((gate.datapath.flows().unwrap().len(), gate.datapath.closed().unwrap().len()), (0, 0));
}

#[test]
fn a_claim_whose_owner_died_heals() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(IDLE + Duration::from_millis(1_001));
    gate.put_flow(key(), old);
    gate.put_closed(key(), old);
    for _ in 0..2 {
        let batch = sweep.all(&mut kernel, now_ns()).unwrap();
        assert_eq!(batch.flows, [closed(old)], "the same totals under the same id");
        store(&mut sweep, &mut kernel, &batch).unwrap();
    }
    assert_eq!(gate.flow(), None);
    assert!(gate.datapath.closed().unwrap().is_empty());
}

#[test]
fn a_collector_that_starts_anew_misses_nothing() {
    let Lab { mut gate, mut kernel, mut sweep, pins } = Lab::new();
    gate.run(USERS, &tcp(out(), b"before"));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    store(&mut sweep, &mut kernel, &batch).unwrap();
    drop(kernel);

    let mut kernel = Kernel::open(pins.path()).unwrap();
    let batch = Sweep::default().all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap())]);
}

fn store(sweep: &mut Sweep, kernel: &mut Kernel, batch: &Batch) -> Result<(), Error> {
    sweep.denials_stored(&batch.denials);
    sweep.flows_stored(kernel, &batch.flows)
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
