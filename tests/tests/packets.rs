//! Every way through the programs, as the kernel runs them (`BPF_PROG_TEST_RUN`): verdict, action, bytes out,
//! counters. Named packets are mutations of valid ones. Needs root; the kernel needs neither WireGuard nor a VM.
//! The topology is that of `vpn_tests::gate`.

use std::{
    collections::{BTreeMap, HashSet},
    thread,
    time::Duration,
};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use etherparse::Icmpv4Type;
use vpn_agent::datapath::{Sizes, fill::Content, read::Maps as _};
use vpn_ebpf_common::{
    Verdict,
    denial::DenialKey,
    flow::{ClosedKey, Flow, FlowKey, Traffic},
    gateway::Gateway,
    names::{PLANT, USERS},
    peer::Peer,
    protocol,
};
use vpn_tests::{
    gate::{
        DROP, Gate, IDLE, OTHER_SET, PEER, PLANT_ID, PLANT_MTU, REAL, REDIRECT, ROUTE_ID, ROUTE_SET, SOURCE, USER,
        USERS_MTU, VIRTUAL, address, back, content, flow, gateway, key, now_ns, out, prefix, sizes,
    },
    packet::{Ends, echo_reply, echo_request, icmp, other, tcp, translated, udp, with_header},
};

struct Case {
    name: &'static str,
    program: &'static str,
    /// Brings the maps into the state that the packet meets.
    given: fn(&mut Gate),
    packet: Vec<u8>,
    verdict: Verdict,
    /// The packet afterwards, if it is forwarded.
    forwarded: Option<Vec<u8>>,
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_verdict_has_its_packet_action_and_counter() {
    let user = |name, packet, verdict| Case { name, program: USERS, given: |_| (), packet, verdict, forwarded: None };
    let plant = |name, packet, verdict| Case { name, program: PLANT, given: open, packet, verdict, forwarded: None };
    let to_plant = |name, packet: Vec<u8>| Case {
        forwarded: Some(translated(&packet, SOURCE, REAL)),
        ..user(name, packet, Verdict::ToPlant)
    };
    let to_user = |name, packet: Vec<u8>| Case {
        forwarded: Some(translated(&packet, VIRTUAL, USER)),
        ..plant(name, packet, Verdict::ToUser)
    };
    let request = tcp(out(), b"ab");
    let reply = tcp(back(), b"abc");
    let mut no_checksum = udp(out(), b"no checksum");
    no_checksum[26..28].fill(0);
    let mut reply_no_checksum = udp(back(), b"no checksum");
    reply_no_checksum[26..28].fill(0);
    let unreachable = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);

