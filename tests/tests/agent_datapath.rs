//! The agent's datapath against real maps and links: what is taken away goes at once, whatever becomes of the rest.

use std::{fs, net::Ipv4Addr, ops::Range, path::Path, sync::Arc};

use aya::maps::{
    Array, HashMap, MapInfo,
    lpm_trie::{Key, LpmTrie},
};
use vpn_agent::{
    datapath::{
        self, Datapath, Error, Sizes,
        fill::Content,
        read::{Maps as _, Pinned},
        withdraw::{NO_ROUTES, Withdrawn},
    },
    wireguard::WireGuard,
};
use vpn_ebpf_common::{
    LAYOUT,
    names::{PLANTS, RELEASED, ROUTES, USAGE, USERS, WAYS},
    peer::Peer,
    plant::{MAX_SUBNETS, Plant, Subnet},
    route::{Route, RouteKey},
    service::ServiceKey,
    usage::Usage,
    ways::{PLACES, Ways},
};
use vpn_tests::{
    gate::{self, address, prefix, sizes},
    namespace::{Namespace, run},
    pins::Pins,
};

const KEEPS: &str = "100.64.0.2";
const LOSES: &str = "100.64.0.3";
const GOES: &str = "100.64.0.4";
const COMES: &str = "100.64.0.5";

/// Requirements: B4.
#[test]
fn what_is_taken_away_does_not_wait_for_what_does_not_fit() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    datapath.fill(&before()).unwrap();

    // The newcomer's set is larger than the whole map.
    let after = content(&[(KEEPS, 1, 1, 0..8), (LOSES, 2, 2, 0..4), (COMES, 5, 5, 0..100)]);
    let error = datapath.fill(&after).unwrap_err();
    assert!(matches!(error, Error::Full { map: ROUTES, .. }), "{error}");
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 2)]);
    assert_eq!(
        (routes(&datapath, 2), routes(&datapath, 5)),
        (4, 0),
        "the smaller set is whole, the other is not begun"
    );
}

/// Requirements: B4.
#[test]
fn plants_that_do_not_fit_hold_nothing_back_either() {
    let mut datapath = Datapath::for_test_runs(None, &Sizes { plants_max: 1, ..sizes() }).unwrap();
    let with_plants = |count: u32, mut content: Content| {
        let plant = |id| Plant { id, mtu: 1420, link_header: 0, subnet_count: 0, subnets: [Subnet::NONE; MAX_SUBNETS] };
        content.plants = (1..=count).map(|id| (id, plant(id))).collect();
        content
    };
    datapath.fill(&with_plants(1, before())).unwrap();
    let error = datapath.fill(&with_plants(2, content(&[(KEEPS, 1, 1, 0..8), (LOSES, 2, 2, 0..4)]))).unwrap_err();
    assert!(matches!(error, Error::Full { map: PLANTS, .. }), "{error}");
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 2)]);
}

/// Requirements: B4, C5.
#[test]
fn who_loses_and_cannot_get_the_rest_gets_nothing_until_it_fits() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    let before = content(&[(KEEPS, 1, 1, 0..20), (LOSES, 2, 3, 0..30)]);
    datapath.fill(&before).unwrap();

    // 20 and 30 of 64 are in use, so 29 more do not fit beside them.
    let after = content(&[(KEEPS, 1, 1, 0..20), (LOSES, 2, 4, 1..30)]);
    let withdrawn = datapath.withdraw(&after, saved).unwrap();
    assert_eq!(withdrawn, Withdrawn { cut_off: vec![2], ..Withdrawn::default() });
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, NO_ROUTES)]);

    // The old set, which nobody has any more, makes room.
    datapath.fill(&after).unwrap();
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 4)]);
    assert_eq!((routes(&datapath, 3), routes(&datapath, 4)), (0, 29));
}

/// Requirements: B4.
#[test]
fn an_id_that_is_not_on_disk_is_not_used() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    datapath.fill(&before()).unwrap();
    let after = content(&[(KEEPS, 1, 1, 0..8), (LOSES, 2, 2, 0..4)]);
    let withdrawn = datapath.withdraw(&after, || Err("the disk is full")).unwrap();
    assert_eq!(withdrawn, Withdrawn { removed: 1, narrowed: 0, cut_off: vec![2] });
    assert_eq!(routes(&datapath, 2), 0);
}

