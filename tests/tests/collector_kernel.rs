//! The collector against the kernel's real maps, which the programs fill by test runs: nothing is reported twice
//! without need, nothing is removed before it was stored, a flow's end takes its exact totals along, and what peers may
//! still open is counted right.

use std::{collections::HashSet, time::Duration};

use aya::{
    Pod,
    maps::{HashMap, MapError},
};
use vpn_agent::datapath::read::Maps;
use vpn_collector::{
    kernel::{End, Error, Kernel},
    sweep::{Batch, Refusal, Snapshot, Sweep},
    unrecorded::Growth,
};
use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey, WINDOW_NS},
    flow::{ClosedKey, Flow, FlowKey, SETTLE_NS, Traffic},
    names::{DENIED, PLANT, RELEASED, USAGE, USERS},
    usage::Usage,
};
use vpn_tests::{
    gate::{Gate, IDLE, PEER, USER, VIRTUAL, back, flow, key, now_ns, out, sizes},
    packet::{Ends, tcp},
    pins::Pins,
};

#[test]
fn events_tell_of_new_flows_and_new_refusals_once() {
    let Lab { mut gate, mut kernel, sweep, .. } = Lab::new();
    for packet in [tcp(out(), b""), tcp(out(), b""), refused(22), refused(22)] {
        gate.run(USERS, &packet);
    }
    let batch = sweep.events(&mut kernel, 100);
    assert_eq!(batch.flows.iter().map(|snapshot| snapshot.key.flow).collect::<Vec<_>>(), [key()]);
    assert_eq!(batch.flows[0].flow.to_plant.packets, 1);
    assert_eq!(batch.denials.len(), 1);
    let Refusal { key, denial, last } = batch.denials[0];
    assert_eq!((key.verdict, denial.attempts, last), (Verdict::NoRoute as u8, 1, false));
    assert!(sweep.events(&mut kernel, 100).is_empty());
}

/// Requirements: F4.
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

/// Requirements: F8.
#[test]
fn an_idle_flow_is_ended_with_its_totals_and_goes_when_they_are_stored() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    gate.run(USERS, &tcp(out(), b"the only one"));
    let last = gate.flow().unwrap();

    let settling = last.expires_ns + SETTLE_NS;
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

/// Requirements: F8.
#[test]
fn a_packet_between_the_sweep_and_the_end_keeps_the_flow() {
    let Lab { mut gate, mut kernel, .. } = Lab::new();
    gate.put_flow(key(), flow(Duration::ZERO));
    assert_eq!(kernel.end(&key(), now_ns()).unwrap(), End::NotNow);
    gate.put_flow(key(), flow(OVER));
    assert_eq!(kernel.end(&key(), now_ns()).unwrap(), End::Moved);
    assert_eq!(kernel.end(&key(), now_ns()).unwrap(), End::NotNow, "it is gone");
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
fn memory_that_is_another_flows_now_is_not_read_as_this_one() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let other = FlowKey { peer: PEER + 1, ..key() };
    for idle in [Duration::ZERO, OVER] {
        gate.put_flow(key(), Flow { tag: other.tag(), ..flow(idle) });
        assert!(sweep.all(&mut kernel, now_ns()).unwrap().is_empty());
        assert_eq!(kernel.end(&key(), now_ns()).unwrap(), End::NotNow);
    }
    gate.put_flow(key(), flow(Duration::ZERO));
    assert_eq!(sweep.all(&mut kernel, now_ns()).unwrap().flows, [live(gate.flow().unwrap())]);

    // Nor a finished one, whoever put it there. It stays, for somebody to look at.
    gate.put_closed(key(), Flow { tag: other.tag(), ..flow(OVER) });
    assert!(sweep.all(&mut kernel, now_ns()).unwrap().flows.iter().all(|snapshot| !snapshot.closed));
    assert_eq!(gate.datapath.closed().unwrap().len(), 1);
}

