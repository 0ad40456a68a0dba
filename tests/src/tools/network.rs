//! The network of this scenario: that of the main job with IPv6 besides, and a plant behind Ethernet.
//!
//! ```text
//!  user-a ──┐                     ┌── router north ── device
//!           ├── gateway host ─────┼── router south ── device
//!  user-b ──┘                     └── store0.10 (VLAN of an Ethernet interface) ── device
//! ```
//!
//! All three plants use the same subnets, and their devices the same addresses. The tunnels to plants take smaller
//! packets than those to users, so that there is something to discover on the way.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::Path,
    process::Stdio,
};

use anyhow::Result;
use vpn_agent::config::Pools;

use crate::{
    background::Background,
    device::{self, Device},
    lab::Peer,
    namespace::{Namespace, run},
};

use super::Family;

/// The subnets of every plant.
pub const SUBNETS: [&str; 2] = ["192.168.1.0/24", "fd00:1::/64"];
/// The host number of every device.
pub const DEVICE: u8 = 0x20;
/// The host number of every site router.
pub const ROUTER: u8 = 1;
/// The host number of the gateway in the plant behind Ethernet.
pub const GATEWAY: u8 = 2;

/// The largest packet in the users' tunnels, which is WireGuard's default over IPv4 and IPv6.
pub const USERS_MTU: u64 = 1_420;
/// The largest packet in the plants' tunnels.
pub const PLANTS_MTU: u64 = 1_360;
/// The gateway's Ethernet interface to the plant that has no tunnel: a VLAN.
pub const ETHERNET: &str = "store0.10";

/// Bytes of each device's `blob`.
pub const BLOB: usize = 200_000;
/// Bytes of each device's `archive`.
pub const ARCHIVE: u64 = 12_000_000;
/// Port of each device's iperf3.
pub const IPERF_PORT: u16 = 5_201;
/// Each device's Modbus registers.
pub const REGISTERS: [(&str, &[u16]); 3] =
    [("north", &[1_101, 1_102]), ("south", &[2_201, 2_202]), ("store", &[3_301, 3_302])];

/// All hosts but the gateway's.
#[derive(Debug)]
pub struct Network {
    /// Operator of all three plants.
    pub user_a: Peer,
    /// Operator of `north` alone.
    pub user_b: Peer,
    /// A plant behind a tunnel.
    pub north: Site,
    /// Another one.
    pub south: Site,
    /// The plant behind Ethernet.
    pub store: Lan,
}

/// A plant with a router on site.
#[derive(Debug)]
pub struct Site {
    /// It runs WireGuard and nothing of ours.
    pub router: Peer,
    /// What is behind it.
    pub lan: Lan,
}

/// The device of a plant, and the host it is on.
#[derive(Debug)]
pub struct Lan {
    /// The host.
    pub host: Namespace,
    _device: Device,
    _iperf: Background,
}

impl Network {
    /// Everything that needs nothing of the gateway's programs.
    pub fn build(folder: &Path) -> Result<Self> {
        Ok(Self {
            user_a: Peer::connect_as_is("user-a", 1, folder)?,
            user_b: Peer::connect_as_is("user-b", 2, folder)?,
            north: Site::build("north", "north-lan", 11, REGISTERS[0].1, folder)?,
            south: Site::build("south", "south-lan", 12, REGISTERS[1].1, folder)?,
            store: build_store(folder)?,
        })
    }
}

impl Site {
    fn build(
        name: &'static str,
        lan: &'static str,
        link: u8,
        registers: &'static [u16],
        folder: &Path,
    ) -> Result<Self> {
        let router = Peer::connect_as_is(name, link, folder)?;
        let host = Namespace::create(lan)?;
        router.namespace.run(&format!("ip link add lan type veth peer name eth0 netns {lan}"))?;
        for family in Family::BOTH {
            router.namespace.run(&format!("ip addr add {} dev lan", in_subnet(family, ROUTER)))?;
        }
        router.namespace.run("ip link set lan up")?;
        let lan = Lan::start(host, name, "eth0", ROUTER, registers, folder)?;
        Ok(Self { router, lan })
    }

