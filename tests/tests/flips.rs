//! A user's priority between two plants with the same subnet changes a thousand times while packets go to and fro: each
//! of them is under the rules before a change or under those after it, whole (requirements C2, C5).
//!
//! The programs, the maps and what the agent does for a change are the real ones; behind TUN devices the test is the
//! user and both plants, so that it sees every packet and knows when it was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use vpn_agent::{
    addressing::Allocations,
    change::{Change, Touched},
    config::Config,
    content::gateway,
    datapath::{Datapath, fill::Content, read::Maps as _},
    enforcement::{Enforcement, Records},
    id::PlantId,
    key::PublicKey,
    policy::Policy,
    state::State,
    tables::Uplink,
};
use vpn_ebpf_common::{
    Verdict,
    flow::{Flow, FlowKey, Traffic},
    names::{PLANT, USERS},
    protocol, tcp,
};
use vpn_tests::{
    namespace::{Namespace, run},
    packet::{Ends, segment, translated, udp},
    pins::Pins,
    random::Random,
    tun::Device,
};

/// How often the priority changes.
const FLIPS: usize = 4_000;
/// For how long it stays, at most.
const STAY: Duration = Duration::from_micros(1_500);

const PLANTS: [&str; 2] = ["north", "south"];
/// The user, and as plants see the user.
const USER: (&str, &str) = ("100.64.0.2", "100.80.0.2");
/// A device that both plants have.
const DEVICE: &str = "192.168.1.20";

/// Flows that later packets may belong to.
const KNOWN: usize = 24;
/// How many of them are the first ones, which outlive their end in the table again and again.
const OLD: usize = 4;
/// Pauses let the other threads run.
const PAUSE: Duration = Duration::from_micros(200);
/// Packets between two pauses.
const BATCH: usize = 8;
/// How often at least a packet must have been on its way while the priority changed.
const MEETINGS: usize = FLIPS / 4;

/// Requirements: C2, C5, F8.
#[test]
fn no_packet_is_under_a_mixture_of_old_and_new_rules() {
    let (pins, folder) = (Pins::new(), tempfile::tempdir().unwrap());
    // A run that was ended in the middle has left one.
    let _ = run("ip netns delete flips");
    let namespace = Namespace::create("flips").unwrap();
    let (path, state_dir) = (pins.path().to_owned(), folder.path().to_owned());
    let outcome = namespace.enter(move || play(&path, &state_dir)).unwrap().join();
    run("ip netns delete flips").unwrap();
    outcome.unwrap();
}

fn play(pins: &Path, folder: &Path) {
    let user = Device::create("tun-users").unwrap();
    let plants = PLANTS.map(|name| Device::create(&format!("tun-{name}")).unwrap());
    let mut host = Host::open(pins, folder, &user, &plants);
    // Who is written to ends after who writes.
    let [flipped, written, answered] = [const { AtomicBool::new(false) }; 3];

    let (flips, sent, [north, south], got) = thread::scope(|scope| {
        let writing = scope.spawn(|| write(&user, &flipped));
        let answering = [0, 1].map(|plant| {
            let (device, written) = (&plants[plant], &written);
            scope.spawn(move || answer(plant, device, written))
        });
        let reading = scope.spawn(|| read(&user, &answered));
        let flips = host.flip();
        flipped.store(true, Ordering::Relaxed);
        let sent = writing.join().unwrap();
        written.store(true, Ordering::Relaxed);
        let plants = answering.map(|plant| plant.join().unwrap());
        answered.store(true, Ordering::Relaxed);
        (flips, sent, plants, reading.join().unwrap())
    });
    let plants = [north, south];
    check_requests(&flips, &sent, &plants);
    check_connections(&sent, &plants);
    check_replies(&flips, &sent, &plants, &got);
    host.check_accounts(&sent, &plants, &got);
}

/// A time in which something was done.
#[derive(Clone, Copy, Debug)]
struct Span {
    begun: Instant,
    done: Instant,
}