    let cases = vec![
        to_plant("TCP", request.clone()),
        to_plant("TCP without payload", tcp(out(), b"")),
        to_plant("UDP", udp(out(), b"hello")),
        to_plant("UDP without checksum", no_checksum),
        to_plant("echo request", echo_request(out(), &[7; 56])),
        to_plant("as large as the uplink takes", udp(out(), &vec![1; PLANT_MTU - 28])),
        to_plant("two hops left", with_header(&request, |ip| ip.time_to_live = 2)),
        to_plant("with the don't-fragment flag", with_header(&request, |ip| ip.dont_fragment = true)),
        to_plant("a type of service", with_header(&request, |ip| ip.dscp = etherparse::IpDscp::EF)),
        to_plant("by the real address", tcp(Ends::new((USER, 40_000), (REAL, 502)), b"x")),
        Case { given: open, ..to_plant("in an open flow", request.clone()) },
        Case { given: over, ..to_plant("after a flow that is over", request.clone()) },
        Case { given: other_route_set, ..to_plant("in a flow from an older route set", request.clone()) },
        to_user("TCP reply", reply.clone()),
        Case { given: open_udp, ..to_user("UDP reply", udp(back(), b"world")) },
        Case { given: open_udp, ..to_user("UDP reply without checksum", reply_no_checksum) },
        Case { given: open_echo, ..to_user("echo reply", echo_reply(back(), &[7; 56])) },
        Case { given: other_route_set, ..to_user("a flow that is allowed under the new route set", reply.clone()) },
        Case {
            given: open_by_real_address,
            forwarded: Some(translated(&reply, REAL, USER)),
            ..to_user("a flow by the real address", reply.clone())
        },
        user("a cut IP header", request[..19].to_vec(), Verdict::Truncated),
        user("a cut TCP header", resized(&request, 39), Verdict::Truncated),
        user("a cut UDP header", resized(&udp(out(), b""), 27), Verdict::Truncated),
        user("a cut ICMP header", resized(&echo_request(out(), b""), 27), Verdict::Truncated),
        plant("a cut TCP header from a plant", resized(&reply, 39), Verdict::Truncated),
        user("IPv6", [&[0x60], &request[1..]].concat(), Verdict::NotIpv4),
        plant("version 0", [&[0x05], &reply[1..]].concat(), Verdict::NotIpv4),
        user("IP options", with_options(&request), Verdict::IpOptions),
        user("a header of three words", [&[0x43], &request[1..]].concat(), Verdict::IpOptions),
        user("bytes after the packet", [&request[..], b"!"].concat(), Verdict::Length),
        user("a length beyond the end", with_header(&request, |ip| ip.total_len += 1), Verdict::Length),
        user("the first fragment", with_header(&request, |ip| ip.more_fragments = true), Verdict::Fragment),
        user("a later fragment", with_header(&request, |ip| ip.fragment_offset = offset(1)), Verdict::Fragment),
        plant("the last fragment", with_header(&reply, |ip| ip.fragment_offset = offset(8_191)), Verdict::Fragment),
        user("GRE", other(out(), 47, &[0; 20]), Verdict::Protocol),
        plant("ESP from a plant", other(back(), 50, &[0; 20]), Verdict::Protocol),
        user("an echo reply from a user", echo_reply(out(), b""), Verdict::IcmpType),
        plant("an echo request from a plant", echo_request(back(), b""), Verdict::IcmpType),
        user("an ICMP error", icmp(out(), unreachable.clone(), b""), Verdict::IcmpType),
        user(
            "an echo request with a code",
            icmp(out(), Icmpv4Type::Unknown { type_u8: 8, code_u8: 1, bytes5to8: [0; 4] }, b""),
            Verdict::IcmpType,
        ),
        Case { given: unconfigured, ..user("before the agent is ready", request.clone(), Verdict::NotConfigured) },
        Case { given: unconfigured, ..plant("a reply before that", reply.clone(), Verdict::NotConfigured) },
        user("a stranger", tcp(Ends::new(("100.64.0.6", 1), (VIRTUAL, 502)), b""), Verdict::NoPeer),
        Case { given: revoked, ..user("a revoked user", request.clone(), Verdict::NoPeer) },
        Case { given: revoked_with_flow, ..plant("to a revoked user", reply.clone(), Verdict::NoPeer) },
        user("no route", tcp(Ends::new((USER, 1), ("10.128.2.20", 502)), b""), Verdict::NoRoute),
        user("beside the real subnet", tcp(Ends::new((USER, 1), ("192.168.2.20", 502)), b""), Verdict::NoRoute),
        Case { given: no_routes, ..user("after losing the role", request.clone(), Verdict::NoRoute) },
        user("a route to nowhere", tcp(Ends::new((USER, 1), ("10.128.9.1", 1)), b""), Verdict::NoPlant),
        Case { given: no_plants, ..plant("from an interface of no plant", reply.clone(), Verdict::NoPlant) },
        plant("from a plant to the world", tcp(Ends::new((REAL, 502), ("10.1.2.3", 1)), b""), Verdict::NotForUser),
        plant("to a tunnel address", tcp(Ends::new((REAL, 502), (USER, 40_000)), b""), Verdict::NotForUser),
        plant("to another port", tcp(Ends::new((REAL, 502), (SOURCE, 40_001)), b""), Verdict::NoFlow),
        plant("from another port", tcp(Ends::new((REAL, 503), (SOURCE, 40_000)), b""), Verdict::NoFlow),
        plant("from another device", tcp(Ends::new(("192.168.1.21", 502), (SOURCE, 40_000)), b""), Verdict::NoFlow),
        plant("by another protocol", udp(back(), b""), Verdict::NoFlow),
        Case { given: no_routes_with_flow, ..plant("after losing the role", reply.clone(), Verdict::Revoked) },
        Case {
            given: moved_with_flow,
            ..plant("an address that leads elsewhere now", reply.clone(), Verdict::Revoked)
        },
        Case { given: renumbered, ..plant("an address of another device now", reply.clone(), Verdict::Revoked) },
        Case { given: settling, ..user("in a flow that just ended", request.clone(), Verdict::FlowIdle) },
        Case { given: over_and_claimed, ..user("while another ends the flow", request.clone(), Verdict::FlowIdle) },
        Case { given: settling, ..plant("a reply in a flow that just ended", reply.clone(), Verdict::FlowIdle) },
        Case { given: over, ..plant("a reply in a flow that is over", reply.clone(), Verdict::FlowIdle) },
        Case { given: open_by_real_address, ..user("by the other address", request.clone(), Verdict::AddressInUse) },
        Case { given: flows_full, ..user("one flow too many", request.clone(), Verdict::FlowsFull) },
        Case { given: closed_full, ..user("no room for the old flow", request.clone(), Verdict::ClosedFull) },
        user("the last hop", with_header(&request, |ip| ip.time_to_live = 1), Verdict::TtlExpired),
        user("no hop", with_header(&request, |ip| ip.time_to_live = 0), Verdict::TtlExpired),
        plant("the last hop of a reply", with_header(&reply, |ip| ip.time_to_live = 1), Verdict::TtlExpired),
        user("larger than the uplink takes", udp(out(), &vec![1; PLANT_MTU - 27]), Verdict::TooBig),
        Case { given: no_headroom, ..user("no room in front of it", request.clone(), Verdict::NoHeadroom) },
        Case { given: no_headroom_with_flow, ..plant("no room before a reply", reply.clone(), Verdict::NoHeadroom) },
        plant("larger than the users' device takes", tcp(back(), &vec![1; USERS_MTU - 39]), Verdict::TooBig),
    ];

