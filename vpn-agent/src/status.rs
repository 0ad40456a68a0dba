//! What the gateway is doing: the kernel's interfaces and peers under the names of the desired state.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use serde::Serialize;
use vpn_directory::Directory;

use crate::{
    config::Config,
    key::PublicKey,
    state::State,
    wireguard::{Device, Error, Link, Peer, WireGuard},
};

/// What `vpn-agent status` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Name of this gateway host.
    pub gateway: String,
    /// Region that this gateway serves.
    pub region: String,
    /// Revision that the agent took up last; `None` before the first.
    pub revision: Option<u64>,
    /// Revision in the file of the desired state; `None` if the file cannot be used.
    pub file_revision: Option<u64>,
    /// What is wrong with that file, or with reading the directory file, one entry each.
    pub problems: Vec<String>,
    /// The interface that users connect to.
    pub users: Interface,
    /// Active certificates, by tunnel IP.
    pub certificates: Vec<Certificate>,
    /// Active plants, by number.
    pub plants: Vec<Plant>,
}

/// A WireGuard interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether there is such an interface and it is up.
    pub up: bool,
    /// Public key of this end.
    pub public_key: Option<PublicKey>,
    /// UDP port of this end.
    pub listen_port: u16,
}

/// A certificate and its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Its id.
    pub certificate: String,
    /// Whose it is.
    pub user: String,
    /// Tunnel IP.
    pub address: IpAddr,
    /// Its tunnel; `None` if WireGuard has no such peer.
    pub tunnel: Option<Tunnel>,
}

/// A plant and its uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plant {
    /// Its id.
    pub plant: String,
    /// The organisation that operates it.
    pub operator: String,
    /// Its interface on this host. The site's router needs the public key and the port.
    pub interface: Interface,
    /// Active subnets: real, and virtual.
    pub subnets: Vec<(IpNet, IpNet)>,
    /// Its tunnel; `None` if WireGuard has no such peer.
    pub tunnel: Option<Tunnel>,
}

/// What WireGuard says about a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// Where its packets came from last.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since the last handshake; `None` if there was none. WireGuard repeats it every two minutes while
    /// there is traffic.
    pub handshake_seconds_ago: Option<u64>,
    /// Bytes received, with WireGuard's overhead.
    pub rx_bytes: u64,
    /// Bytes sent, with WireGuard's overhead.
    pub tx_bytes: u64,
}

impl Status {
    /// Asks the kernel and reads the agent's files; the agent need not run.
    ///
    /// # Errors
    /// If WireGuard cannot be asked.
    pub async fn collect(config: &Config) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let directory = match Directory::read(&config.directory_file()) {
            Ok(directory) => Some(directory),
            Err(error) => {
                problems.push(format!("{error}; `vpn-agent run` makes this file"));
                None
            }
        };
        let file_revision = match fs::read(&config.state) {
            Ok(text) => match State::parse(&text) {
                Ok(state) => Some(state.revision),
                Err(found) => {
                    let name = config.state.display();
                    problems.extend(found.list().iter().map(|problem| format!("{name}: {problem}")));
                    None
                }
            },
            Err(error) => {
                problems.push(format!("{}: {error}", config.state.display()));
                None
            }
        };
        let wireguard = WireGuard::open()?;
        let links: BTreeMap<_, _> =
            wireguard.wireguard_links().await?.into_iter().map(|link| (link.name.clone(), link)).collect();
        let mut devices = BTreeMap::new();
        let plants = directory.iter().flat_map(|directory| &directory.plants).filter(|plant| plant.active);
        let names = plants.map(|plant| Config::plant_interface(plant.id));
        for name in names.chain([config.users.interface.clone()]) {
            if let Some(link) = links.get(&name) {
                devices.insert(name, (link.clone(), wireguard.device(link).await?));
            }
        }
        Ok(Self::of(config, directory.as_ref(), &devices, file_revision, problems, SystemTime::now()))
    }

    fn of(
        config: &Config,
        directory: Option<&Directory>,
        devices: &BTreeMap<String, (Link, Device)>,
        file_revision: Option<u64>,
        problems: Vec<String>,
        now: SystemTime,
    ) -> Self {
        let mut by_address = BTreeMap::new();
        if let Some((_, device)) = devices.get(&config.users.interface) {
            for peer in device.peers.values() {
                by_address.extend(peer.allowed_ips.iter().map(|allowed_ip| (allowed_ip.addr(), peer)));
            }
        }
        let mut certificates: Vec<_> = directory
            .iter()
            .flat_map(|directory| &directory.peers)
            .filter(|peer| peer.active)
            .map(|peer| Certificate {
                certificate: peer.certificate.clone(),
                user: peer.user.clone(),
                address: peer.address,
                tunnel: by_address.get(&peer.address).map(|peer| Tunnel::of(peer, now)),
            })
            .collect();
        certificates.sort_by_key(|certificate| certificate.address);
        let plants = directory
            .iter()
            .flat_map(|directory| &directory.plants)
            .filter(|plant| plant.active)
            .map(|plant| {
                let name = Config::plant_interface(plant.id);
                let peer = devices.get(&name).and_then(|(_, device)| device.peers.values().next());
                let subnets = plant.subnets.iter().filter(|subnet| subnet.active);
                Plant {
                    plant: plant.plant.clone(),
                    operator: plant.operator.clone(),
                    interface: Interface::of(name, devices),
                    subnets: subnets.map(|subnet| (subnet.real, subnet.virtual_)).collect(),
                    tunnel: peer.map(|peer| Tunnel::of(peer, now)),
                }
            })
            .collect();
        Self {
            gateway: config.gateway.clone(),
            region: config.region.clone(),
            revision: directory.map(|directory| directory.revision),
            file_revision,
            problems,
            users: Interface::of(config.users.interface.clone(), devices),
            certificates,
            plants,
        }
    }
}

