//! From TUN device to TUN device through the kernel, in four ways.
//!
//! A TUN device is a layer-3 interface as WireGuard's are. A packet costs about two microseconds of system calls besides;
//! they are the same for all ways, so what counts is what a way adds to a bare redirect.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{LinkOrder, TcAttachType, tc::TcAttachOptions},
};
use vpn_agent::datapath::{self, Datapath, Sizes};
use vpn_ebpf_common::names::USERS;
use vpn_tests::namespace::Namespace;

use crate::{
    driver::{self, classifier},
    home, nftables, packet,
    random::Random,
    report::{Figure, Report},
    rounds::{Effort, median},
    topology::{Addressed, Conversation, DEVICE_PORT, Family, Topology, device, tunnel},
    tun::Port,
};

/// How packets get from one device to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The kernel forwards them by its routes.
    Plain,
    /// A program redirects them, and does nothing else.
    Redirect,
    /// The gateway's program.
    Ours,
    /// The kernel forwards them, and nftables does the gateway's job.
    Nftables,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Redirect, Way::Ours, Way::Nftables];

/// Packets of a round.
const PACKETS: u32 = 100_000;

/// Bytes of IPv4 and UDP header, which are all that differs from packet to packet.
const HEADERS: usize = 28;

/// Two devices in a namespace of their own.
struct Path {
    inside: Port,
    outside: Port,
    /// The headers of the packets, in the order in which they go.
    headers: Vec<[u8; HEADERS]>,
    /// What has to live as long.
    _programs: Programs,
}

/// The programs of a path.
enum Programs {
    None,
    Bare(#[expect(dead_code, reason = "kept for its link")] Ebpf),
    Gateway(#[expect(dead_code, reason = "kept for its link")] Box<Datapath>),
}

/// Measures all ways with so many flows of so many users.
pub fn measure(report: &Report, size: &str, users: u32, flows: u32, effort: Effort) -> Result<()> {
    home::stay_on_one_cpu()?;
    let paths = WAYS.map(|way| Path::build(way, size, users, flows).with_context(|| format!("{way:?}")));
    let mut times = WAYS.map(|_| Vec::new());
    for round in 0..=effort.rounds() {
        for (path, times) in paths.iter().zip(&mut times) {
            let path = path.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            // The caches are still full of the way before.
            path.pass(flows as usize)?;
            let time = path.pass(effort.part(PACKETS) as usize)?;
            // The first one is for the flows to be there.
            if round > 0 {
                times.push(time);
            }
        }
    }
    let [plain, redirect, ours, nftables] = &times;
    for (name, times) in [("plain", plain), ("redirect", redirect), ("ours", ours), ("nftables", nftables)] {
        report.add(&Figure::new(format!("tun.forward.{name}.{size}"), median(times.clone()), "ns"));
    }
    // Round by round, so that what disturbs a round is in both.
    let added = |times: &[f64]| median(times.iter().zip(redirect).map(|(time, bare)| time - bare).collect());
    let (ours, nftables) = (added(ours), added(nftables));
    report.add(&Figure::new(format!("tun.added.nftables.{size}"), nftables, "ns"));
    report.add(&Figure::new(format!("tun.added.ours.{size}"), ours, "ns").against(nftables));
    Ok(())
}

impl Path {
    fn build(way: Way, size: &str, users: u32, flows: u32) -> Result<Self> {
        let name: &'static str = format!("{way:?}-{size}").to_lowercase().leak();
        let namespace = Namespace::create(name)?;
        let built = namespace.enter(move || {
            let (inside, outside) = (Port::open("inside")?, Port::open("outside")?);
            let programs = match way {
                Way::Plain | Way::Nftables => Programs::None,
                Way::Redirect => Programs::Bare(redirect(&outside)?),
                Way::Ours => Programs::Gateway(Box::new(gateway(users, flows, &inside, &outside)?)),
            };
            anyhow::Ok((inside, outside, programs))
        })?;
        let (inside, outside, programs) = built.join().expect("the thread does not panic")?;
        if programs.is_none() {
            namespace.set("net.ipv4.ip_forward", "1")?;
            let plant = device(0, 0, Family::V4, Addressed::Real);
            namespace.run(&format!("ip route add {plant}/24 dev outside"))?;
        }
        if way == Way::Nftables {
            nftables::forward(&namespace, users)?;
        }
        // Whoever translates gets the virtual address.
        let addressed = if way == Way::Plain { Addressed::Real } else { Addressed::Virtual };
        let mut order: Vec<_> = (0..flows).map(|n| Conversation::nth(n, users, Family::V4, addressed)).collect();
        Random::new().shuffle(&mut order);
        let headers = order.iter().map(|conversation| {
            let packet = packet::udp(
                (tunnel(conversation.peer, conversation.family), conversation.user_port),
                (conversation.addressed(), DEVICE_PORT),
            );
            *packet.first_chunk().expect("packets are longer than their headers")
        });
        let path = Self { inside, outside, headers: headers.collect(), _programs: programs };
        path.check(way, &order[0])?;
        Ok(path)
    }

    /// Whether the first packet comes out as it should.
    fn check(&self, way: Way, conversation: &Conversation) -> Result<()> {
        let mut packet = [0; packet::LENGTH];
        packet[..HEADERS].copy_from_slice(&self.headers[0]);
        self.inside.send(&packet)?;
        let length = self.outside.receive(&mut packet)?;
        ensure!(length == packet.len(), "{length} bytes came out");
        let addressed = if way == Way::Redirect { Addressed::Virtual } else { Addressed::Real };
        let expected = device(0, conversation.host, Family::V4, addressed);
        let destination = u32::from_ne_bytes([packet[16], packet[17], packet[18], packet[19]]);
        ensure!(destination == expected.v4_word(), "a packet went to another address than {expected}");
        Ok(())
    }

    /// Sends so many packets, over all flows in turn. Gives nanoseconds a packet.
    fn pass(&self, count: usize) -> Result<f64> {
        let mut packet = [0; packet::LENGTH];
        let mut received = [0; packet::LENGTH];
        let started = Instant::now();
        for headers in self.headers.iter().cycle().take(count) {
            packet[..HEADERS].copy_from_slice(headers);
            self.inside.send(&packet)?;
            self.outside.receive(&mut received)?;
        }
        Ok(started.elapsed().as_nanos() as f64 / count as f64)
    }
}

impl Programs {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// Redirects everything from `inside`.
fn redirect(outside: &Port) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    let index = outside.index;
    loader.override_global("REDIRECT_TO", &index, true);
    let mut ebpf = loader.load(driver::OBJECT)?;
    let program = classifier(&mut ebpf, "redirect")?;
    program.load()?;
    program.attach_with_options("inside", TcAttachType::Ingress, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
    Ok(ebpf)
}

/// The gateway with `inside` as its users' side.
fn gateway(users: u32, flows: u32, inside: &Port, outside: &Port) -> Result<Datapath> {
    let topology = Topology {
        peers: users,
        sets: 1,
        plants: 1,
        plants_per_set: 1,
        users: inside.index,
        first_plant: outside.index,
        link_header: 0,
    };
    let sizes = Sizes { flows_max: flows.next_power_of_two(), ..Sizes::default() };
    let mut datapath = Datapath::load(datapath::OBJECT, None, &sizes, 0)?;
    datapath.fill(&topology.content())?;
    datapath.configure(&topology.gateway())?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    datapath.program(USERS).attach_with_options("inside", TcAttachType::Ingress, options)?;
    Ok(datapath)
}
