//! The agent's configuration file, `agent.toml`.

mod api;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;

pub use self::api::{Api, ApiTls, Pull};
pub use crate::pools::Pools;
use crate::{
    datapath::Sizes,
    endpoint::{Endpoint, Host},
    health::probe::Probe,
    id::PlantId,
    place::Place,
    problem::{Check, Problem, Problems},
    role::Role,
    service::{self, Service, ServiceConfig},
    state::{State, Uplink},
    terms::Terms,
};

/// What is particular to one gateway host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this gateway host, unique in the fleet.
    pub gateway: String,
    /// Region that this gateway serves.
    pub region: String,
    /// The file with the desired state, where it comes by a file; see [`Config::source`].
    pub state: Option<PathBuf>,
    /// Who gives numbers and addresses.
    #[serde(default)]
    pub allocations: AllocationMode,
    /// Folder for what the agent must remember: allocations, keys, the directory file, and the desired state where it
    /// comes otherwise.
    pub state_dir: PathBuf,
    /// How long to wait after the kernel was compared with the desired state before it is compared again, seconds; zero
    /// for never.
    #[serde(default = "reconcile_seconds")]
    pub reconcile_seconds: u32,
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
    /// Sizes and times of the BPF maps, and what the programs do besides forwarding.
    #[serde(default)]
    pub datapath: DatapathConfig,
    /// What this gateway publishes of itself.
    #[serde(default)]
    pub health: HealthConfig,
    /// What users may reach on this host itself; see [`Config::services`].
    #[serde(default)]
    pub services: Vec<ServiceConfig>,
    /// Where the agent takes calls, if it does.
    pub api: Option<Api>,
    /// Where the agent asks for the desired state, if it does.
    pub pull: Option<Pull>,
}

/// Where the desired state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'c> {
    /// The file that is followed.
    File(&'c Path),
    /// An address that is asked again and again.
    Pull(&'c Pull),
    /// Calls of the API.
    Api,
}

/// `allocations`: who gives numbers and addresses to certificates and plants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationMode {
    /// This gateway, to what the ledger in the desired state lacks. For a gateway that is the only one.
    #[default]
    Local,
    /// The ledger in the desired state alone. For gateways that follow one state.
    State,
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
    /// Where users' devices find the gateways, as it stands in profiles: a name that leads to all regions, or to the
    /// best one.
    pub endpoint: Option<Endpoint>,
    /// Ranges of plants' real subnets that profiles send into the tunnel, besides all virtual subnets.
    #[serde(default)]
    pub real_ranges: Vec<IpNet>,
}

/// `[plants]`: the interfaces that plants connect to, one each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plants {
    /// UDP port of the plant with the number 1; the others follow.
    pub listen_port_base: u16,
    /// Largest packet inside the tunnels, bytes.
    pub mtu: u32,
    /// Where site routers find this gateway, as it stands in their configuration.
    pub endpoint: Option<Host>,
}

/// `[policy]`: who gets routes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Job roles that open routes (requirement B1, step 2).
    pub route_roles: BTreeSet<Role>,
}

/// `[health]`: what this gateway publishes of itself, so that clients can be led to the best one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Where this host stands.
    pub place: Option<Place>,
    /// Addresses near plants that are asked how far they are, outside the tunnels.
    pub probes: BTreeMap<PlantId, Probe>,
}

/// `[datapath]`: sizes and times of the BPF maps, and what the programs do besides forwarding. Sizes count for maps
/// that are made; see [`Sizes`] for their meaning.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatapathConfig {
    /// Folder of the pins, on a BPF file system.
    pub pin_dir: PathBuf,
    /// Certificates; each has two tunnel addresses.
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
    /// What one certificate may ask of the gateway.
    pub limits: Limits,
    /// What becomes of a packet that is refused.
    pub refusals: Refusals,
    /// What becomes of a new flow that cannot be recorded.
    pub unrecorded: Unrecorded,
}

