//! From users to plants.

use vpn_ebpf_common::{
    Verdict,
    flow::{Age, FlowKey},
    gateway::Gateway,
    peer::Peer,
};

use crate::{
    admission, answer,
    clock::Clock,
    denials,
    exit::{self, HOST, Hop},
    flows::Entry,
    fragments,
    frame::Frame,
    icmp,
    maps::{self, Run},
    mss,
    packet::{Direction, Packet, Part},
    rewrite,
};

/// A packet from a user who is known.
pub struct Attempt<'a> {
    pub gateway: &'a Gateway,
    pub peer: Peer,
    /// [`Gateway::generation`], read before everything that a flow's terms come from.
    pub generation: u32,
    pub packet: &'a Packet,
    pub now: u64,
}

/// Who is it; and whatever stops a known user's packet is recorded with its reason (requirement F5).
#[inline(always)]
pub fn forward(frame: &mut Frame) -> i32 {
    let mut hop = Hop::none();
    let Run { packet, clock } = match maps::run() {
        Ok(run) => run,
        Err(why) => return exit::leave(frame, why, &frame.traffic(), &hop),
    };
    packet.clear();
    let known = packet.read(frame, Direction::ToPlant).and_then(|()| Attempt::identify(packet, clock));
    let verdict = match known {
        Ok(attempt) => match admit(frame, &attempt, &mut hop) {
            Ok(verdict) => verdict,
            Err(why) => {
                refuse(frame, &attempt, why, &mut hop);
                why
            }
        },
        Err(why) => why,
    };
    exit::leave(frame, verdict, &packet.traffic, &hop)
}

/// Records a refusal, and answers it if that is wanted.
#[inline(never)]
fn refuse(frame: &mut Frame, attempt: &Attempt<'_>, why: Verdict, hop: &mut Hop) {
    denials::record(attempt, why);
    if answer::refuse(frame, &answer::Question::of(attempt), why, hop.mtu) {
        *hop = answer::back(frame);
    } else {
        hop.interface = exit::NOWHERE;
    }
}

/// May they, count it, translate it.
#[inline(always)]
fn admit(frame: &mut Frame, attempt: &Attempt<'_>, hop: &mut Hop) -> Result<Verdict, Verdict> {
    let Attempt { gateway, packet, now, .. } = *attempt;
    if packet.is_error {
        return icmp::to_plant(frame, attempt, hop).map(|()| Verdict::ToPlant);
    }
    let mut key = FlowKey::new(
        &packet.destination,
        attempt.peer.id,
        packet.source_port(),
        packet.destination_port(),
        packet.protocol,
    );
    if packet.part == Part::Later {
        fragments::find(packet, frame.ingress(), now, &mut key)?;
    }
    let found = Entry::find(&key);
    let terms = match &found {
        Some(entry) if entry.is_admitted(&attempt.peer, attempt.generation) && entry.age(&key, now) == Age::Live => {
            if entry.terms().egress != HOST {
                hop.mtu = entry.terms().mtu;
                packet.check_egress(hop.mtu)?;
            }
            entry.count_to_plant(packet, key.protocol, &gateway.idle, now);
            entry.terms()
        }
        _ => {
            if let Err(why) = admission::admit(attempt, &key, found, hop) {
                return if why as u8 == Verdict::UnrecordedToPlant as u8 {
                    admission::forward_unrecorded(frame, attempt, &key).map(|()| why)
                } else {
                    Err(why)
                };
            }
            admission::terms()?
        }
    };
    if packet.part == Part::First {
        fragments::remember(packet, frame.ingress(), &key, now);
    }
    hop.interface = terms.egress;
    hop.link_header = u32::from(terms.link_header);
    if hop.interface == HOST {
        return Ok(Verdict::ToGateway);
    }
    if mss::may_have(packet) {
        mss::clamp(frame, packet, terms.mtu.min(gateway.users_mtu))?;
    }
    rewrite::packet(frame, packet, &packet.user_beyond, &terms.device)?;
    Ok(Verdict::ToPlant)
}

impl<'a> Attempt<'a> {
    #[inline(always)]
    fn identify(packet: &'a mut Packet, clock: &mut Clock) -> Result<Self, Verdict> {
        let gateway = maps::gateway()?;
        let generation = maps::generation(gateway);
        let (tunnel, source) = if packet.family == 0 {
            (&gateway.tunnel[0], &gateway.source[0])
        } else {
            (&gateway.tunnel[1], &gateway.source[1])
        };
        let peer = maps::peer(tunnel.host_number(packet.family, &packet.source).ok_or(Verdict::NoPeer)?)?;
        packet.user_beyond = source.translate_in(packet.family, &packet.source);
        Ok(Self { gateway, peer, generation, packet, now: clock.boot_ns() })
    }
}
