//! From a plant back to users: only what belongs to a flow that a user opened (requirement D4).

use core::ptr::{from_mut, from_ref};

use vpn_ebpf_common::{
    Address, Verdict,
    flow::{Age, FlowKey},
    gateway::{FORWARD_UNRECORDED, Gateway},
    peer::Peer,
    plant::Plant,
    protocol, tcp,
};

use crate::{
    answer,
    clock::Clock,
    exit::{self, Hop},
    flows::Entry,
    fragments,
    frame::Frame,
    icmp,
    limits::Account,
    maps::{self, Run},
    mss, neighbour,
    packet::{Direction, Packet, Part},
    rewrite,
};

/// A packet from a plant for a user who is known.
pub struct Reply<'a> {
    pub gateway: &'a Gateway,
    pub plant: &'a Plant,
    pub peer: Peer,
    /// [`Gateway::generation`], read before PEERS.
    pub generation: u32,
    pub packet: &'a Packet,
    pub now: u64,
}

/// For whom is it, and is it a reply.
#[inline(always)]
pub fn forward(frame: &mut Frame, plant: &Plant) -> i32 {
    let mut hop = Hop::none();
    let Run { packet, clock } = match maps::run() {
        Ok(run) => run,
        Err(why) => return exit::leave(frame, why, &frame.traffic(), &hop),
    };
    packet.clear();
    if !frame.is_from_tunnel() && neighbour::is_discovery(frame) {
        hop.interface = exit::HOST;
        return exit::leave(frame, Verdict::Neighbour, &frame.traffic(), &hop);
    }
    let known = packet.read(frame, Direction::ToUser).and_then(|()| Reply::identify(plant, packet, clock));
    let verdict = match known {
        Ok(reply) => match translate(frame, &reply) {
            Ok(verdict) => {
                hop.interface = reply.gateway.users;
                verdict
            }
            Err(why) => {
                // Refusals of other kinds are nothing that a device could act on.
                if matches!(why, Verdict::TtlExpired | Verdict::TooBig) {
                    answer_to(frame, &reply, why, &mut hop);
                }
                why
            }
        },
        Err(why) => why,
    };
    exit::leave(frame, verdict, &packet.traffic, &hop)
}

/// Answers to a packet that cannot go on.
#[inline(never)]
fn answer_to(frame: &mut Frame, reply: &Reply<'_>, why: Verdict, hop: &mut Hop) {
    if answer::refuse(frame, &answer::Question::about(reply), why, reply.gateway.users_mtu) {
        *hop = answer::back(frame);
    }
}

/// Whose flow is it, may they still, count it, translate it back.
#[inline(always)]
fn translate(frame: &mut Frame, reply: &Reply<'_>) -> Result<Verdict, Verdict> {
    let Reply { gateway, packet, now, .. } = *reply;
    if packet.is_error {
        return icmp::to_user(frame, reply).map(|()| Verdict::ToUser);
    }
    let mut key = reply.key(&packet.source, packet.destination_port(), packet.source_port(), packet.protocol);
    let found = if packet.part == Part::Later {
        fragments::find(packet, frame.ingress(), now, &mut key)?;
        Some(reply.entry(&key, &packet.source).ok_or(Verdict::Fragment)?)
    } else {
        reply.find(&mut key, &packet.source)
    };
    let Some(found) = found else {
        return unrecorded(frame, reply).map(|()| Verdict::UnrecordedToUser);
    };
    reply.check(&key, found, &packet.source)?;
    let (entry, _) = found;
    packet.check_egress(gateway.users_mtu)?;
    entry.count_to_user(packet, key.protocol, &gateway.idle, now);
    if packet.part == Part::First {
        fragments::remember(packet, frame.ingress(), &key, now);
    }
    if mss::may_have(packet) {
        mss::clamp(frame, packet, entry.terms().mtu.min(gateway.users_mtu))?;
    }
    rewrite::packet(frame, packet, &key.addressed, &packet.user_beyond)?;
    Ok(Verdict::ToUser)
}

/// Translates a reply without a flow, if such replies are let through now.
#[inline(never)]
fn unrecorded(frame: &mut Frame, reply: &Reply<'_>) -> Result<(), Verdict> {
    let Reply { gateway, packet, plant, .. } = *reply;
    // A plant opens no connections, recorded or not.
    let opens = packet.protocol == protocol::TCP && packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    if gateway.options & FORWARD_UNRECORDED == 0 || opens {
        return Err(Verdict::NoFlow);
    }
    let account = Account::of(reply.peer.id).ok_or(Verdict::NoFlow)?;
    let mut addressed = packet.source;
    if !account.has_unrecorded_flows(reply.now)
        || !twin(plant, &packet.source, &mut addressed)
        || !reply.may_reach(&addressed, &packet.source)
    {
        return Err(Verdict::NoFlow);
    }
    packet.check_egress(gateway.users_mtu)?;
    if mss::may_have(packet) {
        mss::clamp(frame, packet, plant.mtu.min(gateway.users_mtu))?;
    }
    rewrite::packet(frame, packet, &addressed, &packet.user_beyond)
}

