//! Where maps are full.

use vpn_ebpf_common::{
    Verdict,
    flow::FlowKey,
    gateway::FORWARD_UNRECORDED,
    names::{PLANT, USERS},
    protocol::TCP,
    tcp::{ACK, SYN},
};
use vpn_tests::{
    by_hand::SERVICE_PORT,
    model::Capacities,
    packet::{Ends, segment, tcp, translated, udp},
    pair::Pair,
    topology::Topology,
};

use crate::{
    case::{Case, change, change_route_set, end, play},
    family::Family,
};

/// Small enough that a few packets fill them.
pub const SMALL: Capacities = Capacities { flows: 2, closed: 1, denied: 2 };

/// In maps that are [`SMALL`].
pub fn cases(family: Family) -> Vec<Case> {
    let mut cases = recorded(family);
    cases.extend(unrecorded(family));
    cases
}

fn out(family: Family, port: u16) -> Ends {
    Ends::new((family.user, port), (family.device, 502))
}

fn fill(family: Family) -> impl Fn(&mut Pair) + Copy {
    move |pair| {
        for port in [1, 2] {
            play(pair, USERS, &tcp(out(family, port), b"open"));
        }
    }
}

fn recorded(family: Family) -> Vec<Case> {
    let fill = fill(family);
    let next = |port| tcp(out(family, port), b"next");
    let key = move |port: u16| FlowKey { user_port: port.to_be(), ..family.key(TCP) };
    let first_next = next(1);
    let service = udp(family.to_gateway(SERVICE_PORT), b"");
    vec![
        Case::new("no room for the flow", USERS, next(3), Verdict::FlowsFull).given(fill),
        Case::new("no room for the flow of a service", USERS, service, Verdict::FlowsFull).given(fill),
        Case::new("no room for the flow before", USERS, next(2), Verdict::ClosedFull).given({
            let first_next = first_next.clone();
            move |pair| {
                fill(pair);
                end(pair, key(1));
                end(pair, key(2));
                play(pair, USERS, &first_next);
            }
        }),
        Case::new("in the place of the flow before", USERS, first_next.clone(), Verdict::ToPlant)
            .given(move |pair| {
                fill(pair);
                end(pair, key(1));
            })
            .forwarded(translated(&first_next, family.source, family.real)),
    ]
}

/// With the option that prefers packets to records.
fn unrecorded(family: Family) -> Vec<Case> {
    let Family { user, device, real, source, .. } = family;
    let fill = fill(family);
    let fill = move |pair: &mut Pair| {
        change(pair, |topology: &mut Topology| topology.options = FORWARD_UNRECORDED);
        fill(pair);
    };
    let opening = |size: u16| {
        let [high, low] = size.to_be_bytes();
        segment(out(family, 3), SYN, &[2, 4, high, low], b"")
    };
    let request = opening(1_460);
    let request_out = translated(&opening(family.largest_segment()), source, real);
    let open = {
        let request = request.clone();
        move |pair: &mut Pair| {
            fill(pair);
            play(pair, USERS, &request);
        }
    };
    let back = Ends::new((real, 502), (source, 3));
    let reply = segment(back, SYN | ACK, &[], b"");
    let from_outside = if family.is_v4 { "192.168.2.20" } else { "fd02::20" };
    let from_outside = tcp(Ends::new((from_outside, 502), (source, 3)), b"");
    let service = udp(family.to_gateway(SERVICE_PORT), b"");
    vec![
        Case::new("a request without a flow", USERS, request, Verdict::UnrecordedToPlant)
            .given(fill)
            .forwarded(request_out),
        Case::new("a service without a flow", USERS, service, Verdict::FlowsFull).given(fill),
        Case::new("a reply without a flow", PLANT, reply.clone(), Verdict::UnrecordedToUser)
            .given(open.clone())
            .forwarded(translated(&reply, device, user)),
        Case::new("a connection from the plant", PLANT, segment(back, SYN, &[], b""), Verdict::NoFlow)
            .given(open.clone()),
        Case::new("a reply from outside the plant", PLANT, from_outside, Verdict::NoFlow).given(open.clone()),
        Case::new("a reply before any request", PLANT, reply.clone(), Verdict::NoFlow).given(fill),
        Case::new("a reply after losing the role", PLANT, reply, Verdict::NoFlow).given(move |pair| {
            open(pair);
            change_route_set(pair, 1_000);
        }),
    ]
}
