//! TCP segments that somebody else has put together: a virtual machine's network card hands several over as one, without
//! saying how many. They count, and leave, as they were on the wire.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use aya::maps::HashMap;
use etherparse::checksum::Sum16BitWords;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vpn_agent::{
    datapath::{Datapath, read::Maps as _},
    wireguard::WireGuard,
};
use vpn_ebpf_common::{
    flow::{Flow, FlowKey, Traffic},
    gateway::Gateway,
    names::{FLOWS, PLANT},
};
use vpn_tests::{
    checksums::Checksums,
    gate::{self, REAL, REAL6, SOURCE, SOURCE6, USER, USER6, VIRTUAL, VIRTUAL6, sizes},
    namespace::{Namespace, run},
    packet::{Ends, addressed, tcp},
    pins::Pins,
    tun::Tun,
};

const USERS_DEVICE: &str = "tun-users";
const PLANT_DEVICE: &str = "tap-plant";

/// Payload of a segment but the last, and of all.
const SEGMENT: usize = 1_000;
const PAYLOAD: usize = 2_500;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is that of the pseudo-header so far.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6`.
const COALESCED: [u8; 2] = [1, 4];
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Requirements: A6.
#[test]
fn segments_of_a_virtual_network_card_reach_the_user_one_by_one() {
    let pins = Pins::new();
    // A run that was ended in the middle has left one.
    let _ = run("ip netns delete segments");
    let namespace = Namespace::create("segments").unwrap();
    let path = pins.path().to_owned();
    let outcome = namespace.enter(move || receive(&path)).unwrap().join();
    run("ip netns delete segments").unwrap();
    outcome.unwrap();
}

fn receive(pins: &Path) {
    let users = Tun::create(USERS_DEVICE).unwrap();
    let plant = Tun::create_ethernet(PLANT_DEVICE).unwrap();
    let [users_index, plant_index] = [(&users, USERS_DEVICE), (&plant, PLANT_DEVICE)].map(|(tun, name)| up(tun, name));
    let mut datapath = Datapath::open(pins, &sizes()).unwrap();
    datapath.configure(&Gateway { users: users_index, ..gate::gateway() }).unwrap();
    let mut content = gate::content();
    content.plants = content.plants.into_values().map(|of| (plant_index, of)).collect();
    datapath.fill(&content).unwrap();
    datapath.attach(PLANT, PLANT_DEVICE).unwrap();

    for (family, [device, source, virtual_, user]) in
        [[REAL, SOURCE, VIRTUAL, USER], [REAL6, SOURCE6, VIRTUAL6, USER6]].into_iter().enumerate()
    {
        let key = FlowKey { addressed: gate::address(virtual_), ..gate::key() };
        let live = gate::flow(Duration::ZERO);
        let live = Flow { tag: key.tag(), device: gate::address(device), expires_ns: u64::MAX, ..live };
        let mut flows = HashMap::<_, FlowKey, Flow>::try_from(datapath.map_mut(FLOWS)).unwrap();
        flows.insert(key, live, 0).unwrap();

        let payload: Vec<u8> = (0..PAYLOAD).map(|at| at as u8).collect();
        let whole = tcp(Ends::new((device, 502), (source, 40_000)), &payload);
        let headers = whole.len() - PAYLOAD;
        plant.file().write_all(&frame(whole, family, headers)).unwrap();

        let mut received = Vec::new();
        let mut packet = [0; 4_096];
        while let Ok(length) = users.file().read(&mut packet) {
            let packet = &packet[..length];
            let expected = addressed(packet, virtual_, user);
            assert_eq!(packet, expected, "addresses");
            let Checksums { header, transport, .. } = Checksums::of(packet);
            assert_eq!((header.unwrap_or(true), transport), (true, Some(true)), "checksums");
            received.push(packet[headers..].to_vec());
        }
        let counted = datapath.flows().unwrap()[&key].to_user;
        let expected =
            Traffic { packets: live.to_user.packets + 3, bytes: live.to_user.bytes + (PAYLOAD + 3 * headers) as u64 };
        assert_eq!(counted, expected, "{:?}", datapath.stats().unwrap());
        assert!(received.iter().map(Vec::as_slice).eq(payload.chunks(SEGMENT)), "{} segments", received.len());

        let acknowledgement = tcp(Ends::new((device, 502), (source, 40_000)), b"");
        plant.file().write_all(&padded(&acknowledgement, family)).unwrap();
        let length = users.file().read(&mut packet).unwrap_or_else(|_| panic!("{:?}", datapath.stats().unwrap()));
        assert_eq!(length, acknowledgement.len(), "nothing of the padding goes on");
        assert_eq!(&packet[..length], addressed(&packet[..length], virtual_, user));
        assert_eq!(Checksums::of(&packet[..length]).transport, Some(true));
        let with_it = datapath.flows().unwrap()[&key].to_user;
        let one = Traffic { packets: counted.packets + 1, bytes: counted.bytes + length as u64 };
        assert_eq!(with_it, one, "and nothing of it counts");

        plant.file().write_all(&prioritised(&acknowledgement, family)).unwrap();
        let length = users.file().read(&mut packet).unwrap_or_else(|_| panic!("{:?}", datapath.stats().unwrap()));
        assert_eq!(length, acknowledgement.len(), "a tag does not go on");
        assert_eq!(&packet[..length], addressed(&packet[..length], virtual_, user));
        assert_eq!(Checksums::of(&packet[..length]).transport, Some(true));
    }
}

/// The packet as a card hands it over that got it as a short frame, and some bytes more.
fn padded(packet: &[u8], family: usize) -> Vec<u8> {
    [&[0; 10], &ethernet(family)[..], packet, b"filled"].concat()
}

/// The packet in a frame with a priority and no VLAN (IEEE 802.1Q, 9.6: the null VLAN identifier).
fn prioritised(packet: &[u8], family: usize) -> Vec<u8> {
    let ethernet = ethernet(family);
    let (addresses, ether_type) = ethernet.split_at(ETHERNET - 2);
    [&[0; 10], addresses, &[0x81, 0x00, 0xc0, 0x00], ether_type, packet].concat()
}

/// A header of Ethernet: to everybody, from somebody.
fn ethernet(family: usize) -> [u8; ETHERNET] {
    let mut header = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0];
    if family == 1 {
        header[12..].copy_from_slice(&[0x86, 0xdd]);
    }
    header
}

/// The packet as the card hands it over: without its checksum, and with the size of a segment.
fn frame(mut packet: Vec<u8>, family: usize, headers: usize) -> Vec<u8> {
    let transport = headers - 20;
    let addresses = if family == 0 { 12..20 } else { 8..40 };
    let length = (packet.len() - transport) as u16;
    let pseudo = Sum16BitWords::new().add_slice(&packet[addresses]).add_2bytes(length.to_be_bytes()).add_2bytes([0, 6]);
    packet[transport + 16..transport + 18].copy_from_slice(&(!pseudo.ones_complement()).to_ne_bytes());

    let mut frame = vec![NEEDS_CHECKSUM, COALESCED[family]];
    let start = ETHERNET + transport;
    for field in [ETHERNET + headers, SEGMENT, start, 16] {
        frame.extend_from_slice(&(field as u16).to_ne_bytes());
    }
    frame.extend_from_slice(&ethernet(family));
    frame.extend_from_slice(&packet);
    frame
}

/// Sets the device up, and gives its index.
fn up(tun: &Tun, name: &str) -> u32 {
    let flags = fcntl_getfl(tun.file()).unwrap();
    fcntl_setfl(tun.file(), flags | OFlags::NONBLOCK).unwrap();
    // Otherwise the host's own stack sends its IPv6 greetings.
    fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
    run(&format!("ip link set {name} up")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { WireGuard::open().unwrap().link(name).await.unwrap().unwrap() }).ifindex
}
