//! ICMP errors from both sides.

use vpn_ebpf_common::{
    Verdict,
    names::{PLANT, USERS},
    protocol::TCP,
};
use vpn_tests::{
    by_hand::{OTHER_UPLINK, SERVICE_PORT, UPLINK},
    packet::{Ends, addressed, echo_reply, echo_request, fragment, tcp, translated, udp, with_hops},
    pair::Pair,
};

use crate::{
    case::{Case, change, change_route_set, exchange_uplinks, play, settle},
    family::Family,
};

pub fn cases(family: Family) -> Vec<Case> {
    let mut cases = of_plants(family);
    cases.extend(of_users(family));
    cases
}

/// A request and a reply have passed.
fn open(family: Family) -> impl Fn(&mut Pair) + Copy {
    let (out, back) = (family.out(), family.back());
    move |pair| {
        play(pair, USERS, &tcp(out, b"open"));
        play(pair, PLANT, &tcp(back, b"open"));
    }
}

fn of_plants(family: Family) -> Vec<Case> {
    let Family { user, device, real, source, gateway_source, neighbour, .. } = family;
    let open = open(family);
    let key = family.key(TCP);
    // The request as the device got it.
    let quote = translated(&tcp(family.out(), b"open"), source, real);
    let about = |quote: &[u8]| family.error(real, source, quote);
    let dropped = |name, packet, verdict| Case::new(name, PLANT, packet, verdict).given(open);
    let error = about(&quote);
    let out = with_hops(&family.error(device, user, &addressed(&quote, user, device)), 63);
    let reply = addressed(&tcp(family.back(), b""), real, source);
    let echo_reply = addressed(&echo_reply(family.out(), b""), source, real);
    vec![
        Case::new("from the device", PLANT, error.clone(), Verdict::ToUser).given(open).forwarded(out),
        dropped("about nothing", about(&[]), Verdict::IcmpNoFlow),
        dropped("about seven bytes", about(&quote[..family.header() + 7]), Verdict::IcmpNoFlow),
        dropped("about another device", about(&addressed(&quote, source, neighbour)), Verdict::IcmpNoFlow),
        dropped("about another user", about(&addressed(&quote, gateway_source, real)), Verdict::IcmpNoFlow),
        dropped("about its own reply", about(&reply), Verdict::IcmpNoFlow),
        dropped("about an echo reply", about(&echo_reply), Verdict::IcmpNoFlow),
        dropped("about an error", about(&error), Verdict::IcmpNoFlow),
        dropped("about a later fragment", about(&fragment(&quote, 1, 16..24)), Verdict::IcmpNoFlow),
        dropped("at the last hop", with_hops(&error, 1), Verdict::TtlExpired),
        dropped("in a first fragment", fragment(&error, 1, 0..16), Verdict::Fragment),
        dropped("in a flow that settles", error.clone(), Verdict::FlowIdle).given(move |pair| {
            open(pair);
            settle(pair, key);
        }),
        dropped("after losing the role", error, Verdict::Revoked).given(move |pair| {
            open(pair);
            change_route_set(pair, 1_000);
        }),
    ]
}

fn of_users(family: Family) -> Vec<Case> {
    let Family { user, device, real, source, gateway, .. } = family;
    let open = open(family);
    let key = family.key(TCP);
    // The reply as the user got it.
    let quote = translated(&tcp(family.back(), b"open"), device, user);
    let about = |quote: &[u8]| family.error(user, device, quote);
    let dropped = |name, packet, verdict| Case::new(name, USERS, packet, verdict).given(open);
    let error = about(&quote);
    let out = with_hops(&family.error(source, real, &addressed(&quote, real, source)), 63);
    let echo_request = addressed(&echo_request(family.back(), b""), device, user);
    let service = udp(family.to_gateway(SERVICE_PORT), b"");
    let served = udp(Ends::new((gateway, SERVICE_PORT), (user, 40_000)), b"");
    vec![
        Case::new("from the user", USERS, error.clone(), Verdict::ToPlant).given(open).forwarded(out.clone()),
        Case::new("from the user when the plant has another interface", USERS, error.clone(), Verdict::ToPlant)
            .given(move |pair| {
                open(pair);
                exchange_uplinks(pair);
            })
            .forwarded(out)
            .by(OTHER_UPLINK),
        dropped("from the user when the plant has none", error.clone(), Verdict::NoPlant).given(move |pair| {
            open(pair);
            change(pair, |topology| {
                topology.plants.remove(&UPLINK);
                topology.generation += 1;
            });
        }),
        dropped("from the user about nothing", about(&[]), Verdict::IcmpNoFlow),
        dropped("from the user to another device", family.error(user, real, &quote), Verdict::IcmpNoFlow),
        dropped("from the user about another one", about(&addressed(&quote, device, gateway)), Verdict::IcmpNoFlow),
        dropped("from the user about an echo request", about(&echo_request), Verdict::IcmpNoFlow),
        dropped("from the user about a service", family.error(user, gateway, &served), Verdict::IcmpNoFlow)
            .given(move |pair| play(pair, USERS, &service)),
        dropped("from the user at the last hop", with_hops(&error, 1), Verdict::TtlExpired),
        dropped("from the user in a first fragment", fragment(&error, 1, 0..16), Verdict::Fragment),
        dropped("from the user in a flow that settles", error.clone(), Verdict::FlowIdle).given(move |pair| {
            open(pair);
            settle(pair, key);
        }),
        dropped("from the user after losing the role", error, Verdict::NoRoute).given(move |pair| {
            open(pair);
            change_route_set(pair, 1_000);
        }),
    ]
}
