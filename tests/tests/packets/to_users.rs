//! What plants send to users.

use vpn_ebpf_common::{
    Verdict,
    gateway::FORWARD_UNRECORDED,
    names::{PLANT, USERS},
    protocol::TCP,
    tcp::{ACK, SYN},
};
use vpn_tests::{
    by_hand::{ETHERNET, OTHER_SET, OTHER_UPLINK, TUNNEL},
    packet::{Ends, echo_reply, echo_request, fragment, segment, tcp, translated, udp, udp_without_checksum},
    pair::Pair,
};

use crate::{
    case::{
        Case, change, change_route_set, connect_plants, copy_route_set, end, lead_real_to_other, play, renumber, settle,
    },
    family::Family,
};

pub fn cases(family: Family) -> Vec<Case> {
    [forwarded(family), fragments(family), refused(family)].into_iter().flatten().collect()
}

/// Opens a flow of each protocol.
fn open(family: Family) -> impl Fn(&mut Pair) + Copy {
    let out = family.out();
    move |pair| {
        play(pair, USERS, &tcp(out, b"open"));
        play(pair, USERS, &udp(out, b"open"));
        play(pair, USERS, &echo_request(out, b"open"));
    }
}

fn open_real(family: Family) -> impl Fn(&mut Pair) + Copy {
    let out = family.out_real();
    move |pair| play(pair, USERS, &segment(out, SYN, &[], b"open"))
}

fn forwarded(family: Family) -> Vec<Case> {
    let Family { user, device, real, .. } = family;
    let (open, open_real) = (open(family), open_real(family));
    let forwarded = |name, packet: Vec<u8>| {
        let out = translated(&packet, device, user);
        Case::new(name, PLANT, packet, Verdict::ToUser).given(open).forwarded(out)
    };
    let open_both = move |pair: &mut Pair| {
        lead_real_to_other(pair);
        open_real(pair);
        open(pair);
    };
    let back = family.back();
    let reply = tcp(back, b"abc");
    let padded = [&reply[..], &[0; 6]].concat();
    let by_real = translated(&reply, real, user);
    let key = family.key(TCP);
    let full = vec![1; 1_280 - family.header() - 8];
    let with_size = |size: u16| segment(back, SYN | ACK, &[&[2, 4][..], &size.to_be_bytes()].concat(), b"");
    let fitting = with_size(family.largest_segment());
    vec![
        forwarded("TCP reply", reply.clone()),
        forwarded("UDP reply", udp(back, b"world")),
        forwarded("UDP reply without checksum", udp_without_checksum(back, b"world")),
        forwarded("echo reply", echo_reply(back, &[7; 56])),
        forwarded("as large as the users' device takes", udp(back, &full)),
        Case::new("a reply in a padded frame", PLANT, padded.clone(), Verdict::ToUser)
            .given(move |pair| {
                open(pair);
                connect_plants(pair, ETHERNET);
            })
            .forwarded(translated(&reply, device, user)),
        forwarded("several segments in one", tcp(back, &[1; 2_400])).coalesced(2, 1_200),
        forwarded("a segment size that fits", fitting.clone()),
        forwarded("a segment size that does not", with_size(1_460)).forwarded(translated(&fitting, device, user)),
        forwarded("a flow by the real address", reply.clone()).given(open_real).forwarded(by_real.clone()),
        forwarded("a flow by the real address after one by the virtual one", reply.clone())
            .given(move |pair| {
                open(pair);
                end(pair, key);
                open_real(pair);
            })
            .forwarded(by_real.clone()),
        forwarded("the same addresses and ports at two plants", reply.clone()).given(open_both),
        forwarded("those of the other plant", reply.clone()).given(open_both).from(OTHER_UPLINK).forwarded(by_real),
        forwarded("a flow that the new route set allows too", reply.clone()).given(move |pair| {
            open(pair);
            copy_route_set(pair);
        }),
        forwarded("a flow of an older generation", reply).given(move |pair| {
            open(pair);
            change(pair, |topology| topology.generation += 1);
        }),
    ]
}

fn fragments(family: Family) -> Vec<Case> {
    let whole = udp(family.back(), &[7; 64]);
    let whole_out = translated(&whole, family.device, family.user);
    let (first, last) = (fragment(&whole, 9, 0..32), fragment(&whole, 9, 32..72));
    let (first_out, last_out) = (fragment(&whole_out, 9, 0..32), fragment(&whole_out, 9, 32..72));
    let open = open(family);
    vec![
        Case::new("a first fragment", PLANT, first.clone(), Verdict::ToUser).given(open).forwarded(first_out),
        Case::new("the last one", PLANT, last.clone(), Verdict::ToUser)
            .given(move |pair| {
                open(pair);
                play(pair, PLANT, &first);
            })
            .forwarded(last_out),
        Case::new("without a first one", PLANT, last, Verdict::Fragment).given(open),
    ]
}

fn refused(family: Family) -> Vec<Case> {
    let Family { real, source, neighbour, .. } = family;
    let (open, open_real) = (open(family), open_real(family));
    let dropped = |name, packet, verdict| Case::new(name, PLANT, packet, verdict).given(open);
    let back = family.back();
    let reply = tcp(back, b"abc");
    let key = family.key(TCP);
    let out = family.out();
    let renumbered = Ends::new((family.renumbered, 502), (source, 40_000));
    vec![
        dropped("a reply in a padded packet of a tunnel", [&reply[..], &[0; 6]].concat(), Verdict::Length).given(
            move |pair| {
                open(pair);
                connect_plants(pair, TUNNEL);
            },
        ),
        dropped("to another port", tcp(Ends::new((real, 502), (source, 40_001)), b""), Verdict::NoFlow),
        dropped("from another port", tcp(Ends::new((real, 503), (source, 40_000)), b""), Verdict::NoFlow),
        dropped("from another device", tcp(Ends::new((neighbour, 502), (source, 40_000)), b""), Verdict::NoFlow),
        dropped("from the same port of a renumbered device", tcp(renumbered, b""), Verdict::NoFlow).given(
            move |pair| {
                open(pair);
                renumber(pair);
            },
        ),
        dropped("by another protocol", udp(back, b""), Verdict::NoFlow)
            .given(move |pair| play(pair, USERS, &tcp(out, b"open"))),
        dropped("nothing was sent before", reply.clone(), Verdict::NoFlow).given(|_| ()),
        dropped("nothing was unrecorded before", reply.clone(), Verdict::NoFlow)
            .given(|pair| change(pair, |topology| topology.options = FORWARD_UNRECORDED)),
        dropped("after losing the role", reply.clone(), Verdict::Revoked).given(move |pair| {
            open(pair);
            change_route_set(pair, 1_000);
        }),
        dropped("an address that leads elsewhere now", reply.clone(), Verdict::Revoked).given(move |pair| {
            open_real(pair);
            change_route_set(pair, OTHER_SET);
        }),
        dropped("from an address that the plant has no more", reply.clone(), Verdict::Revoked).given(move |pair| {
            open_real(pair);
            renumber(pair);
        }),
        dropped("in a flow that settles", reply.clone(), Verdict::FlowIdle).given(move |pair| {
            open(pair);
            settle(pair, key);
        }),
        dropped("in a flow that is over", reply.clone(), Verdict::FlowIdle).given(move |pair| {
            open(pair);
            end(pair, key);
        }),
        dropped("in a flow that has moved", reply, Verdict::FlowIdle).given(move |pair| {
            open_real(pair);
            change_route_set(pair, OTHER_SET);
            open_real(pair);
        }),
    ]
}