    let mut seen = HashSet::new();
    for case in cases {
        case.check();
        seen.insert(case.verdict);
    }
    for verdict in Verdict::ALL {
        assert!(seen.contains(verdict), "no packet for {verdict:?}");
    }
}

impl Case {
    fn check(&self) {
        let name = self.name;
        let mut gate = Gate::new();
        (self.given)(&mut gate);
        let stats = gate.datapath.stats().unwrap();
        let flows = gate.datapath.flows().unwrap();
        let denied = gate.denied(self.verdict);
        let run = gate.run(self.program, &self.packet);

        // One counter moved, by one packet and all its bytes.
        let bytes = self.packet.len() as u64;
        for ((verdict, before), (_, after)) in stats.into_iter().zip(gate.datapath.stats().unwrap()) {
            let moved = Traffic { packets: after.packets - before.packets, bytes: after.bytes - before.bytes };
            let expected = if verdict == self.verdict { Traffic { packets: 1, bytes } } else { Traffic::default() };
            assert_eq!(moved, expected, "{name}: {verdict:?} (expected {:?})", self.verdict);
        }
        let now = gate.datapath.flows().unwrap();
        match &self.forwarded {
            Some(forwarded) => {
                assert_eq!(run.action, REDIRECT, "{name}: action");
                assert_eq!(run.packet, *forwarded, "{name}: packet");
                // One flow moved, by one packet and all its bytes; a flow that was over makes way for a new one.
                let moved: Vec<_> = now.iter().filter(|(key, flow)| flows.get(key) != Some(flow)).collect();
                assert_eq!(moved.len(), 1, "{name}: flows that moved");
                let (key, flow) = moved[0];
                let before = flows.get(key).filter(|before| before.opened_ns == flow.opened_ns);
                let traffic = |flow: &Flow| if self.program == USERS { flow.to_plant } else { flow.to_user };
                let start = before.map(traffic).unwrap_or_default();
                let counted = Traffic { packets: start.packets + 1, bytes: start.bytes + bytes };
                assert_eq!(traffic(flow), counted, "{name}: counted");
                if self.program == USERS {
                    assert_eq!((flow.route_set, flow.route), (ROUTE_SET, ROUTE_ID), "{name}: admitted under");
                }
            }
            None => {
                assert_eq!(run.action, DROP, "{name}: action");
                assert_eq!(now, flows, "{name}: a dropped packet counts in no flow");
                let recorded = u64::from(self.program == USERS && self.of_known_user());
                assert_eq!(gate.denied(self.verdict), denied + recorded, "{name}: denials");
            }
        }
    }