impl DatapathConfig {
    fn check(&self, check: &mut Check) {
        check.that(self.pin_dir.is_absolute(), "datapath.pin_dir", || {
            format!("{:?} is not absolute; use a path such as \"/sys/fs/bpf/vpn\"", self.pin_dir)
        });
        check.range("datapath.flows_max", self.flows_max, 1024..=16_777_216);
        check.range("datapath.peers_max", self.peers_max, 16..=1_048_576);
        check.range("datapath.routes_max", self.routes_max, 64..=16_777_216);
        check.range("datapath.plants_max", self.plants_max, 1..=65_535);
        check.range("datapath.closed_max", self.closed_max, 64..=16_777_216);
        check.range("datapath.denials_max", self.denials_max, 64..=1_048_576);
        check.range("datapath.fragments_max", self.fragments_max, 64..=1_048_576);
        check.range("datapath.events_bytes", self.events_bytes, 65_536..=1 << 30);
        check.that(self.events_bytes.is_power_of_two(), "datapath.events_bytes", || {
            format!("{} is not a power of two; use {}", self.events_bytes, self.events_bytes.next_power_of_two())
        });
        check.range("datapath.idle_seconds.tcp", self.idle_seconds.tcp, IDLE);
        check.range("datapath.idle_seconds.udp", self.idle_seconds.udp, IDLE);
        check.range("datapath.idle_seconds.icmp", self.idle_seconds.icmp, IDLE);
        check.range("datapath.idle_seconds.tcp_transitory", self.idle_seconds.tcp_transitory, IDLE);
        check.range("datapath.idle_seconds.tcp_closed", self.idle_seconds.tcp_closed, IDLE);
        check.range("datapath.limits.new_flows_per_second", self.limits.new_flows_per_second, LIMIT);
        check.range("datapath.limits.live_flows", self.limits.live_flows, 1..=16_777_216);
        check.range("datapath.limits.answers_per_second", self.limits.answers_per_second, LIMIT);
        check.range("datapath.limits.denials_per_minute", self.limits.denials_per_minute, LIMIT);
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
    /// TCP that is opening or half closed. The default is what RFC 5382 (REQ-5) asks of a translator.
    pub tcp_transitory: u32,
    /// TCP after RST or both FINs: long enough for what was under way and for a last acknowledgement.
    pub tcp_closed: u32,
}

/// `[datapath.limits]`: what one certificate may ask of the gateway, so that nobody has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// New flows per second.
    pub new_flows_per_second: u32,
    /// Live flows.
    pub live_flows: u32,
    /// ICMP errors that the gateway sends to it, per second.
    pub answers_per_second: u32,
    /// Distinct refused destinations that are recorded per minute; further ones are counted together.
    pub denials_per_minute: u32,
}

/// What becomes of a packet that is refused. It is recorded in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusals {
    /// It is answered with ICMP "administratively prohibited".
    Answer,
    /// It is dropped in silence.
    Drop,
}

/// What becomes of a new flow that cannot be recorded because the flow table is full. It is counted in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unrecorded {
    /// Nothing passes that is not recorded.
    Drop,
    /// It passes all the same.
    Forward,
}

const fn reconcile_seconds() -> u32 {
    30
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
        Self { listen_port_base: 51821, mtu: mtu(), endpoint: None }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { route_roles: BTreeSet::from([Role::Operator]) }
    }
}

impl Default for DatapathConfig {
    fn default() -> Self {
        let Sizes {
            tunnel_addresses: _,
            peers_max,
            routes_max,
            plants_max,
            flows_max,
            closed_max,
            denials_max,
            fragments_max,
            events_bytes,
        } = Sizes::default();
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
            limits: Limits::default(),
            refusals: Refusals::Answer,
            unrecorded: Unrecorded::Drop,
        }
    }
}

impl Default for IdleSeconds {
    fn default() -> Self {
        Self { tcp: 7440, udp: 300, icmp: 60, tcp_transitory: 240, tcp_closed: 10 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { new_flows_per_second: 200, live_flows: 4096, answers_per_second: 50, denials_per_minute: 256 }
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
        config.check()?;
        Ok(config)
    }

    /// Sizes of the BPF maps.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        let maps = &self.datapath;
        Sizes {
            tunnel_addresses: self.pools.tunnel_addresses(),
            peers_max: maps.peers_max,
            routes_max: maps.routes_max,
            plants_max: maps.plants_max,
            flows_max: maps.flows_max,
            closed_max: maps.closed_max,
            denials_max: maps.denials_max,
            fragments_max: maps.fragments_max,
            events_bytes: maps.events_bytes,
        }
    }