#[test]
fn a_copy_is_confirmed_by_a_later_one_of_the_same_flow_only() {
    let Lab { mut gate, kernel, .. } = Lab::new();
    let copy = flow(Duration::ZERO);
    assert!(!kernel.confirms(&key(), &copy).unwrap(), "it is gone");
    let more = Traffic { packets: copy.to_user.packets + 1, bytes: copy.to_user.bytes + 9 };
    let less = Traffic { packets: copy.to_plant.packets, bytes: copy.to_plant.bytes - 1 };
    for (later, confirms) in [
        (copy, true),
        (Flow { to_user: more, last_ns: copy.last_ns + 9, ..copy }, true),
        (Flow { opened_ns: copy.opened_ns + 1, ..copy }, false),
        (Flow { to_plant: less, ..copy }, false),
    ] {
        gate.put_flow(key(), later);
        assert_eq!(kernel.confirms(&key(), &copy).unwrap(), confirms, "{later:?}");
    }
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

/// Requirements: F8.
#[test]
fn a_program_that_opens_the_next_flow_leaves_the_last_for_the_collector() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(OVER);
    gate.put_flow(key(), old);
    gate.run(USERS, &tcp(out(), b"next"));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap()), closed(old)]);
}

/// Requirements: F8.
#[test]
fn a_full_table_of_finished_flows_delays_the_end_of_others_and_no_report() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let count = sizes().closed_max as usize + 10;
    for port in 0..sizes().closed_max as u16 {
        let key = FlowKey { user_port: port, ..key() };
        gate.put_closed(key, of(key, flow(OVER)));
    }
    for port in 0..10 {
        let key = FlowKey { device_port: port, ..key() };
        gate.put_flow(key, of(key, flow(OVER)));
    }
    put_usage(&mut gate, Usage { opened: 10, ..Usage::default() });
    for pass in 0..3 {
        let batch = sweep.all(&mut kernel, now_ns()).unwrap();
        if pass == 0 {
            let reported: HashSet<_> = batch.flows.iter().map(|snapshot| snapshot.key).collect();
            assert_eq!(reported.len(), count, "what has to wait is reported all the same");
            assert_eq!(released(&gate), None, "and takes its place");
        }
        store(&mut sweep, &mut kernel, &batch).unwrap();
    }
    assert_eq!((gate.datapath.flows().unwrap().len(), gate.datapath.closed().unwrap().len()), (0, 0));
    assert_eq!(released(&gate), Some(10));
}

/// Requirements: F8.
#[test]
fn a_claim_whose_owner_died_heals() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let old = flow(OVER);
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

/// Requirements: F8.
#[test]
fn a_collector_that_starts_anew_misses_nothing() {
    let Lab { mut gate, mut kernel, mut sweep, pins } = Lab::new();
    gate.run(USERS, &tcp(out(), b"before"));
    gate.run(USERS, &refused(22));
    let batch = sweep.all(&mut kernel, now_ns()).unwrap();
    store(&mut sweep, &mut kernel, &batch).unwrap();
    drop(kernel);

    let mut kernel = Kernel::open(pins.path()).unwrap();
    let batch = Sweep::default().all(&mut kernel, now_ns()).unwrap();
    assert_eq!(batch.flows, [live(gate.flow().unwrap())]);
    assert_eq!(batch.denials.len(), 1);
}

