//! The program on the users' device.

use vpn_ebpf_common::{
    Verdict,
    event::{Event, FLOW_OPENED, FlowOpened},
    flow::FlowKey,
    peer::Peer,
    tcp,
};

use super::{
    Action, Arrival, Ended, Model,
    admission::Admission,
    parse::{Fragment, Parsed},
    refusal::Refusal,
    rewrite::{Addresses, translated},
};

impl Model {
    pub(super) fn packet_from_user(&mut self, arrival: &Arrival, parsed: &Parsed, now: u64) -> Ended {
        if self.topology.users == 0 {
            return Verdict::NotConfigured.into();
        }
        let Some(peer) = self.topology.peer(parsed.source) else {
            return Verdict::NoPeer.into();
        };
        let ended = if parsed.is_icmp_error {
            self.error_from_user(arrival, parsed, peer, now)
        } else {
            self.data_from_user(arrival, parsed, peer, now)
        };
        ended.unwrap_or_else(|refusal| {
            self.record_denial(parsed, peer.id, refusal.verdict, now);
            let from = self.topology.address[parsed.family()];
            self.refuse(arrival, parsed, refusal, from, peer.id, now)
        })
    }

    fn data_from_user(&mut self, arrival: &Arrival, parsed: &Parsed, peer: Peer, now: u64) -> Result<Ended, Refusal> {
        let key = match parsed.fragment {
            Fragment::Later(identification) => self.flow_of_fragment(arrival, parsed, identification, now)?,
            Fragment::Whole | Fragment::First(_) => FlowKey {
                addressed: parsed.destination.into(),
                peer: peer.id,
                user_port: parsed.source_port.to_be(),
                device_port: parsed.destination_port.to_be(),
                protocol: parsed.protocol,
                reserved: [0; 3],
            },
        };
        let admission = self.admit(&key, peer, parsed, now)?;
        if let Admission::Unrecorded(resolved) = admission {
            let addresses =
                Addresses { source: self.topology.seen_by_plants(parsed.source), destination: resolved.device };
            let packet = translated(&arrival.packet, parsed, addresses, self.largest_to_user(resolved.mtu));
            let action = Action::Redirect(resolved.egress);
            return Ok(Ended { verdict: Verdict::UnrecordedToPlant, action, packet: Some(packet) });
        }

        let idle = self.topology.idle;
        let flow = self.records.flows.get_mut(&key).expect("an admitted packet has a flow");
        flow.to_plant.packets += parsed.wire.traffic.packets;
        flow.to_plant.bytes += parsed.wire.traffic.bytes;
        flow.tcp_user = tcp::seen(flow.tcp_user, parsed.tcp_flags);
        flow.last_ns = now;
        flow.expires_ns = now + idle.of(key.protocol, flow.tcp_user, flow.tcp_plant);
        let flow = *flow;
        if matches!(admission, Admission::Opened) {
            self.events.push(Event::FlowOpened(FlowOpened { kind: FLOW_OPENED, flow, key, reserved: 0 }));
        }
        self.note_first_fragment(arrival, parsed, key, now);

        if flow.plant == 0 {
            return Ok(Ended { verdict: Verdict::ToGateway, action: Action::Pass, packet: None });
        }
        let addresses =
            Addresses { source: self.topology.seen_by_plants(parsed.source), destination: flow.device.to_ip() };
        let packet = translated(&arrival.packet, parsed, addresses, self.largest_to_user(flow.mtu));
        Ok(Ended { verdict: Verdict::ToPlant, action: Action::Redirect(flow.egress), packet: Some(packet) })
    }

    /// The largest packet between a user and an uplink with this MTU.
    pub(super) fn largest_to_user(&self, mtu: u32) -> u32 {
        mtu.min(self.topology.users_mtu)
    }
}
