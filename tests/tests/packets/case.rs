//! One packet, what the maps hold before it, and what becomes of it.

use vpn_ebpf_common::{Verdict, flow::FlowKey, names::USERS};
use vpn_tests::{
    by_hand::{OTHER_SET, OTHER_UPLINK, PEER, UPLINK},
    interfaces::USERS_DEVICE,
    model::{Action, Arrival, Coalesced, Outcome},
    pair::Pair,
    scenario::{Change, Step},
    topology::{Net, Subnet, Topology},
    traffic::Packet,
};

/// A row of the tables.
pub struct Case {
    name: &'static str,
    program: &'static str,
    ingress: u32,
    /// Where it leaves if it goes on.
    egress: u32,
    given: Box<dyn Fn(&mut Pair)>,
    packet: Vec<u8>,
    coalesced: Option<Coalesced>,
    /// Its fate.
    pub verdict: Verdict,
    fate: Fate,
}

/// What becomes of a packet.
enum Fate {
    /// It goes to the plant or to the user, as this.
    Forwarded(Vec<u8>),
    /// It goes to the host itself.
    Passed,
    /// It goes nowhere.
    Dropped,
    /// It goes nowhere, and this goes back.
    Answered(Vec<u8>),
}

impl Case {
    /// A packet that is dropped.
    pub fn new(name: &'static str, program: &'static str, packet: Vec<u8>, verdict: Verdict) -> Self {
        Self {
            name,
            program,
            ingress: ingress_of(program),
            egress: if program == USERS { UPLINK } else { USERS_DEVICE },
            given: Box::new(|_| ()),
            packet,
            coalesced: None,
            verdict,
            fate: Fate::Dropped,
        }
    }

    /// It goes on, as `out`.
    pub fn forwarded(self, out: Vec<u8>) -> Self {
        Self { fate: Fate::Forwarded(out), ..self }
    }

    /// The host itself gets it.
    pub fn passed(self) -> Self {
        Self { fate: Fate::Passed, ..self }
    }

    /// It is answered.
    pub fn answered(self, answer: Vec<u8>) -> Self {
        Self { fate: Fate::Answered(answer), ..self }
    }

    /// Brings the maps into the state that it meets.
    pub fn given(self, given: impl Fn(&mut Pair) + 'static) -> Self {
        Self { given: Box::new(given), ..self }
    }

    /// It comes from another plant.
    pub fn from(self, uplink: u32) -> Self {
        Self { ingress: uplink, ..self }
    }

    /// It leaves by another uplink.
    pub fn by(self, uplink: u32) -> Self {
        Self { egress: uplink, ..self }
    }

    /// The kernel has put it together from several.
    pub fn coalesced(self, segments: u32, size: u32) -> Self {
        Self { coalesced: Some(Coalesced { segments, size }), ..self }
    }