    fn check(&self) -> Result<(), Problems> {
        let mut check = Check::default();
        check.that(!self.gateway.is_empty(), "gateway", || "is empty; give the host a name".into());
        check.that(!self.region.is_empty(), "region", || "is empty; name the region".into());
        check.range("reconcile_seconds", self.reconcile_seconds, 0..=86_400);
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
        for (at, range) in self.users.real_ranges.iter().enumerate() {
            let path = format!("users.real_ranges[{at}]");
            check.that(range.trunc() == *range, &path, || format!("{range} has host bits set; use {}", range.trunc()));
            check.that(range.prefix_len() >= REAL_RANGE, &path, || {
                format!("{range} is more than plants use; use prefix lengths from {REAL_RANGE} on")
            });
        }
        check.range("plants.listen_port_base", self.plants.listen_port_base.into(), 1..=65_535);
        check.that(self.users.listen_port < self.plants.listen_port_base, "plants.listen_port_base", || {
            format!(
                "{} and the ports after it belong to plants; use more than users.listen_port, which is {}",
                self.plants.listen_port_base, self.users.listen_port
            )
        });
        check.range("plants.mtu", self.plants.mtu, MTU);
        self.pools.check(&mut check);
        self.datapath.check(&mut check);
        service::check(&self.services, &self.pools, &self.users.interface, &mut check);
        check.that(self.state.is_some() || self.pull.is_some() || self.api.is_some(), "state", || {
            "missing; give the file with the desired state, or [pull], or [api] to take it by calls".to_owned()
        });
        check.that(self.state.is_none() || self.pull.is_none(), "pull", || {
            "the desired state comes from one place; give [pull] or `state`, not both".to_owned()
        });
        if let Some(api) = &self.api {
            api.check(&mut check);
        }
        if let Some(pull) = &self.pull {
            pull.check(&mut check);
        }
        check.end()
    }