    /// What the site's owner does with the site's configuration: a tunnel, and routes back to the users. No NAT.
    pub fn apply(&self, pools: &Pools, server_key: &str, port: u16) -> Result<()> {
        let router = &self.router.namespace;
        self.router.tunnel(server_key, port, &format!("{},{}", pools.source, pools.source6))?;
        router.run(&format!("ip link set wg0 mtu {PLANTS_MTU}"))?;
        // What the router itself has to say comes from its address in the plant.
        for (pool, family) in [(pools.source.to_string(), Family::V4), (pools.source6.to_string(), Family::V6)] {
            let own = real(family, ROUTER);
            router.run(&format!("ip {} route add {pool} dev wg0 src {own}", family.option()))?;
        }
        router.set("net.ipv4.ip_forward", "1")?;
        router.set("net.ipv6.conf.all.forwarding", "1")
    }
}

impl Lan {
    /// A device whose way out is the host with the number `way_out`.
    fn start(
        host: Namespace,
        name: &'static str,
        interface: &str,
        way_out: u8,
        registers: &'static [u16],
        folder: &Path,
    ) -> Result<Self> {
        host.run(&format!("ip link set {interface} up"))?;
        for family in Family::BOTH {
            host.run(&format!("ip addr add {} dev {interface}", in_subnet(family, DEVICE)))?;
            let way_out = real(family, way_out);
            host.run(&format!("ip {} route add default via {way_out}", family.option()))?;
        }
        let site = folder.join(name);
        device::write_site(&site, name, BLOB, ARCHIVE)?;
        let device = Device::start(&host, name, Ipv6Addr::UNSPECIFIED.into(), registers, &site)?;
        let mut iperf = host.command("iperf3");
        iperf.args(["--server", "--port", &IPERF_PORT.to_string(), "--logfile", "/dev/null"]);
        // It complains about everybody who looks at its port.
        iperf.stderr(Stdio::null());
        Ok(Self { host, _device: device, _iperf: Background::start(iperf)? })
    }
}

/// The gateway's administrator makes a VLAN, and gives it addresses; the agent takes it for the plant.
fn build_store(folder: &Path) -> Result<Lan> {
    let host = Namespace::create("store-lan")?;
    run("ip link add store0 type veth peer name eth0 netns store-lan")?;
    host.run("ip link set eth0 up")?;
    host.run("ip link add link eth0 name eth0.10 type vlan id 10")?;
    run("ip link set store0 up")?;
    run(&format!("ip link add link store0 name {ETHERNET} type vlan id 10"))?;
    for family in Family::BOTH {
        run(&format!("ip addr add {} dev {ETHERNET}", in_subnet(family, GATEWAY)))?;
    }
    run(&format!("ip link set {ETHERNET} up"))?;
    Lan::start(host, "store", "eth0.10", GATEWAY, REGISTERS[2].1, folder)
}

/// What a WireGuard app does with a user's profile.
pub fn apply_profile(user: &Peer, pools: &Pools, addresses: [IpAddr; 2], server_key: &str, port: u16) -> Result<()> {
    let v4 = format!("{},{},{}", pools.virtual_, SUBNETS[0], pools.tunnel);
    let v6 = format!("{},{},{}", pools.virtual6, SUBNETS[1], pools.tunnel6);
    user.tunnel(server_key, port, &format!("{v4},{v6}"))?;
    for address in addresses {
        user.namespace.run(&format!("ip addr add {address} dev wg0"))?;
    }
    for (subnets, family) in [(v4, Family::V4), (v6, Family::V6)] {
        for subnet in subnets.split(',') {
            user.namespace.run(&format!("ip {} route add {subnet} dev wg0", family.option()))?;
        }
    }
    Ok(())
}

/// The largest packet between users and a plant. Ethernet takes more than the users' tunnels.
pub fn path_mtu(plant: &str) -> u64 {
    if plant == "store" { USERS_MTU } else { PLANTS_MTU.min(USERS_MTU) }
}

/// The address of a host in every plant.
pub fn real(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 168, 1, number]),
        Family::V6 => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(number)]),
    }
}

/// The same as an argument of `ip addr add`. Nobody else has it, so nobody is asked and nothing has to be waited for.
fn in_subnet(family: Family, number: u8) -> String {
    match family {
        Family::V4 => format!("{}/24", real(family, number)),
        Family::V6 => format!("{}/64 nodad", real(family, number)),
    }
}
