//! The network of the scenarios. Every host is a network namespace; the gateway is the one this process is in.
//! Users and site routers run nothing but kernel WireGuard.
//!
//! ```text
//!  user-a 198.18.1.2 ──┐                            ┌── 198.18.11.2 router north ── device 192.168.1.20
//!                      ├── 198.18.N.1  gateway ─────┤
//!  user-b 198.18.2.2 ──┘   wg-users, wgp-1, wgp-2   └── 198.18.12.2 router south ── device 192.168.1.20
//! ```

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    device::{self, Device},
    namespace::{Namespace, run},
    wg_quick,
};

/// The subnet that both plants use.
pub const SUBNET: &str = "192.168.1.0/24";
/// The device in each of them.
pub const DEVICE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);

/// What a user's profile sends into the tunnel: the virtual subnets, and the private range for real addresses.
const PROFILE_SUBNETS: &str = "10.128.0.0/9,192.168.0.0/16";

/// Nothing on the way loses packets, so a retransmission would only be the emulator's slowness taken for loss,
/// and would make bytes on the wire differ from bytes that a tool has seen.
pub const PATIENCE: &str = "rto_min 8s";

/// Options that make every TCP header 20 bytes, and 28 in a SYN.
const PLAIN_TCP: [(&str, &str); 5] = [
    ("net.ipv4.tcp_timestamps", "0"),
    ("net.ipv4.tcp_sack", "0"),
    ("net.ipv4.tcp_early_retrans", "0"),
    ("net.ipv4.tcp_recovery", "0"),
    // WireGuard's workers change CPUs and a veth keeps a queue for each, so segments overtake each other here. That is
    // no loss either.
    ("net.ipv4.tcp_reordering", "300"),
];

/// Bytes that wait for a user's program at most. `curl` keeps to a rate by taking nothing for a while; with the buffers of
/// a fast line, megabytes would come at once then: all of a download that is meant to break off, and more than an emulated
/// machine can do beside something else.
const BUFFER: u32 = 65_536;

/// Has what a slow program does not take wait at the sender.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_buffers_small(host: &Namespace) -> Result<()> {
    host.set("net.ipv4.tcp_rmem", &format!("4096 {BUFFER} {BUFFER}"))
}

/// A host outside the gateway, with its own WireGuard key.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub namespace: Namespace,
    /// Its public key, base64.
    pub public_key: String,
    /// The gateway's address on the link between them.
    gateway: Ipv4Addr,
    private_key_file: String,
}

/// A plant: a site router and a device behind it.
#[derive(Debug)]
pub struct Plant {
    /// The site router.
    pub router: Peer,
    /// The network behind it.
    pub lan: Namespace,
    /// Its servers.
    pub device: Device,
}

impl Peer {
    /// A host on a link of its own to the gateway, whose TCP is plain.
    ///
    /// # Errors
    /// If a command fails.
    pub fn connect(name: &'static str, link: u8, folder: &Path) -> Result<Self> {
        let peer = Self::connect_as_is(name, link, folder)?;
        make_tcp_plain(&peer.namespace)?;
        Ok(peer)
    }

    /// A host on a link of its own to the gateway, `198.18.<link>.0/24`, with the kernel's defaults.
    ///
    /// # Errors
    /// If a command fails.
    pub fn connect_as_is(name: &'static str, link: u8, folder: &Path) -> Result<Self> {
        let namespace = connect(name, link)?;
        let private_key_file = folder.join(format!("{name}.key")).display().to_string();
        let public_key = write_key(&private_key_file)?;
        Ok(Self { namespace, public_key, gateway: Ipv4Addr::new(198, 18, link, 1), private_key_file })
    }

    /// Applies a user's profile: what a WireGuard app would do with it.
    ///
    /// # Errors
    /// If a command fails.
    pub fn apply_profile(&self, tunnel: Ipv4Addr, server_key: &str, port: u16) -> Result<()> {
        self.tunnel(server_key, port, PROFILE_SUBNETS)?;
        self.namespace.run(&format!("ip addr add {tunnel}/32 dev wg0"))?;
        for subnet in PROFILE_SUBNETS.split(',') {
            self.namespace.run(&format!("ip route add {subnet} dev wg0 {PATIENCE}"))?;
        }
        Ok(())
    }

