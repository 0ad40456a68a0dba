//! Who a packet is from, and whom it is for.

use vpn_ebpf_common::{
    Verdict,
    names::{PLANT, USERS},
};
use vpn_tests::{
    by_hand::UPLINK,
    packet::{Ends, tcp},
    pair::Pair,
};

use crate::{
    case::{Case, change, exchange_plants, play},
    family::Family,
};

pub fn cases(family: Family) -> Vec<Case> {
    let Family { user, device, real, source, gateway_source, stranger, nowhere, .. } = family;
    let out = family.out();
    let (request, reply) = (tcp(out, b"ab"), tcp(family.back(), b"abc"));
    let to = |destination| tcp(Ends::new((real, 502), (destination, 40_000)), b"");
    let from_stranger = tcp(Ends::new((stranger, 40_000), (device, 502)), b"");
    let open = move |pair: &mut Pair| play(pair, USERS, &tcp(out, b"open"));
    let unconfigured = move |pair: &mut Pair| {
        open(pair);
        change(pair, |topology| topology.users = 0);
    };
    let revoked = move |pair: &mut Pair| {
        open(pair);
        change(pair, |topology| topology.peers.clear());
    };
    let unplugged = move |pair: &mut Pair| {
        open(pair);
        change(pair, |topology| drop(topology.plants.remove(&UPLINK)));
    };
    let exchanged = move |pair: &mut Pair| {
        open(pair);
        exchange_plants(pair);
    };
    vec![
        Case::new("before the agent is ready", USERS, request.clone(), Verdict::NotConfigured).given(unconfigured),
        Case::new("a reply before that", PLANT, reply.clone(), Verdict::NotConfigured).given(unconfigured),
        Case::new("a stranger", USERS, from_stranger, Verdict::NoPeer),
        Case::new("a revoked user", USERS, request, Verdict::NoPeer).given(revoked),
        Case::new("to a revoked user", PLANT, reply.clone(), Verdict::NoPeer).given(revoked),
        Case::new("to the gateway as plants see it", PLANT, to(gateway_source), Verdict::NoPeer),
        Case::new("to the world", PLANT, to(nowhere), Verdict::NotForUser),
        Case::new("to a tunnel address", PLANT, to(user), Verdict::NotForUser).given(open),
        Case::new("from an interface of no plant", PLANT, reply, Verdict::NoPlant).given(unplugged),
        Case::new("from another plant", PLANT, to(source), Verdict::NoFlow).given(exchanged),
    ]
}
