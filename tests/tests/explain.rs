//! `vpn-agent explain` against real maps: every step that can deny is named, and what is said of the kernel is what the
//! program does with a packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use vpn_agent::{
    addressing::Allocations,
    catalogue::Catalogue,
    config::Config,
    content,
    datapath::{self, Datapath, Sizes, fill::Content, read::Maps as _},
    explain::{About, Explanation, Kernel, Outcome, Question, Side, Surroundings},
    id::PlantId,
    overview::Link,
    policy::Policy,
    state::State,
    tables::{Tables, Uplink},
    terms::Terms,
};
use vpn_ebpf_common::{Verdict, names::USERS, tcp::SYN};
use vpn_tests::{
    gate::{Gate, LOOPBACK, sizes},
    packet::{Ends, echo_request, segment, udp},
    pins::Pins,
};

/// A port on which nothing of the gateway listens.
const PORT: u16 = 502;

/// Who asks for what: what is changed before, and what must be answered.
struct Case {
    name: &'static str,
    /// In the desired state, before the agent has applied it.
    document: fn(&mut Value),
    /// In the maps, after that.
    maps: fn(&mut World),
    certificate: &'static str,
    to: &'static str,
    denied_by: (Side, About),
    /// A part of what is said of that step.
    part: &'static str,
    /// Whether kernel and state differ.
    differs: bool,
}

impl Case {
    const fn new(name: &'static str, to: &'static str, denied_by: (Side, About), part: &'static str) -> Self {
        Self { name, document: |_| {}, maps: |_| {}, certificate: "b", to, denied_by, part, differs: false }
    }

    const fn state(self, document: fn(&mut Value)) -> Self {
        Self { document, ..self }
    }

    const fn kernel(self, maps: fn(&mut World)) -> Self {
        Self { maps, differs: true, ..self }
    }

    const fn of(self, certificate: &'static str) -> Self {
        Self { certificate, ..self }
    }
}

/// Virtual addresses of a device in each plant, as they are given: by plant, in the order of their ids.
const NORTH: &str = "10.128.0.20";
const SOUTH: &str = "10.128.1.20";
const REAL: &str = "192.168.1.20";

