//! What users send to plants, or to the gateway itself.

use etherparse::IpDscp;
use vpn_ebpf_common::{
    Verdict,
    flow::ClosedKey,
    gateway::FORWARD_UNRECORDED,
    names::USERS,
    protocol::{TCP, UDP},
    tcp::{ACK, SYN},
    usage::Usage,
};
use vpn_tests::{
    by_hand::{OTHER_SET, SERVICE_PORT, UPLINK},
    packet::{
        Ends, echo_request, fragment, segment, tcp, translated, udp, udp_without_checksum, with_hops, with_ipv4,
        with_ipv6,
    },
    pair::Pair,
    topology::Service,
};

use crate::{
    case::{Case, change, change_route_set, copy_route_set, end, lead_real_to_other, play, renumber, settle},
    family::Family,
};

pub fn cases(family: Family) -> Vec<Case> {
    [forwarded(family), fragments(family), refused(family), addresses(family), services(family)]
        .into_iter()
        .flatten()
        .collect()
}

fn dropped(name: &'static str, packet: Vec<u8>, verdict: Verdict) -> Case {
    Case::new(name, USERS, packet, verdict)
}

fn forwarded(family: Family) -> Vec<Case> {
    let Family { source, real, .. } = family;
    let forwarded = |name, packet: Vec<u8>| {
        let out = translated(&packet, source, real);
        Case::new(name, USERS, packet, Verdict::ToPlant).forwarded(out)
    };
    let out = family.out();
    let request = tcp(out, b"ab");
    let full = vec![1; 1_420 - family.header() - 8];
    let open = move |pair: &mut Pair| play(pair, USERS, &tcp(out, b"open"));
    let key = family.key(TCP);
    let with_size = |size: u16| segment(out, SYN, &[&[2, 4][..], &size.to_be_bytes()].concat(), b"");
    let fitting = with_size(family.largest_segment());
    let mut cases = vec![
        forwarded("TCP", request.clone()),
        forwarded("TCP without payload", tcp(out, b"")),
        forwarded("UDP", udp(out, b"hello")),
        forwarded("UDP without checksum", udp_without_checksum(out, b"hello")),
        forwarded("echo request", echo_request(out, &[7; 56])),
        forwarded("as large as the uplink takes", udp(out, &full)),
        forwarded("two hops left", with_hops(&request, 2)),
        forwarded("by the real address", udp(family.out_real(), b"x")),
        forwarded("a connection by the real address", segment(family.out_real(), SYN, &[], b"")),
        forwarded("inside a connection by the real address", tcp(family.out_real(), b"x"))
            .given(move |pair| play(pair, USERS, &segment(family.out_real(), SYN, &[], b""))),
        forwarded("inside a connection that is not known, without records", tcp(family.out_real(), b"x"))
            .given(|pair| change(pair, |topology| topology.options |= FORWARD_UNRECORDED)),
        forwarded("several segments in one", tcp(out, &[1; 2_400])).coalesced(2, 1_200),
        forwarded("segments as large as the uplink takes", tcp(out, &[1; 2_600]))
            .coalesced(2, 1_400 - family.header() as u32),
        forwarded("segments that nobody counted", tcp(out, &[1; 2_600])).coalesced(0, 1_200),
        forwarded("a segment size that fits", fitting.clone()),
        forwarded("a segment size that does not", with_size(1_460)).forwarded(translated(&fitting, source, real)),
        forwarded("in an open flow", request.clone()).given(open),
        forwarded("after a flow that is over", request.clone()).given(move |pair| {
            open(pair);
            end(pair, key);
        }),
        forwarded("in a flow of an older generation", request.clone()).given(move |pair| {
            open(pair);
            change(pair, |topology| topology.generation += 1);
        }),
        forwarded("in a flow of another route set that leads there too", request.clone()).given(move |pair| {
            open(pair);
            copy_route_set(pair);
        }),
    ];
    if family.is_v4 {
        cases.push(forwarded("that may be fragmented", with_ipv4(&request, |ip| ip.dont_fragment = false)));
        cases.push(forwarded("a type of service", with_ipv4(&request, |ip| ip.dscp = IpDscp::EF)));
    } else {
        let whole = udp(out, b"atom");
        let all = 0..whole.len() - 40;
        let atomic = fragment(&translated(&whole, source, real), 9, all.clone());
        cases.push(forwarded("an atomic fragment", fragment(&whole, 9, all)).forwarded(atomic));
        let labelled = with_ipv6(&request, |ip| {
            ip.flow_label = 0xa_bcde.try_into().unwrap();
            ip.traffic_class = 0xb8;
        });
        cases.push(forwarded("a flow label and a traffic class", labelled));
    }
    cases
}

