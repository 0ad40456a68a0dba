//! The agent's configuration file, `agent.toml`.

use std::{
    collections::BTreeSet,
    fs, io,
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use crate::{
    datapath::Sizes,
    id::PlantId,
    problem::{Problem, Problems},
    role::Role,
    state::State,
};

/// What is particular to one gateway host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this gateway host, unique in the fleet.
    pub gateway: String,
    /// Region that this gateway serves.
    pub region: String,
    /// The file with the desired state.
    pub state: PathBuf,
    /// Folder for what the agent must remember: allocations, keys, the directory file.
    pub state_dir: PathBuf,
    /// The interface that users connect to.
    pub users: Users,
    /// The interfaces that plants connect to.
    #[serde(default)]
    pub plants: Plants,
    /// Where addresses come from.
    #[serde(default)]
    pub pools: Pools,
    /// Who gets routes.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Sizes and times of the BPF maps.
    #[serde(default)]
    pub datapath: DatapathConfig,
}

/// `[users]`: the interface that users connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Name of the WireGuard interface.
    #[serde(default = "users_interface")]
    pub interface: String,
    /// UDP port.
    #[serde(default = "users_listen_port")]
    pub listen_port: u16,
    /// The server identity, the same in every region; made with `vpn-agent keygen`.
    pub private_key_file: PathBuf,
    /// Largest packet inside the tunnel, bytes.
    #[serde(default = "mtu")]
    pub mtu: u32,
}

/// `[plants]`: the interfaces that plants connect to, one each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plants {
    /// UDP port of the plant with the number 1; the others follow.
    pub listen_port_base: u16,
    /// Largest packet inside the tunnels, bytes.
    pub mtu: u32,
}

/// `[pools]`: where addresses come from. IPv4 without host bits, disjoint, and apart from every plant's real subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pools {
    /// Tunnel IPs of certificates. The first host address is the gateway's.
    pub tunnel: Ipv4Net,
    /// What a plant sees instead of the tunnel pool: the same host bits, in this region's prefix.
    pub source: Ipv4Net,
    /// Virtual subnets of plants.
    #[serde(rename = "virtual")]
    pub virtual_: Ipv4Net,
}

/// `[policy]`: who gets routes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Job roles that open routes (requirement B1, step 2).
    pub route_roles: BTreeSet<Role>,
}

/// `[datapath]`: sizes and times of the BPF maps. Sizes count for maps that are made; see [`Sizes`] for their meaning.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatapathConfig {
    /// Folder of the pins, on a BPF file system.
    pub pin_dir: PathBuf,
    /// Certificates.
    pub peers_max: u32,
    /// Routes over all route sets.
    pub routes_max: u32,
    /// Plants.
    pub plants_max: u32,
    /// Live flows.
    pub flows_max: u32,
    /// Finished flows that wait for the collector.
    pub closed_max: u32,
    /// Refused destinations that are remembered.
    pub denials_max: u32,
    /// Fragmented packets on their way.
    pub fragments_max: u32,
    /// Size of the event ring, bytes; a power of two.
    pub events_bytes: u32,
    /// When an idle flow ends.
    pub idle_seconds: IdleSeconds,
}

impl DatapathConfig {
    /// The sizes alone.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        Sizes {
            peers_max: self.peers_max,
            routes_max: self.routes_max,
            plants_max: self.plants_max,
            flows_max: self.flows_max,
            closed_max: self.closed_max,
            denials_max: self.denials_max,
            fragments_max: self.fragments_max,
            events_bytes: self.events_bytes,
        }
    }
}

/// `[datapath.idle_seconds]`: how long a flow may stay silent, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdleSeconds {
    /// An established TCP connection. The default is what RFC 5382 (REQ-5) asks of a translator, and a minute.
    pub tcp: u32,
    /// UDP. The default is what RFC 4787 (REQ-5) recommends.
    pub udp: u32,
    /// ICMP queries. The default is the least that RFC 5508 (REQ-2) allows.
    pub icmp: u32,
}

fn users_interface() -> String {
    "wg-users".to_owned()
}

const fn users_listen_port() -> u16 {
    51820
}

/// What WireGuard itself takes on a path of 1500 bytes over IPv6.
const fn mtu() -> u32 {
    1420
}

impl Default for Plants {
    fn default() -> Self {
        Self { listen_port_base: 51821, mtu: mtu() }
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            tunnel: Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 16),
            source: Ipv4Net::new_assert(Ipv4Addr::new(100, 80, 0, 0), 16),
            virtual_: Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9),
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { route_roles: BTreeSet::from([Role::Operator]) }
    }
}