/// Requirements: F5, F8.
#[test]
fn a_refused_destination_goes_when_its_window_is_past_and_its_totals_are_stored() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    gate.run(USERS, &refused(22));
    let (key, denial) = gate.datapath.denials().unwrap().into_iter().next().unwrap();
    let settling = (u64::from(key.window) + 1) * WINDOW_NS + SETTLE_NS;
    let past = settling + 1;

    // Stored before its window was past: nothing is left to be stored.
    let batch = sweep.all(&mut kernel, settling).unwrap();
    assert_eq!(batch.denials, [Refusal { key, denial, last: false }]);
    store(&mut sweep, &mut kernel, &batch).unwrap();
    assert!(sweep.all(&mut kernel, settling).unwrap().is_empty());
    assert_eq!(gate.datapath.denials().unwrap().len(), 1, "a program may add to it");
    assert!(sweep.all(&mut kernel, past).unwrap().is_empty());
    assert!(gate.datapath.denials().unwrap().is_empty());

    // Stored when it was.
    put(&mut gate, DENIED, key, denial);
    let batch = sweep.all(&mut kernel, past).unwrap();
    assert_eq!(batch.denials, [Refusal { key, denial, last: true }]);
    assert_eq!(sweep.all(&mut kernel, past).unwrap(), batch);
    assert_eq!(gate.datapath.denials().unwrap().len(), 1, "kept until it is stored");
    store(&mut sweep, &mut kernel, &batch).unwrap();
    assert!(gate.datapath.denials().unwrap().is_empty());

    // Stored before its last packet.
    put(&mut gate, DENIED, key, denial);
    let batch = sweep.all(&mut kernel, settling).unwrap();
    let denial = Denial { attempts: denial.attempts + 1, ..denial };
    put(&mut gate, DENIED, key, denial);
    store(&mut sweep, &mut kernel, &batch).unwrap();
    let batch = sweep.all(&mut kernel, past).unwrap();
    assert_eq!(batch.denials, [Refusal { key, denial, last: true }]);
    assert_eq!(gate.datapath.denials().unwrap().len(), 1, "the last packet is not stored yet");
}

#[test]
fn a_destination_that_is_refused_in_two_windows_is_reported_twice() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let key = DenialKey::further(PEER, 5, Verdict::NoRoute as u8);
    let denial = Denial { first_ns: 5 * WINDOW_NS, last_ns: 5 * WINDOW_NS, attempts: 1, bytes: 40 };
    let keys = [key, DenialKey { window: 6, ..key }];
    for key in keys {
        put(&mut gate, DENIED, key, denial);
    }
    let batch = sweep.all(&mut kernel, 7 * WINDOW_NS).unwrap();
    let mut found: Vec<_> = batch.denials.iter().map(|refusal| (refusal.key, refusal.last)).collect();
    found.sort_unstable();
    assert_eq!(found, [(keys[0], true), (keys[1], false)]);
    store(&mut sweep, &mut kernel, &batch).unwrap();
    assert_eq!(gate.datapath.denials().unwrap().into_keys().collect::<Vec<_>>(), [keys[1]]);
}

#[test]
fn a_peer_may_open_as_many_flows_as_were_removed() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    for port in [40_001, 40_002, 40_003] {
        gate.run(USERS, &tcp(Ends::new((USER, port), (VIRTUAL, 502)), b""));
    }
    let flows = gate.datapath.flows().unwrap();
    let all_over = flows.values().map(|flow| flow.expires_ns).max().unwrap() + SETTLE_NS + 1;
    assert_eq!((opened(&gate), released(&gate)), (Some(3), None));
    sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(released(&gate), None, "all of them live");

    let batch = sweep.all(&mut kernel, all_over).unwrap();
    assert_eq!((batch.flows.len(), released(&gate)), (3, Some(3)), "before they are stored");
    for _ in 0..2 {
        sweep.all(&mut kernel, all_over).unwrap();
        assert_eq!(released(&gate), Some(3));
    }

    // A program that ends the last flow and opens the next one changes nothing.
    gate.put_flow(key(), flow(OVER));
    put_usage(&mut gate, Usage { opened: 4, ..Usage::default() });
    gate.run(USERS, &tcp(out(), b"next"));
    for _ in 0..3 {
        sweep.all(&mut kernel, now_ns()).unwrap();
        assert_eq!((opened(&gate), released(&gate)), (Some(4), Some(3)));
    }
}