fn fragments(family: Family) -> Vec<Case> {
    let Family { source, real, .. } = family;
    let whole = udp(family.out(), &[7; 64]);
    let whole_out = translated(&whole, source, real);
    let (first, last) = (fragment(&whole, 9, 0..32), fragment(&whole, 9, 32..72));
    let (first_out, last_out) = (fragment(&whole_out, 9, 0..32), fragment(&whole_out, 9, 32..72));
    let refused = with_hops(&first, 1);
    let key = family.key(UDP);
    let play_first = {
        let first = first.clone();
        move |pair: &mut Pair| play(pair, USERS, &first)
    };
    vec![
        Case::new("a first fragment", USERS, first, Verdict::ToPlant).forwarded(first_out),
        Case::new("the last one", USERS, last.clone(), Verdict::ToPlant).given(play_first.clone()).forwarded(last_out),
        dropped("without a first one", last.clone(), Verdict::Fragment),
        dropped("of another packet", fragment(&whole, 8, 32..72), Verdict::Fragment).given(play_first.clone()),
        dropped("after one that was refused", last.clone(), Verdict::Fragment)
            .given(move |pair| play(pair, USERS, &refused)),
        dropped("after half a minute", last.clone(), Verdict::Fragment).given({
            let play_first = play_first.clone();
            move |pair| {
                play_first(pair);
                pair.edit(|records, _| {
                    records.fragments.values_mut().for_each(|first| first.first_ns -= 30_100_000_000);
                });
            }
        }),
        dropped("in a flow that is over", last, Verdict::Fragment).given(move |pair| {
            play_first(pair);
            end(pair, key);
        }),
    ]
}

fn refused(family: Family) -> Vec<Case> {
    let out = family.out();
    let request = tcp(out, b"ab");
    let key = family.key(TCP);
    let open = move |pair: &mut Pair| play(pair, USERS, &tcp(out, b"open"));
    vec![
        dropped("no route", tcp(Ends::new((family.user, 1), (family.nowhere, 502)), b""), Verdict::NoRoute),
        dropped("after losing the role", request.clone(), Verdict::NoRoute).given(move |pair| {
            open(pair);
            change_route_set(pair, 1_000);
        }),
        dropped("to an uplink without a plant", request.clone(), Verdict::NoPlant)
            .given(|pair| change(pair, |topology| drop(topology.plants.remove(&UPLINK)))),
        dropped("to an uplink of another plant", request.clone(), Verdict::NoPlant).given(|pair| {
            change(pair, |topology| topology.plants.get_mut(&UPLINK).unwrap().id = 99);
        }),
        dropped("in a flow that settles", request.clone(), Verdict::FlowIdle).given(move |pair| {
            open(pair);
            settle(pair, key);
        }),
        dropped("in a flow that the collector is ending", request, Verdict::FlowIdle).given(move |pair| {
            open(pair);
            end(pair, key);
            pair.edit(|records, _| {
                let flow = records.flows[&key];
                records.closed.insert(ClosedKey::new(key, flow.opened_ns), flow);
            });
        }),
    ]
}

