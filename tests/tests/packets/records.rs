//! What the maps hold after packets.

use std::{collections::BTreeMap, thread, time::Duration};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use vpn_agent::datapath::{Sizes, fill::Content, read::Maps as _};
use vpn_ebpf_common::{
    Verdict,
    denial::DenialKey,
    flow::{ClosedKey, Flow, Traffic},
    names::{PLANT, USERS},
    peer::Peer,
    protocol::TCP,
    tcp::{ACK, FIN, RST, SYN},
    ways::{PLACES, Ways},
};
use vpn_tests::{
    by_hand::{self, PEER, PLANT_ID, SERVICE_PORT},
    gate::{self, DROP, Gate, OTHER_SET, REDIRECT, ROUTE_SET, address, content, now_ns, out, sizes},
    model::{Capacities, Coalesced},
    packet::{Ends, segment, tcp, udp},
    pair::Pair,
};

use crate::{
    case::{begin, change, end, play, run},
    family::{V4, V6},
    full::SMALL,
};

fn pair(capacities: Capacities) -> Pair {
    let mut pair = Pair::new(capacities, by_hand::topology());
    begin(&mut pair, &by_hand::topology());
    pair
}

/// Waits until the programs' clock goes on.
fn next_tick() {
    thread::sleep(Duration::from_nanos(gate::TICK_NS));
}

/// Both sides have the same.
fn compare(pair: &mut Pair) {
    pair.compare().unwrap_or_else(|problem| panic!("{problem}"));
}

/// Requirements: F3, F4.
#[test]
fn a_flow_counts_both_directions_and_remembers_how_it_was_addressed() {
    for family in [V4, V6] {
        let mut pair = pair(Capacities::LARGE);
        let before = now_ns();
        next_tick();
        for payload in [b"one".as_slice(), b"four", b""] {
            play(&mut pair, USERS, &tcp(family.out(), payload));
        }
        next_tick();
        for payload in [b"1234567".as_slice(), b""] {
            play(&mut pair, PLANT, &tcp(family.back(), payload));
        }
        compare(&mut pair);
        let flows = pair.kernel_records().flows;
        assert_eq!(flows.keys().collect::<Vec<_>>(), [&family.key(TCP)]);
        let flow = flows[&family.key(TCP)];
        let headers = family.header() as u64 + 20;
        assert_eq!(flow.to_plant, Traffic { packets: 3, bytes: 3 * headers + 7 });
        assert_eq!(flow.to_user, Traffic { packets: 2, bytes: 2 * headers + 7 });
        assert_eq!(flow.device, address(family.real));
        assert_eq!((flow.plant, flow.route_set, flow.generation), (PLANT_ID, PEER.route_set, 1));
        assert_eq!(flow.tag, family.key(TCP).tag());
        assert!(before <= flow.opened_ns && flow.opened_ns < flow.last_ns && flow.last_ns <= now_ns());
    }
}

/// By the real address, by the virtual one, and what is a flow to no device or no flow at all.
///
/// Requirements: C5.
#[test]
fn addresses_that_a_peer_has_used_are_remembered() {
    let ways = |real, twin| Ways { real, twin };
    let mut pair = pair(Capacities::LARGE);
    for family in [V4, V6] {
        let (by_real, by_virtual) = (tcp(family.out_real(), b""), tcp(family.out(), b""));
        let real = segment(family.out_real(), SYN, &[], b"");
        let service = udp(family.to_gateway(SERVICE_PORT), b"");
        for (packets, expected) in [
            (vec![&service, &by_real], ways(0, 0)),
            (vec![&real], ways(1, 0)),
            (vec![&by_virtual, &service], ways(0, 1)),
            (vec![&by_virtual, &real], ways(0, 1)),
        ] {
            begin(&mut pair, &by_hand::topology());
            packets.iter().for_each(|packet| play(&mut pair, USERS, packet));
            assert_eq!(pair.ways(PEER.id), expected, "{} of {packets:?}", family.user);
            assert_eq!(pair.ways(PEER.id + 1), ways(0, 0), "another peer's");
        }
        begin(&mut pair, &by_hand::topology());
        for id in [PEER.id, PEER.id + PLACES] {
            change(&mut pair, |topology| topology.peers.values_mut().for_each(|peer| peer.id = id));
            play(&mut pair, USERS, if id == PEER.id { &real } else { &by_virtual });
        }
        assert_eq!(pair.ways(PEER.id), ways(1, 1), "who share a place are taken for one");
        assert_eq!(pair.kernel_records().flows.len(), 2, "and look in vain");
    }
}