    /// Configures a site router: what its owner would do with the site's configuration. No NAT, no software of ours.
    ///
    /// # Errors
    /// If a command fails.
    pub fn apply_site(&self, users: &str, server_key: &str, port: u16) -> Result<()> {
        self.tunnel(server_key, port, users)?;
        self.namespace.run(&format!("ip route add {users} dev wg0"))?;
        self.namespace.set("net.ipv4.ip_forward", "1")
    }

    /// Configures a site router with the file that the gateway has made for it, as it is.
    ///
    /// # Errors
    /// If a command fails.
    pub fn apply_site_file(&self, file: &Path) -> Result<()> {
        wg_quick::up(&self.namespace, file)?;
        self.namespace.set("net.ipv4.ip_forward", "1")
    }

    /// Sets up `wg0` towards the gateway, for the subnets `allowed`. No address, no route.
    ///
    /// # Errors
    /// If a command fails.
    pub fn tunnel(&self, server_key: &str, port: u16, allowed: &str) -> Result<()> {
        self.namespace.run("ip link add wg0 type wireguard")?;
        self.namespace.run(&format!(
            "wg set wg0 private-key {} peer {server_key} allowed-ips {allowed} endpoint {}:{port} persistent-keepalive 5",
            self.private_key_file, self.gateway
        ))?;
        self.namespace.run("ip link set wg0 up")?;
        Ok(())
    }

    /// The file with its private key.
    #[must_use]
    pub fn private_key_file(&self) -> &str {
        &self.private_key_file
    }
}

impl Plant {
    /// A plant named `name` with a device whose Modbus registers are `registers`; its web site is
    /// [`device::write_site`]'s.
    ///
    /// # Errors
    /// If a command fails.
    pub fn build(
        name: &'static str,
        lan: &'static str,
        link: u8,
        registers: &'static [u16],
        (blob, archive): (usize, u64),
        folder: &Path,
    ) -> Result<Self> {
        let router = Peer::connect(name, link, folder)?;
        let lan = Namespace::create(lan)?;
        router.namespace.run(&format!("ip link add lan type veth peer name eth0 netns {}", lan.name()))?;
        router.namespace.run("ip addr add 192.168.1.1/24 dev lan")?;
        router.namespace.run("ip link set lan up")?;
        lan.run(&format!("ip addr add {DEVICE}/24 dev eth0"))?;
        lan.run("ip link set eth0 up")?;
        lan.run(&format!("ip route add default via 192.168.1.1 {PATIENCE}"))?;
        make_tcp_plain(&lan)?;
        let site = folder.join(name);
        device::write_site(&site, name, blob, archive)?;
        let device = Device::start(&lan, name, DEVICE.into(), registers, &site)?;
        Ok(Self { router, lan, device })
    }
}

/// Has a host's TCP do without options and without guesses, so that what a tool moves tells what passes.
///
/// # Errors
/// If the kernel refuses.
pub fn make_tcp_plain(host: &Namespace) -> Result<()> {
    PLAIN_TCP.iter().try_for_each(|(parameter, value)| host.set(parameter, value))
}

/// A host on a link of its own to this namespace, `198.18.<link>.0/24`, where this namespace has the address 1 and the
/// host the address 2.
///
/// # Errors
/// If a command fails.
pub fn connect(name: &'static str, link: u8) -> Result<Namespace> {
    let namespace = Namespace::create(name)?;
    run(&format!("ip link add up{link} type veth peer name eth0 netns {name}"))?;
    run(&format!("ip addr add 198.18.{link}.1/24 dev up{link}"))?;
    run(&format!("ip link set up{link} up"))?;
    namespace.run(&format!("ip addr add 198.18.{link}.2/24 dev eth0"))?;
    namespace.run("ip link set eth0 up")?;
    Ok(namespace)
}

/// Makes a key pair: the private key into a file that only root reads, the public key as the result.
///
/// # Errors
/// If `wg` fails.
pub fn write_key(file: &str) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let private = run("wg genkey")?;
    let options = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    std::io::Write::write_all(&mut options.with_context(|| format!("create {file}"))?, private.as_bytes())?;
    let output = std::process::Command::new("wg").arg("pubkey").stdin(fs::File::open(file)?).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
