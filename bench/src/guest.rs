//! The virtual machine's side of [`crate::wireguard`].
//!
//! ```text
//!  user ═══ WireGuard ═══ gateway ═══ WireGuard ═══ plant          twice: the gateway's programs in this namespace,
//!                                                                  forwarding and nftables in another
//! ```

use std::{
    env,
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use vpn_agent::datapath::{Datapath, Sizes};
use vpn_ebpf_common::names::{PIN_DIR, PLANT, USERS};
use vpn_tests::{lab::write_key, namespace::Namespace, steps::wait_for, vm::REPORT};

use crate::{
    nftables,
    report::Figure,
    rounds::median,
    topology::{Addressed, Family, Topology, device, seen_by_plants, tunnel},
};

/// Rounds, each with every kind of traffic through both gateways.
const ROUNDS: usize = 3;

/// Seconds of each transfer.
const SECONDS: u32 = 4;

/// Host bits of the device, which runs on the site's router here.
const HOST: u8 = 20;

/// Bytes of a datagram's payload: with its headers and WireGuard's it fits into a packet of every link.
const DATAGRAM: u32 = 1_300;

/// A gateway with a user and a plant.
struct Lab {
    user: Namespace,
    server: Child,
}

/// Who forwards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ours,
    Nftables,
}

/// Measures, and writes the figures to the report.
pub fn run() -> Result<()> {
    let nftables = Namespace::create("nftables")?;
    let mut labs = [
        Lab::build(Way::Ours, &Namespace::own(), ["user-1", "plant-1"])?,
        Lab::build(Way::Nftables, &nftables, ["user-2", "plant-2"])?,
    ];
    let mut datapath = gateway()?;
    for (program, interface) in [(USERS, "wg-users"), (PLANT, "wgp-1")] {
        datapath.attach(program, interface)?;
    }
    nftables::forward(&nftables, 1)?;
    for lab in &labs {
        lab.wait()?;
    }

    let datagram = DATAGRAM.to_string();
    let kinds: [(&str, &[&str]); 3] =
        [("tcp", &[]), ("tcp.download", &["-R"]), ("udp", &["-u", "-b", "0", "-l", &datagram])];
    let mut figures = Vec::new();
    for (kind, options) in kinds {
        let mut speeds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (lab, speeds) in labs.iter().zip(&mut speeds) {
                speeds.push(lab.transfer(options)?);
            }
        }
        println!("{kind}: {speeds:.1?} Mbit/s");
        let ratios = speeds[0].iter().zip(&speeds[1]).map(|(ours, nftables)| ours / nftables).collect();
        let [ours, nftables] = speeds.map(median);
        figures.push(Figure::new(format!("wg.{kind}.nftables"), nftables, "Mbit/s"));
        figures.push(Figure::new(format!("wg.{kind}.ours"), ours, "Mbit/s").against(nftables));
        figures.push(Figure::new(format!("wg.{kind}.ratio"), median(ratios), ""));
    }
    for lab in &mut labs {
        lab.server.kill()?;
        lab.server.wait()?;
    }
    let report = env::var_os(REPORT).context("the machine names a file for the report")?;
    let mut report = OpenOptions::new().append(true).open(report)?;
    for figure in &figures {
        writeln!(report, "{}", serde_json::to_string(figure)?)?;
    }
    Ok(())
}

/// The gateway's programs, with one user and one plant in their maps.
fn gateway() -> Result<Datapath> {
    let topology = Topology {
        peers: 1,
        sets: 1,
        plants: 1,
        plants_per_set: 1,
        users: index_of("wg-users")?,
        first_plant: index_of("wgp-1")?,
        link_header: 0,
    };
    let mut datapath = Datapath::open(Path::new(PIN_DIR), &Sizes::default())?;
    datapath.fill(&topology.content())?;
    datapath.configure(&topology.gateway())?;
    Ok(datapath)
}