impl Span {
    fn of(action: impl FnOnce()) -> Self {
        let begun = Instant::now();
        action();
        Self { begun, done: Instant::now() }
    }
}

/// What the user has written.
struct Sent {
    span: Span,
    packet: Vec<u8>,
    flow: (u8, u16, u16),
    opens: bool,
}

/// What a plant has seen, and answered.
struct Seen {
    /// By the number of the request.
    requests: Vec<(usize, Vec<u8>)>,
    /// The same for its replies, and when they were written.
    replies: BTreeMap<usize, (Span, Vec<u8>)>,
}

/// The changes: when they were made, and who has the priority from then on.
type Flips = Vec<(Span, usize)>;

/// Who had the priority all the time; none if it changed.
fn in_force(flips: &Flips, span: Span) -> Option<usize> {
    let next = flips.partition_point(|(flip, _)| flip.done <= span.begun);
    let (_, plant) = flips.get(next.checked_sub(1)?)?;
    let changes = flips.get(next).is_some_and(|(flip, _)| flip.begun <= span.done);
    (!changes).then_some(*plant)
}

/// Whether it was written while the priority changed.
fn meets_change(flips: &Flips, span: Span) -> bool {
    let next = flips.partition_point(|(flip, _)| flip.done <= span.begun);
    flips.get(next).is_some_and(|(flip, _)| flip.begun <= span.done)
}

/// The number that each packet has in its payload, and whose it is.
fn payload(number: usize, from: u8) -> Vec<u8> {
    let mut payload = (number as u64).to_be_bytes().to_vec();
    payload.push(from);
    payload
}

fn number_of(packet: &[u8]) -> (usize, u8) {
    let (number, from) = packet[packet.len() - 9..].split_at(8);
    (u64::from_be_bytes(number.try_into().unwrap()) as usize, from[0])
}

/// New flows and packets of those before, over UDP and TCP.
fn write(user: &Device, done: &AtomicBool) -> Vec<Sent> {
    let mut random = Random::new(1);
    let mut known: Vec<(u8, u16, u16)> = Vec::new();
    let (mut sent, mut flows) = (Vec::new(), 0_usize);
    while !done.load(Ordering::Relaxed) {
        let number = sent.len();
        let opens = known.is_empty() || random.percent(40);
        let flow = if opens {
            let protocol = random.pick(&[protocol::UDP, protocol::TCP]);
            flows += 1;
            let flow = (protocol, 20_000 + (flows % 40_000) as u16, 1_000 + (flows / 40_000) as u16);
            if known.len() < KNOWN {
                known.push(flow);
            } else {
                known[OLD + random.below(KNOWN - OLD)] = flow;
            }
            flow
        } else {
            random.pick(&known)
        };
        let (protocol, port, device_port) = flow;
        let ends = Ends::new((USER.0, port), (DEVICE, device_port));
        let text = payload(number, b'u');
        let packet = match (protocol, opens) {
            (protocol::UDP, _) => udp(ends, &text),
            (_, true) => segment(ends, tcp::SYN, &[], &text),
            (_, false) => segment(ends, tcp::ACK, &[], &text),
        };
        let span = Span::of(|| user.send(&packet).unwrap());
        sent.push(Sent { span, packet, flow, opens });
        if number.is_multiple_of(BATCH) {
            thread::sleep(PAUSE);
        }
    }
    sent
}

/// What a plant sees, each packet of which it answers.
fn answer(plant: usize, device: &Device, done: &AtomicBool) -> Seen {
    let mut seen = Seen { requests: Vec::new(), replies: BTreeMap::new() };
    loop {
        // Before the last look.
        let last = done.load(Ordering::Relaxed);
        while let Some(request) = device.receive().unwrap() {
            let (number, _) = number_of(&request);
            let ports = [20, 22].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
            let ends = Ends::new((DEVICE, ports[1]), (USER.1, ports[0]));
            let text = payload(number, plant as u8);
            let reply = match request[9] {
                protocol::UDP => udp(ends, &text),
                _ => segment(ends, tcp::ACK, &[], &text),
            };
            let span = Span::of(|| device.send(&reply).unwrap());
            seen.requests.push((number, request));
            seen.replies.insert(number, (span, reply));
        }
        if last {
            return seen;
        }
        thread::sleep(PAUSE);
    }
}

