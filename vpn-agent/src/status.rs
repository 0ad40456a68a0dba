//! What the gateway is doing: the kernel's interfaces, peers and maps under the names of the desired state.

mod differences;
mod files;
mod kernel;
pub(crate) mod table;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use vpn_directory::Directory;

use self::{
    files::Files,
    kernel::{Device, Kernel, Maps},
};
use crate::{
    config::Config,
    datapath::read::FillLevel,
    key::PublicKey,
    liveness::{ALIVE, UplinkKind, UplinkState},
    repairs::Repair,
    wireguard::{Error, Peer},
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
    /// Whether `vpn-agent detach` was called, and neither a start of the agent nor SIGHUP since.
    pub detached: bool,
    /// What could not be read, and what is wrong with the desired state, one entry each.
    pub problems: Vec<String>,
    /// Where the kernel is not as the desired state has it, one entry each.
    pub differences: Vec<String>,
    /// The interface that users connect to.
    pub users: Interface,
    /// Active certificates, by tunnel IP.
    pub certificates: Vec<Certificate>,
    /// Active plants, by number.
    pub plants: Vec<Plant>,
    /// What the maps hold; `None` if they are not pinned.
    pub maps: Option<Tables>,
    /// What something else had changed and the agent has repaired, the last ones, oldest first.
    pub repairs: Vec<Repair>,
}

/// An interface that the gateway uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number; `None` if there is no such interface.
    pub ifindex: Option<u32>,
    /// Whether there is such an interface and it is up.
    pub up: bool,
    /// Whether its packets meet our program first.
    pub program: Program,
    /// The id of the program that its packets meet first, whosever that is.
    pub program_id: Option<u32>,
    /// Whether it is closed to the kernel's own forwarding, which knows no permissions.
    pub closed_to_forwarding: bool,
    /// Public key of this end; `None` if it is not a WireGuard interface.
    pub public_key: Option<PublicKey>,
    /// UDP port of this end; `None` if it is not a WireGuard interface.
    pub listen_port: Option<u16>,
}

/// The program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Ours, as it is pinned.
    Attached,
    /// There is none: what arrives goes to the host itself or is dropped.
    Missing,
    /// Another one.
    Foreign,
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
    /// IPv6 tunnel address.
    pub address6: Ipv6Addr,
    /// The id of its route set; zero is the set without routes, `None` if PEERS does not have it.
    pub route_set: Option<u32>,
    /// How many routes that set has; `None` if PEERS does not have it.
    pub routes: Option<usize>,
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
    /// How its network is reached.
    pub uplink: UplinkKind,
    /// Whether it is: as the agent has seen, or if none runs, by the last handshake or the carrier.
    pub state: UplinkState,
    /// When the agent has first seen it so; `None` if none runs.
    pub since: Option<Timestamp>,
    /// Its interface on this host. The site's router needs the public key and the port, if there are any.
    pub interface: Interface,
    /// Active subnets.
    pub subnets: Vec<Subnet>,
    /// Its tunnel; `None` if WireGuard has no such peer.
    pub tunnel: Option<Tunnel>,
}

/// A subnet of a plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// As the plant uses it.
    pub real: IpNet,
    /// As it is for everyone.
    #[serde(rename = "virtual")]
    pub virtual_: IpNet,
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

/// What the maps hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Every route set that has routes or peers, by id.
    pub route_sets: Vec<RouteSet>,
    /// What became of packets since the maps were made, one entry for every verdict.
    pub counters: Vec<Counter>,
    /// How full the maps are: FLOWS are live flows, CLOSED are finished ones that the collector has yet to store, DENIED
    /// are refused destinations, of which the oldest make room.
    pub fill_levels: Vec<FillLevel>,
}

/// A route set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RouteSet {
    /// Its id.
    pub id: u32,
    /// How many routes it has.
    pub routes: usize,
    /// How many peers have it now.
    pub peers: usize,
}

/// The packets with one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// The verdict's label.
    pub verdict: &'static str,
    /// Packets.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
}

impl Status {
    /// Asks the kernel and reads the agent's files; the agent need not run.
    ///
    /// # Errors
    /// If WireGuard cannot be asked.
    pub async fn collect(config: &Config) -> Result<Self, Error> {
        let mut files = Files::read(config);
        let mut problems = std::mem::take(&mut files.problems);
        let kernel = Kernel::read(config, &files, &mut problems).await?;
        files.problems = problems;
        Ok(Self::of(config, files, &kernel, SystemTime::now()))
    }