impl<'a> Reply<'a> {
    #[inline(always)]
    fn identify(plant: &'a Plant, packet: &'a mut Packet, clock: &mut Clock) -> Result<Self, Verdict> {
        let gateway = maps::gateway()?;
        let (source, tunnel) = if packet.family == 0 {
            (&gateway.source[0], &gateway.tunnel[0])
        } else {
            (&gateway.source[1], &gateway.tunnel[1])
        };
        // Users have the same host numbers on both sides.
        let number = source.host_number(packet.family, &packet.destination).ok_or(Verdict::NotForUser)?;
        packet.user_beyond = tunnel.translate_in(packet.family, &packet.destination);
        let generation = maps::generation(gateway);
        let peer = maps::peer(number)?;
        Ok(Self { gateway, plant, peer, generation, packet, now: clock.boot_ns() })
    }

    #[inline(always)]
    pub const fn key(&self, addressed: &Address, user_port: u16, device_port: u16, protocol: u8) -> FlowKey {
        FlowKey::new(addressed, self.peer.id, user_port, device_port, protocol)
    }

    /// The flow of the peer with a device of this plant, under whichever address the user wrote: the virtual one, or the
    /// real one; and how old it is. `key` has the real one, and the right one afterwards.
    #[inline(always)]
    pub fn find(&self, key: &mut FlowKey, device: &Address) -> Option<(Entry, Age)> {
        let mut over = None;
        if quick_twin(self.plant, device, &mut key.addressed) {
            over = self.entry(key, device);
            // One that is over makes way for one under the real address.
            if over.is_some_and(|(_, age)| age != Age::Over) {
                return over;
            }
            key.addressed = *device;
        }
        self.entry(key, device).or(over)
    }

    #[inline(always)]
    fn entry(&self, key: &FlowKey, device: &Address) -> Option<(Entry, Age)> {
        let entry = Entry::find(key).filter(|entry| entry.leads_to(self.plant.id, device))?;
        Some((entry, entry.age(key, self.now)))
    }

    /// Refuses a flow that is ending, and one that the peer may no longer have.
    #[inline(always)]
    pub fn check(&self, key: &FlowKey, (entry, age): (Entry, Age), device: &Address) -> Result<(), Verdict> {
        if age != Age::Live {
            return Err(Verdict::FlowIdle);
        }
        if entry.is_admitted(&self.peer, self.generation) || self.may_reach(&key.addressed, device) {
            return Ok(());
        }
        Err(Verdict::Revoked)
    }

    /// Whether the peer's present route set leads from the address it used to this very device.
    #[inline(never)]
    fn may_reach(&self, addressed: &Address, device: &Address) -> bool {
        maps::route(self.peer.route_set, addressed)
            .is_ok_and(|route| route.plant == self.plant.id && route.real.translate(addressed).is(device))
    }
}

/// As [`twin`], without a call if the device is in the first subnet. Most plants have no other one of IPv4.
#[inline(always)]
fn quick_twin(plant: &Plant, device: &Address, address: &mut Address) -> bool {
    if plant.subnet_count != 0
        && let Some(twin) = plant.subnets[0].virtual_of(device)
    {
        *address = twin;
        return true;
    }
    twin(plant, device, address)
}

/// Writes the virtual address of a device of this plant to `address`; false if it is in no subnet.
#[inline(always)]
pub fn twin(plant: &Plant, device: &Address, address: &mut Address) -> bool {
    // SAFETY: all three come from references.
    unsafe { find_twin(from_ref(plant), from_ref(device), from_mut(address)) }
}

/// As [`twin`]. A global function, which the verifier follows once and not from every state of every caller (Linux 5.12);
/// it takes no pointer there that was not compared with null.
///
/// # Safety
/// Each parameter comes from a reference, or is null.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn find_twin(plant: *const Plant, device: *const Address, address: *mut Address) -> bool {
    // SAFETY: the caller's promise.
    let (Some(plant), Some(device), Some(address)) = (unsafe { (plant.as_ref(), device.as_ref(), address.as_mut()) })
    else {
        return false;
    };
    for (at, subnet) in plant.subnets.iter().enumerate() {
        if at as u32 >= plant.subnet_count {
            break;
        }
        if let Some(twin) = subnet.virtual_of(device) {
            *address = twin;
            return true;
        }
    }
    false
}