fn read(user: &Device, done: &AtomicBool) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        let last = done.load(Ordering::Relaxed);
        got.extend(std::iter::from_fn(|| user.receive().unwrap()));
        if last {
            return got;
        }
        thread::sleep(PAUSE);
    }
}

/// Each request is at one plant, as that plant shall see it: at the one with the priority, if that did not change.
fn check_requests(flips: &Flips, sent: &[Sent], plants: &[Seen; 2]) {
    let mut at = BTreeMap::new();
    for (plant, seen) in plants.iter().enumerate() {
        for (number, request) in &seen.requests {
            assert_eq!(at.insert(*number, plant), None, "{number} came out twice");
            let Sent { span, packet, .. } = &sent[*number];
            assert_eq!(*request, translated(packet, USER.1, DEVICE), "{number}");
            if let Some(right) = in_force(flips, *span) {
                assert_eq!(PLANTS[plant], PLANTS[right], "{number} came out at");
            }
        }
    }
    let told: Vec<_> = sent.iter().map(|sent| (in_force(flips, sent.span), sent.opens)).collect();
    for (plant, name) in PLANTS.iter().enumerate() {
        let (mut all, mut out) = (0, 0);
        for (number, _) in told.iter().enumerate().filter(|(_, told)| **told == (Some(plant), true)) {
            all += 1;
            out += usize::from(at.contains_key(&number));
        }
        assert_eq!(out, all, "flows that were opened while {name} had the priority, and came out");
        assert!(all > FLIPS, "{all} flows were opened while {name} had the priority");
    }
    let meetings = sent.iter().filter(|sent| meets_change(flips, sent.span)).count();
    println!("{} packets, {} came out, {meetings} were on their way during a change", sent.len(), at.len());
    assert!(meetings > MEETINGS, "{meetings} packets met a change");
}

/// All segments of a connection are where it was opened.
fn check_connections(sent: &[Sent], plants: &[Seen; 2]) {
    let mut opened = BTreeMap::new();
    let mut later = 0;
    for (plant, seen) in plants.iter().enumerate() {
        for (number, _) in &seen.requests {
            let Sent { flow, opens, .. } = sent[*number];
            if flow.0 == protocol::TCP && opens {
                opened.insert(flow, plant);
            }
        }
    }
    for (plant, seen) in plants.iter().enumerate() {
        for (number, _) in &seen.requests {
            let Sent { flow, opens, .. } = sent[*number];
            if flow.0 == protocol::TCP && !opens {
                assert_eq!(
                    opened.get(&flow),
                    Some(&plant),
                    "{number} is a segment of a connection that {plant} has not"
                );
                later += 1;
            }
        }
    }
    assert!(later > FLIPS, "{later} segments of connections");
}

/// The user gets replies as they were sent, and none of a plant that had not the priority.
fn check_replies(flips: &Flips, sent: &[Sent], plants: &[Seen; 2], got: &[Vec<u8>]) {
    let mut numbers = BTreeSet::new();
    for reply in got {
        let (number, plant) = number_of(reply);
        assert!(numbers.insert(number), "the reply to {number} came twice");
        let (span, written) = &plants[usize::from(plant)].replies[&number];
        assert_eq!(*reply, translated(written, DEVICE, USER.0), "the reply to {number}");
        if let Some(right) = in_force(flips, *span) {
            assert_eq!(usize::from(plant), right, "the reply to {number} came from");
        }
    }
    assert!(numbers.len() > sent.len() / 4, "{} replies to {} packets", numbers.len(), sent.len());
}