    fn of(config: &Config, files: Files, kernel: &Kernel, now: SystemTime) -> Self {
        let mut status = Self {
            gateway: config.gateway.clone(),
            region: config.region.clone(),
            revision: files.directory.as_ref().map(|directory| directory.revision),
            file_revision: files.state.as_ref().map(|state| state.revision),
            detached: kernel.detached,
            problems: Vec::new(),
            differences: Vec::new(),
            users: Interface::of(&config.users.interface, &kernel.devices),
            certificates: certificates(config, files.directory.as_ref(), kernel, now),
            plants: plants(config, &files, kernel, now),
            maps: kernel.maps.as_ref().map(Tables::of),
            repairs: files.repairs.iter().cloned().collect(),
        };
        status.differences = differences::of(&status, config, &files, kernel);
        status.problems = files.problems;
        status
    }
}

fn certificates(config: &Config, directory: Option<&Directory>, kernel: &Kernel, now: SystemTime) -> Vec<Certificate> {
    let mut tunnels = BTreeMap::new();
    if let Some(device) = kernel.devices.get(&config.users.interface) {
        for peer in device.wireguard.iter().flat_map(|wireguard| wireguard.peers.values()) {
            tunnels.extend(peer.allowed_ips.iter().map(|allowed_ip| (allowed_ip.addr(), peer)));
        }
    }
    let lengths = kernel.maps.as_ref().map(Maps::route_set_lengths).unwrap_or_default();
    let peers = directory.iter().flat_map(|directory| &directory.peers).filter(|peer| peer.active);
    let mut certificates: Vec<_> = peers
        .map(|peer| {
            let number = match peer.address {
                IpAddr::V4(address) => Some(config.pools.host_number(address)),
                IpAddr::V6(_) => None,
            };
            let maps = kernel.maps.as_ref();
            let route_set =
                maps.zip(number).and_then(|(maps, number)| maps.peers.get(&number)).map(|peer| peer.route_set);
            Certificate {
                certificate: peer.certificate.clone(),
                user: peer.user.clone(),
                address: peer.address,
                address6: peer.address6,
                route_set,
                routes: route_set.map(|set| lengths.get(&set).copied().unwrap_or_default()),
                tunnel: tunnels.get(&peer.address).map(|peer| Tunnel::of(peer, now)),
            }
        })
        .collect();
    certificates.sort_by_key(|certificate| certificate.address);
    certificates
}

fn plants(config: &Config, files: &Files, kernel: &Kernel, now: SystemTime) -> Vec<Plant> {
    files
        .active_plants(&config.region)
        .map(|plant| {
            let (uplink, name) = files.interface(plant, &config.region);
            let interface = Interface::of(&name, &kernel.devices);
            let device = kernel.devices.get(&interface.name);
            let peer = device.and_then(Device::only_peer);
            let seen = files.seen(&plant.plant);
            let state = seen.map_or_else(|| UplinkState::of(device, uplink, now), |seen| seen.state);
            let subnets = plant.subnets.iter().filter(|subnet| subnet.active);
            Plant {
                plant: plant.plant.clone(),
                operator: plant.operator.clone(),
                uplink,
                state,
                since: seen.map(|seen| seen.since),
                subnets: subnets.map(|subnet| Subnet { real: subnet.real, virtual_: subnet.virtual_ }).collect(),
                tunnel: peer.map(|peer| Tunnel::of(peer, now)),
                interface,
            }
        })
        .collect()
}

impl UplinkState {
    /// From the kernel alone.
    fn of(device: Option<&Device>, kind: UplinkKind, now: SystemTime) -> Self {
        let Some(device) = device else { return Self::Down };
        let handshake = device.only_peer().and_then(|peer| peer.latest_handshake);
        match (kind, handshake) {
            (UplinkKind::Interface, _) if device.link.carrier => Self::Up,
            (UplinkKind::Interface, _) => Self::Down,
            (UplinkKind::Host | UplinkKind::Dial, None) => Self::Never,
            (UplinkKind::Host | UplinkKind::Dial, Some(time)) => {
                if now.duration_since(time).unwrap_or_default() < ALIVE { Self::Up } else { Self::Down }
            }
        }
    }
}