    /// Runs it, from empty maps.
    pub fn check(&self, pair: &mut Pair, topology: &Topology) {
        let name = self.name;
        begin(pair, topology);
        (self.given)(pair);
        let outcome = arrive(pair, self.program, self.ingress, &self.packet, self.coalesced);
        assert_eq!(outcome.verdict, self.verdict, "{name}");
        let (action, out) = match &self.fate {
            Fate::Forwarded(out) => (Action::Redirect(self.egress), out),
            Fate::Passed => (Action::Pass, &self.packet),
            Fate::Dropped => (Action::Drop, &self.packet),
            Fate::Answered(answer) => (Action::Redirect(self.ingress), answer),
        };
        assert_eq!(outcome.action, action, "{name}");
        assert_eq!(hex(&outcome.packet), hex(out), "{name}");
        pair.compare().unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

/// Begins with this topology and empty maps.
pub fn begin(pair: &mut Pair, topology: &Topology) {
    happen(pair, Step::Install(Box::new(topology.clone())));
    pair.clear();
}

/// Runs a packet, coalesced or not.
pub fn run(pair: &mut Pair, program: &'static str, packet: &[u8], coalesced: Option<Coalesced>) -> Outcome {
    arrive(pair, program, ingress_of(program), packet, coalesced)
}

fn arrive(
    pair: &mut Pair,
    program: &'static str,
    ingress: u32,
    packet: &[u8],
    coalesced: Option<Coalesced>,
) -> Outcome {
    let arrival = Arrival { ingress, packet: packet.to_vec(), coalesced };
    happen(pair, Step::Packet(Packet { program, arrival })).expect("a packet has an outcome")
}

fn ingress_of(program: &str) -> u32 {
    if program == USERS { USERS_DEVICE } else { UPLINK }
}

/// Runs a packet that comes before, whatever becomes of it.
pub fn play(pair: &mut Pair, program: &'static str, packet: &[u8]) {
    run(pair, program, packet, None);
}

/// Changes what the agent has written.
pub fn change(pair: &mut Pair, change: impl FnOnce(&mut Topology)) {
    let mut topology = pair.model().topology.clone();
    change(&mut topology);
    happen(pair, Step::Install(Box::new(topology)));
}

/// Gives the user another route set.
pub fn change_route_set(pair: &mut Pair, route_set: u32) {
    change(pair, |topology| topology.peers.values_mut().for_each(|peer| peer.route_set = route_set));
}

/// Gives the user a copy of its route set.
pub fn copy_route_set(pair: &mut Pair) {
    change(pair, |topology| drop(topology.route_sets.insert(77, topology.route_sets[&PEER.route_set].clone())));
    change_route_set(pair, 77);
}

/// Puts all plants behind links with headers of this length.
pub fn connect_plants(pair: &mut Pair, link_header: u32) {
    change(pair, |topology| topology.connect_plants(link_header));
}

/// Has the real addresses lead to the other plant, while the virtual ones lead to this one as before.
pub fn lead_real_to_other(pair: &mut Pair) {
    change(pair, |topology| {
        let others = topology.route_sets[&OTHER_SET].clone();
        for (net, route) in topology.route_sets.get_mut(&PEER.route_set).unwrap() {
            *route = others.get(net).copied().unwrap_or(*route);
        }
    });
}

/// Exchanges the interfaces of the two plants.
pub fn exchange_plants(pair: &mut Pair) {
    change(pair, |topology| {
        let [one, other] = [UPLINK, OTHER_UPLINK].map(|uplink| topology.plants.remove(&uplink).unwrap());
        topology.plants.extend([(UPLINK, other), (OTHER_UPLINK, one)]);
    });
}

/// The same, and the routes of the user follow.
pub fn exchange_uplinks(pair: &mut Pair) {
    exchange_plants(pair);
    change(pair, |topology| {
        let mut routes = topology.route_sets[&PEER.route_set].clone();
        routes.values_mut().for_each(|route| route.egress = OTHER_UPLINK);
        topology.route_sets.insert(77, routes);
        topology.generation += 1;
    });
    change_route_set(pair, 77);
}

/// Gives the plant other real addresses.
pub fn renumber(pair: &mut Pair) {
    change(pair, |topology| {
        let renumbered = |subnet: &mut Subnet| {
            let other = if subnet.real.address.is_ipv4() { "192.168.77.0" } else { "fd77::" };
            subnet.real = Net::new(other.parse().unwrap(), subnet.real.length);
        };
        topology.plants.get_mut(&UPLINK).unwrap().subnets.iter_mut().for_each(renumbered);
        let mut routes = topology.route_sets[&PEER.route_set].clone();
        routes.values_mut().for_each(|route| renumbered(&mut route.subnet));
        topology.route_sets.insert(77, routes);
        topology.generation += 1;
    });
    change_route_set(pair, 77);
}

/// Lets a flow settle.
pub fn settle(pair: &mut Pair, key: FlowKey) {
    change_flow(pair, key, Change::Settle(key));
}

/// Lets a flow be over.
pub fn end(pair: &mut Pair, key: FlowKey) {
    change_flow(pair, key, Change::End(key));
}

/// Lets the collector take what is over.
pub fn collect(pair: &mut Pair) {
    happen(pair, Step::Records(Change::Collect));
}

fn change_flow(pair: &mut Pair, key: FlowKey, change: Change) {
    assert!(pair.model().records.flows.contains_key(&key), "a flow {key:?}");
    happen(pair, Step::Records(change));
}

fn happen(pair: &mut Pair, step: Step) -> Option<Outcome> {
    pair.step(&step).unwrap_or_else(|problem| panic!("{step:?}: {problem}"))
}

/// For messages in which one can find the byte.
pub fn hex(packet: &[u8]) -> String {
    packet.iter().map(|byte| format!("{byte:02x}")).collect()
}
