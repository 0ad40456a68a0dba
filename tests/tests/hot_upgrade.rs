//! New programs take the place of old ones on live traffic, and the maps of another version are not misread
//! (requirement G3).

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use vpn_agent::datapath::{self, Datapath, Error, Sizes, fill::Content, read::Maps as _};
use vpn_ebpf_common::{
    LAYOUT, Verdict,
    flow::Traffic,
    gateway::Gateway,
    names::{PLANT, USERS},
    route::Route,
};
use vpn_tests::{
    gate::{self, REAL, SOURCE, USER, VIRTUAL, sizes},
    namespace::{Namespace, run},
    packet::{Ends, translated, udp},
    pins::Pins,
    tun::Device,
};

const USERS_DEVICE: &str = "tun-users";
const PLANT_DEVICE: &str = "tun-plant";

/// How often the programs are replaced.
const UPGRADES: usize = 12;

/// Flows that go on meanwhile, by the user's port.
const PORTS: std::ops::Range<u16> = 40_000..40_008;

/// Requirements: F8, G3.
#[test]
fn programs_are_replaced_without_losing_a_packet_a_flow_or_a_count() {
    let pins = Pins::new();
    // A run that was ended in the middle has left one.
    let _ = run("ip netns delete hot-upgrade");
    let namespace = Namespace::create("hot-upgrade").unwrap();
    let path = pins.path().to_owned();
    let outcome = namespace.enter(move || upgrade_under_traffic(&path)).unwrap().join();
    run("ip netns delete hot-upgrade").unwrap();
    outcome.unwrap();
}

fn upgrade_under_traffic(pins: &Path) {
    let (users, plant) = (Device::create(USERS_DEVICE).unwrap(), Device::create(PLANT_DEVICE).unwrap());
    let mut datapath = Datapath::open(pins, &sizes()).unwrap();
    datapath.configure(&Gateway { users: users.ifindex, ..gate::gateway() }).unwrap();
    datapath.fill(&content(plant.ifindex)).unwrap();
    let first = attach(&mut datapath);

    let done = Arc::new(AtomicBool::new(false));
    let traffic = {
        let done = Arc::clone(&done);
        thread::spawn(move || exchange(&users, &plant, &done))
    };
    let mut last = first;
    for _ in 0..UPGRADES {
        let mut next = Datapath::open(pins, &sizes()).unwrap();
        let ids = attach(&mut next);
        assert_ne!(ids, last, "these are other programs");
        last = ids;
        datapath = next;
    }
    done.store(true, Ordering::Relaxed);
    let sent: BTreeMap<u16, [Traffic; 2]> = traffic.join().unwrap();

    let sum = |direction: usize| {
        sent.values().fold(Traffic::default(), |sum, flow| Traffic {
            packets: sum.packets + flow[direction].packets,
            bytes: sum.bytes + flow[direction].bytes,
        })
    };
    assert!(sum(0).packets > 1_000, "the programs were replaced while packets went: {:?}", sum(0));
    let counted: Vec<_> =
        datapath.stats().unwrap().into_iter().filter(|(_, traffic)| *traffic != Traffic::default()).collect();
    assert_eq!(counted, [(Verdict::ToPlant, sum(0)), (Verdict::ToUser, sum(1))]);
    let flows: BTreeMap<_, _> = datapath
        .flows()
        .unwrap()
        .iter()
        .map(|(key, flow)| (u16::from_be(key.user_port), [flow.to_plant, flow.to_user]))
        .collect();
    assert_eq!(flows, sent);
}

/// Attaches both programs and gives their ids.
fn attach(datapath: &mut Datapath) -> [u32; 2] {
    [datapath.attach(USERS, USERS_DEVICE).unwrap(), datapath.attach(PLANT, PLANT_DEVICE).unwrap()]
}

/// Requests and replies, each of which has to come out at once: whatever a program does is done when the write of a
/// packet returns.
fn exchange(users: &Device, plant: &Device, done: &AtomicBool) -> BTreeMap<u16, [Traffic; 2]> {
    let mut sent = BTreeMap::new();
    let mut count = 0_u64;
    while !done.load(Ordering::Relaxed) {
        for port in PORTS {
            let totals: &mut [Traffic; 2] = sent.entry(port).or_default();
            let request = udp(Ends::new((USER, port), (VIRTUAL, 502)), &count.to_be_bytes());
            let reply = udp(Ends::new((REAL, 502), (SOURCE, port)), format!("reply {count}").as_bytes());
            users.send(&request).unwrap();
            assert_eq!(plant.receive().unwrap().unwrap(), translated(&request, SOURCE, REAL), "request {count}");
            plant.send(&reply).unwrap();
            assert_eq!(users.receive().unwrap().unwrap(), translated(&reply, VIRTUAL, USER), "reply {count}");
            for (total, packet) in totals.iter_mut().zip([&request, &reply]) {
                total.packets += 1;
                total.bytes += packet.len() as u64;
            }
            count += 1;
        }
    }
    sent
}

/// The topology of the gate with a plant behind this interface, which has no link header.
fn content(plant: u32) -> Content {
    let mut content = gate::content();
    content.plants = content
        .plants
        .into_values()
        .map(|of| (plant, vpn_ebpf_common::plant::Plant { link_header: 0, ..of }))
        .collect();
    for routes in content.route_sets.values_mut() {
        *routes = Arc::new(routes.iter().map(|(to, route)| (*to, Route { egress: plant, ..*route })).collect());
    }
    content
}

#[test]
fn maps_of_another_version_are_refused_by_name_and_forgotten_on_demand() {
    let pins = Pins::new();
    let mut old = Datapath::for_test_runs(Some(pins.path()), &Sizes::default()).unwrap();
    old.fill(&gate::content()).unwrap();
    drop(old);
    // As if the present version were another.
    let own = datapath::layout_dir(pins.path());
    let other = pins.path().join(format!("v{}", LAYOUT + 1));
    fs::rename(&own, &other).unwrap();

    let error = Datapath::open(pins.path(), &sizes()).err().expect("another version's maps are there");
    assert!(matches!(error, Error::Layout { found, .. } if found == LAYOUT + 1), "{error}");
    assert!(error.to_string().contains("vpn-agent detach --forget"), "{error}");
    assert!(other.join("maps").exists() && !own.exists(), "nothing is changed");

    datapath::detach(pins.path(), false).unwrap();
    assert!(other.join("maps").exists() && !other.join("links").exists(), "counts are kept, nothing is attached");
    assert!(matches!(Datapath::open(pins.path(), &sizes()), Err(Error::Layout { .. })));
    datapath::detach(pins.path(), true).unwrap();
    assert!(!other.exists());
    Datapath::open(pins.path(), &sizes()).unwrap();
}
