//! The reference model by itself: packets written out by hand, and what it does from packet to packet.

use std::collections::BTreeMap;

use vpn_ebpf_common::{Verdict, names::USERS};
use vpn_tests::{
    by_hand::{self, ANSWERS_V4, ANSWERS_V6, IPV4, IPV6, UPLINK},
    checksums::Checksums,
    interfaces::USERS_DEVICE,
    model::{Action, Arrival, Capacities, Model, Outcome},
    packet::udp,
    scenario::{Scenario, Step},
    topology::Topology,
};

const NOW: u64 = 1_000_000_000_000;

fn model(topology: Topology) -> Model {
    Model::new(topology, Capacities::LARGE)
}

fn run(model: &mut Model, program: &str, packet: Vec<u8>) -> Outcome {
    let arrival = |ingress| Arrival { ingress, packet, coalesced: None };
    if program == USERS { model.users(&arrival(USERS_DEVICE), NOW) } else { model.plant(&arrival(UPLINK), NOW) }
}

#[test]
fn what_goes_on_is_as_computed_by_hand() {
    for rows in [IPV4.as_slice(), &IPV6] {
        let mut model = model(by_hand::topology());
        for row in rows {
            let outcome = run(&mut model, row.program, row.packet());
            let (verdict, egress) =
                if row.program == USERS { (Verdict::ToPlant, UPLINK) } else { (Verdict::ToUser, USERS_DEVICE) };
            assert_eq!((outcome.verdict, outcome.action), (verdict, Action::Redirect(egress)), "{}", row.name);
            assert_eq!(hex(&outcome.packet), hex(&row.out()), "{}", row.name);
            assert!(Checksums::of(&row.packet()).kept(Checksums::of(&row.out())), "{}", row.name);
        }
    }
}

#[test]
fn answers_are_as_computed_by_hand() {
    let v4 = by_hand::datagram("100.64.0.5", "10.128.1.20");
    let v6 = by_hand::datagram("fd64::5", "fd80::20");
    for (rows, ends) in [(ANSWERS_V4, v4), (ANSWERS_V6, v6)] {
        let mut model = model(by_hand::narrow());
        assert_eq!(run(&mut model, USERS, udp(ends, b"")).verdict, Verdict::ToPlant);
        for row in rows {
            let outcome = run(&mut model, row.program, row.packet());
            let back = if row.program == USERS { USERS_DEVICE } else { UPLINK };
            assert_eq!(outcome.action, Action::Redirect(back), "{}: {:?}", row.name, outcome.verdict);
            assert_eq!(hex(&outcome.packet), hex(&row.out()), "{}", row.name);
            let right = Checksums::of(&row.out());
            assert_eq!((right.transport, right.header.unwrap_or(true)), (Some(true), true), "{}", row.name);
        }
    }
}

fn hex(packet: &[u8]) -> String {
    packet.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn random_traffic_meets_every_verdict() {
    let mut seen = BTreeMap::new();
    for seed in 0..60 {
        let capacities = if seed % 3 == 0 { Capacities { flows: 12, closed: 3, denied: 6 } } else { Capacities::LARGE };
        let mut scenario = Scenario::new(seed);
        let mut model = Model::new(scenario.topology().clone(), capacities);
        for step in 0..2_000 {
            let now = NOW + step * 500_000;
            match scenario.next(&model) {
                Step::Packet(packet) => {
                    let outcome = packet.run(&mut model, now);
                    *seen.entry(outcome.verdict.label()).or_insert(0) += 1;
                    scenario.saw(packet, outcome);
                }
                Step::Install(topology) => model.topology = *topology,
                Step::Records(change) => change.apply(&mut model.records, now),
            }
        }
    }
    println!("{seen:?}");
    let of_the_kernel = [Verdict::NoMemory, Verdict::Busy];
    for verdict in Verdict::ALL.iter().filter(|verdict| !of_the_kernel.contains(verdict)) {
        assert!(seen.contains_key(verdict.label()), "no packet for {verdict:?}: {seen:?}");
    }
}