#[test]
fn a_count_that_was_not_written_heals_in_two_sweeps() {
    let Lab { mut gate, mut kernel, pins, .. } = Lab::new();
    gate.run(USERS, &tcp(out(), b""));
    // Nine flows were removed by a collector that died before it could say so.
    put_usage(&mut gate, Usage { opened: 10, ..Usage::default() });
    let mut sweep = Sweep::default();
    sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(released(&gate), None, "a program may just have added the flow, and may count it next");
    sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!(released(&gate), Some(9));

    // What a collector has found once dies with it; the next one begins anew.
    put_usage(&mut gate, Usage { opened: 12, ..Usage::default() });
    for _ in 0..3 {
        let mut kernel = Kernel::open(pins.path()).unwrap();
        Sweep::default().all(&mut kernel, now_ns()).unwrap();
    }
    assert_eq!(released(&gate), Some(9));

    // Too many are as wrong.
    put(&mut gate, RELEASED, PEER, 12_u64);
    for _ in 0..2 {
        sweep.all(&mut kernel, now_ns()).unwrap();
    }
    assert_eq!(released(&gate), Some(11));
}

#[test]
fn of_a_peer_that_is_gone_nothing_is_counted() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    gate.put_flow(key(), flow(OVER));
    put(&mut gate, RELEASED, PEER, 7_u64);
    sweep.all(&mut kernel, now_ns()).unwrap();
    assert_eq!((gate.flow(), released(&gate)), (None, None));
}

/// Requirements: F8.
#[test]
fn refused_packets_without_a_record_are_reported_once() {
    let Lab { mut gate, mut kernel, mut sweep, .. } = Lab::new();
    let usage = |packets| Usage { unrecorded: Traffic { packets, bytes: 40 * packets }, ..Usage::default() };
    let mut grown = |gate: &mut Gate, packets| {
        put_usage(gate, usage(packets));
        sweep.all(&mut kernel, now_ns()).unwrap().unrecorded
    };
    let growth = |more, total| Growth { peer: PEER, more: usage(more).unrecorded, total: usage(total).unrecorded };
    assert_eq!(grown(&mut gate, 0), []);
    assert_eq!(grown(&mut gate, 3), [growth(3, 3)]);
    assert_eq!(grown(&mut gate, 3), []);
    assert_eq!(grown(&mut gate, 5), [growth(2, 5)]);
}

/// So long without a packet, a flow is over.
const OVER: Duration = IDLE.saturating_add(Duration::from_millis(1_001));

/// To an address that leads nowhere.
fn refused(port: u16) -> Vec<u8> {
    tcp(Ends::new((USER, 1), ("10.128.2.20", port)), b"")
}

fn store(sweep: &mut Sweep, kernel: &mut Kernel, batch: &Batch) -> Result<(), Error> {
    sweep.denials_stored(kernel, &batch.denials)?;
    sweep.flows_stored(kernel, &batch.flows)
}

fn live(flow: Flow) -> Snapshot {
    Snapshot { key: ClosedKey::new(key(), flow.opened_ns), flow, closed: false }
}

fn closed(flow: Flow) -> Snapshot {
    Snapshot { closed: true, ..live(flow) }
}

/// The flow under another key.
fn of(key: FlowKey, flow: Flow) -> Flow {
    Flow { tag: key.tag(), ..flow }
}

fn put<K: Pod, V: Pod>(gate: &mut Gate, map: &'static str, key: K, value: V) {
    let mut map = HashMap::<_, K, V>::try_from(gate.datapath.map_mut(map)).unwrap();
    map.insert(key, value, 0).unwrap();
}

fn put_usage(gate: &mut Gate, usage: Usage) {
    put(gate, USAGE, PEER, usage);
}

fn get<V: Pod>(gate: &Gate, map: &'static str) -> Option<V> {
    match HashMap::<_, u32, V>::try_from(Maps::map(&gate.datapath, map)).unwrap().get(&PEER, 0) {
        Err(MapError::KeyNotFound) => None,
        value => Some(value.unwrap()),
    }
}

fn released(gate: &Gate) -> Option<u64> {
    get(gate, RELEASED)
}

fn opened(gate: &Gate) -> Option<u64> {
    get::<Usage>(gate, USAGE).map(|usage| usage.opened)
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