/// Requirements: B4.
#[test]
fn withdrawing_adds_nothing_for_anybody() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    datapath.fill(&before()).unwrap();
    // One gains, one comes, one has a new set with the same subnets, one is another certificate's.
    let after = content(&[(KEEPS, 1, 6, 0..9), (LOSES, 2, 7, 0..8), (COMES, 5, 5, 0..2)]);
    let unasked = || -> Result<(), Error> { panic!("nothing needs saving") };
    assert_eq!(datapath.withdraw(&after, unasked).unwrap(), Withdrawn { removed: 1, ..Withdrawn::default() });
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 1)]);

    let other = content(&[(KEEPS, 99, 1, 0..8), (LOSES, 2, 1, 0..8)]);
    assert_eq!(datapath.withdraw(&other, unasked).unwrap(), Withdrawn { removed: 1, ..Withdrawn::default() });
    assert_eq!(peers(&datapath), [(LOSES, 1)]);
}

/// Requirements: B4.
#[test]
fn routes_are_read_once_and_again_when_told_so() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    datapath.fill(&before()).unwrap();
    let key = Key::new(32 + 96 + 24, RouteKey { set: 1, destination: address("10.128.3.0") });
    let lose_one = |datapath: &mut Datapath| {
        LpmTrie::<_, RouteKey, Route>::try_from(datapath.map_mut(ROUTES)).unwrap().remove(&key).unwrap();
    };
    lose_one(&mut datapath);
    assert_eq!(datapath.fill(&before()).unwrap().set, 0, "nobody else writes routes");
    datapath.forget_routes();
    assert_eq!(datapath.fill(&before()).unwrap().set, 1);
    assert_eq!(routes(&datapath, 1), 8);

    // A set that was begun by a run that ended there.
    datapath.forget_routes();
    lose_one(&mut datapath);
    assert_eq!(datapath.route_sets().unwrap()[&1].len(), 7);
    datapath.fill(&before()).unwrap();
    assert_eq!((routes(&datapath, 1), datapath.route_sets().unwrap()[&1].len()), (8, 8));
}

#[test]
fn large_sets_go_in_pieces() {
    let mut datapath = Datapath::for_test_runs(None, &Sizes { routes_max: 12_000, ..sizes() }).unwrap();
    datapath.fill(&content(&[(KEEPS, 1, 1, 0..5_000), (LOSES, 2, 2, 0..100)])).unwrap();
    let written = datapath.fill(&content(&[(KEEPS, 1, 3, 0..1), (LOSES, 2, 2, 0..100)])).unwrap();
    assert_eq!((written.removed, datapath.resting_routes()), (0, 5_000));
    assert_eq!(peers(&datapath), [(KEEPS, 3), (LOSES, 2)], "nobody has it any more");
    assert_eq!(datapath.remove_resting_routes(1_500).unwrap(), 1_500);
    assert_eq!((routes(&datapath, 1), datapath.resting_routes()), (3_500, 3_500));

    // A change that comes meanwhile needs the room.
    datapath.fill(&content(&[(KEEPS, 1, 4, 0..11_800), (LOSES, 2, 2, 0..100)])).unwrap();
    assert_eq!([1, 2, 3, 4].map(|set| routes(&datapath, set)), [0, 100, 0, 11_800]);
    assert_eq!((datapath.remove_resting_routes(1).unwrap(), datapath.resting_routes()), (0, 0));

    // What goes is wanted again.
    datapath.fill(&content(&[(KEEPS, 1, 3, 0..1), (LOSES, 2, 2, 0..100)])).unwrap();
    datapath.remove_resting_routes(10).unwrap();
    datapath.fill(&content(&[(KEEPS, 1, 4, 0..11_800), (LOSES, 2, 2, 0..100)])).unwrap();
    assert_eq!([2, 3, 4].map(|set| routes(&datapath, set)), [100, 0, 11_800]);
    assert_eq!(datapath.resting_routes(), 0);
}

#[test]
fn what_flows_depend_on_counts_the_generation() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    let generation = |datapath: &Datapath| datapath.gateway().unwrap().map(|gateway| gateway.generation);
    assert_eq!(generation(&datapath), None);
    datapath.configure(&gate::gateway()).unwrap();
    datapath.fill(&gate::content()).unwrap();
    let mut last = generation(&datapath);
    datapath.fill(&gate::content()).unwrap();
    assert_eq!(generation(&datapath), last, "nothing has changed");
    type Change = fn(&mut Content);
    let changes: [(&str, Change); 4] = [
        ("an uplink takes smaller packets", |content| content.plants.values_mut().for_each(|plant| plant.mtu = 1_300)),
        ("a service more", |content| {
            content.services.insert(ServiceKey { address: address(KEEPS), port: 0, protocol: 1, reserved: 0 }, 9);
        }),
        ("no service", |content| content.services.clear()),
        ("no plant", |content| content.plants.clear()),
    ];
    let mut content = gate::content();
    for (name, change) in changes {
        change(&mut content);
        datapath.fill(&content).unwrap();
        assert!(generation(&datapath) > last, "{name}");
        last = generation(&datapath);
    }
    datapath.configure(&gate::gateway()).unwrap();
    assert!(generation(&datapath) > last, "other settings");
}