/// What changes the kernel: the agent without its interfaces.
struct Host {
    config: Config,
    datapath: Datapath,
    allocations: Allocations,
    records: Records,
    content: Content,
    uplinks: BTreeMap<PlantId, Uplink>,
    state: State,
}

impl Host {
    fn open(pins: &Path, folder: &Path, user: &Device, plants: &[Device; 2]) -> Self {
        let (folder, pin_dir) = (folder.display(), pins.display());
        let config = format!(
            "gateway = 'gateway-1'\nregion = 'eu'\nstate = '{folder}/state.json'\nstate_dir = '{folder}'\n\
             [users]\nprivate_key_file = '{folder}/users.key'\n[datapath]\npin_dir = '{pin_dir}'\nrefusals = 'drop'\nflows_max = 500_000\n\
             [datapath.limits]\nnew_flows_per_second = 1_000_000\nlive_flows = 1_000_000\n"
        );
        let config = Config::parse(&config).unwrap();
        let mut datapath = Datapath::open(pins, &config.sizes()).unwrap();
        datapath.configure(&gateway(&config, user.ifindex)).unwrap();
        datapath.attach(USERS, "tun-users").unwrap();
        let uplink = |(name, device): (&str, &Device)| {
            datapath.attach(PLANT, &format!("tun-{name}")).unwrap();
            (name.parse().unwrap(), Uplink { ifindex: device.ifindex, mtu: 1_420, link_header: 0 })
        };
        let uplinks = PLANTS.into_iter().zip(plants).map(uplink).collect();
        let mut host = Self {
            records: Records::new(&config),
            config,
            datapath,
            allocations: Allocations::default(),
            content: Content::default(),
            uplinks,
            state: State::parse(&serde_json::to_vec(&state()).unwrap()).unwrap(),
        };
        host.apply();
        host
    }

    fn apply(&mut self) {
        let Self { config, datapath, allocations, records, content, uplinks, state } = self;
        let policy = Policy::compile(state, &config.terms(Timestamp::now()));
        let mut enforcement = Enforcement { config, datapath, allocations, records };
        enforcement.withdraw(state, &policy).unwrap();
        enforcement.give(state).unwrap();
        *content = enforcement.fill(state, &policy, uplinks).unwrap();
        assert_eq!(content.peers.keys().copied().collect::<Vec<_>>(), [2], "the user has the address {}", USER.0);
    }

    /// Gives the priority to the one and to the other.
    fn flip(&mut self) -> Flips {
        let mut random = Random::new(2);
        let flip = |at: usize| {
            let plant = (at + 1) % 2;
            let span = Span::of(|| self.prefer(PLANTS[plant]));
            thread::sleep(STAY.mul_f64(random.below(100) as f64 / 100.0));
            // What a packet in the programs may still have of a set that nobody has any more is not taken away from it.
            self.datapath.remove_resting_routes(1_024).unwrap();
            (span, plant)
        };
        (0..FLIPS).map(flip).collect()
    }

    /// What the agent does for a single change.
    fn prefer(&mut self, plant: &str) {
        let change: Change =
            serde_json::from_value(json!({"change": "set-priority", "user": "user-a", "plants": [plant]})).unwrap();
        let Touched::Certificates(certificates) = self.state.change(&[change]).unwrap().touched else {
            panic!("the change of a priority touches everything")
        };
        let Self { config, datapath, allocations, records, content, uplinks, state } = self;
        let policy = Policy::compile_of(state, &config.terms(Timestamp::now()), &certificates);
        let ifindex = |id: &PlantId| uplinks[id].ifindex;
        let mut enforcement = Enforcement { config, datapath, allocations, records };
        let part = enforcement.withdraw_some(state, &policy, &certificates, ifindex).unwrap();
        enforcement.fill_some(state, &policy, &certificates, ifindex, part, content).unwrap();
    }

