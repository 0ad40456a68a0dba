//! Every way through the programs, as the kernel runs them (`BPF_PROG_TEST_RUN`): verdict, action, bytes out, counters.
//! Each packet goes through the reference model as well, which must agree, and both must have the same in their maps
//! afterwards. Needs root; the kernel needs neither WireGuard nor a VM. The topology is that of `vpn_tests::by_hand`.

use std::collections::HashSet;

use vpn_ebpf_common::{
    Verdict,
    names::{PLANT, USERS},
};
use vpn_tests::{
    by_hand::{self, ANSWERS_V4, ANSWERS_V6, IPV4, IPV6, UPLINK},
    gate::PASS,
    interfaces::USERS_DEVICE,
    kernel::Kernel,
    model::{Action, Arrival, Capacities},
    packet::{translated, udp},
    pair::Pair,
};

use crate::{
    case::{begin, hex, play, run},
    family::{V4, V6},
};

mod case;
mod errors;
mod family;
mod full;
mod identities;
mod limits;
mod records;
mod to_plants;
mod to_users;
mod unparsed;

/// Requirements: A6, B1, B4, C1, D4, F5.
#[test]
fn every_verdict_has_its_packet_action_and_counter() {
    // The kernel cannot be made to run out of memory, nor to be interrupted at one place.
    let mut seen = HashSet::from([Verdict::NoMemory, Verdict::Busy]);
    let mut large = Pair::new(Capacities::LARGE, by_hand::topology());
    let mut small = Pair::new(full::SMALL, by_hand::topology());
    for family in [V4, V6] {
        let tables = [
            unparsed::cases(family),
            to_plants::cases(family),
            to_users::cases(family),
            errors::cases(family),
            identities::cases(family),
            limits::cases(family),
        ];
        for topology in [by_hand::topology(), by_hand::tunnels()] {
            for case in tables.iter().flatten() {
                case.check(&mut large, &topology);
                seen.insert(case.verdict);
            }
            for case in full::cases(family) {
                case.check(&mut small, &topology);
                seen.insert(case.verdict);
            }
        }
    }
    for verdict in Verdict::ALL {
        assert!(seen.contains(verdict), "no packet for {verdict:?}");
    }
}

/// Requirements: A6, C1.
#[test]
fn packets_written_out_by_hand_go_on_as_written() {
    let mut pair = Pair::new(Capacities::LARGE, by_hand::topology());
    for rows in [IPV4.as_slice(), &IPV6] {
        begin(&mut pair, &by_hand::topology());
        for row in rows {
            let outcome = run(&mut pair, row.program, &row.packet(), None);
            let egress = if row.program == USERS { UPLINK } else { USERS_DEVICE };
            assert_eq!(outcome.action, Action::Redirect(egress), "{}: {:?}", row.name, outcome.verdict);
            assert_eq!(hex(&outcome.packet), hex(&row.out()), "{}", row.name);
        }
    }
    for (rows, family) in [(ANSWERS_V4, V4), (ANSWERS_V6, V6)] {
        begin(&mut pair, &by_hand::narrow());
        let out = by_hand::datagram(family.user, family.device);
        play(&mut pair, USERS, &udp(out, b""));
        for row in rows {
            let outcome = run(&mut pair, row.program, &row.packet(), None);
            let ingress = if row.program == USERS { USERS_DEVICE } else { UPLINK };
            assert_eq!(outcome.action, Action::Redirect(ingress), "{}: {:?}", row.name, outcome.verdict);
            assert_eq!(hex(&outcome.packet), hex(&row.out()), "{}", row.name);
        }
    }
}

/// A flow with a plant that has no interface, as no program and no agent writes one.
#[test]
fn a_packet_that_is_translated_is_never_the_hosts() {
    let mut kernel = Kernel::new(Capacities::LARGE);
    kernel.install(&by_hand::topology());
    for family in [V4, V6] {
        let arrival = |ingress, packet| Arrival { ingress, packet, coalesced: None };
        kernel.run(USERS, &arrival(USERS_DEVICE, udp(family.out(), b"open")));
        let mut records = kernel.records();
        records.flows.values_mut().for_each(|flow| flow.egress = 0);
        kernel.set_records(&records);
        let reply = translated(&udp(family.back(), b"reply"), family.device, family.user);
        let before = kernel.counter(Verdict::NotConfigured).packets;
        let run = kernel.run(USERS, &arrival(USERS_DEVICE, family.error(family.user, family.device, &reply)));
        assert_eq!(run.action, Action::Drop.number());
        assert_eq!(kernel.counter(Verdict::NotConfigured).packets - before, 1);
    }
}

#[test]
fn the_host_itself_resolves_addresses_of_plants() {
    /// EtherType of ARP.
    const ARP: [u8; 2] = [0x08, 0x06];
    let request = Arrival { ingress: UPLINK, packet: vec![0; 46], coalesced: None };
    let mut kernel = Kernel::new(Capacities::LARGE);
    kernel.install(&by_hand::topology());
    let run = kernel.run_as(PLANT, &request, ARP);
    assert_eq!((run.action, run.packet), (PASS, request.packet.clone()));
    assert_eq!(kernel.counter(Verdict::Neighbour).packets, 1);
    // Users have no link.
    assert_ne!(kernel.run_as(USERS, &request, ARP).action, PASS);
}
