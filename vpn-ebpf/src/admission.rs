//! The slow path of a packet from a user: whether its flow may be, and on what terms. Every packet comes here whose flow
//! is not in the table, or was admitted before something changed.

use vpn_ebpf_common::{
    Address, Verdict,
    flow::{Age, Flow, FlowKey},
    gateway::{FORWARD_UNRECORDED, Gateway},
    protocol,
    service::ServiceKey,
    tcp,
    ways::Way,
};

use crate::{
    exit::{HOST, Hop},
    flows::{self, Entry},
    frame::Frame,
    limits::Account,
    maps::{self, Scratch},
    mss,
    packet::{Packet, Part},
    rewrite,
    users::Attempt,
    ways::Place,
};

/// The largest packet to a service of the gateway, which goes over no wire.
const LOCAL_MTU: u32 = 65_535;

/// Puts the terms of a flow into `flow`, by the peer's route set, else by the list of services, and the other address
/// that leads to the same device into `other`; the same for a service.
#[inline(never)]
fn resolve(attempt: &Attempt<'_>, key: &FlowKey, flow: &mut Flow, other: &mut Address) -> Result<(), Verdict> {
    let &Attempt { ref peer, generation, .. } = attempt;
    flow.route_set = peer.route_set;
    flow.generation = generation;
    if let Ok(route) = maps::route(peer.route_set, &key.addressed) {
        let plant = maps::plant(route.egress)?;
        if plant.id != route.plant {
            return Err(Verdict::NoPlant);
        }
        flow.plant = route.plant;
        flow.route = route.id;
        flow.egress = route.egress;
        flow.link_header = plant.link_header as u16;
        flow.mtu = plant.mtu;
        flow.device = route.real.translate(&key.addressed);
        *other = route.other_address(&key.addressed);
        return Ok(());
    }
    let service = ServiceKey { address: key.addressed, port: key.device_port, protocol: key.protocol, reserved: 0 };
    flow.route = maps::service(&service).ok_or(Verdict::NoRoute)?;
    flow.plant = 0;
    flow.egress = HOST;
    flow.link_header = 0;
    flow.mtu = LOCAL_MTU;
    flow.device = key.addressed;
    *other = key.addressed;
    Ok(())
}

/// Admits the flow of a packet, which is in the table and has the packet counted afterwards, on the terms of [`terms`].
/// `found` is what the table has under the key. `Err` with [`Verdict::UnrecordedToPlant`] says that it is to be forwarded
/// without a flow, to `hop`.
#[inline(never)]
pub fn admit(attempt: &Attempt<'_>, key: &FlowKey, found: Option<Entry>, hop: &mut Hop) -> Result<(), Verdict> {
    let &Attempt { gateway, ref peer, packet, now, .. } = attempt;
    let flow = maps::scratch(Scratch::Opening).ok_or(Verdict::NoMemory)?;
    let mut other = key.addressed;
    resolve(attempt, key, flow, &mut other)?;
    *hop = Hop { interface: flow.egress, link_header: u32::from(flow.link_header), mtu: flow.mtu };
    // A packet for the host itself does not leave.
    if hop.interface != HOST {
        packet.check_egress(hop.mtu)?;
    }
    let mut replaces = false;
    if let Some(entry) = found {
        match entry.age(key, now) {
            Age::Live if entry.leads_to(flow.plant, &flow.device) => {
                entry.admit(flow);
                entry.count_to_plant(packet, key.protocol, &gateway.idle, now);
                return Ok(());
            }
            Age::Live => {
                entry.expire(now);
                return Err(Verdict::FlowMoved);
            }
            Age::Settling => return Err(Verdict::FlowIdle),
            // Without its ports no packet opens a flow.
            Age::Over if packet.part == Part::Later => return Err(Verdict::Fragment),
            Age::Over => replaces = true,
        }
    } else if packet.part == Part::Later {
        return Err(Verdict::Fragment);
    }
    if is_inside_connection(packet) && flow.device.is(&key.addressed) && !may_join_connections(gateway, hop) {
        return Err(Verdict::NoConnection);
    }
    let (place, way) = (Place::of(peer.id).ok_or(Verdict::NoMemory)?, Way::of(&key.addressed, &flow.device));
    if !other.is(&key.addressed)
        && place.has_other_than(way)
        && conflicts(&FlowKey { addressed: other, ..*key }, flow, now)
    {
        return Err(Verdict::AddressInUse);
    }
    // Flows to the gateway itself are in no device's way, and whoever asks it for names would be taken to use real addresses.
    if hop.interface != HOST {
        place.note(way);
    }
    open(attempt, key, flow, replaces)
}