impl Lab {
    /// Two hosts and their links to a gateway, with WireGuard on all of them.
    fn build(way: Way, gateway: &Namespace, [user, plant]: [&'static str; 2]) -> Result<Self> {
        let user = Host::connect(user, gateway, 1)?;
        let plant = Host::connect(plant, gateway, 2)?;
        let keys = [key("users")?, key("plants")?];
        let subnet = device(0, 0, Family::V4, Addressed::Real);
        let source = match way {
            Way::Ours => seen_by_plants(0, Family::V4),
            Way::Nftables => tunnel(0, Family::V4),
        };
        let address = tunnel(0, Family::V4);
        interface(gateway, "wg-users", 51_820, &keys[0].0, &format!("peer {} allowed-ips {address}/32", user.key))?;
        interface(gateway, "wgp-1", 51_821, &keys[1].0, &format!("peer {} allowed-ips {subnet}/24", plant.key))?;

        let devices = device(0, 0, Family::V4, Addressed::Virtual);
        user.join(&keys[0].1, 51_820, &format!("{devices}/24"))?;
        user.namespace.run(&format!("ip addr add {address}/32 dev wg0"))?;
        user.namespace.run(&format!("ip route add {devices}/24 dev wg0"))?;
        plant.join(&keys[1].1, 51_821, &format!("{source}/32"))?;
        let own = device(0, HOST, Family::V4, Addressed::Real);
        plant.namespace.run(&format!("ip addr add {own}/32 dev wg0"))?;
        plant.namespace.run(&format!("ip route add {source}/32 dev wg0"))?;
        if way == Way::Nftables {
            gateway.run(&format!("ip route add {address}/32 dev wg-users"))?;
            gateway.run(&format!("ip route add {subnet}/24 dev wgp-1"))?;
        }
        let server = plant
            .namespace
            .command("iperf3")
            .arg("-s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start iperf3")?;
        Ok(Self { user: user.namespace, server })
    }

    /// Until the tunnels are up.
    fn wait(&self) -> Result<()> {
        let device = device(0, HOST, Family::V4, Addressed::Virtual);
        wait_for("the tunnels are up", Duration::from_secs(60), || {
            self.user.run(&format!("busybox ping -c 1 -W 2 {device}"))
        })?;
        Ok(())
    }

    /// Mbit/s that arrive.
    fn transfer(&self, options: &[&str]) -> Result<f64> {
        let device = device(0, HOST, Family::V4, Addressed::Virtual);
        let line = format!("iperf3 -J -t {SECONDS} -c {device} {}", options.join(" "));
        let said: Value = serde_json::from_slice(&self.user.output(&line)?.stdout).context("read iperf3's result")?;
        let end = &said["end"];
        let Some(speed) = end["sum_received"]["bits_per_second"].as_f64().or(end["sum"]["bits_per_second"].as_f64())
        else {
            bail!("{line}: {}", said["error"]);
        };
        Ok(speed / 1e6)
    }
}

/// A host at the other end of a link.
struct Host {
    namespace: Namespace,
    /// Its public key.
    key: String,
    private_key_file: String,
    /// The gateway's address on the link.
    gateway: String,
}

impl Host {
    fn connect(name: &'static str, gateway: &Namespace, link: u8) -> Result<Self> {
        let namespace = Namespace::create(name)?;
        gateway.run(&format!("ip link add up{link} type veth peer name eth0 netns {name}"))?;
        gateway.run(&format!("ip addr add 198.18.{link}.1/24 dev up{link}"))?;
        gateway.run(&format!("ip link set up{link} up"))?;
        namespace.run(&format!("ip addr add 198.18.{link}.2/24 dev eth0"))?;
        namespace.run("ip link set eth0 up")?;
        let (private_key_file, key) = key(name)?;
        Ok(Self { namespace, key, private_key_file, gateway: format!("198.18.{link}.1") })
    }

    fn join(&self, key: &str, port: u16, allowed: &str) -> Result<()> {
        let peer = format!("peer {key} allowed-ips {allowed} endpoint {}:{port} persistent-keepalive 5", self.gateway);
        interface(&self.namespace, "wg0", 51_820, &self.private_key_file, &peer)
    }
}

/// Makes a WireGuard interface with one peer.
fn interface(namespace: &Namespace, name: &str, port: u16, private_key_file: &str, peer: &str) -> Result<()> {
    namespace.run(&format!("ip link add {name} type wireguard"))?;
    namespace.run(&format!("wg set {name} private-key {private_key_file} listen-port {port} {peer}"))?;
    namespace.run(&format!("ip link set {name} up"))?;
    Ok(())
}

/// A new private key's file, and the public key.
fn key(name: &str) -> Result<(String, String)> {
    let file = (0..).map(|n| format!("/tmp/{name}-{n}.key")).find(|file| !Path::new(file).exists());
    let file = file.context("there is always another name")?;
    let public = write_key(&file)?;
    Ok((file, public))
}

fn index_of(interface: &str) -> Result<u32> {
    Ok(std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?.trim().parse()?)
}