/// The two addresses of a device, and one that becomes another device's.
fn addresses(family: Family) -> Vec<Case> {
    let Family { source, real, .. } = family;
    let by_virtual = tcp(family.out(), b"");
    let [opens, answers, inside] = [SYN, SYN | ACK, ACK].map(|flags| segment(family.out_real(), flags, &[], b""));
    let open = {
        let by_virtual = by_virtual.clone();
        move |pair: &mut Pair| play(pair, USERS, &by_virtual)
    };
    let open_real = {
        let opens = opens.clone();
        move |pair: &mut Pair| play(pair, USERS, &opens)
    };
    let move_real = {
        let open_real = open_real.clone();
        move |pair: &mut Pair| {
            open_real(pair);
            change_route_set(pair, OTHER_SET);
        }
    };
    let key_real = family.key_real(TCP);
    vec![
        dropped("an address that leads elsewhere now", inside.clone(), Verdict::FlowMoved).given(move_real.clone()),
        dropped("an address that leads to another device of the plant", by_virtual.clone(), Verdict::FlowMoved).given(
            {
                let open = open.clone();
                move |pair| {
                    open(pair);
                    renumber(pair);
                }
            },
        ),
        dropped("just after that", inside.clone(), Verdict::FlowIdle).given({
            let (move_real, open_real) = (move_real.clone(), open_real.clone());
            move |pair| {
                move_real(pair);
                open_real(pair);
            }
        }),
        dropped("after that, of the connection with the other device", inside.clone(), Verdict::NoConnection).given({
            move |pair| {
                move_real(pair);
                end(pair, key_real);
            }
        }),
        dropped("a connection by the real address that is not known", inside, Verdict::NoConnection),
        dropped("half a connection by the real address", answers, Verdict::NoConnection),
        dropped("the real address beside the virtual one", opens, Verdict::AddressInUse).given(open),
        dropped("the virtual address beside the real one", by_virtual.clone(), Verdict::AddressInUse)
            .given(open_real.clone()),
        // As of a peer that was gone and is back: flows stay, the account does not. (What was opened is checked.)
        dropped("the same with an account that was begun anew", by_virtual.clone(), Verdict::AddressInUse).given({
            let open_real = open_real.clone();
            move |pair| {
                open_real(pair);
                pair.edit(|records, _| {
                    for usage in records.usage.values_mut() {
                        *usage = Usage { opened: usage.opened, ..Usage::default() };
                    }
                });
            }
        }),
        dropped("while the other one settles", by_virtual.clone(), Verdict::AddressInUse).given({
            let open_real = open_real.clone();
            move |pair| {
                open_real(pair);
                settle(pair, key_real);
            }
        }),
        Case::new("the virtual address after the real one", USERS, by_virtual.clone(), Verdict::ToPlant)
            .given({
                let open_real = open_real.clone();
                move |pair| {
                    open_real(pair);
                    end(pair, key_real);
                }
            })
            .forwarded(translated(&by_virtual, source, real)),
        Case::new("beside the same real address at another plant", USERS, by_virtual.clone(), Verdict::ToPlant)
            .given(move |pair| {
                lead_real_to_other(pair);
                open_real(pair);
            })
            .forwarded(translated(&by_virtual, source, real)),
    ]
}

fn services(family: Family) -> Vec<Case> {
    let passed = |name, packet| Case::new(name, USERS, packet, Verdict::ToGateway).passed();
    let ends = family.to_gateway(SERVICE_PORT);
    let service = udp(ends, b"what is it called");
    let echo = echo_request(family.to_gateway(0), b"is anybody there");
    let address = family.gateway.parse().unwrap();
    vec![
        passed("a service", service.clone()),
        passed("a service at the last hop", with_hops(&service, 1)),
        passed("a service at no hop, in a flow", with_hops(&service, 0))
            .given(move |pair| play(pair, USERS, &udp(ends, b"open"))),
        passed("larger than any uplink takes", udp(ends, &[1; 2_000])),
        dropped("another port", udp(family.to_gateway(54), b""), Verdict::NoRoute),
        dropped("the same port by another protocol", tcp(ends, b""), Verdict::NoRoute),
        dropped("an echo request", echo.clone(), Verdict::NoRoute),
        passed("an echo request that is a service", echo).given(move |pair| {
            let echo = Service { address, port: 0, protocol: family.icmp() };
            change(pair, |topology| topology.services.extend([(echo, 92)]));
        }),
    ]
}