    /// Whether the packet is whole and its sender is known, so that a refusal has to be recorded.
    fn of_known_user(&self) -> bool {
        matches!(
            self.verdict,
            Verdict::NoRoute
                | Verdict::NoPlant
                | Verdict::FlowIdle
                | Verdict::AddressInUse
                | Verdict::FlowsFull
                | Verdict::ClosedFull
                | Verdict::TtlExpired
                | Verdict::TooBig
                | Verdict::NoHeadroom
        )
    }
}

#[test]
fn a_flow_counts_both_directions_and_remembers_how_it_was_addressed() {
    let mut gate = Gate::new();
    let before = now_ns();
    for payload in [b"one".as_slice(), b"four", b""] {
        gate.run(USERS, &tcp(out(), payload));
    }
    for payload in [b"1234567".as_slice(), b""] {
        gate.run(PLANT, &tcp(back(), payload));
    }
    let flows = gate.datapath.flows().unwrap();
    assert_eq!(flows.keys().collect::<Vec<_>>(), [&key()]);
    let flow = flows[&key()];
    assert_eq!(flow.to_plant, Traffic { packets: 3, bytes: 3 * 40 + 7 });
    assert_eq!(flow.to_user, Traffic { packets: 2, bytes: 2 * 40 + 7 });
    assert_eq!(flow.addressed, address(VIRTUAL));
    assert_eq!((flow.route_set, flow.route), (ROUTE_SET, ROUTE_ID));
    assert!(before <= flow.opened_ns && flow.opened_ns < flow.last_ns && flow.last_ns <= now_ns());
}

#[test]
fn a_packet_after_a_flow_that_is_over_opens_the_next_and_keeps_the_old_totals() {
    let mut gate = Gate::new();
    over(&mut gate);
    let old = gate.flow().unwrap();
    gate.run(USERS, &tcp(out(), b"next"));

    let next = gate.flow().unwrap();
    assert_eq!(next.to_plant, Traffic { packets: 1, bytes: 44 });
    assert!(next.opened_ns > old.opened_ns, "a new flow under the same key");
    let closed = gate.datapath.closed().unwrap();
    assert_eq!(closed, BTreeMap::from([(ClosedKey { flow: key(), opened_ns: old.opened_ns }, old)]));
}

#[test]
fn a_refused_destination_is_recorded_with_every_attempt() {
    let mut gate = Gate::new();
    let refused = tcp(Ends::new((USER, 40_000), ("10.128.2.20", 22)), b"x");
    for _ in 0..3 {
        gate.run(USERS, &refused);
    }
    gate.run(USERS, &tcp(out(), b"allowed"));
    let denials = gate.datapath.denials().unwrap();
    let (key, denial) = denials.iter().next().unwrap();
    assert_eq!(denials.len(), 1);
    assert_eq!(
        *key,
        DenialKey {
            addressed: address("10.128.2.20"),
            peer: PEER,
            port: 22_u16.to_be(),
            protocol: protocol::TCP,
            verdict: Verdict::NoRoute as u8,
        }
    );
    assert_eq!((denial.attempts, denial.bytes), (3, 3 * 41));
    assert!(denial.first_ns < denial.last_ns);
}

#[test]
fn cpus_that_count_in_one_flow_lose_nothing() {
    const PACKETS: u64 = 30_000;
    let mut gate = Gate::new();
    let request = tcp(out(), b"request");
    gate.run(USERS, &request);
    let program: &Xdp = gate.datapath.program(USERS);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..PACKETS {
                    let options = TestRunOptions { data_in: Some(&request), ..TestRunOptions::new() };
                    program.test_run(options).unwrap();
                }
            });
        }
    });
    let packets = 1 + 2 * PACKETS;
    assert_eq!(gate.flow().unwrap().to_plant, Traffic { packets, bytes: packets * request.len() as u64 });
}