#[test]
fn accounts_go_with_their_peers() {
    let mut datapath = Datapath::for_test_runs(None, &sizes()).unwrap();
    datapath.fill(&before()).unwrap();
    for id in [1, 3] {
        let mut usage = HashMap::<_, u32, Usage>::try_from(datapath.map_mut(USAGE)).unwrap();
        usage.insert(id, Usage::default(), 0).unwrap();
        let mut released = HashMap::<_, u32, u64>::try_from(datapath.map_mut(RELEASED)).unwrap();
        released.insert(id, 7, 0).unwrap();
    }
    datapath.fill(&content(&[(KEEPS, 1, 1, 0..8)])).unwrap();
    assert_eq!(datapath.usage().unwrap().into_keys().collect::<Vec<_>>(), [1]);
    assert_eq!(datapath.released().unwrap().into_keys().collect::<Vec<_>>(), [1]);
}

/// Requirements: G3.
#[test]
fn detaching_is_at_once_and_not_undone_by_the_running_agent() {
    let pins = Pins::new();
    // A run that was ended in the middle has left one.
    let _ = run("ip netns delete agent-datapath");
    let namespace = Namespace::create("agent-datapath").unwrap();
    let path = pins.path().to_owned();
    let outcome = namespace.enter(move || attach_and_detach(&path)).unwrap().join();
    run("ip netns delete agent-datapath").unwrap();
    outcome.unwrap();
}

/// On a TUN device, which like WireGuard is an L3 device.
fn attach_and_detach(pins: &Path) {
    const DEVICE: &str = "tun-test";
    run(&format!("ip tuntap add dev {DEVICE} mode tun")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link = || runtime.block_on(async { WireGuard::open().unwrap().link(DEVICE).await.unwrap().unwrap() });

    let mut first = Datapath::open(pins, &sizes()).unwrap();
    let id = first.attach(USERS, DEVICE).unwrap();
    assert_eq!((link().program, datapath::pinned_program(pins, DEVICE).unwrap()), (Some(id), Some(id)));
    drop(first);
    assert_eq!(link().program, Some(id), "it outlives the agent");

    let mut second = Datapath::open(pins, &sizes()).unwrap();
    let next = second.attach(USERS, DEVICE).unwrap();
    assert_ne!(next, id);
    assert_eq!((link().program, datapath::pinned_program(pins, DEVICE).unwrap()), (Some(next), Some(next)));
    assert_eq!(second.pinned_interfaces().unwrap(), [DEVICE]);

    datapath::detach(pins, false).unwrap();
    assert_eq!(link().program, None, "although the agent that moved the link to its program still runs");
    assert!(second.is_detached() && datapath::is_detached(pins));
    assert!(matches!(second.attach(USERS, DEVICE), Err(Error::Detached)));
    assert_eq!((link().program, second.pinned_interfaces().unwrap()), (None, vec![]));

    let mut told = Datapath::open(pins, &sizes()).unwrap();
    let id = told.attach(USERS, DEVICE).unwrap();
    assert_eq!(link().program, Some(id));
    assert!(!datapath::is_detached(pins));
    told.detach_interface(DEVICE).unwrap();
    told.detach_interface(DEVICE).unwrap();
    assert_eq!((link().program, datapath::pinned_program(pins, DEVICE).unwrap()), (None, None));

    told.attach(USERS, DEVICE).unwrap();
    run(&format!("ip link delete {DEVICE}")).unwrap();
    run(&format!("ip tuntap add dev {DEVICE} mode tun")).unwrap();
    let id = told.attach(USERS, DEVICE).unwrap();
    assert_eq!(link().program, Some(id), "the pin of the old device is replaced");
}

/// Requirements: G5.
#[test]
fn fill_levels_are_counted_from_the_pins() {
    let pins = Pins::new();
    assert!(!datapath::are_maps_pinned(pins.path()) && !datapath::is_detached(pins.path()));
    let mut datapath = Datapath::open(pins.path(), &sizes()).unwrap();
    datapath.fill(&before()).unwrap();
    let levels = Pinned::open(pins.path()).unwrap().fill_levels().unwrap();
    let found: Vec<_> = levels.iter().map(|level| (level.map, level.entries, level.capacity)).collect();
    let expected =
        [("PEERS", 3, 8), ("ROUTES", 8, 64), ("PLANTS", 0, 8), ("FLOWS", 0, 64), ("CLOSED", 0, 64), ("DENIED", 0, 64)];
    assert_eq!(found, expected);
}

/// The pin of WAYS alone is lost, as where a removal of all pins was cut off: flows are there whose addresses nobody knows.
///
/// Requirements: C5.
#[test]
fn who_may_have_used_an_address_is_taken_to_have_used_it() {
    let pins = Pins::new();
    let found = || {
        let mut datapath = Datapath::open(pins.path(), &sizes()).unwrap();
        let ways = Array::<_, Ways>::try_from(datapath.map_mut(WAYS)).unwrap();
        [0, 1, PLACES - 1].map(|place| ways.get(&place, 0).unwrap())
    };
    assert_eq!(found(), [Ways::default(); 3]);
    assert_eq!(found(), [Ways::default(); 3], "an ordinary start");
    fs::remove_file(pins.path().join(format!("v{LAYOUT}/maps/{WAYS}"))).unwrap();
    for _ in 0..2 {
        assert_eq!(found(), [Ways { real: 1, twin: 1 }; 3]);
    }
}

#[test]
fn peers_stay_when_the_pool_of_their_addresses_grows() {
    let pins = Pins::new();
    Datapath::open(pins.path(), &sizes()).unwrap().fill(&before()).unwrap();
    let counted = pins.path().join(format!("v{LAYOUT}/maps/FLOWS"));
    let flows = MapInfo::from_pin(&counted).unwrap().id();

    let wider = Sizes { tunnel_addresses: 2 * sizes().tunnel_addresses, ..sizes() };
    let error = Datapath::open(pins.path(), &Sizes { flows_max: 128, ..wider.clone() }).err().unwrap();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let mut datapath = Datapath::open(pins.path(), &sizes()).unwrap();
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 1), (GOES, 1)], "a start that is refused changes nothing");
    let mut outside = before();
    outside.peers.insert(sizes().tunnel_addresses, Peer { id: 9, route_set: 1 });
    let error = datapath.fill(&outside).unwrap_err();
    assert!(matches!(error, Error::NoPlace { number } if number == sizes().tunnel_addresses), "{error}");
    drop(datapath);

    let datapath = Datapath::open(pins.path(), &wider).unwrap();
    assert_eq!(peers(&datapath), [(KEEPS, 1), (LOSES, 1), (GOES, 1)]);
    assert!(datapath.peer_table().set(wider.tunnel_addresses - 1, Peer { id: 9, route_set: 1 }));
    assert_eq!(MapInfo::from_pin(&counted).unwrap().id(), flows, "and everything else is as it was");
    drop(datapath);
    let again = Datapath::open(pins.path(), &wider).unwrap();
    assert_eq!(again.peers().unwrap().len(), 4, "it is the one that is pinned now");

    // Whose address is not in the pool any more is no peer any more.
    let datapath = Datapath::open(pins.path(), &sizes()).unwrap();
    assert_eq!(datapath.peers().unwrap().len(), 3);
}

