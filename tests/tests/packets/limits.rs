//! Hops, sizes and what a peer may take; and what is said to the sender.

use vpn_ebpf_common::{
    Verdict,
    gateway::ANSWER_REFUSALS,
    names::{PLANT, USERS},
    protocol::UDP,
};
use vpn_tests::{
    by_hand::UPLINK,
    packet::{Ends, fragment, tcp, translated, udp, with_hops},
    pair::Pair,
    topology::Topology,
};

use crate::{
    case::{Case, change, collect, end, play},
    family::{EXPIRED, Family, PROHIBITED, TOO_BIG},
};

pub fn cases(family: Family) -> Vec<Case> {
    [answered(family), unanswered(family), flows(family)].into_iter().flatten().collect()
}

fn open(family: Family) -> impl Fn(&mut Pair) + Copy {
    let out = family.out();
    move |pair| play(pair, USERS, &udp(out, b"open"))
}

/// An attempt that no route leads for.
fn astray(family: Family) -> Vec<u8> {
    tcp(Ends::new((family.user, 1), (family.nowhere, 22)), b"1")
}

fn answer_refusals(topology: &mut Topology) {
    topology.options = ANSWER_REFUSALS;
}

fn answered(family: Family) -> Vec<Case> {
    let Family { user, real, gateway, gateway_source, .. } = family;
    let (out, back) = (family.out(), family.back());
    let to_user = |name, packet: Vec<u8>, verdict, kinds, mtu| {
        let answer = family.answer(gateway, user, kinds, mtu, &packet);
        Case::new(name, USERS, packet, verdict).answered(answer)
    };
    let open = open(family);
    let to_device = |name, packet: Vec<u8>, verdict, kinds, mtu| {
        let answer = family.answer(gateway_source, real, kinds, mtu, &packet);
        Case::new(name, PLANT, packet, verdict).given(open).answered(answer)
    };
    let hops = |hops| with_hops(&udp(out, b"a last hop"), hops);
    let hops_back = |hops| with_hops(&udp(back, b"bye"), hops);
    let of_size = |ends, size: usize| udp(ends, &vec![1; size - family.header() - 8]);
    vec![
        to_user("the last hop", hops(1), Verdict::TtlExpired, EXPIRED, 0),
        to_user("no hop", hops(0), Verdict::TtlExpired, EXPIRED, 0),
        to_user("the last hop in a flow", hops(1), Verdict::TtlExpired, EXPIRED, 0).given(open),
        to_user("larger than the uplink takes", of_size(out, 1_421), Verdict::TooBig, TOO_BIG, 1_420),
        to_user("larger than that in a flow", of_size(out, 1_421), Verdict::TooBig, TOO_BIG, 1_420).given(open),
        to_user("larger than the uplink takes by now", of_size(out, 1_301), Verdict::TooBig, TOO_BIG, 1_300).given(
            move |pair| {
                open(pair);
                change(pair, |topology| {
                    topology.plants.get_mut(&UPLINK).unwrap().mtu = 1_300;
                    topology.generation += 1;
                });
                // Has the flow take over the new value.
                open(pair);
            },
        ),
        to_device("the last hop of a reply", hops_back(1), Verdict::TtlExpired, EXPIRED, 0),
        to_device("no hop of a reply", hops_back(0), Verdict::TtlExpired, EXPIRED, 0),
        to_device("larger than the users' device takes", of_size(back, 1_281), Verdict::TooBig, TOO_BIG, 1_280),
        to_user("no route", astray(family), Verdict::NoRoute, PROHIBITED, 0)
            .given(|pair| change(pair, answer_refusals)),
        to_user("an address in use", udp(family.out_real(), b""), Verdict::AddressInUse, PROHIBITED, 0).given(
            move |pair| {
                open(pair);
                change(pair, answer_refusals);
            },
        ),
        to_user("no connection", tcp(family.out_real(), b""), Verdict::NoConnection, PROHIBITED, 0)
            .given(|pair| change(pair, answer_refusals)),
        to_user("no flow at all", udp(out, b""), Verdict::PeerFlows, PROHIBITED, 0).given(|pair| {
            change(pair, answer_refusals);
            change(pair, |topology| topology.limits.live_flows = 0);
        }),
    ]
}

fn unanswered(family: Family) -> Vec<Case> {
    let dropped = |name, packet, verdict| Case::new(name, USERS, packet, verdict);
    let to_many = udp(Ends::new((family.user, 1), (family.many, 1)), b"");
    let out = family.out();
    let whole = udp(out, &[7; 64]);
    let first = fragment(&whole, 9, 0..32);
    let later = with_hops(&fragment(&whole, 9, 32..72), 1);
    let silent = |topology: &mut Topology| topology.limits.answers_per_second = 0;
    vec![
        dropped("a refusal by default", astray(family), Verdict::NoRoute),
        dropped("enough was answered", with_hops(&udp(out, b""), 1), Verdict::TtlExpired)
            .given(move |pair| change(pair, silent)),
        dropped("to many", to_many, Verdict::NoRoute).given(|pair| change(pair, answer_refusals)),
        dropped("the last hop of a later fragment", later, Verdict::TtlExpired)
            .given(move |pair| play(pair, USERS, &first)),
        dropped("several segments that are too large", tcp(out, &[1; 2_700]), Verdict::TooBig)
            .coalesced(2, 1_401 - family.header() as u32)
            .given(move |pair| change(pair, silent)),
        dropped("segments that nobody counted and that are too large", tcp(out, &[1; 2_700]), Verdict::TooBig)
            .coalesced(0, 1_401 - family.header() as u32)
            .given(move |pair| change(pair, silent)),
    ]
}

fn flows(family: Family) -> Vec<Case> {
    let Family { source, real, .. } = family;
    let out = family.out();
    let open = open(family);
    let key = family.key(UDP);
    let one_flow = |topology: &mut Topology| topology.limits.live_flows = 1;
    let forwarded = |name, packet: Vec<u8>| {
        let out = translated(&packet, source, real);
        Case::new(name, USERS, packet, Verdict::ToPlant).forwarded(out)
    };
    vec![
        Case::new("too many in a second", USERS, udp(out, b""), Verdict::PeerRate)
            .given(|pair| change(pair, |topology| topology.limits.new_flows_per_second = 0)),
        Case::new("too many", USERS, tcp(out, b""), Verdict::PeerFlows).given(move |pair| {
            open(pair);
            change(pair, one_flow);
        }),
        forwarded("after one that is over", udp(out, b"next")).given(move |pair| {
            open(pair);
            end(pair, key);
            change(pair, one_flow);
        }),
        forwarded("after one that the collector has taken", tcp(out, b"next")).given(move |pair| {
            open(pair);
            end(pair, key);
            collect(pair);
            change(pair, one_flow);
        }),
    ]
}