impl Default for DatapathConfig {
    fn default() -> Self {
        let Sizes { peers_max, routes_max, plants_max, flows_max, closed_max, denials_max, fragments_max, events_bytes } =
            Sizes::default();
        Self {
            pin_dir: "/sys/fs/bpf/vpn".into(),
            peers_max,
            routes_max,
            plants_max,
            flows_max,
            closed_max,
            denials_max,
            fragments_max,
            events_bytes,
            idle_seconds: IdleSeconds::default(),
        }
    }
}

impl Default for IdleSeconds {
    fn default() -> Self {
        Self { tcp: 7440, udp: 300, icmp: 60 }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{}:\n{problems}", path.display())]
    Content {
        /// The file concerned.
        path: PathBuf,
        /// One line each.
        problems: Problems,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problems| Error::Content { path: path.to_owned(), problems })
    }

    /// Reads a configuration from TOML.
    ///
    /// # Errors
    /// The first field of a wrong type or name, or else all fields out of range.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let whole = |error: toml::de::Error| Problem { path: String::new(), message: error.to_string() };
        let deserializer = toml::Deserializer::parse(text).map_err(whole)?;
        let config: Self = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            Problem { path: if path == "." { String::new() } else { path }, message: error.inner().to_string() }
        })?;
        Problems::none_of(config.problems())?;
        Ok(config)
    }

    fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        check.that(!self.gateway.is_empty(), "gateway", || "is empty; give the host a name".into());
        check.that(!self.region.is_empty(), "region", || "is empty; name the region".into());
        let name = &self.users.interface;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        check.that(
            (1..=15).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != "..",
            "users.interface",
            || format!("{name:?} is not an interface name; use 1 to 15 of the characters A-Z a-z 0-9 - _ ."),
        );
        check.that(!["all", "default"].contains(&name.as_str()), "users.interface", || {
            format!("{name:?} stands for all interfaces in the kernel's settings; use a name such as \"wg-users\"")
        });
        check.that(!name.starts_with(PLANT_INTERFACE_PREFIX), "users.interface", || {
            format!("{name:?} starts like a plant's interface; do not start with {PLANT_INTERFACE_PREFIX:?}")
        });
        check.range("users.listen_port", self.users.listen_port.into(), 1..=65_535);
        check.range("users.mtu", self.users.mtu, MTU);
        check.range("plants.listen_port_base", self.plants.listen_port_base.into(), 1..=65_535);
        check.that(self.users.listen_port < self.plants.listen_port_base, "plants.listen_port_base", || {
            format!(
                "{} and the ports after it belong to plants; use more than users.listen_port, which is {}",
                self.plants.listen_port_base, self.users.listen_port
            )
        });
        check.range("plants.mtu", self.plants.mtu, MTU);
        self.pools.check(&mut check);
        let datapath = &self.datapath;
        check.that(datapath.pin_dir.is_absolute(), "datapath.pin_dir", || {
            format!("{:?} is not absolute; use a path such as \"/sys/fs/bpf/vpn\"", datapath.pin_dir)
        });
        check.range("datapath.flows_max", datapath.flows_max, 1024..=16_777_216);
        check.range("datapath.peers_max", datapath.peers_max, 16..=1_048_576);
        check.range("datapath.routes_max", datapath.routes_max, 64..=16_777_216);
        check.range("datapath.plants_max", datapath.plants_max, 1..=65_535);
        check.range("datapath.closed_max", datapath.closed_max, 64..=16_777_216);
        check.range("datapath.denials_max", datapath.denials_max, 64..=1_048_576);
        check.range("datapath.fragments_max", datapath.fragments_max, 64..=1_048_576);
        check.range("datapath.events_bytes", datapath.events_bytes, 65_536..=1 << 30);
        check.that(datapath.events_bytes.is_power_of_two(), "datapath.events_bytes", || {
            format!(
                "{} is not a power of two; use {}",
                datapath.events_bytes,
                datapath.events_bytes.next_power_of_two()
            )
        });
        check.range("datapath.idle_seconds.tcp", datapath.idle_seconds.tcp, IDLE);
        check.range("datapath.idle_seconds.udp", datapath.idle_seconds.udp, IDLE);
        check.range("datapath.idle_seconds.icmp", datapath.idle_seconds.icmp, IDLE);
        check.problems
    }

    /// The file of the allocations.
    #[must_use]
    pub fn allocations_file(&self) -> PathBuf {
        self.state_dir.join("allocations.json")
    }

    /// The directory file, read by the collector.
    #[must_use]
    pub fn directory_file(&self) -> PathBuf {
        self.state_dir.join("directory.json")
    }

    /// The private key of this gateway towards a plant.
    #[must_use]
    pub fn plant_key_file(&self, plant: &PlantId) -> PathBuf {
        self.state_dir.join("keys").join(format!("{plant}.key"))
    }

    /// The file that a running agent holds locked.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// The name of the interface of the plant with this number.
    #[must_use]
    pub fn plant_interface(plant: u32) -> String {
        format!("{PLANT_INTERFACE_PREFIX}{plant}")
    }

    /// The UDP port of the plant with this number; `None` if it would be more than 65535.
    #[must_use]
    pub fn plant_port(&self, plant: u32) -> Option<u16> {
        let port = u32::from(self.plants.listen_port_base).checked_add(plant.checked_sub(1)?)?;
        u16::try_from(port).ok()
    }
}

