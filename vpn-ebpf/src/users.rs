//! From users to plants.

use vpn_ebpf_common::{Verdict, flow::FlowKey, gateway::Gateway, peer::Peer};

use crate::{
    Egress, denials,
    flows::{self, Admission},
    frame::Frame,
    maps,
    packet::{Direction, Packet},
    rewrite,
};

/// Who is it; and whatever stops a known user's packet is recorded with its reason (requirement F5).
#[inline(always)]
pub fn forward(frame: &mut Frame) -> Result<Egress, Verdict> {
    let packet = Packet::parse(frame, Direction::ToPlant)?;
    let gateway = maps::gateway()?;
    let peer = maps::peer(&packet.source)?;
    let outcome = admit(frame, gateway, &peer, &packet);
    if let Err(why) = outcome {
        denials::record(&peer, &packet, why);
    }
    outcome
}

/// May they, count it, translate it.
#[inline(always)]
fn admit(frame: &mut Frame, gateway: &Gateway, peer: &Peer, packet: &Packet) -> Result<Egress, Verdict> {
    let route = maps::route(peer.route_set, &packet.destination)?;
    let plant = maps::plant(route.egress)?;
    packet.check_egress(plant.mtu)?;

    let device = route.real.translate(&packet.destination);
    let source = plant.source.translate(&packet.source);
    let key = FlowKey {
        device,
        peer: peer.id,
        plant: route.plant,
        user_port: packet.source_port,
        device_port: packet.destination_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    };
    let admission = Admission { addressed: packet.destination, route_set: peer.route_set, route: route.id };
    let egress = Egress(route.egress);

    // Last of all that can fail: a packet that is counted is handed to the uplink.
    frame.announce_ipv4()?;
    flows::count_to_plant(&key, &admission, u64::from(packet.length), gateway.idle.of(packet.protocol))?;
    rewrite::addresses(frame, packet, &source, &device)?;
    Ok(egress)
}