/// Requirements: B5.
#[test]
fn every_step_that_denies_is_named() {
    use self::{About::*, Side::*};
    let cases = [
        // The desired state.
        Case::new("the pool of virtual subnets", "10.200.0.1", (State, Address), "of no plant's virtual subnet"),
        Case::new("another pool", "100.80.0.2", (State, Address), "is in pools.source"),
        Case::new("nobody's real address", "172.16.0.1", (State, Address), "no plant has the address"),
        Case::new("a plant that is gone", "10.128.2.20", (State, Address), "which is gone").state(|document| {
            // Given once, like all that a state ever had.
            document["plants"].as_array_mut().unwrap().pop();
        }),
        Case::new("a port of the gateway", "100.64.0.1:54/udp", (State, Service), "those there are 100.64.0.1:53/udp"),
        Case::new("the gateway over TCP", "100.64.0.1:53/tcp", (State, Service), "is no service of the gateway"),
        Case::new("a membership that does not cover it", SOUTH, (State, Membership), "does not cover this plant")
            .state(|document| document["memberships"][1]["access"] = json!({"portfolios": [], "plants": []})),
        Case::new("no cooperation", NORTH, (State, Cooperation), "there is none that counts here")
            .state(|document| document["cooperations"] = json!([])),
        Case::new("a cooperation that is over", NORTH, (State, Cooperation), "which is over")
            .state(|document| document["cooperations"][0]["until"] = json!("2026-01-01T00:00:00Z")),
        Case::new("a guest of the partner", NORTH, (State, Cooperation), "only a guest")
            .state(|document| document["memberships"][1]["kind"] = json!("guest")),
        Case::new("not at operator level", NORTH, (State, Cooperation), "no job role of operator level")
            .state(|document| document["roles"][1]["role"] = json!("technical-manager")),
        Case::new("no job role", SOUTH, (State, Role), "there is none on the plant").state(|document| {
            document["roles"].as_array_mut().unwrap().retain(|job| job["on"]["plant"] != "south");
        }),
        Case::new(
            "a job role that opens nothing",
            SOUTH,
            (State, Role),
            "viewer on plant south, which opens no routes",
        )
        .state(|document| document["roles"][2]["role"] = json!("viewer")),
        Case::new("switched off", SOUTH, (State, Switch), "has switched the route off")
            .state(|document| document["disabled"] = json!([{"user": "b", "plant": "south"}])),
        Case::new("switched off for a time", SOUTH, (State, Switch), "until 2027-01-01T00:00:00Z").state(|document| {
            let until = "2027-01-01T00:00:00Z";
            document["disabled"] = json!([{"user": "b", "plant": "south", "subnet": "192.168.1.0/24", "until": until}]);
        }),
        Case::new("a plant of another region", SOUTH, (State, Uplink), "not linked to region eu").state(|document| {
            let plant = document["plants"][1].as_object_mut().unwrap();
            let uplink = plant.remove("uplink").unwrap();
            plant.insert("uplinks".to_owned(), json!([{"regions": ["us"], "uplink": uplink}]));
        }),
        Case::new("a real address of plants without a right", REAL, (State, Role), "viewer on plant south")
            .state(|document| document["roles"] = json!([{"user": "b", "role": "viewer", "on": {"plant": "south"}}])),
        Case::new("a plant that the certificate does not list", SOUTH, (State, List), "does not list the plant")
            .of("o"),
        Case::new("a plant of others that is listed", NORTH, (State, Cooperation), "does not operate the plant")
            .of("o")
            .state(|document| document["cooperations"] = json!([])),
        // The kernel, where the state allows.
        Case::new("the programs were detached", SOUTH, (Kernel, Programs), "detached by `vpn-agent detach`")
            .kernel(|world| datapath::detach(world.pins.path(), false).unwrap()),
        Case::new("nobody at the tunnel IP", SOUTH, (Kernel, Peer), "PEERS has nobody at 3")
            .kernel(|world| world.fill(|content| content.peers.retain(|number, _| *number != 3))),
        Case::new("no route in the set", SOUTH, (Kernel, Route), "ROUTES has nothing for 10.128.1.20 in set 7").kernel(
            |world| {
                world.fill(|content| {
                    content.route_sets.insert(7, Default::default());
                    content.peers.get_mut(&3).unwrap().route_set = 7;
                });
            },
        ),
        Case::new("no plant behind the interface", SOUTH, (Kernel, Plant), "PLANTS has nothing for the interface 12")
            .kernel(|world| world.fill(|content| content.plants.retain(|ifindex, _| *ifindex != 12))),
        Case::new("another plant behind it", SOUTH, (Kernel, Plant), "plant 1, north, which is another one").kernel(
            |world| {
                world.fill(|content| content.plants.get_mut(&12).unwrap().id = 1);
            },
        ),
        Case::new("no interface for the plant", SOUTH, (Kernel, Plant), "has no interface on this host").kernel(
            |world| {
                world.uplinks.remove("south");
                world.apply();
            },
        ),
    ];
    let mut seen = BTreeSet::new();
    for case in cases {
        let mut world = World::new();
        world.change(case.document);
        (case.maps)(&mut world);
        let answer = world.ask(case.certificate, case.to);
        let denied_by = answer.denied_by.as_ref().unwrap_or_else(|| panic!("{}: {answer}", case.name));
        assert_eq!((denied_by.side, denied_by.step.about), case.denied_by, "{}: {answer}", case.name);
        assert!(denied_by.step.what.contains(case.part), "{}: {answer}", case.name);
        assert_eq!(!answer.differences.is_empty(), case.differs, "{}: {answer}", case.name);
        assert_eq!(answer.kernel.outcome, Outcome::Denied, "{}: {answer}", case.name);
        let said = answer.to_string();
        assert!(said.ends_with(&format!(": {}\n", denied_by.step.what)), "{}: {said}", case.name);
        seen.insert(format!("{:?}", case.denied_by));
        if let Some(verdict) = answer.kernel.verdict {
            assert_eq!(verdict, world.verdict(case.certificate, case.to), "{}: {said}", case.name);
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

/// Requirements: B5.
#[test]
fn what_never_ran_or_was_never_given_is_said() {
    let mut world = World::new();
    let kernel = Kernel::open(&example_config("/nonexistent")).unwrap();
    let answer = world.ask_with("b", SOUTH, &kernel);
    let denied_by = answer.denied_by.unwrap();
    assert_eq!((denied_by.side, denied_by.step.about), (Side::Kernel, About::Programs));
    assert!(denied_by.step.what.contains("there are no maps"), "{}", denied_by.step.what);

    world.given = Allocations::default();
    let answer = world.ask("b", SOUTH);
    let denied_by = answer.denied_by.unwrap();
    assert_eq!((denied_by.side, denied_by.step.about), (Side::State, About::Certificate));
}

/// Requirements: B5, C2.
#[test]
fn the_whole_chain_of_what_is_allowed_is_shown() {
    let mut world = World::new();
    let said = world.ask("b", "192.168.1.20:502/tcp").to_string();
    let expected = "certificate b of user b, to 192.168.1.20:502/tcp\n\
        \n\
        desired state, revision 7\n\
        \x20 allows  certificate b has the tunnel IP 100.64.0.3 and is the peer 2\n\
        \x20 allows  192.168.1.20 is in 192.168.1.0/24 of plant north; of 2 plants with this address it has it for this certificate\n\
        \x20 allows  cooperation, since user b has no membership there: plant north is shared with beta\n\
        \x20 allows  job roles of user b: operator on plant north\n\
        \x20 allows  the route is switched on\n\
        \x20 allows  plant north is linked to region eu, uplink: up\n\
        \x20         the same address is also at south\n\
        \x20 so it leads to 192.168.1.20 at plant north\n\
        \n\
        kernel\n\
        \x20 allows  PEERS 3: peer 2, route set 2\n\
        \x20 allows  ROUTES 192.168.1.0/24: plant 1, north, route 1, interface 11\n\
        \x20 allows  PLANTS 11: plant 1, north\n\
        \x20 so it leads to 192.168.1.20 at plant north (to-plant)\n\
        \n\
        allowed\n";
    assert_eq!(said, expected);

    world.change(|document| document["priorities"] = json!([{"user": "b", "plants": ["south"]}]));
    let answer = world.ask("b", REAL);
    assert!(matches!(&answer.kernel.outcome, Outcome::Plant { plant: Some(plant), .. } if plant.as_str() == "south"));
    assert_eq!(answer.kernel.outcome, answer.state.outcome);

    world.link = Link::Down;
    assert!(world.ask("b", REAL).to_string().ends_with("allowed, but the uplink is down, unreachable\n"));

    let service = world.ask("b", "100.64.0.1:53/udp");
    assert_eq!((&service.state.outcome, &service.kernel.outcome), (&Outcome::Gateway, &Outcome::Gateway));
    assert!(service.to_string().contains("allows  SERVICES 100.64.0.1:53/udp: service 1 of the gateway"), "{service}");

    let json = serde_json::to_value(world.ask("b", SOUTH)).unwrap();
    assert_eq!(
        (&json["question"], &json["denied_by"], &json["differences"]),
        (&json!(SOUTH), &Value::Null, &json!([]))
    );
    assert_eq!(json["kernel"]["verdict"], "to-plant");
    assert_eq!(json["state"]["target"]["permission"]["owner"], "user");
    assert_eq!(json["kernel"]["device"], "192.168.1.20");
}

/// Requirements: B5.
#[test]
fn a_kernel_that_is_behind_is_told_from_the_state() {
    let mut world = World::new();
    // The role is gone in the file, and the agent has not seen it.
    world.document["roles"] = json!([]);
    let answer = world.ask("b", SOUTH);
    assert_eq!((answer.denied_by.as_ref(), answer.differences.len()), (None, 1), "{answer}");
    assert!(
        answer.differences[0]
            .starts_with("by the state it is denied, in the kernel it leads to 192.168.1.20 at plant south"),
        "{answer}"
    );
    world.fill(|content| content.peers.get_mut(&3).unwrap().id = 9);
    let answer = world.ask("b", SOUTH);
    assert!(
        answer.differences[0].contains("PEERS has the peer 9 at the tunnel IP of b, which is the peer 2"),
        "{answer}"
    );
}

/// Every certificate and every address of interest: what is said of the kernel is what the program does, and the state
/// says the same as long as the agent has applied it.
///
/// Requirements: B5, C1, C2, C3, D3.
#[test]
fn the_program_does_what_is_said() {
    let mut world = World::new();
    type Change = fn(&mut Value);
    let changes: [Change; 5] = [
        |_| {},
        |document| document["priorities"] = json!([{"user": "b", "plants": ["south", "north"]}]),
        |document| document["disabled"] = json!([{"user": "b", "plant": "north"}]),
        |document| document["plants"][1]["subnets"] = json!(["192.168.0.0/16", "2001:db8::/64"]),
        |document| document["roles"] = json!([]),
    ];
    let mut allowed = 0;
    for change in changes {
        world.change(change);
        for certificate in ["a", "b", "o"] {
            for to in [
                NORTH,
                SOUTH,
                REAL,
                "192.168.1.20:502/tcp",
                "10.128.0.255/icmp",
                "192.168.7.1:9/udp",
                "10.128.2.20",
                "10.130.1.20",
                "172.16.0.1",
                "100.64.0.1:53/udp",
                "100.64.0.1:53/tcp",
                "100.64.0.1/icmp",
                "100.80.0.2",
                "2001:db8::20",
                "fd76:7600::20",
                "fd76:7600::20:502/tcp",
                "[fd76:7600::20]:502/tcp",
                "2001:db9::1",
            ] {
                let Ok(question) = to.parse::<Question>() else { continue };
                let (kernel, state, differences) = {
                    let answer = world.ask(certificate, to);
                    (answer.kernel.clone(), answer.state.outcome.clone(), answer.differences.clone())
                };
                // Without a protocol and port it cannot be told whether it is a service.
                let is_whole = question.service.is_some() || !to.starts_with("100.64.0.1");
                assert!(!is_whole || differences.is_empty(), "{certificate} to {to}: {differences:?}");
                assert_eq!(kernel.outcome, state, "{certificate} to {to}");
                assert_eq!(kernel.verdict, Some(world.verdict(certificate, to)), "{certificate} to {to}");
                allowed += usize::from(kernel.outcome != Outcome::Denied);
            }
        }
    }
    assert!(allowed > 40, "{allowed}");
}

/// A gateway of which the maps are real.
struct World {
    pins: Pins,
    config: Config,
    gate: Gate,
    document: Value,
    given: Allocations,
    catalogue: Catalogue,
    uplinks: BTreeMap<PlantId, Uplink>,
    link: Link,
    /// A port of the user's for each packet, so that each opens a flow.
    port: u16,
}

impl World {
    /// Alpha operates north and west, beta south. User b of beta works at south, and at north by a cooperation; the
    /// certificate o of beta itself is for north.
    fn new() -> Self {
        let pins = Pins::new();
        let config = example_config(pins.path().to_str().unwrap());
        let limits = Sizes { routes_max: 1_024, flows_max: 4_096, ..sizes() };
        let mut datapath = Datapath::for_test_runs(Some(pins.path()), &limits).unwrap();
        datapath.configure(&content::gateway(&config, LOOPBACK)).unwrap();
        let uplink = |ifindex| Uplink { ifindex, mtu: 1_420, link_header: 14 };
        let uplinks = [("north", 11), ("south", 12), ("west", 13)];
        let mut world = Self {
            pins,
            config,
            gate: Gate::of(datapath),
            document: document(),
            given: Allocations::default(),
            catalogue: Catalogue::new(&Allocations::default()),
            uplinks: uplinks.map(|(plant, ifindex)| (plant.parse().unwrap(), uplink(ifindex))).into(),
            link: Link::Up,
            port: 20_000,
        };
        world.apply();
        world
    }

    /// Another desired state, from the example's, which the agent applies.
    fn change(&mut self, change: fn(&mut Value)) {
        self.document = document();
        change(&mut self.document);
        self.apply();
    }

    fn apply(&mut self) {
        let content = self.content();
        self.gate.datapath.fill(&content).unwrap();
    }

    /// Makes the kernel another one than the state wants.
    fn fill(&mut self, change: fn(&mut Content)) {
        let mut content = self.content();
        change(&mut content);
        self.gate.datapath.fill(&content).unwrap();
    }

    fn content(&mut self) -> Content {
        let state = self.state();
        self.given = self.given.extended(&state, &self.config).unwrap();
        let policy = Policy::compile(&state, &terms());
        let linked = |id: &PlantId| state.plants.get(id).is_some_and(|plant| plant.uplink_in("eu").is_some());
        let uplinks =
            self.uplinks.iter().filter(|(id, _)| linked(id)).map(|(id, uplink)| (id.clone(), *uplink)).collect();
        let (given, catalogue) = (&self.given, &mut self.catalogue);
        let tables = Tables::new(&state, given, catalogue, &self.config.pools, &policy, &uplinks).unwrap();
        content::content(tables, &self.config)
    }

    fn state(&self) -> State {
        State::parse(self.document.to_string().as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn ask(&self, certificate: &str, to: &str) -> Explanation<'static> {
        self.ask_with(certificate, to, &Kernel::open(&self.config).unwrap())
    }

    fn ask_with(&self, certificate: &str, to: &str, kernel: &Kernel) -> Explanation<'static> {
        // As long as a test runs.
        let state = Box::leak(Box::new(self.state()));
        let link = self.link;
        let around = Surroundings { config: &self.config, given: &self.given, link: |_: &PlantId| link, kernel };
        let answer = Explanation::of(state, &terms(), certificate, to.parse().unwrap(), &around).unwrap();
        answer.expect("a certificate of the state")
    }

    /// What the program makes of a packet.
    fn verdict(&mut self, certificate: &str, to: &str) -> &'static str {
        let question: Question = to.parse().unwrap();
        let tunnel = self.given.peers()[certificate].address;
        let source = match question.address {
            IpAddr::V4(_) => IpAddr::V4(tunnel),
            IpAddr::V6(_) => IpAddr::V6(self.config.pools.tunnel6_of(tunnel)),
        };
        self.port += 1;
        let service = question.service.map(|(protocol, port)| (protocol.number(), port));
        let ends = |port| Ends { source: (source, self.port), destination: (question.address, port) };
        let packet = match service {
            Some((1, _)) => echo_request(ends(0), b"x"),
            Some((17, port)) => udp(ends(port), b"x"),
            Some((_, port)) => segment(ends(port), SYN, &[], b""),
            None => segment(ends(PORT), SYN, &[], b""),
        };
        let before = self.counters();
        self.gate.run(USERS, &packet);
        let after = self.counters();
        let counted: Vec<_> = after.iter().zip(&before).filter(|(now, then)| now.1 != then.1).collect();
        assert_eq!(counted.len(), 1, "{counted:?}");
        counted[0].0.0.label()
    }

    fn counters(&self) -> Vec<(Verdict, u64)> {
        let stats = self.gate.datapath.stats().unwrap();
        stats.into_iter().map(|(verdict, traffic)| (verdict, traffic.packets)).collect()
    }
}

fn terms() -> Terms {
    Terms { opening: example_config("/x").policy.route_roles, now: now() }
}

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn example_config(pin_dir: &str) -> Config {
    Config::parse(&format!(
        "gateway = 'g'\nregion = 'eu'\nstate = '/nonexistent'\nstate_dir = '/nonexistent'\n\
         [users]\nprivate_key_file = '/nonexistent'\n\
         [datapath]\npin_dir = '{pin_dir}'\nlimits.new_flows_per_second = 1000000\n\
         [[services]]\nprotocol = 'udp'\nport = 53\n"
    ))
    .unwrap()
}

fn document() -> Value {
    let key = |number: u8| {
        format!("{}=", ["A"; 41].concat() + ["AA", "AE", "AI", "AM", "AQ", "AU", "AY"][usize::from(number)])
    };
    let plant = |id: &str, organisation: &str, number| {
        json!({
            "id": id, "organisation": organisation, "subnets": ["192.168.1.0/24"],
            "uplink": {"kind": "host", "public_key": key(number)},
        })
    };
    let mut north = plant("north", "alpha", 1);
    north["subnets"] = json!(["192.168.1.0/24", "2001:db8::/64"]);
    let mut west = plant("west", "alpha", 3);
    west["subnets"] = json!(["10.30.0.0/24"]);
    json!({
        "revision": 7,
        "organisations": [{"id": "alpha"}, {"id": "beta"}],
        "portfolios": [],
        "plants": [north, plant("south", "beta", 2), west],
        "users": [{"id": "a"}, {"id": "b"}],
        "memberships": [
            {"user": "a", "organisation": "alpha", "kind": "member", "access": "all"},
            {"user": "b", "organisation": "beta", "kind": "member", "access": "all"},
        ],
        "roles": [
            {"user": "a", "role": "operator", "on": {"plant": "north"}},
            {"user": "b", "role": "operator", "on": {"plant": "north"}},
            {"user": "b", "role": "operator", "on": {"plant": "south"}},
        ],
        "cooperations": [{"partner": "beta", "on": {"plant": "north"}}],
        "certificates": [
            {"id": "a", "user": "a", "public_key": key(4)},
            {"id": "b", "user": "b", "public_key": key(5)},
            {"id": "o", "organisation": "beta", "plants": ["north"], "public_key": key(6)},
        ],
    })
}