    /// Every packet is counted, and those that came out in a flow of the plant where they did.
    fn check_accounts(&self, sent: &[Sent], plants: &[Seen; 2], got: &[Vec<u8>]) {
        let mut expected = BTreeMap::<_, [Traffic; 2]>::new();
        let mut add = |plant: usize, number: usize, direction: usize, packet: &[u8]| {
            let traffic = &mut expected.entry((plant, sent[number].flow)).or_default()[direction];
            traffic.packets += 1;
            traffic.bytes += packet.len() as u64;
        };
        for (plant, seen) in plants.iter().enumerate() {
            seen.requests.iter().for_each(|(number, packet)| add(plant, *number, 0, packet));
        }
        for packet in got {
            let (number, plant) = number_of(packet);
            add(usize::from(plant), number, 1, packet);
        }

        let id = |name: &str| self.allocations.plants()[&name.parse::<PlantId>().unwrap()].id;
        let ids = PLANTS.map(id);
        let mut counted = BTreeMap::<_, [Traffic; 2]>::new();
        let mut count = |key: &FlowKey, flow: &Flow| {
            let plant = ids.iter().position(|id| *id == flow.plant).unwrap();
            let of = (key.protocol, u16::from_be(key.user_port), u16::from_be(key.device_port));
            let sums = counted.entry((plant, of)).or_default();
            for (sum, traffic) in sums.iter_mut().zip([flow.to_plant, flow.to_user]) {
                sum.packets += traffic.packets;
                sum.bytes += traffic.bytes;
            }
        };
        self.datapath.flows().unwrap().iter().for_each(|(key, flow)| count(key, flow));
        self.datapath.closed().unwrap().iter().for_each(|(key, flow)| count(&key.flow, flow));
        for (of, traffic) in &expected {
            assert_eq!(counted.get(of), Some(traffic), "{of:?}");
        }
        assert_eq!(counted.len(), expected.len(), "flows that are counted, and flows of which something came out");

        let replies: usize = plants.iter().map(|seen| seen.replies.len()).sum();
        let mut all = 0;
        for (verdict, traffic) in self.datapath.stats().unwrap() {
            all += traffic.packets;
            let expected = match verdict {
                Verdict::ToPlant => Some(plants.iter().map(|seen| seen.requests.len()).sum()),
                Verdict::ToUser => Some(got.len()),
                Verdict::FlowMoved
                | Verdict::FlowIdle
                | Verdict::NoConnection
                | Verdict::NoRoute
                | Verdict::Revoked => None,
                Verdict::NoFlow => None,
                _ => Some(0),
            };
            if traffic.packets > 0 {
                println!("{}: {}", verdict.label(), traffic.packets);
            }
            assert!(expected.is_none_or(|expected| traffic.packets == expected as u64), "{verdict:?}: {traffic:?}");
        }
        assert_eq!(all, (sent.len() + replies) as u64, "packets with a verdict");
    }
}

fn state() -> Value {
    let key = |number| PublicKey::from_bytes([number; 32]).to_string();
    let plant = |name: &str, number| {
        json!({
            "id": name, "organisation": "alpha", "subnets": ["192.168.1.0/24"],
            "uplink": {"kind": "host", "public_key": key(number)},
        })
    };
    let role = |name: &str| json!({"user": "user-a", "role": "operator", "on": {"plant": name}});
    json!({
        "revision": 1,
        "organisations": [{"id": "alpha"}],
        "portfolios": [],
        "plants": [plant("north", 11), plant("south", 12)],
        "users": [{"id": "user-a"}],
        "memberships": [{"user": "user-a", "organisation": "alpha", "kind": "member", "access": "all"}],
        "roles": [role("north"), role("south")],
        "cooperations": [],
        "certificates": [{"id": "certificate-a", "user": "user-a", "public_key": key(1)}],
        "priorities": [{"user": "user-a", "plants": ["north"]}],
    })
}