/// How the names of plants' interfaces begin; the plant's number follows.
pub const PLANT_INTERFACE_PREFIX: &str = "wgp-";

/// From the least that IPv6 wants of a link to the most that fits into a jumbo frame with WireGuard's overhead.
const MTU: RangeInclusive<u32> = 1280..=8920;

const IDLE: RangeInclusive<u32> = 1..=604_800;

impl Pools {
    /// The gateway's own address towards users: the first host address of the tunnel pool.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.tunnel.network().to_bits() | 1)
    }

    /// Whether a certificate may have `address`: inside the tunnel pool, and none of the network, the gateway and the
    /// broadcast.
    #[must_use]
    pub fn is_for_certificates(&self, address: Ipv4Addr) -> bool {
        self.tunnel.contains(&address)
            && ![self.tunnel.network(), self.gateway(), self.tunnel.broadcast()].contains(&address)
    }

    /// Checks that no plant uses an address of a pool.
    ///
    /// # Errors
    /// One problem for each plant's subnet and pool that overlap.
    pub fn check_state(&self, state: &State) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (id, plant) in &state.plants {
            for subnet in &plant.subnets {
                for (name, pool) in self.named() {
                    if overlap(subnet, &IpNet::V4(pool)) {
                        let message = format!(
                            "subnet {subnet} of plant {id} overlaps {pool}; move the pool in the agent's configuration \
                             to a range that no plant uses"
                        );
                        problems.push(Problem { path: name.to_owned(), message });
                    }
                }
            }
        }
        Problems::none_of(problems)
    }

    fn named(&self) -> [(&'static str, Ipv4Net); 3] {
        [("pools.tunnel", self.tunnel), ("pools.source", self.source), ("pools.virtual", self.virtual_)]
    }

    fn check(&self, check: &mut Check) {
        let pools = self.named();
        for ((name, pool), lengths) in pools.iter().zip([8..=29, 8..=29, 8..=32]) {
            check.that(pool.trunc() == *pool, name, || format!("{pool} has host bits set; use {}", pool.trunc()));
            check.that(lengths.contains(&pool.prefix_len()), name, || {
                format!("{pool} has prefix length {}; use {} to {}", pool.prefix_len(), lengths.start(), lengths.end())
            });
        }
        for (at, (name, pool)) in pools.iter().enumerate() {
            for (other, before) in &pools[..at] {
                check.that(!overlap(&IpNet::V4(*pool), &IpNet::V4(*before)), name, || {
                    format!("{pool} overlaps {other}, which is {before}; the pools must be disjoint")
                });
            }
        }
        check.that(self.source.prefix_len() == self.tunnel.prefix_len(), "pools.source", || {
            format!("{} must be as long as pools.tunnel, which is {}: host bits are kept", self.source, self.tunnel)
        });
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn that(&mut self, fine: bool, path: &str, message: impl FnOnce() -> String) {
        if !fine {
            self.problems.push(Problem { path: path.to_owned(), message: message() });
        }
    }

    fn range(&mut self, path: &str, value: u32, allowed: RangeInclusive<u32>) {
        self.that(allowed.contains(&value), path, || {
            format!("{value} is out of range; use {} to {}", allowed.start(), allowed.end())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    const LEAST: &str = r#"
        gateway = "gateway-1"
        region = "eu"
        state = "/etc/vpn-gateway/state.json"
        state_dir = "/var/lib/vpn-agent"
        [users]
        private_key_file = "/etc/vpn-gateway/users.key"
    "#;

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!((config.users.interface.as_str(), config.users.listen_port), ("wg-users", 51820));
        assert_eq!(config.plants, Plants { listen_port_base: 51821, mtu: 1420 });
        assert_eq!(config.pools.tunnel.to_string(), "100.64.0.0/16");
        assert_eq!(config.pools.source.to_string(), "100.80.0.0/16");
        assert_eq!(config.pools.virtual_.to_string(), "10.128.0.0/9");
        assert_eq!(config.policy.route_roles, BTreeSet::from([Role::Operator]));
        assert_eq!(config.datapath.idle_seconds, IdleSeconds { tcp: 7440, udp: 300, icmp: 60 });
        assert_eq!(config.pools.gateway(), Ipv4Addr::new(100, 64, 0, 1));
        assert_eq!(config.plant_port(1), Some(51821));
        assert_eq!(config.plant_port(65_535 - 51_821 + 1), Some(65_535));
        assert_eq!(config.plant_port(65_535 - 51_821 + 2), None);
        assert_eq!(config.plant_port(0), None);
    }

    #[test]
    fn every_error_names_its_field_and_what_is_allowed() {
        for (extra, path, part) in [
            ("[pools]\ntunel = \"10.0.0.0/8\"", "pools.tunel", "expected one of `tunnel`"),
            ("[pools]\ntunnel = \"10.0.0.0\"", "pools.tunnel", "invalid"),
            ("[pools]\ntunnel = \"100.64.0.1/16\"", "pools.tunnel", "use 100.64.0.0/16"),
            ("[pools]\ntunnel = \"100.64.0.0/30\"", "pools.tunnel", "use 8 to 29"),
            ("[pools]\nsource = \"100.64.0.0/16\"", "pools.source", "overlaps pools.tunnel"),
            ("[pools]\nvirtual = \"100.0.0.0/8\"", "pools.virtual", "disjoint"),
            ("[pools]\nsource = \"100.80.0.0/17\"", "pools.source", "as long as pools.tunnel"),
            ("[plants]\nlisten_port_base = 51820", "plants.listen_port_base", "use more than users.listen_port"),
            ("[plants]\nmtu = 900", "plants.mtu", "use 1280 to 8920"),
            ("[policy]\nroute_roles = [\"boss\"]", "policy.route_roles[0]", "`technical-manager`"),
            ("[datapath]\nflows_max = 0", "datapath.flows_max", "use 1024 to"),
            ("[datapath]\nevents_bytes = 100000", "datapath.events_bytes", "use 131072"),
            ("[datapath]\npin_dir = \"vpn\"", "datapath.pin_dir", "not absolute"),
            ("[datapath]\nidle_seconds = { tcp = 0 }", "datapath.idle_seconds.tcp", "use 1 to"),
            ("[datapath]\nidle_seconds = { sctp = 1 }", "datapath.idle_seconds.sctp", "expected one of `tcp`"),
        ] {
            let problems = Config::parse(&format!("{LEAST}\n{extra}")).unwrap_err();
            let found = problems.list().iter().any(|problem| problem.path == path && problem.message.contains(part));
            assert!(found, "{extra}: {problems}");
        }
        for (from, to, path) in [
            ("gateway = \"gateway-1\"", "gateway = \"\"", "gateway"),
            ("private_key_file", "interface = \"wgp-1\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "interface = \"all\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "interface = \"a/b\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "listen_port = 0\nprivate_key_file", "users.listen_port"),
        ] {
            let problems = Config::parse(&LEAST.replace(from, to)).unwrap_err();
            assert_eq!(problems.list()[0].path, path, "{problems}");
        }
        let missing = Config::parse(&LEAST.replace("region = \"eu\"", "")).unwrap_err();
        assert!(missing.to_string().contains("missing field `region`"), "{missing}");
    }

    #[test]
    fn no_plant_may_use_an_address_of_a_pool() {
        let state = example::state();
        assert_eq!(Pools::default().check_state(&state), Ok(()));
        let pools = Pools { virtual_: "192.168.0.0/16".parse().unwrap(), ..Pools::default() };
        let problems = pools.check_state(&state).unwrap_err();
        assert_eq!(problems.list().len(), 2, "one for each plant: {problems}");
        assert!(problems.to_string().starts_with("pools.virtual: subnet 192.168.1.0/24 of plant north"), "{problems}");
    }

    #[test]
    fn the_ends_of_the_tunnel_pool_are_not_for_certificates() {
        let pools = Pools { tunnel: "10.1.2.0/29".parse().unwrap(), ..Pools::default() };
        let usable: Vec<_> = (0..=9).filter(|at| pools.is_for_certificates(Ipv4Addr::new(10, 1, 2, *at))).collect();
        assert_eq!(usable, [2, 3, 4, 5, 6]);
    }
}
