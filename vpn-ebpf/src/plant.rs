//! From a plant back to users: only what belongs to a flow that a user opened (requirement D4).

use vpn_ebpf_common::{
    Address, Verdict,
    flow::{Age, FlowKey},
    peer::Peer,
};

use crate::{
    Egress,
    clock::boot_ns,
    flows::Entry,
    frame::Frame,
    maps,
    packet::{Direction, Packet},
    rewrite,
};

/// Whose flow is it, may they still, count it, translate it back.
#[inline(always)]
pub fn forward(frame: &mut Frame) -> Result<Egress, Verdict> {
    let packet = Packet::parse(frame, Direction::ToUser)?;
    let gateway = maps::gateway()?;
    let plant = maps::plant(frame.ingress())?;
    if !plant.source.contains(&packet.destination) {
        return Err(Verdict::NotForUser);
    }
    let user = gateway.tunnel.translate(&packet.destination);
    let peer = maps::peer(&user)?;
    packet.check_egress(gateway.users_mtu)?;

    let key = FlowKey {
        device: packet.source,
        peer: peer.id,
        plant: plant.id,
        user_port: packet.destination_port,
        device_port: packet.source_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    };
    let flow = Entry::find(&key).ok_or(Verdict::NoFlow)?;
    let now = boot_ns();
    if flow.age(now, gateway.idle.of(packet.protocol)) != Age::Live {
        return Err(Verdict::FlowIdle);
    }
    let addressed = flow.addressed();
    if flow.route_set() != peer.route_set {
        still_allowed(&peer, plant.id, &packet.source, &addressed)?;
    }

    // Last of all that can fail: a packet that is counted is handed to the users' device.
    frame.announce_ipv4()?;
    flow.count_to_user(u64::from(packet.length), now);
    rewrite::addresses(frame, &packet, &addressed, &user)?;
    Ok(Egress(gateway.users))
}

/// Whether the peer's present route set leads from the address it used to this very device.
#[inline(always)]
fn still_allowed(peer: &Peer, plant: u32, device: &Address, addressed: &Address) -> Result<(), Verdict> {
    match maps::route(peer.route_set, addressed) {
        Ok(route) if route.plant == plant && route.real.translate(addressed) == *device => Ok(()),
        _ => Err(Verdict::Revoked),
    }
}
