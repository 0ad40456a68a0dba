//! What is refused, or given to the host, by its headers alone.

use etherparse::Ipv6Header;
use vpn_ebpf_common::{
    Verdict,
    names::{PLANT, USERS},
};
use vpn_tests::{
    by_hand::{ETHERNET, TUNNEL},
    packet::{echo_reply, echo_request, fragment, icmp, other, resized, tcp, udp, with_hops, with_ipv4, with_ipv6},
    pair::Pair,
};

use crate::{
    case::{Case, connect_plants},
    family::Family,
};

/// Of both families.
pub fn cases(family: Family) -> Vec<Case> {
    let user = |name, packet, verdict| Case::new(name, USERS, packet, verdict);
    let plant = |name, packet, verdict| Case::new(name, PLANT, packet, verdict);
    let (out, back, header) = (family.out(), family.back(), family.header());
    let (request, reply) = (tcp(out, b"ab"), tcp(back, b"abc"));
    let [echo, redirect, of_other_family] = if family.is_v4 { [8, 5, 58] } else { [128, 137, 1] };
    let mut cases = vec![
        user("a single byte", request[..1].to_vec(), Verdict::Truncated),
        user("a cut IP header", request[..header - 1].to_vec(), Verdict::Truncated),
        user("a cut TCP header", resized(&request, header + 19), Verdict::Truncated),
        user("a cut UDP header", resized(&udp(out, b""), header + 7), Verdict::Truncated),
        user("a cut ICMP header", resized(&echo_request(out, b""), header + 7), Verdict::Truncated),
        plant("a cut TCP header from a plant", resized(&reply, header + 19), Verdict::Truncated),
        user("a cut header in a first fragment", fragment(&request, 1, 0..16), Verdict::Truncated),
        user("version 5", [&[0x55], &request[1..]].concat(), Verdict::NotIp),
        plant("version 0", [&[0x05], &reply[1..]].concat(), Verdict::NotIp),
        user("bytes after the packet", [&request[..], b"!"].concat(), Verdict::Length),
        plant("a length beyond the end of a reply", reply[..reply.len() - 1].to_vec(), Verdict::Length),
        user("a length beyond the end", request[..request.len() - 1].to_vec(), Verdict::Length),
        user("GRE", other(out, 47, &[0; 20]), Verdict::Protocol),
        plant("ESP from a plant", other(back, 50, &[0; 20]), Verdict::Protocol),
        user("ICMP of the other family", other(out, of_other_family, &[8; 20]), Verdict::Protocol),
        user("an echo reply from a user", echo_reply(out, b""), Verdict::IcmpType),
        plant("an echo request from a plant", echo_request(back, b""), Verdict::IcmpType),
        user("an echo request with a code", icmp(out, echo, 1, [0; 4], b""), Verdict::IcmpType),
        user("a redirect", icmp(out, redirect, 0, [0; 4], &request), Verdict::IcmpType),
    ];
    cases.extend(if family.is_v4 { ipv4(family) } else { ipv6(family) });
    cases
}

fn ipv4(family: Family) -> Vec<Case> {
    let user = |name, packet, verdict| Case::new(name, USERS, packet, verdict);
    let request = tcp(family.out(), b"ab");
    let with_options = with_ipv4(&request, |ip| {
        ip.options = [1, 1, 1, 0].into();
        ip.total_len += 4;
    });
    vec![
        user("IP options", with_options, Verdict::IpOptions),
        user("a header of three words", [&[0x43], &request[1..]].concat(), Verdict::IpOptions),
        user("source quench", icmp(family.out(), 4, 0, [0; 4], &request), Verdict::IcmpType),
    ]
}

fn ipv6(family: Family) -> Vec<Case> {
    /// 192.168.1.20 in its mapped form.
    const MAPPED: [u8; 16] = *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\xa8\x01\x14";
    let user = |name, packet, verdict| Case::new(name, USERS, packet, verdict);
    let plant = |name, packet, verdict| Case::new(name, PLANT, packet, verdict);
    let (out, back) = (family.out(), family.back());
    let [by_ethernet, by_tunnel] = [ETHERNET, TUNNEL].map(|header| move |pair: &mut Pair| connect_plants(pair, header));
    let disguised = |change: fn(&mut Ipv6Header)| with_ipv6(&tcp(out, b"ab"), change);
    let discovery = |ends, kind, hops| with_hops(&icmp(ends, kind, 0, [0; 4], &[0; 16]), hops);
    let mut cases = vec![
        user("a cut fragment header", other(out, 44, &[6, 0, 0, 0, 0, 0, 0]), Verdict::Truncated),
        user("a fragment header in another", other(out, 44, &[44; 24]), Verdict::ExtensionHeader),
        user("from an IPv4 address", disguised(|ip| ip.source = MAPPED), Verdict::NotIp),
        user("to an IPv4 address", disguised(|ip| ip.destination = MAPPED), Verdict::NotIp),
        plant("router solicitation", discovery(back, 133, 255), Verdict::IcmpType),
        plant("neighbour solicitation from far away", discovery(back, 135, 254), Verdict::IcmpType),
        user("neighbour solicitation from a user", discovery(out, 135, 255), Verdict::IcmpType),
        plant("neighbour solicitation", discovery(back, 135, 255), Verdict::Neighbour).given(by_ethernet).passed(),
        plant("neighbour advertisement", discovery(back, 136, 255), Verdict::Neighbour).given(by_ethernet).passed(),
        plant("neighbour solicitation by a tunnel", discovery(back, 135, 255), Verdict::IcmpType).given(by_tunnel),
    ];
    for next in [0, 43, 51, 60, 135, 139, 140] {
        cases.push(user("an extension header", other(out, next, &[0; 24]), Verdict::ExtensionHeader));
    }
    cases
}