#[test]
fn a_connection_lives_as_long_as_its_state_allows() {
    let idle = by_hand::topology().idle;
    let mut pair = pair(Capacities::LARGE);
    for (program, flags, milliseconds) in [
        (USERS, SYN, idle.tcp_transitory_ms),
        (PLANT, SYN | ACK, idle.tcp_transitory_ms),
        (USERS, ACK, idle.tcp_ms),
        (PLANT, FIN | ACK, idle.tcp_transitory_ms),
        (USERS, FIN | ACK, idle.tcp_closed_ms),
        (USERS, ACK, idle.tcp_closed_ms),
        (USERS, SYN, idle.tcp_transitory_ms),
        (PLANT, SYN | ACK, idle.tcp_transitory_ms),
        (USERS, ACK, idle.tcp_ms),
        (PLANT, RST, idle.tcp_closed_ms),
    ] {
        let ends = if program == USERS { V4.out() } else { V4.back() };
        play(&mut pair, program, &segment(ends, flags, &[], b""));
        compare(&mut pair);
        let flow = pair.kernel_records().flows[&V4.key(TCP)];
        assert_eq!(flow.expires_ns - flow.last_ns, u64::from(milliseconds) * 1_000_000, "after {flags:#x}");
    }
}

#[test]
fn an_icmp_error_lengthens_the_life_of_its_flow_as_a_packet_of_the_flow_does() {
    let idle = by_hand::topology().idle;
    for family in [V4, V6] {
        let mut pair = pair(Capacities::LARGE);
        for (program, flags) in [(USERS, SYN), (PLANT, SYN | ACK), (USERS, ACK)] {
            let ends = if program == USERS { family.out() } else { family.back() };
            play(&mut pair, program, &segment(ends, flags, &[], b""));
        }
        let sent = vpn_tests::packet::translated(&tcp(family.out(), b""), family.source, family.real);
        play(&mut pair, PLANT, &family.error(family.real, family.source, &sent));
        let flow = pair.kernel_records().flows[&family.key(TCP)];
        assert_eq!(flow.to_user.packets, 2);
        assert_eq!(flow.expires_ns - flow.last_ns, u64::from(idle.tcp_ms) * 1_000_000);
        compare(&mut pair);
    }
}

/// Requirements: F8.
#[test]
fn a_packet_after_a_flow_that_is_over_opens_the_next_and_keeps_the_old_totals() {
    let mut pair = pair(Capacities::LARGE);
    play(&mut pair, USERS, &tcp(V4.out(), b"first"));
    end(&mut pair, V4.key(TCP));
    let old = pair.kernel_records().flows[&V4.key(TCP)];
    play(&mut pair, USERS, &tcp(V4.out(), b"next"));
    compare(&mut pair);

    let records = pair.kernel_records();
    let next = records.flows[&V4.key(TCP)];
    assert_eq!(next.to_plant, Traffic { packets: 1, bytes: 44 });
    assert!(next.opened_ns > old.opened_ns, "a new flow under the same key");
    let closed = records.closed[&ClosedKey::new(V4.key(TCP), old.opened_ns)];
    assert_eq!(closed, Flow { expires_ns: closed.expires_ns, ..old });
    assert_eq!(records.closed.len(), 1);
    assert_eq!(records.usage[&PEER.id].opened, 1, "one is in the table");
}

#[test]
fn a_packet_that_is_refused_leaves_a_flow_that_is_over_where_it_is() {
    let mut pair = pair(Capacities::LARGE);
    play(&mut pair, USERS, &tcp(V4.out(), b"first"));
    end(&mut pair, V4.key(TCP));
    change(&mut pair, |topology| topology.limits.new_flows_per_second = 0);
    play(&mut pair, USERS, &tcp(V4.out(), b"next"));
    compare(&mut pair);
    let records = pair.kernel_records();
    assert_eq!((records.flows.len(), records.closed.len(), records.usage[&PEER.id].opened), (1, 0, 1));
}

/// Requirements: F5.
#[test]
fn a_refused_destination_is_recorded_with_every_attempt() {
    for family in [V4, V6] {
        let mut pair = pair(Capacities::LARGE);
        let refused = tcp(Ends::new((family.user, 40_000), (family.nowhere, 22)), b"x");
        for _ in 0..3 {
            play(&mut pair, USERS, &refused);
            next_tick();
        }
        play(&mut pair, USERS, &tcp(family.out(), b"allowed"));
        compare(&mut pair);
        let denied = pair.kernel_records().denied;
        let (key, denial) = denied.first_key_value().unwrap();
        assert_eq!(denied.len(), 1);
        let expected = DenialKey {
            addressed: address(family.nowhere),
            peer: PEER.id,
            window: key.window,
            port: 22_u16.to_be(),
            protocol: TCP,
            verdict: Verdict::NoRoute as u8,
        };
        assert_eq!(*key, expected);
        assert_eq!((denial.attempts, denial.bytes), (3, 3 * refused.len() as u64));
        assert!(denial.first_ns < denial.last_ns);
    }
}