impl Interface {
    fn of(name: &str, devices: &BTreeMap<String, Device>) -> Self {
        let device = devices.get(name);
        let wireguard = device.and_then(|device| device.wireguard.as_ref());
        let program_id = device.and_then(|device| device.link.first_program(device.pinned_guard));
        Self {
            name: name.to_owned(),
            ifindex: device.map(|device| device.link.ifindex),
            up: device.is_some_and(|device| device.link.up),
            program: Program::of(program_id, device.and_then(|device| device.pinned_program)),
            program_id,
            closed_to_forwarding: device.is_none_or(|device| device.closed_to_forwarding),
            public_key: wireguard.and_then(|wireguard| wireguard.public_key),
            listen_port: wireguard.map(|wireguard| wireguard.listen_port),
        }
    }
}

impl Program {
    fn of(on_interface: Option<u32>, pinned: Option<u32>) -> Self {
        match on_interface {
            None => Self::Missing,
            Some(_) if on_interface == pinned => Self::Attached,
            Some(_) => Self::Foreign,
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

impl Tables {
    fn of(maps: &Maps) -> Self {
        let routes = maps.route_set_lengths();
        let mut peers = BTreeMap::<u32, usize>::new();
        for peer in maps.peers.values() {
            *peers.entry(peer.route_set).or_default() += 1;
        }
        let ids: BTreeSet<_> = routes.keys().chain(peers.keys()).copied().collect();
        let of = |of: &BTreeMap<u32, usize>, id| of.get(&id).copied().unwrap_or_default();
        Self {
            route_sets: ids
                .into_iter()
                .map(|id| RouteSet { id, routes: of(&routes, id), peers: of(&peers, id) })
                .collect(),
            counters: maps
                .stats
                .iter()
                .map(|(verdict, traffic)| Counter {
                    verdict: verdict.label(),
                    packets: traffic.packets,
                    bytes: traffic.bytes,
                })
                .collect(),
            fill_levels: maps.fill_levels.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use vpn_ebpf_common::{Verdict, flow::Traffic, peer};

    use super::*;
    use crate::{
        addressing::Allocations,
        borrowed::Borrowed,
        catalogue::Catalogue,
        content::content,
        datapath::withdraw::NO_ROUTES,
        directory::directory,
        example,
        liveness::{self, Liveness},
        policy::Policy,
        repairs::Repairs,
        tables,
        wireguard::{self, Link},
    };

    /// A gateway whose kernel is as the example state wants it; user-b was heard of 42 seconds before [`now`].
    fn example_gateway() -> (Config, Files, Kernel) {
        let config = example::config("");
        let state = example::state();
        let allocations = Allocations::default().extended(&state, &config).unwrap();
        let policy = Policy::compile(&state, &config.terms(Timestamp::UNIX_EPOCH));
        let uplink = |ifindex| tables::Uplink { ifindex, mtu: 1420, link_header: 0 };
        let uplinks = BTreeMap::from([("north".parse().unwrap(), uplink(11)), ("south".parse().unwrap(), uplink(12))]);
        let tables = tables::Tables::new(
            &state,
            &allocations,
            &mut Catalogue::new(&allocations),
            &config.pools,
            &policy,
            &uplinks,
        )
        .unwrap();
        let content = content(tables, &config);

        let peer = |number: u8, addresses: &[&str]| {
            let allowed_ips = addresses.iter().map(|address| address.parse().unwrap()).collect();
            (PublicKey::from_bytes([number; 32]), Peer { allowed_ips, ..Peer::default() })
        };
        let mut users = BTreeMap::from([
            peer(1, &["100.64.0.2/32", "fd76:706e:6777::2/128"]),
            peer(2, &["100.64.0.3/32", "fd76:706e:6777::3/128"]),
        ]);
        let user_b = users.values_mut().next_back().unwrap();
        user_b.endpoint = Some("192.0.2.1:5000".parse().unwrap());
        user_b.latest_handshake = Some(now() - Duration::from_secs(42));
        (user_b.rx_bytes, user_b.tx_bytes) = (10, 20);
        let device = |name: &str, ifindex, port, peers| Device {
            link: link(name, ifindex),
            wireguard: Some(wireguard::Device {
                public_key: Some(PublicKey::from_bytes([3; 32])),
                listen_port: port,
                fwmark: 0,
                peers,
            }),
            pinned_program: Some(30),
            pinned_guard: None,
            closed_to_forwarding: true,
        };
        let plant = |number| BTreeMap::from([peer(number, &["192.168.1.0/24"])]);
        let devices = [
            device("wg-users", 7, 51820, users),
            device("wgp-1", 11, 51821, plant(100)),
            device("wgp-2", 12, 51822, plant(101)),
        ];
        let kernel = Kernel {
            devices: devices.into_iter().map(|device| (device.link.name.clone(), device)).collect(),
            detached: false,
            users_addresses: Vec::new(),
            maps: Some(Maps {
                gateway: Some(crate::content::gateway(&config, 7)),
                peers: content.peers,
                routes: content
                    .route_sets
                    .iter()
                    .flat_map(|(set, routes)| routes.iter().map(|((to, bits), route)| ((*set, *to, *bits), *route)))
                    .collect(),
                plants: content.plants,
                stats: vec![
                    (Verdict::ToPlant, Traffic { packets: 3, bytes: 252 }),
                    (Verdict::NoRoute, Traffic::default()),
                ],
                fill_levels: vec![FillLevel { map: "FLOWS", entries: 1, capacity: 1024 }],
            }),
        };
        let directory = directory(&state, &allocations, &config);
        let files = Files {
            directory: Some(directory),
            state: Some(state),
            allocations: Some(allocations),
            borrowed: Borrowed::default(),
            liveness: None,
            repairs: Repairs::default(),
            problems: Vec::new(),
        };
        (config, files, kernel)
    }

    fn link(name: &str, ifindex: u32) -> Link {
        let (name, kind) = (name.to_owned(), "wireguard".to_owned());
        Link { name, ifindex, kind, ethernet: false, mtu: 1420, up: true, carrier: true, xdp: None, program: Some(30) }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
    }

    /// Requirements: G5.
    #[test]
    fn a_gateway_in_order_is_shown_in_full_and_differs_in_nothing() {
        let (config, files, kernel) = example_gateway();
        let status = Status::of(&config, files, &kernel, now());
        let expected = "\
gateway gateway-1, region eu
revision 7, in the file 7

interfaces
  NAME      STATE  PROGRAM   ID  PORT   PUBLIC KEY
  wg-users  up     attached  30  51820  AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
  wgp-1     up     attached  30  51821  AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
  wgp-2     up     attached  30  51822  AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=

certificates
  CERTIFICATE    USER    ADDRESS     IPV6 ADDRESS       ROUTE SET  ROUTES  HANDSHAKE  ENDPOINT        RECEIVED  SENT
  certificate-a  user-a  100.64.0.2  fd76:706e:6777::2  1          2       never      -               0 B       0 B
  certificate-b  user-b  100.64.0.3  fd76:706e:6777::3  2          3       42 s ago   192.0.2.1:5000  10 B      20 B

plants
  PLANT  OPERATOR  INTERFACE  UPLINK  STATE  HANDSHAKE  ENDPOINT  RECEIVED  SENT
  north  alpha     wgp-1      host    never  never      -         0 B       0 B
  south  beta      wgp-2      host    never  never      -         0 B       0 B

subnets
  PLANT  REAL            VIRTUAL
  north  192.168.1.0/24  10.128.0.0/24
  south  192.168.1.0/24  10.128.1.0/24

route sets
  ID  ROUTES  PEERS
  1   2       1
  2   3       1

counters
  VERDICT   PACKETS  BYTES
  to-plant  3        252

maps
  MAP    ENTRIES  CAPACITY
  FLOWS  1        1024
";
        assert_eq!(status.to_string(), expected);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["certificates"][1]["tunnel"]["handshake_seconds_ago"], 42);
        assert_eq!(json["users"]["program"], "attached");
        assert_eq!(json["maps"]["counters"][1]["verdict"], "no-route", "every verdict");
        assert_eq!(json["plants"][0]["subnets"][0]["virtual"], "10.128.0.0/24");
    }

    /// Requirements: G5.
    #[test]
    fn the_last_repairs_are_shown() {
        let (config, mut files, kernel) = example_gateway();
        for number in 0..20 {
            let at = Timestamp::from_second(1_800_000_000 + number).unwrap();
            let (what, found) = ("wgp-1".to_owned(), format!("the MTU {}", 1300 + number));
            files.repairs.push(Repair { at, what, found, made: "set to 1420".into() });
        }
        let status = Status::of(&config, files, &kernel, now());
        assert_eq!(status.repairs.len(), 20);
        let text = status.to_string();
        assert!(text.contains("\nrepairs\n  AT                    WHAT   FOUND         MADE\n"), "{text}");
        assert!(text.contains("  2027-01-15T08:00:19Z  wgp-1  the MTU 1319  set to 1420\n"), "{text}");
        assert!(!text.contains("the MTU 1309"), "the last ten");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["repairs"][0]["at"], "2027-01-15T08:00:00Z");
    }

    #[test]
    fn every_difference_is_named() {
        type Change = fn(&mut Kernel);
        let rows: [(Change, &str); 17] = [
            (|kernel| drop(kernel.devices.remove("wgp-1")), "wgp-1 of plant north: there is no such interface"),
            (|kernel| device(kernel, "wgp-1").link.up = false, "wgp-1 of plant north is down"),
            (|kernel| device(kernel, "wg-users").link.program = None, "wg-users has no program at its ingress hook"),
            (
                |kernel| device(kernel, "wg-users").link.xdp = Some(99),
                "the program 99 comes first on wg-users, and is not ours",
            ),
            (|kernel| device(kernel, "wgp-2").closed_to_forwarding = false, "wgp-2 of plant south is not closed"),
            (
                |kernel| drop(peers(kernel, "wg-users").pop_first()),
                "certificate certificate-a: WireGuard has no peer with 100.64.0.2",
            ),
            (
                |kernel| {
                    for peer in peers(kernel, "wg-users").values_mut() {
                        peer.allowed_ips.pop_last();
                    }
                },
                "certificate certificate-b: WireGuard has no peer with fd76:706e:6777::3",
            ),
            (|kernel| peers(kernel, "wgp-1").clear(), "plant north: WireGuard has no peer on wgp-1"),
            (
                |kernel| maps(kernel).peers.retain(|at, _| *at != 2),
                "certificate certificate-a: 100.64.0.2 is not in PEERS",
            ),
            (
                |kernel| maps(kernel).peers.values_mut().for_each(|peer| peer.route_set = 2),
                "certificate certificate-a: its routes in the kernel are not those of the state",
            ),
            (
                |kernel| {
                    maps(kernel).peers.insert(9 << 8 | 9, peer::Peer { id: 9, route_set: 2 });
                },
                "PEERS has 100.64.9.9, which is of no active certificate",
            ),
            (
                |kernel| maps(kernel).peers.values_mut().for_each(|peer| peer.id = 9),
                "certificate certificate-b: PEERS has the peer id 9 instead of 2",
            ),
            (
                |kernel| maps(kernel).peers.values_mut().for_each(|peer| peer.route_set = NO_ROUTES),
                "certificate certificate-a: cut off",
            ),
            (
                |kernel| maps(kernel).routes.clear(),
                "certificate certificate-a: its routes in the kernel are not those of the state",
            ),
            (|kernel| maps(kernel).plants.retain(|at, _| *at != 11), "plant north: wgp-1 is not in PLANTS"),
            (|kernel| maps(kernel).gateway = None, "GATEWAY is not set"),
            (|kernel| kernel.maps = None, "the maps are not pinned"),
        ];
        for (change, expected) in rows {
            let (config, files, mut kernel) = example_gateway();
            change(&mut kernel);
            let status = Status::of(&config, files, &kernel, now());
            let found = status.differences.iter().any(|difference| difference.contains(expected));
            assert!(found, "{expected}: {:#?}", status.differences);
            let text = status.to_string();
            assert!(text.contains(&format!("difference: {}", status.differences[0])), "{text}");
        }
    }

    #[test]
    fn a_plant_behind_an_interface_of_the_hosts_has_no_tunnel_and_misses_none() {
        let (config, mut files, mut kernel) = example_gateway();
        let mut document = example::json();
        document["plants"][0]["uplink"] = serde_json::json!({"kind": "interface", "interface": "eth1.10"});
        files.state = Some(example::parse(&document));
        kernel.devices.remove("wgp-1");
        let mut eth1 = Device {
            link: Link { ethernet: true, ..link("eth1.10", 11) },
            wireguard: None,
            pinned_program: Some(30),
            pinned_guard: None,
            closed_to_forwarding: true,
        };
        kernel.devices.insert("eth1.10".into(), eth1.clone());
        let status = Status::of(&config, files, &kernel, now());
        assert_eq!(status.differences, Vec::<String>::new());
        let text = status.to_string();
        for line in [
            "  eth1.10   up     attached  30  -      -\n",
            "  north  alpha     eth1.10    interface  up     -          -         -         -\n",
            "  south  beta      wgp-2      host       never  never      -         0 B       0 B\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!((&json["plants"][0]["uplink"], &json["plants"][1]["uplink"]), (&"interface".into(), &"host".into()));
        assert_eq!(json["plants"][0]["interface"]["listen_port"], serde_json::Value::Null);

        // The state cannot be read, but the agent has noted what it uses.
        let (_, mut files, _) = example_gateway();
        files.state = None;
        let instance = crate::borrowed::Instance { boot: "a".into(), ifindex: 11 };
        files.borrowed.lend("eth1.10", &"north".parse().unwrap(), instance, crate::forwarding::Found::default());
        eth1.link.up = false;
        eth1.closed_to_forwarding = false;
        kernel.devices.insert("eth1.10".into(), eth1);
        let differences = Status::of(&config, files, &kernel, now()).differences;
        for part in
            ["eth1.10 of plant north is down; it is an interface of the host's", "eth1.10 of plant north is not closed"]
        {
            assert!(differences.iter().any(|difference| difference.contains(part)), "{part}: {differences:?}");
        }
    }

    /// Requirements: C4, D2.
    #[test]
    fn an_uplink_is_alive_or_not() {
        let shown = |change: fn(&mut Files, &mut Kernel)| {
            let (config, mut files, mut kernel) = example_gateway();
            change(&mut files, &mut kernel);
            let status = Status::of(&config, files, &kernel, now());
            status.plants.iter().map(|plant| (plant.uplink, plant.state, plant.since)).collect::<Vec<_>>()
        };
        fn handshake(kernel: &mut Kernel, age: u64) {
            let peer = peers(kernel, "wgp-1").values_mut().next().unwrap();
            peer.latest_handshake = Some(now() - Duration::from_secs(age));
        }
        use UplinkState::{Down, Never, Up};
        let (host, dial) = (UplinkKind::Host, UplinkKind::Dial);
        assert_eq!(shown(|_, kernel| handshake(kernel, 179)), [(host, Up, None), (host, Never, None)]);
        assert_eq!(shown(|_, kernel| handshake(kernel, 180)), [(host, Down, None), (host, Never, None)]);
        assert_eq!(shown(|_, kernel| drop(kernel.devices.remove("wgp-2"))), [(host, Never, None), (host, Down, None)]);
        // What a running agent has seen counts. The state says how the plant is reached.
        let since = Timestamp::UNIX_EPOCH;
        let seen = shown(|files, _| {
            let mut document = example::json();
            document["plants"][1]["uplink"] = serde_json::json!({
                "kind": "dial", "public_key": example::key(101), "endpoint": "site.example:51820"
            });
            files.state = Some(example::parse(&document));
            let uplink = liveness::Uplink::new(Some(UplinkKind::Dial), Down, Timestamp::UNIX_EPOCH);
            let plants = BTreeMap::from([("south".parse().unwrap(), uplink)]);
            files.liveness = Some(Liveness { format: liveness::FORMAT, at: Timestamp::UNIX_EPOCH, plants });
        });
        assert_eq!(seen, [(host, Never, None), (dial, Down, Some(since))]);
    }

    #[test]
    fn services_without_the_gateways_address_do_not_answer() {
        let (_, files, mut kernel) = example_gateway();
        let config = example::config("[[services]]\nprotocol = \"icmp-echo\"");
        let (_, others, _) = example_gateway();
        let differences = Status::of(&config, files, &kernel, now()).differences;
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].starts_with("wg-users does not have the address 100.64.0.1/16"), "{differences:?}");
        kernel.users_addresses.push("100.64.0.1/16".parse().unwrap());
        assert_eq!(Status::of(&config, others, &kernel, now()).differences, Vec::<String>::new());
    }

    #[test]
    fn a_gateway_that_never_ran_is_shown_as_such() {
        let config = example::config("");
        let files = Files { problems: vec!["bad file".into()], ..Files::default() };
        let kernel = Kernel { devices: BTreeMap::new(), detached: true, users_addresses: Vec::new(), maps: None };
        let text = Status::of(&config, files, &kernel, now()).to_string();
        for line in [
            "revision none, in the file none",
            "detached by `vpn-agent detach`",
            "problem: bad file",
            "difference: the maps are not pinned",
            "  wg-users  absent  missing  -   -     -",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    fn device<'k>(kernel: &'k mut Kernel, name: &str) -> &'k mut Device {
        kernel.devices.get_mut(name).unwrap()
    }

    fn peers<'k>(kernel: &'k mut Kernel, name: &str) -> &'k mut BTreeMap<PublicKey, Peer> {
        &mut device(kernel, name).wireguard.as_mut().unwrap().peers
    }

    fn maps(kernel: &mut Kernel) -> &mut Maps {
        kernel.maps.as_mut().unwrap()
    }
}
