//! ICMP errors, which belong to the flow of the packet that they quote.

use std::net::IpAddr;

use vpn_ebpf_common::{
    Address, Verdict,
    flow::{Age, FlowKey},
    peer::Peer,
    protocol::{ICMP, ICMPV6, TCP, UDP},
};

use super::{
    Action, Arrival, Direction, Ended, Model,
    parse::{Icmp, Parsed, icmp, number},
    plant::Recipient,
    refusal::Refusal,
    rewrite::{Addresses, Header, translated_error},
};

/// The packet that an ICMP error quotes.
pub(super) struct Quote {
    pub header: Header,
    /// Its addresses.
    addresses: Addresses,
    /// As in [`Parsed`].
    source_port: u16,
    destination_port: u16,
}

impl Model {
    pub(super) fn error_from_plant(
        &mut self,
        arrival: &Arrival,
        to: &Recipient<'_>,
        parsed: &Parsed,
        now: u64,
    ) -> Result<Ended, Verdict> {
        let quote = quote(&arrival.packet, parsed, Direction::ToPlant).ok_or(Verdict::IcmpNoFlow)?;
        if quote.addresses.source != parsed.destination {
            return Err(Verdict::IcmpNoFlow);
        }
        let device = quote.addresses.destination;
        let real = FlowKey {
            addressed: device.into(),
            peer: to.peer.id,
            user_port: quote.source_port.to_be(),
            device_port: quote.destination_port.to_be(),
            protocol: quote.header.protocol,
            reserved: [0; 3],
        };
        let key = self.flow_to_device(to.plant, &real, now).ok_or(Verdict::IcmpNoFlow)?;
        let mut flow = self.records.flows[&key];
        self.check_flow(to, &key, &flow, now)?;
        parsed.check_egress(self.topology.users_mtu).map_err(|refusal| refusal.verdict)?;

        flow.to_user.packets += parsed.wire.traffic.packets;
        flow.to_user.bytes += parsed.wire.traffic.bytes;
        flow.last_ns = now;
        flow.expires_ns = now + self.topology.idle.of(key.protocol, flow.tcp_user, flow.tcp_plant);
        self.records.flows.insert(key, flow);

        let addressed = key.addressed.to_ip();
        let source = if parsed.source == device {
            addressed
        } else {
            to.plant.twin(parsed.source).unwrap_or(self.topology.address[parsed.family()])
        };
        let packet = translated_error(
            &arrival.packet,
            parsed,
            Addresses { source, destination: to.user },
            &quote,
            Addresses { source: to.user, destination: addressed },
        );
        let action = Action::Redirect(self.topology.users);
        Ok(Ended { verdict: Verdict::ToUser, action, packet: Some(packet) })
    }

    pub(super) fn error_from_user(
        &mut self,
        arrival: &Arrival,
        parsed: &Parsed,
        peer: Peer,
        now: u64,
    ) -> Result<Ended, Refusal> {
        let quote = quote(&arrival.packet, parsed, Direction::ToUser).ok_or(Verdict::IcmpNoFlow)?;
        if quote.addresses.source != parsed.destination || quote.addresses.destination != parsed.source {
            return Err(Verdict::IcmpNoFlow.into());
        }
        let key = FlowKey {
            addressed: Address::from(quote.addresses.source),
            peer: peer.id,
            user_port: quote.destination_port.to_be(),
            device_port: quote.source_port.to_be(),
            protocol: quote.header.protocol,
            reserved: [0; 3],
        };
        // What a service has sent did not pass here.
        let flow = self.records.flows.get(&key).filter(|flow| flow.plant != 0);
        let mut flow = *flow.ok_or(Verdict::IcmpNoFlow)?;
        if flow.age(now) != Age::Live {
            return Err(Verdict::FlowIdle.into());
        }
        if !self.is_current(&flow, peer) {
            let resolved = self.resolve(&key, peer)?;
            if resolved.plant != flow.plant || resolved.device != flow.device.to_ip() {
                return Err(Verdict::NoRoute.into());
            }
            resolved.fill(&mut flow, peer.route_set, self.topology.generation);
        }
        parsed.check_egress(flow.mtu)?;

        flow.to_plant.packets += parsed.wire.traffic.packets;
        flow.to_plant.bytes += parsed.wire.traffic.bytes;
        flow.last_ns = now;
        flow.expires_ns = now + self.topology.idle.of(key.protocol, flow.tcp_user, flow.tcp_plant);
        self.records.flows.insert(key, flow);

        let (source, device) = (self.topology.seen_by_plants(parsed.source), flow.device.to_ip());
        let packet = translated_error(
            &arrival.packet,
            parsed,
            Addresses { source, destination: device },
            &quote,
            Addresses { source: device, destination: source },
        );
        Ok(Ended { verdict: Verdict::ToPlant, action: Action::Redirect(flow.egress), packet: Some(packet) })
    }
}

/// What an ICMP error quotes, if it is a packet that may have gone out in `direction`.
fn quote(packet: &[u8], error: &Parsed, direction: Direction) -> Option<Quote> {
    let at = error.transport + 8;
    let quoted = packet.get(at..)?;
    let is_v4 = error.source.is_ipv4();
    let length = if is_v4 { 20 } else { 40 };
    let transport = quoted.get(length..).filter(|transport| transport.len() >= 8)?;
    let protocol = if is_v4 {
        let is_plain = quoted[0] == 0x45 && number(quoted, 6) & 0x1fff == 0;
        is_plain.then_some(quoted[9]).filter(|protocol| [ICMP, TCP, UDP].contains(protocol))
    } else {
        (quoted[0] >> 4 == 6).then_some(quoted[6]).filter(|protocol| [ICMPV6, TCP, UDP].contains(protocol))
    }?;
    let (source_port, destination_port) = match protocol {
        TCP | UDP => (number(transport, 0), number(transport, 2)),
        // The code of an echo message says nothing, and was checked before the packet went out.
        _ => match (direction, icmp(protocol, transport[0], 0)) {
            (Direction::ToPlant, Icmp::EchoRequest) => (number(transport, 4), 0),
            (Direction::ToUser, Icmp::EchoReply) => (0, number(transport, 4)),
            _ => return None,
        },
    };
    let header = Header { is_v4, at, transport: at + length, protocol };
    let addresses = Addresses { source: header.source(packet), destination: header.destination(packet) };
    // As in a packet, see `parse`.
    let is_mapped = [addresses.source, addresses.destination]
        .iter()
        .any(|address| matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()));
    (!is_mapped).then_some(Quote { header, addresses, source_port, destination_port })
}