#[test]
fn one_peer_entry_switches_all_routes_at_once() {
    let mut gate = Gate::new();
    gate.run(USERS, &tcp(out(), b""));
    let mut content = content();
    content.peers.insert(address(USER), Peer { id: PEER, route_set: OTHER_SET });
    gate.datapath.fill(&content).unwrap();
    let run = gate.run(USERS, &tcp(out(), b""));
    assert_eq!(run.action, REDIRECT);
    let flow = gate.datapath.flows().unwrap();
    assert_eq!(flow.keys().map(|key| key.plant).collect::<Vec<_>>(), [PLANT_ID, PLANT_ID + 1]);
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
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_the_name_of_the_setting() {
    let mut gate = Gate::with(&Sizes { peers_max: 1, ..sizes() });
    let mut content = content();
    content.peers.insert(address("100.64.0.9"), Peer { id: 9, route_set: ROUTE_SET });
    let error = gate.datapath.fill(&content).unwrap_err().to_string();
    assert!(error.contains("datapath.peers_max"), "{error}");
}

fn open(gate: &mut Gate) {
    gate.put_flow(key(), flow(Duration::ZERO));
}

fn open_udp(gate: &mut Gate) {
    gate.put_flow(FlowKey { protocol: protocol::UDP, ..key() }, flow(Duration::ZERO));
}

fn open_echo(gate: &mut Gate) {
    gate.put_flow(FlowKey { protocol: protocol::ICMP, device_port: 0, ..key() }, flow(Duration::ZERO));
}

fn open_by_real_address(gate: &mut Gate) {
    gate.put_flow(key(), Flow { addressed: address(REAL), ..flow(Duration::ZERO) });
}

fn other_route_set(gate: &mut Gate) {
    gate.put_flow(key(), Flow { route_set: ROUTE_SET + 100, ..flow(Duration::ZERO) });
}

fn settling(gate: &mut Gate) {
    gate.put_flow(key(), flow(IDLE + Duration::from_millis(500)));
}

fn over(gate: &mut Gate) {
    gate.put_flow(key(), flow(IDLE + Duration::from_millis(1_001)));
}

fn over_and_claimed(gate: &mut Gate) {
    over(gate);
    let flow = gate.flow().unwrap();
    gate.put_closed(key(), flow);
}

fn closed_full(gate: &mut Gate) {
    *gate = Gate::with(&Sizes { closed_max: 1, ..sizes() });
    gate.put_closed(FlowKey { peer: 99, ..key() }, flow(IDLE));
    over(gate);
}

fn flows_full(gate: &mut Gate) {
    *gate = Gate::with(&Sizes { flows_max: 1, ..sizes() });
    gate.put_flow(FlowKey { peer: 99, ..key() }, flow(Duration::ZERO));
}

fn unconfigured(gate: &mut Gate) {
    gate.datapath.configure(&Gateway { users: 0, ..gateway() }).unwrap();
}

fn revoked(gate: &mut Gate) {
    gate.change(|content| content.peers.clear());
}

fn revoked_with_flow(gate: &mut Gate) {
    open(gate);
    revoked(gate);
}

fn no_routes(gate: &mut Gate) {
    gate.change(|content| {
        content.peers.insert(address(USER), Peer { id: PEER, route_set: ROUTE_SET + 1_000 });
    });
}

fn no_routes_with_flow(gate: &mut Gate) {
    open(gate);
    no_routes(gate);
}

fn moved_with_flow(gate: &mut Gate) {
    open(gate);
    gate.change(|content| {
        content.peers.insert(address(USER), Peer { id: PEER, route_set: OTHER_SET });
    });
}

/// The plant's subnet has got another real address, in a new route set.
fn renumbered(gate: &mut Gate) {
    open(gate);
    gate.change(|content| {
        let mut set = content.route_sets[&ROUTE_SET].clone();
        for route in set.values_mut() {
            route.real = prefix("192.168.77.0", 24);
        }
        content.route_sets.insert(ROUTE_SET + 1, set);
        content.peers.insert(address(USER), Peer { id: PEER, route_set: ROUTE_SET + 1 });
    });
}

fn no_headroom(gate: &mut Gate) {
    *gate = Gate::without_headroom();
}

fn no_headroom_with_flow(gate: &mut Gate) {
    no_headroom(gate);
    open(gate);
}

fn no_plants(gate: &mut Gate) {
    open(gate);
    gate.change(|content| content.plants.clear());
}

fn offset(units: u16) -> etherparse::IpFragOffset {
    units.try_into().unwrap()
}

/// The first `length` bytes, with an IP header that says so.
fn resized(packet: &[u8], length: usize) -> Vec<u8> {
    with_header(&packet[..length], |ip| ip.total_len = length as u16)
}

/// The packet with four bytes of IP options (no-operation, three times, and end of list).
fn with_options(packet: &[u8]) -> Vec<u8> {
    with_header(packet, |ip| {
        ip.options = [1, 1, 1, 0].into();
        ip.total_len += 4;
    })
}
