//! The program on the uplink of a plant.

use std::net::IpAddr;

use vpn_ebpf_common::{
    Verdict,
    flow::{Age, Flow, FlowKey},
    gateway::FORWARD_UNRECORDED,
    peer::Peer,
    protocol::TCP,
    tcp,
};

use super::{
    Action, Arrival, Ended, Model,
    parse::{Fragment, Parsed},
    refusal::Refusal,
    rewrite::{Addresses, translated},
};
use crate::topology::Plant;

impl Model {
    pub(super) fn packet_from_plant(&mut self, arrival: &Arrival, plant: &Plant, parsed: &Parsed, now: u64) -> Ended {
        if self.topology.users == 0 {
            return Verdict::NotConfigured.into();
        }
        let number = self.topology.source[parsed.family()].host_number(parsed.destination);
        if number.is_none_or(|number| number > u128::from(u32::MAX)) {
            return Verdict::NotForUser.into();
        }
        let user = self.topology.tunnel[parsed.family()].with_host_of(parsed.destination);
        let Some(peer) = self.topology.peer(user) else {
            return Verdict::NoPeer.into();
        };
        let to = Recipient { plant, user, peer };
        if parsed.is_icmp_error {
            return self.error_from_plant(arrival, &to, parsed, now).unwrap_or_else(Ended::from);
        }
        match self.key_from_plant(arrival, &to, parsed, now) {
            Ok(key) => self.data_from_plant(arrival, &to, parsed, &key, now),
            Err(Verdict::NoFlow) => self.unrecorded_from_plant(arrival, &to, parsed, now),
            Err(verdict) => verdict.into(),
        }
    }

    /// The key of the flow that a packet from a plant belongs to.
    fn key_from_plant(
        &self,
        arrival: &Arrival,
        to: &Recipient<'_>,
        parsed: &Parsed,
        now: u64,
    ) -> Result<FlowKey, Verdict> {
        if let Fragment::Later(identification) = parsed.fragment {
            let key = self.flow_of_fragment(arrival, parsed, identification, now)?;
            let flow = self.records.flows.get(&key).ok_or(Verdict::Fragment)?;
            let device = parsed.source.into();
            return if flow.plant == to.plant.id && flow.device == device { Ok(key) } else { Err(Verdict::Fragment) };
        }
        let key = FlowKey {
            addressed: parsed.source.into(),
            peer: to.peer.id,
            user_port: parsed.destination_port.to_be(),
            device_port: parsed.source_port.to_be(),
            protocol: parsed.protocol,
            reserved: [0; 3],
        };
        self.flow_to_device(to.plant, &key, now).ok_or(Verdict::NoFlow)
    }

    /// Of the two flows that the device may have, one under each of its addresses, the one that goes to it at this
    /// plant. `real` is the key under its real address.
    pub(super) fn flow_to_device(&self, plant: &Plant, real: &FlowKey, now: u64) -> Option<FlowKey> {
        let device = real.addressed;
        let twin = plant.twin(device.to_ip()).map(|twin| FlowKey { addressed: twin.into(), ..*real });
        let mut found = None;
        for key in twin.into_iter().chain([*real]) {
            if let Some(flow) = self.records.flows.get(&key)
                && flow.plant == plant.id
                && flow.device == device
            {
                // One that is over makes way for the other.
                if flow.age(now) != Age::Over {
                    return Some(key);
                }
                found = found.or(Some(key));
            }
        }
        found
    }

    /// Whether packets from the plant may go on in a flow.
    pub(super) fn check_flow(&self, to: &Recipient<'_>, key: &FlowKey, flow: &Flow, now: u64) -> Result<(), Verdict> {
        if flow.age(now) != Age::Live {
            return Err(Verdict::FlowIdle);
        }
        if self.is_current(flow, to.peer) || self.leads_to(to.peer, key, to.plant.id, flow) {
            Ok(())
        } else {
            Err(Verdict::Revoked)
        }
    }

    /// Whether what the user wrote leads to the flow's device at this plant by the present routes.
    fn leads_to(&self, peer: Peer, key: &FlowKey, plant: u32, flow: &Flow) -> bool {
        let addressed = key.addressed.to_ip();
        let route = self.topology.route(peer.route_set, addressed);
        route.is_some_and(|route| route.plant == plant && route.subnet.device(addressed) == flow.device.to_ip())
    }

    fn data_from_plant(
        &mut self,
        arrival: &Arrival,
        to: &Recipient<'_>,
        parsed: &Parsed,
        key: &FlowKey,
        now: u64,
    ) -> Ended {
        let flow = self.records.flows[key];
        if let Err(verdict) = self.check_flow(to, key, &flow, now) {
            return verdict.into();
        }
        if let Err(refusal) = parsed.check_egress(self.topology.users_mtu) {
            return self.refuse_to_plant(arrival, to, parsed, refusal, now);
        }

        let idle = self.topology.idle;
        let flow = self.records.flows.get_mut(key).expect("it was found");
        flow.to_user.packets += parsed.wire.traffic.packets;
        flow.to_user.bytes += parsed.wire.traffic.bytes;
        flow.tcp_plant = tcp::seen(flow.tcp_plant, parsed.tcp_flags);
        flow.last_ns = now;
        flow.expires_ns = now + idle.of(key.protocol, flow.tcp_user, flow.tcp_plant);
        let mtu = flow.mtu;
        self.note_first_fragment(arrival, parsed, *key, now);

        let addresses = Addresses { source: key.addressed.to_ip(), destination: to.user };
        let packet = translated(&arrival.packet, parsed, addresses, self.largest_to_user(mtu));
        Ended { verdict: Verdict::ToUser, action: Action::Redirect(self.topology.users), packet: Some(packet) }
    }

    /// A packet without a flow, which may belong to one that could not be recorded.
    fn unrecorded_from_plant(&mut self, arrival: &Arrival, to: &Recipient<'_>, parsed: &Parsed, now: u64) -> Ended {
        let is_allowed = self.topology.options & FORWARD_UNRECORDED != 0 && self.was_unrecorded(to.peer.id, now);
        let opens = parsed.protocol == TCP && parsed.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
        let addressed = to.plant.twin(parsed.source).filter(|_| is_allowed && !opens).filter(|twin| {
            let route = self.topology.route(to.peer.route_set, *twin);
            route.is_some_and(|route| route.plant == to.plant.id && route.subnet.device(*twin) == parsed.source)
        });
        let Some(addressed) = addressed else {
            return Verdict::NoFlow.into();
        };
        if let Err(refusal) = parsed.check_egress(self.topology.users_mtu) {
            return self.refuse_to_plant(arrival, to, parsed, refusal, now);
        }
        let addresses = Addresses { source: addressed, destination: to.user };
        let packet = translated(&arrival.packet, parsed, addresses, self.largest_to_user(to.plant.mtu));
        let action = Action::Redirect(self.topology.users);
        Ended { verdict: Verdict::UnrecordedToUser, action, packet: Some(packet) }
    }

    fn refuse_to_plant(
        &mut self,
        arrival: &Arrival,
        to: &Recipient<'_>,
        parsed: &Parsed,
        refusal: Refusal,
        now: u64,
    ) -> Ended {
        let from = self.topology.seen_by_plants(self.topology.address[parsed.family()]);
        self.refuse(arrival, parsed, refusal, from, to.peer.id, now)
    }
}

/// Between whom a packet from a plant goes.
pub(super) struct Recipient<'a> {
    pub plant: &'a Plant,
    /// Tunnel address of the user.
    pub user: IpAddr,
    pub peer: Peer,
}
