//! The XDP program in front of Ethernet uplinks, on a veth pair, whose driver runs XDP.

use std::path::Path;

use vpn_agent::{
    datapath::{self, Datapath, read::Maps as _},
    wireguard::{Link, WireGuard},
};
use vpn_ebpf_common::{Verdict, flow::Traffic};
use vpn_tests::{
    gate::{self, sizes},
    namespace::{Namespace, run},
    pins::Pins,
};

const UPLINK: &str = "uplink.7";

/// Requirements: D4.
#[test]
fn what_is_for_no_user_ends_in_front_of_the_uplink() {
    let pins = Pins::new();
    let names = ["guard-host", "guard-plant"];
    // A run that was ended in the middle has left some.
    let clean = || names.map(|name| run(&format!("ip netns delete {name}")).is_ok());
    clean();
    let [host, plant] = names.map(|name| Namespace::create(name).unwrap());
    host.run(&format!("ip link add {UPLINK} type veth peer name lan netns guard-plant")).unwrap();
    for (namespace, line) in [
        (&host, format!("ip address add 192.168.1.1/24 dev {UPLINK}")),
        (&host, format!("ip link set {UPLINK} up")),
        // Its greetings to other routers would be counted, too.
        (&plant, "busybox sysctl -w net.ipv6.conf.lan.disable_ipv6=1".to_owned()),
        (&plant, "ip address add 192.168.1.20/24 dev lan".to_owned()),
        (&plant, "ip link set lan up".to_owned()),
        (&plant, "ip route add 100.80.0.0/16 via 192.168.1.1".to_owned()),
    ] {
        namespace.run(&line).unwrap();
    }
    let path = pins.path().to_owned();
    let outcome = host.enter(move || guard(&path, &plant)).unwrap().join();
    clean();
    outcome.unwrap();
}

fn guard(pins: &Path, plant: &Namespace) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link =
        || -> Link { runtime.block_on(async { WireGuard::open().unwrap().link(UPLINK).await.unwrap().unwrap() }) };
    let mut datapath = Datapath::open(pins, &sizes()).unwrap();
    let mut content = gate::content();
    content.plants = content.plants.into_values().map(|of| (link().ifindex, of)).collect();
    datapath.configure(&gate::gateway()).unwrap();
    datapath.fill(&content).unwrap();
    let id = datapath.attach_guard(UPLINK, link().ifindex).unwrap().expect("veth runs XDP");
    assert_eq!((link().xdp, datapath::pinned_guard(pins, UPLINK)), (Some(id), Some(id)));

    let refused = |datapath: &Datapath| {
        let stats = datapath.stats().unwrap();
        stats.into_iter().find(|(verdict, _)| *verdict == Verdict::NotForUser).unwrap().1
    };
    // To the host itself: ARP passes, the ping does not.
    let ping = |to: &str| plant.output(&format!("busybox ping -c 2 -W 1 {to}")).unwrap().status.success();
    assert!(!ping("192.168.1.1"));
    assert!(plant.run("ip neighbour show dev lan").unwrap().contains("192.168.1.1 lladdr"), "ARP passes");
    assert_eq!(refused(&datapath), Traffic { packets: 2, bytes: 2 * 84 });
    // To a user's address: on to the next program, which is not there in this test.
    assert!(!ping("100.80.0.5"));
    assert_eq!(refused(&datapath).packets, 2);

    let mut next = Datapath::open(pins, &sizes()).unwrap();
    let other = next.attach_guard(UPLINK, link().ifindex).unwrap().unwrap();
    assert_ne!(other, id);
    assert_eq!((link().xdp, link().first_program(Some(other))), (Some(other), None));
    next.detach_interface(UPLINK).unwrap();
    assert_eq!((link().xdp, datapath::pinned_guard(pins, UPLINK)), (None, None));
    assert!(ping("192.168.1.1"), "it was the guard that refused it");

    next.attach_guard(UPLINK, link().ifindex).unwrap().unwrap();
    datapath::detach(pins, false).unwrap();
    assert_eq!(link().xdp, None);

    run("ip link add bridge.7 type bridge").unwrap();
    let bridge = runtime.block_on(async { WireGuard::open().unwrap().link("bridge.7").await.unwrap().unwrap() });
    assert_eq!(next.attach_guard("bridge.7", bridge.ifindex).unwrap(), None, "a bridge does not run XDP");
}