    /// Where the desired state comes from.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        match (&self.state, &self.pull) {
            (Some(path), _) => Source::File(path),
            (None, Some(pull)) => Source::Pull(pull),
            (None, None) => Source::Api,
        }
    }

    /// What users may reach on this host itself, whatever their rights are. IPv4 alone: the host's own stack has IPv6
    /// switched off on the users' interface.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        self.services.iter().filter_map(|service| service.service(&self.pools)).collect()
    }

    /// Checks that nothing in `state` is in the way of what this host has of its own: pools, services, and the users'
    /// interface.
    ///
    /// # Errors
    /// All that is, each with the field of this configuration.
    pub fn check_state(&self, state: &State) -> Result<(), Problems> {
        let mut check = Check::default();
        self.pools.check_state(state, &mut check);
        service::check_state(&self.services(), &self.pools, state, &mut check);
        for (id, plant) in &state.plants {
            let interface = plant.uplink_in(&self.region).and_then(Uplink::interface);
            check.that(interface != Some(&self.users.interface), "users.interface", || {
                format!("{:?} is also the uplink of plant {id}; use another name here or there", self.users.interface)
            });
        }
        check.end()
    }

    /// What a state is judged by on this host at the moment `now`.
    #[must_use]
    pub fn terms(&self, now: Timestamp) -> Terms {
        Terms { opening: self.policy.route_roles.clone(), now }
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

    /// The file of the interfaces that are borrowed from the host.
    #[must_use]
    pub fn borrowed_file(&self) -> PathBuf {
        self.state_dir.join("borrowed.json")
    }

    /// The file of the last repairs.
    #[must_use]
    pub fn repairs_file(&self) -> PathBuf {
        self.state_dir.join("repairs.json")
    }

    /// The file that says which uplinks are alive.
    #[must_use]
    pub fn uplinks_file(&self) -> PathBuf {
        self.state_dir.join("uplinks.json")
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

/// The shortest prefix of a plant's subnet.
const REAL_RANGE: u8 = 8;

const IDLE: RangeInclusive<u32> = 1..=604_800;

/// How often something may happen in a second or minute.
const LIMIT: RangeInclusive<u32> = 1..=1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn the_users_interface_is_no_uplink() {
        let mut document = example::json();
        document["plants"][0]["uplink"] = serde_json::json!({"kind": "interface", "interface": "wg-users"});
        let problems = example::config("").check_state(&example::parse(&document)).unwrap_err();
        assert!(problems.to_string().starts_with("users.interface: \"wg-users\" is also the uplink"), "{problems}");
    }

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
        assert_eq!(config.reconcile_seconds, 30);
        assert_eq!(config.plants, Plants { listen_port_base: 51821, mtu: 1420, endpoint: None });
        assert_eq!(config.pools.tunnel.to_string(), "100.64.0.0/16");
        assert_eq!(config.pools.source.to_string(), "100.80.0.0/16");
        assert_eq!(config.pools.virtual_.to_string(), "10.128.0.0/9");
        assert_eq!(config.policy.route_roles, BTreeSet::from([Role::Operator]));
        assert_eq!(config.pools.tunnel6.to_string(), "fd76:706e:6777::/64");
        assert_eq!(config.pools.source6.to_string(), "fd76:706e:6777:1::/64");
        assert_eq!(config.pools.virtual6.to_string(), "fd76:7600::/24");
        let idle = IdleSeconds { tcp: 7440, udp: 300, icmp: 60, tcp_transitory: 240, tcp_closed: 10 };
        assert_eq!(config.datapath.idle_seconds, idle);
        let limits =
            Limits { new_flows_per_second: 200, live_flows: 4096, answers_per_second: 50, denials_per_minute: 256 };
        assert_eq!(config.datapath.limits, limits);
        assert_eq!((config.datapath.refusals, config.datapath.unrecorded), (Refusals::Answer, Unrecorded::Drop));
        assert_eq!(config.services(), []);
        assert_eq!(config.pools.gateway().to_string(), "100.64.0.1");
        assert_eq!(config.plant_port(1), Some(51821));
        assert_eq!(config.plant_port(65_535 - 51_821 + 1), Some(65_535));
        assert_eq!(config.plant_port(65_535 - 51_821 + 2), None);
        assert_eq!(config.plant_port(0), None);
    }

    /// Requirements: G4.
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
            ("[pools]\ntunnel = \"240.0.0.0/16\"\nsource = \"10.0.0.0/16\"", "pools.tunnel", "in the reserved range"),
            ("[pools]\ntunnel6 = \"10.0.0.0/8\"", "pools.tunnel6", "invalid"),
            ("[pools]\ntunnel6 = \"fd00::1/64\"", "pools.tunnel6", "use fd00::/64"),
            ("[pools]\ntunnel6 = \"fd76:706e:6777:1::/64\"", "pools.source6", "overlaps pools.tunnel6"),
            ("[pools]\nvirtual6 = \"fd00::/8\"", "pools.virtual6", "disjoint"),
            ("[pools]\nvirtual6 = \"::/1\"", "pools.virtual6", "use 8 to 128"),
            ("[pools]\nvirtual6 = \"::ffff:0:0/96\"", "pools.virtual6", "in the IPv4-mapped range"),
            ("[pools]\nsource6 = \"fd00::/72\"", "pools.source6", "as long as pools.tunnel6"),
            ("[pools]\ntunnel6 = \"fd00::/113\"\nsource6 = \"fd01::/113\"", "pools.tunnel6", "at most 112"),
            ("[plants]\nlisten_port_base = 51820", "plants.listen_port_base", "use more than users.listen_port"),
            ("[health]\nplace = [91.0, 0.0]", "health.place", "use [latitude, longitude]"),
            ("[health.probes]\nnorth = 'a b'", "health.probes.north", "is not a probe; use"),
            ("[plants]\nendpoint = 'a:1'", "plants.endpoint", "use a name such as"),
            ("[plants]\nmtu = 900", "plants.mtu", "use 1280 to 8920"),
            ("[policy]\nroute_roles = [\"boss\"]", "policy.route_roles[0]", "`technical-manager`"),
            ("[datapath]\nflows_max = 0", "datapath.flows_max", "use 1024 to"),
            ("[datapath]\nevents_bytes = 100000", "datapath.events_bytes", "use 131072"),
            ("[datapath]\npin_dir = \"vpn\"", "datapath.pin_dir", "not absolute"),
            ("[datapath]\nidle_seconds = { tcp = 0 }", "datapath.idle_seconds.tcp", "use 1 to"),
            ("[datapath]\nidle_seconds = { tcp_closed = 0 }", "datapath.idle_seconds.tcp_closed", "use 1 to"),
            ("[datapath]\nlimits = { live_flows = 0 }", "datapath.limits.live_flows", "use 1 to 16777216"),
            ("[datapath.limits]\nnew_flows_per_second = 1000001", "datapath.limits.new_flows_per_second", "1000000"),
            ("[datapath.limits]\nanswers_per_second = 0", "datapath.limits.answers_per_second", "use 1 to"),
            ("[datapath.limits]\ndenials_per_minute = 0", "datapath.limits.denials_per_minute", "use 1 to"),
            ("[datapath]\nrefusals = \"reject\"", "datapath.refusals", "expected `answer` or `drop`"),
            ("[datapath]\nunrecorded = \"answer\"", "datapath.unrecorded", "expected `drop` or `forward`"),
            ("[api]", "api", "takes no calls"),
            ("[api]\nsocket = \"api.sock\"", "api.socket", "not an absolute path"),
            ("[api]\nsocket = \"/s\"\nconnections_max = 0", "api.connections_max", "use 1 to 4096"),
            ("[api]\nsocket = \"/s\"\nbody_max_bytes = 1", "api.body_max_bytes", "use 65536 to"),
            ("[api]\nsocket = \"/s\"\ntls = { listen = \"localhost:1\" }", "api.tls.listen", "invalid"),
            ("[pull]\nurl = \"https://control.example/state\"", "pull", "not both"),
            ("[pull]\nurl = \"http://control.example/state\"", "pull.url", "https://"),
            ("[pull]\nurl = \"https://a:b@control.example/state\"", "pull.url", "would stand in the log"),
            ("[pull]\nurl = \"https://c\"\ninterval_seconds = 0", "pull.interval_seconds", "use 1 to 86400"),
            ("[pull]\nurl = \"https://c\"\ncertificate_file = \"/c\"", "pull.private_key_file", "missing"),
            ("[pull]\nurl = \"https://c\"\nprivate_key_file = \"/k\"", "pull.certificate_file", "missing"),
            ("[datapath]\nidle_seconds = { sctp = 1 }", "datapath.idle_seconds.sctp", "expected one of `tcp`"),
        ] {
            let problems = Config::parse(&format!("{LEAST}\n{extra}")).unwrap_err();
            let found = problems.list().iter().any(|problem| problem.path == path && problem.message.contains(part));
            assert!(found, "{extra}: {problems}");
        }
        for (from, to, path) in [
            ("region = \"eu\"", "region = \"eu\"\nallocations = \"cloud\"", "allocations"),
            ("gateway = \"gateway-1\"", "gateway = \"\"", "gateway"),
            ("state = \"/etc/vpn-gateway/state.json\"", "", "state"),
            ("private_key_file", "interface = \"wgp-1\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "interface = \"all\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "interface = \"a/b\"\nprivate_key_file", "users.interface"),
            ("private_key_file", "endpoint = \"gateway\"\nprivate_key_file", "users.endpoint"),
            ("private_key_file", "real_ranges = [\"10.1.0.0/8\"]\nprivate_key_file", "users.real_ranges[0]"),
            ("private_key_file", "real_ranges = [\"0.0.0.0/0\"]\nprivate_key_file", "users.real_ranges[0]"),
            ("private_key_file", "listen_port = 0\nprivate_key_file", "users.listen_port"),
            ("region = \"eu\"", "region = \"eu\"\nreconcile_seconds = 86401", "reconcile_seconds"),
        ] {
            let problems = Config::parse(&LEAST.replace(from, to)).unwrap_err();
            assert_eq!(problems.list()[0].path, path, "{problems}");
        }
        let missing = Config::parse(&LEAST.replace("region = \"eu\"", "")).unwrap_err();
        assert!(missing.to_string().contains("missing field `region`"), "{missing}");
    }
}