/// Requirements: F5, F8.
#[test]
fn refused_destinations_beyond_the_limit_are_counted_together() {
    let mut pair = pair(Capacities::LARGE);
    change(&mut pair, |topology| topology.limits.denials_per_window = 2);
    let attempt = |port| udp(Ends::new((V4.user, 1), (V4.nowhere, port)), b"");
    for port in [1, 2, 3, 4, 1] {
        play(&mut pair, USERS, &attempt(port));
    }
    compare(&mut pair);
    let records = pair.kernel_records();
    let attempts: Vec<_> = records.denied.iter().map(|(key, denial)| (key.is_further(), denial.attempts)).collect();
    assert_eq!(attempts, [(true, 2), (false, 2), (false, 1)]);
    assert_eq!(records.usage[&PEER.id].denials, 2);
}

/// Requirements: F5, F8.
#[test]
fn refused_packets_that_find_no_room_are_counted_all_the_same() {
    let mut pair = pair(SMALL);
    for port in [1, 2, 3] {
        play(&mut pair, USERS, &udp(Ends::new((V4.user, 1), (V4.nowhere, port)), b""));
    }
    compare(&mut pair);
    let usage = pair.kernel_records().usage[&PEER.id];
    assert_eq!((usage.denials, usage.unrecorded), (2, Traffic { packets: 1, bytes: 28 }));
}

/// Requirements: F4.
#[test]
fn segments_that_came_as_one_packet_count_as_they_were_on_the_wire() {
    let large = tcp(V4.out(), &[1; 2_500]);
    for segments in [3, 0] {
        let mut pair = pair(Capacities::LARGE);
        run(&mut pair, USERS, &large, Some(Coalesced { segments, size: 1_000 }));
        compare(&mut pair);
        let flow = pair.kernel_records().flows[&V4.key(TCP)];
        assert_eq!(flow.to_plant, Traffic { packets: 3, bytes: 2_500 + 3 * 40 });
    }
}

/// Requirements: F8.
#[test]
fn cpus_that_count_in_one_flow_lose_nothing() {
    const PACKETS: u64 = 30_000;
    let mut gate = Gate::new();
    let request = tcp(out(), b"request");
    assert_eq!(gate.run(USERS, &request).action, REDIRECT);
    let frame = [&[0; 12], &[0x08, 0x00][..], &request].concat();
    let program: &SchedClassifier = gate.datapath.program(USERS);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..PACKETS {
                    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
                    program.test_run(options).unwrap();
                }
            });
        }
    });
    let packets = 1 + 2 * PACKETS;
    assert_eq!(gate.flow().unwrap().to_plant, Traffic { packets, bytes: packets * request.len() as u64 });
}

/// Requirements: C5.
#[test]
fn one_peer_entry_switches_all_routes_at_once() {
    let mut gate = Gate::new();
    assert_eq!(gate.run(USERS, &tcp(out(), b"")).action, REDIRECT);
    gate.change(|content| {
        content.peers.insert(gate::USER_NUMBER, Peer { id: gate::PEER, route_set: OTHER_SET });
    });
    // In the other set the address is another plant's, which is not there.
    assert_eq!(gate.run(USERS, &tcp(out(), b"")).action, DROP);
    gate.change(|content| {
        content.peers.insert(gate::USER_NUMBER, Peer { id: gate::PEER, route_set: ROUTE_SET });
    });
    assert_eq!(gate.run(USERS, &tcp(out(), b"")).action, REDIRECT);
}

#[test]
fn filling_twice_writes_nothing_and_taking_away_leaves_nothing() {
    let mut gate = Gate::new();
    let written = gate.datapath.fill(&content()).unwrap();
    assert_eq!((written.set, written.removed), (0, 0));
    gate.datapath.fill(&Content::default()).unwrap();
    assert!(gate.datapath.peers().unwrap().is_empty());
    assert!(gate.datapath.routes().unwrap().is_empty());
    assert!(gate.datapath.plants().unwrap().is_empty());
    assert_eq!(gate.datapath.services().unwrap(), BTreeMap::new());
}

/// Requirements: G4.
#[test]
fn a_state_that_does_not_fit_is_refused_by_the_name_of_the_setting() {
    let mut gate = Gate::with(&Sizes { peers_max: 1, ..sizes() });
    let mut content = content();
    for other in [8, 9] {
        content.peers.insert(other, Peer { id: 9, route_set: ROUTE_SET });
    }
    let error = gate.datapath.fill(&content).unwrap_err().to_string();
    assert!(error.contains("datapath.peers_max"), "{error}");
}