/// Three peers with one set of eight subnets.
fn before() -> Content {
    content(&[(KEEPS, 1, 1, 0..8), (LOSES, 2, 1, 0..8), (GOES, 3, 1, 0..8)])
}

/// Peers by tunnel address with their id, the id of their set, and the subnets in it.
fn content(rows: &[(&str, u32, u32, Range<u32>)]) -> Content {
    let route = |subnet: u32| {
        let destination = address(&format!("10.{}.{}.0", 128 + subnet / 256, subnet % 256));
        (
            (destination, 96 + 24),
            Route { plant: 1, id: subnet, egress: 1, real: prefix("192.168.1.0", 24), twin: destination },
        )
    };
    let mut content = Content::default();
    for (peer, id, set, subnets) in rows {
        content.peers.insert(host_number(peer), Peer { id: *id, route_set: *set });
        content.route_sets.insert(*set, Arc::new(subnets.clone().map(route).collect()));
    }
    content
}

fn saved() -> Result<(), Error> {
    Ok(())
}

/// Of an address in a pool of 2¹⁶.
fn host_number(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits() & 0xffff
}

/// Peers of these tests with their sets.
fn peers(datapath: &Datapath) -> Vec<(&'static str, u32)> {
    let peers = datapath.peers().unwrap();
    let known = [KEEPS, LOSES, GOES, COMES];
    let found: Vec<_> =
        known.into_iter().filter_map(|name| Some((name, peers.get(&host_number(name))?.route_set))).collect();
    assert_eq!(found.len(), peers.len(), "{peers:?}");
    found
}

fn routes(datapath: &Datapath, set: u32) -> usize {
    datapath.routes().unwrap().keys().filter(|(of, _, _)| *of == set).count()
}