/// Admits a flow that is in the table on the terms that hold now, for a packet that is not one of its own.
#[inline(never)]
pub fn renew(attempt: &Attempt<'_>, key: &FlowKey, entry: Entry) -> Result<(), Verdict> {
    let flow = maps::scratch(Scratch::Opening).ok_or(Verdict::NoMemory)?;
    let mut other = key.addressed;
    resolve(attempt, key, flow, &mut other)?;
    if !entry.leads_to(flow.plant, &flow.device) {
        return Err(Verdict::NoRoute);
    }
    attempt.packet.check_egress(flow.mtu)?;
    entry.admit(flow);
    Ok(())
}

/// The terms of the flow that was just admitted, without another look at the table.
#[inline(always)]
pub fn terms() -> Result<&'static Flow, Verdict> {
    maps::scratch(Scratch::Opening).map(|flow| &*flow).ok_or(Verdict::NoMemory)
}

/// Whether it is of TCP and does not open a connection.
#[inline(always)]
const fn is_inside_connection(packet: &Packet) -> bool {
    packet.protocol == protocol::TCP && packet.tcp_flags & (tcp::SYN | tcp::ACK) != tcp::SYN
}

/// Whether a segment that does not open a connection may open a flow by a real address. It may not where several plants
/// can have that address: a user's priority may have changed, and the segment be meant for the plant that had it before
/// (requirement C5). A virtual address always leads to one plant, so that a connection by it outlives its flow.
#[inline(always)]
const fn may_join_connections(gateway: &Gateway, hop: &Hop) -> bool {
    // Connections that are not recorded have no flow that their segments could be in.
    hop.interface == HOST || gateway.options & FORWARD_UNRECORDED != 0
}

/// Opens a flow within the peer's limits; `replaces` if another one under the same key is over.
#[inline(never)]
fn open(attempt: &Attempt<'_>, key: &FlowKey, flow: &mut Flow, replaces: bool) -> Result<(), Verdict> {
    let &Attempt { gateway, ref peer, now, .. } = attempt;
    let account = Account::of(peer.id).ok_or(Verdict::PeerFlows)?;
    account.check_flow(&gateway.limits, replaces, now)?;
    // Not before: a flow that is removed from the table makes room for another one of the peer. Where the collector was
    // first, it counts that one as released.
    let replaces = replaces && Entry::close(key, now)?;
    match flows::open(key, flow, attempt) {
        Ok(()) => {
            account.count_flow(replaces);
            Ok(())
        }
        Err(Verdict::FlowsFull) if gateway.options & FORWARD_UNRECORDED != 0 && flow.egress != HOST => {
            account.count_unrecorded_flow(now);
            Err(Verdict::UnrecordedToPlant)
        }
        Err(why) => Err(why),
    }
}

/// Translates a packet that has no flow.
#[inline(never)]
pub fn forward_unrecorded(frame: &mut Frame, attempt: &Attempt<'_>, key: &FlowKey) -> Result<(), Verdict> {
    let Attempt { gateway, packet, .. } = *attempt;
    let flow = maps::scratch(Scratch::Opening).ok_or(Verdict::NoMemory)?;
    let mut other = key.addressed;
    resolve(attempt, key, flow, &mut other)?;
    if mss::may_have(packet) {
        mss::clamp(frame, packet, flow.mtu.min(gateway.users_mtu))?;
    }
    rewrite::packet(frame, packet, &packet.user_beyond, &flow.device)
}

/// Whether the same device has a flow under this key, so that a reply would not tell which of the two it belongs to. One
/// to another plant's device, which has the same address there, stands in nobody's way.
#[inline(always)]
fn conflicts(key: &FlowKey, flow: &Flow, now: u64) -> bool {
    Entry::find(key).is_some_and(|entry| entry.leads_to(flow.plant, &flow.device) && entry.age(key, now) != Age::Over)
}