impl Interface {
    fn of(name: String, devices: &BTreeMap<String, (Link, Device)>) -> Self {
        match devices.get(&name) {
            Some((link, device)) => {
                Self { up: link.up, public_key: device.public_key, listen_port: device.listen_port, name }
            }
            None => Self { name, ..Self::default() },
        }
    }
}

impl Tunnel {
    fn of(peer: &Peer, now: SystemTime) -> Self {
        let ago = |time| now.duration_since(time).unwrap_or(Duration::ZERO).as_secs();
        Self {
            endpoint: peer.endpoint,
            handshake_seconds_ago: peer.latest_handshake.map(ago),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |revision: Option<u64>| revision.map_or_else(|| "none".to_owned(), |number| number.to_string());
        writeln!(f, "gateway {}, region {}", self.gateway, self.region)?;
        writeln!(f, "revision {}, in the file {}", number(self.revision), number(self.file_revision))?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        writeln!(f, "users: {}", self.users)?;
        for Certificate { certificate, user, address, tunnel } in &self.certificates {
            writeln!(f, "  {certificate} of {user}, {address}: {}", Shown(tunnel.as_ref()))?;
        }
        for Plant { plant, operator, interface, subnets, tunnel } in &self.plants {
            writeln!(f, "plant {plant} of {operator}: {interface}")?;
            writeln!(f, "  {}", Shown(tunnel.as_ref()))?;
            for (real, virtual_) in subnets {
                writeln!(f, "  {real} as {virtual_}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, up, public_key, listen_port } = self;
        match public_key {
            Some(key) => write!(f, "{name} {}, port {listen_port}, key {key}", if *up { "up" } else { "down" }),
            None => write!(f, "{name} is missing or has no key"),
        }
    }
}

struct Shown<'t>(Option<&'t Tunnel>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Tunnel { endpoint, handshake_seconds_ago, rx_bytes, tx_bytes }) = self.0 else {
            return f.write_str("no peer in WireGuard");
        };
        match handshake_seconds_ago {
            Some(seconds) => write!(f, "handshake {seconds} s ago")?,
            None => f.write_str("no handshake yet")?,
        }
        if let Some(endpoint) = endpoint {
            write!(f, ", from {endpoint}")?;
        }
        write!(f, ", received {rx_bytes} B, sent {tx_bytes} B")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addressing::Allocations, directory::directory, example};

    #[test]
    fn peers_are_shown_under_their_names() {
        let config = example::config("");
        let state = example::state();
        let allocations = Allocations::default().extended(&state, &config).unwrap();
        let directory = directory(&state, &allocations, &config);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let peer = Peer {
            allowed_ips: ["100.64.0.3/32".parse().unwrap()].into(),
            endpoint: Some("192.0.2.1:5000".parse().unwrap()),
            latest_handshake: Some(now - Duration::from_secs(42)),
            rx_bytes: 10,
            tx_bytes: 20,
        };
        let device = Device {
            public_key: Some(PublicKey::from_bytes([3; 32])),
            listen_port: 51820,
            peers: BTreeMap::from([(PublicKey::from_bytes([2; 32]), peer)]),
        };
        let link = Link { name: "wg-users".into(), ifindex: 7, kind: "wireguard".into(), mtu: 1420, up: true };
        let devices = BTreeMap::from([("wg-users".to_owned(), (link, device))]);
        let status = Status::of(&config, Some(&directory), &devices, None, vec!["bad file".into()], now);
        let expected = "\
gateway gateway-1, region eu
revision 7, in the file none
problem: bad file
users: wg-users up, port 51820, key AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
  certificate-a of user-a, 100.64.0.2: no peer in WireGuard
  certificate-b of user-b, 100.64.0.3: handshake 42 s ago, from 192.0.2.1:5000, received 10 B, sent 20 B
plant north of alpha: wgp-1 is missing or has no key
  no peer in WireGuard
  192.168.1.0/24 as 10.128.0.0/24
plant south of beta: wgp-2 is missing or has no key
  no peer in WireGuard
  192.168.1.0/24 as 10.128.1.0/24
";
        assert_eq!(status.to_string(), expected);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["certificates"][1]["tunnel"]["handshake_seconds_ago"], 42);
    }
}
