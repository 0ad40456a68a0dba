//! Whether a packet from a user has a flow, or may open one.

use std::net::IpAddr;

use vpn_ebpf_common::{
    Verdict,
    flow::{Age, ClosedKey, Flow, FlowKey, Traffic},
    gateway::FORWARD_UNRECORDED,
    peer::Peer,
    protocol::TCP,
    tcp,
    usage::second,
};

use super::{Model, parse::Parsed, refusal::Refusal};
use crate::topology::{Service, Subnet};

/// How a packet may go on.
pub(super) enum Admission {
    /// In a flow that was there.
    Known,
    /// In a flow that it opens.
    Opened,
    /// Without a flow.
    Unrecorded(Resolved),
}

/// Where a packet leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    /// Zero for a service.
    pub plant: u32,
    pub route: u32,
    pub device: IpAddr,
    pub mtu: u32,
    pub egress: u32,
    pub link_header: u32,
    /// None for a service.
    pub subnet: Option<Subnet>,
}

impl Model {
    pub(super) fn admit(&mut self, key: &FlowKey, peer: Peer, parsed: &Parsed, now: u64) -> Result<Admission, Refusal> {
        if let Some(flow) = self.records.flows.get(key)
            && flow.age(now) == Age::Live
            && self.is_current(flow, peer)
        {
            if flow.plant != 0 {
                parsed.check_egress(flow.mtu)?;
            }
            return Ok(Admission::Known);
        }

        let resolved = self.resolve(key, peer)?;
        if resolved.plant != 0 {
            parsed.check_egress(resolved.mtu)?;
        }
        let generation = self.topology.generation;
        match self.records.flows.get_mut(key) {
            Some(flow) if flow.age(now) == Age::Live => {
                if flow.plant != resolved.plant || flow.device != resolved.device.into() {
                    flow.expires_ns = now - 1;
                    return Err(Verdict::FlowMoved.into());
                }
                resolved.fill(flow, peer.route_set, generation);
                Ok(Admission::Known)
            }
            Some(flow) if flow.age(now) == Age::Settling => Err(Verdict::FlowIdle.into()),
            Some(_) => self.open(key, peer, &resolved, parsed, true, now),
            None => self.open(key, peer, &resolved, parsed, false, now),
        }
    }

    /// Whether nothing has changed since the flow was admitted.
    pub(super) fn is_current(&self, flow: &Flow, peer: Peer) -> bool {
        flow.route_set == peer.route_set && flow.generation == self.topology.generation
    }

    /// Where the destination of a flow leads now.
    pub(super) fn resolve(&self, key: &FlowKey, peer: Peer) -> Result<Resolved, Verdict> {
        let addressed = key.addressed.to_ip();
        if let Some(route) = self.topology.route(peer.route_set, addressed) {
            let plant = self.topology.plants.get(&route.egress).filter(|plant| plant.id == route.plant);
            let plant = plant.ok_or(Verdict::NoPlant)?;
            return Ok(Resolved {
                plant: plant.id,
                route: route.id,
                device: route.subnet.device(addressed),
                mtu: plant.mtu,
                egress: route.egress,
                link_header: plant.link_header,
                subnet: Some(route.subnet),
            });
        }
        let service = Service { address: addressed, port: u16::from_be(key.device_port), protocol: key.protocol };
        let route = self.topology.services.get(&service).ok_or(Verdict::NoRoute)?;
        Ok(Resolved {
            plant: 0,
            route: *route,
            device: addressed,
            mtu: 65_535,
            egress: 0,
            link_header: 0,
            subnet: None,
        })
    }

    /// Opens a flow; with `replaces`, after one that is over. A packet that is refused changes nothing: were the old
    /// flow ended before all else is checked, it would be gone without the collector, who counts what is released.
    fn open(
        &mut self,
        key: &FlowKey,
        peer: Peer,
        resolved: &Resolved,
        parsed: &Parsed,
        replaces: bool,
        now: u64,
    ) -> Result<Admission, Refusal> {
        if parsed.is_later_fragment() {
            return Err(Verdict::Fragment.into());
        }
        if let Some(subnet) = &resolved.subnet {
            let is_real = resolved.device == key.addressed.to_ip();
            let opens = parsed.protocol != TCP || parsed.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
            if is_real && !opens && self.topology.options & FORWARD_UNRECORDED == 0 {
                return Err(Verdict::NoConnection.into());
            }
            let other = FlowKey { addressed: subnet.other_address(key.addressed.to_ip()).into(), ..*key };
            let conflicts = self.records.flows.get(&other).is_some_and(|flow| {
                let is_same = flow.plant == resolved.plant && flow.device.to_ip() == resolved.device;
                is_same && flow.age(now) != Age::Over
            });
            if other != *key && conflicts {
                return Err(Verdict::AddressInUse.into());
            }
        }
        let limits = self.topology.limits;
        if self.usage_at(peer.id, now).new_flows >= limits.new_flows_per_second {
            return Err(Verdict::PeerRate.into());
        }
        if !replaces && self.live_flows(peer.id, now) >= limits.live_flows.into() {
            return Err(Verdict::PeerFlows.into());
        }
        if replaces {
            self.close(key)?;
        }
        if self.records.flows.len() >= self.capacities.flows {
            if self.topology.options & FORWARD_UNRECORDED == 0 || resolved.plant == 0 {
                return Err(Verdict::FlowsFull.into());
            }
            self.usage_at(peer.id, now).unrecorded_second = second(now);
            return Ok(Admission::Unrecorded(*resolved));
        }

        let mut flow = opened(key, now);
        resolved.fill(&mut flow, peer.route_set, self.topology.generation);
        self.records.flows.insert(*key, flow);
        let usage = self.usage_at(peer.id, now);
        usage.opened += u64::from(!replaces);
        usage.new_flows += 1;
        Ok(Admission::Opened)
    }

    /// Moves a flow that is over from FLOWS to CLOSED.
    fn close(&mut self, key: &FlowKey) -> Result<(), Verdict> {
        let flow = self.records.flows[key];
        let closed = ClosedKey::new(*key, flow.opened_ns);
        if self.records.closed.contains_key(&closed) {
            return Err(Verdict::FlowIdle);
        }
        if self.records.closed.len() >= self.capacities.closed {
            return Err(Verdict::ClosedFull);
        }
        self.records.closed.insert(closed, flow);
        self.records.flows.remove(key);
        Ok(())
    }
}

impl Resolved {
    /// Writes it into a flow that is admitted under a route set and a generation.
    pub(super) fn fill(&self, flow: &mut Flow, route_set: u32, generation: u32) {
        *flow = Flow {
            mtu: self.mtu,
            device: self.device.into(),
            plant: self.plant,
            route: self.route,
            route_set,
            generation,
            egress: self.egress,
            link_header: self.link_header as u16,
            ..*flow
        };
    }
}

/// A flow that begins now, in which nothing is counted and of which nothing else is known.
fn opened(key: &FlowKey, now: u64) -> Flow {
    let nowhere = IpAddr::from([0; 16]).into();
    Flow {
        tag: key.tag(),
        mtu: 0,
        tcp_user: 0,
        tcp_plant: 0,
        opened_ns: now,
        last_ns: now,
        expires_ns: now,
        to_plant: Traffic::default(),
        to_user: Traffic::default(),
        device: nowhere,
        plant: 0,
        route: 0,
        route_set: 0,
        generation: 0,
        egress: 0,
        link_header: 0,
        reserved: 0,
    }
}
