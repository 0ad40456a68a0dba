//! The hosts of this scenario. The namespace of this process is the Internet.
//!
//! ```text
//!                      ┌── 198.18.21.2 gateway eu ──┐
//!  user-a 198.18.1.2 ──┤                            ├── 198.18.11.2 router north ── device 192.168.1.20
//!                      └── 198.18.22.2 gateway us ──┤
//!                                                   └── 198.18.12.2 router south ── device 192.168.1.20
//! ```
//!
//! Each router has one WireGuard interface. That of north has a peer for each gateway, that of south only one for `us`.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vpn_agent::datapath::read::Maps as _;
use vpn_directory::Directory;
use vpn_ebpf_common::flow::{Flow, FlowKey};

use crate::{
    accounts::{Between, Reported},
    audit::Audit,
    gateway::{Clickhouse, Gateway, Host, KEY, StateSource},
    lab::{self, DEVICE, Plant, SUBNET},
    namespace::{Namespace, run},
    steps::equal,
    wg_quick,
};

use super::client::{Applicant, Client, ENDPOINT};

/// Times from the client to the regions and back: what the load of an emulated machine adds makes no difference.
const NEAR_MS: f64 = 5.0;
const FAR_MS: f64 = 500.0;

/// Bytes of each plant's download.
pub const BLOB: usize = 2_000_000;

/// Names of the regions.
pub const EU: &str = "eu-central";
pub const US: &str = "us-east";

/// A BPF file system that every network namespace sees. That of /sys is hidden from them.
const PINS: &str = "/run/pins";

/// What is behind a region's name.
pub struct Region {
    /// The gateway.
    pub gateway: Gateway,
    /// What its agent has given out.
    pub directory: Directory,
    /// The gateway's address in the Internet.
    pub address: Ipv4Addr,
    /// The Internet's interface towards it.
    uplink: &'static str,
}

/// Everything that takes part.
pub struct Scene {
    /// For what the tools write.
    pub folder: PathBuf,
    /// The region that will fail.
    pub eu: Region,
    /// The other one.
    pub us: Region,
    /// Whether the first one is down.
    pub has_failed: bool,
    /// The user.
    pub user: Client,
    /// Linked to both regions.
    pub north: Plant,
    /// Linked to `us` alone.
    pub south: Plant,
    /// All numbers and addresses that were given.
    ledger: Value,
    /// Public keys of the user and of both routers.
    keys: [String; 3],
    /// What the collectors have stored.
    pub audit: Audit,
    /// What the tools said they moved.
    pub reported: Vec<Reported>,
}

/// The hosts before anything of the product runs.
pub struct Hosts {
    user: Applicant,
    north: Plant,
    south: Plant,
    eu: Gateway,
    us: Gateway,
}

impl crate::steps::Found for Hosts {}

impl Hosts {
    /// Connects all of them. The gateways have one key.
    ///
    /// # Errors
    /// If a command fails.
    pub fn build(folder: &Path, clickhouse: &Clickhouse) -> Result<Self> {
        fs::create_dir_all(PINS)?;
        run(&format!("mount -t bpf bpf {PINS}"))?;
        Namespace::own().set("net.ipv4.ip_forward", "1")?;
        wg_quick::prepare()?;
        fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
        let user = Applicant::new("user-a", 1, folder)?;
        let north = Plant::build("north", "north-lan", 11, &[], (BLOB, 0), folder)?;
        let south = Plant::build("south", "south-lan", 12, &[], (BLOB, 0), folder)?;
        let eu = Host {
            namespace: lab::connect("eu", 21)?,
            name: "gateway-eu",
            region: EU,
            source: "100.80.0.0/16",
            pin_dir: "/run/pins/eu",
            endpoints: Some([ENDPOINT, "198.18.21.2"]),
            state: StateSource::FileWithLedger,
        };
        let us = Host {
            namespace: lab::connect("us", 22)?,
            name: "gateway-us",
            region: US,
            source: "100.81.0.0/16",
            pin_dir: "/run/pins/us",
            endpoints: Some([ENDPOINT, "198.18.22.2"]),
            state: StateSource::FileWithLedger,
        };
        for (host, link) in [("user-a", 1), ("north", 11), ("south", 12), ("eu", 21), ("us", 22)] {
            run(&format!("ip -netns {host} route add default via 198.18.{link}.1"))?;
        }
        let eu = Gateway::configure_on(eu, folder, clickhouse, "")?;
        let name = us.name;
        fs::create_dir_all(folder.join(name))?;
        fs::copy(eu.path(KEY), folder.join(name).join(KEY))?;
        let us = Gateway::configure_on(us, folder, clickhouse, "")?;
        Ok(Self { user, north, south, eu, us })
    }

    /// Starts the programs of both regions with one state, and writes the user's profile.
    ///
    /// # Errors
    /// If a program does not do its work.
    pub fn start(self, folder: &Path, clickhouse: &Clickhouse) -> Result<Scene> {
        let Self { user, north, south, eu, us } = self;
        let keys = [&user.public_key, &north.router.public_key, &south.router.public_key].map(Clone::clone);
        let state = complete(&us, state(1, &keys, "operator", &[]), &folder.join("desired.json"))?;
        // Both at once: most of the time goes into the verification of their programs.
        let mut gateways = [eu, us];
        for gateway in &mut gateways {
            gateway.write_state(&state)?;
            gateway.launch_agent()?;
        }
        let [eu, us] = gateways;
        let region = |mut gateway: Gateway, link: u8, uplink| {
            let directory = gateway.applied(1)?;
            gateway.start_collector()?;
            Ok::<_, anyhow::Error>(Region { gateway, directory, address: Ipv4Addr::new(198, 18, link, 2), uplink })
        };
        let (eu, us) = (region(eu, 21, "up21")?, region(us, 22, "up22")?);
        let offers = [&eu, &us].map(|region| region.gateway.agent(&["offer", "--certificate", "certificate-a"]));
        let [offer, other] = offers;
        let offer = offer?;
        equal("the offer of the second region", other?, offer.clone())?;
        let user = user.accept(&offer, folder)?;
        let audit = Audit::new(clickhouse.url());
        let (folder, ledger) = (folder.to_owned(), state["allocations"].clone());
        Ok(Scene { folder, ledger, eu, us, has_failed: false, user, north, south, keys, audit, reported: Vec::new() })
    }
}

impl Region {
    /// What `wg show` says of the gateway.
    ///
    /// # Errors
    /// If it fails.
    pub fn shown(&self, what: &str) -> Result<String> {
        self.gateway.host().namespace.run(&format!("wg show {what}"))
    }

    /// Cuts the gateway off from the Internet, or connects it again.
    ///
    /// # Errors
    /// If a command fails.
    pub fn set_uplink(&self, state: &str) -> Result<()> {
        run(&format!("ip link set {} {state}", self.uplink))?;
        Ok(())
    }

    /// The kernel's flows.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn flows(&self) -> Result<BTreeMap<FlowKey, Flow>> {
        Ok(self.gateway.maps()?.flows()?)
    }

    /// Packets to a plant, and from it, by the kernel's flows.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn packets(&self, plant: &str) -> Result<[u64; 2]> {
        let id = self.plant(plant)?.id;
        let flows = self.flows()?;
        let of_plant = flows.values().filter(|flow| flow.plant == id);
        Ok(of_plant.fold([0, 0], |[to, from], flow| [to + flow.to_plant.packets, from + flow.to_user.packets]))
    }

    fn plant(&self, name: &str) -> Result<&vpn_directory::Plant> {
        self.directory.plants.iter().find(|plant| plant.plant == name).context("no such plant")
    }
}

impl Scene {
    /// The owners of the sites set their routers up, with what the gateways have for them. That of north has a peer for
    /// each region.
    ///
    /// # Errors
    /// If a command fails.
    pub fn link_sites(&self) -> Result<()> {
        let peer = self.folder.join("us.peer");
        fs::write(&peer, self.us.gateway.agent(&["site-config", "north", "--peer-only"])?)?;
        let peer = peer.display().to_string();
        let sites =
            [(&self.eu, &self.north, "north", vec!["--region-peers", &peer]), (&self.us, &self.south, "south", vec![])];
        for (region, plant, name, options) in sites {
            let configuration = self.folder.join(format!("{name}.conf"));
            let (key, out) = (plant.router.private_key_file(), configuration.display().to_string());
            region.gateway.agent(&[&["site-config", name, "--key", key, "--out", &out], &*options].concat())?;
            plant.router.apply_site_file(&configuration)?;
        }
        Ok(())
    }

    /// The state in which the user has this job role at north, and these colleagues; with its ledger.
    ///
    /// # Errors
    /// If the ledger cannot be completed.
    pub fn state(&mut self, revision: u64, role: &str, colleagues: &[&str]) -> Result<Value> {
        let mut state = state(revision, &self.keys, role, colleagues);
        state["allocations"] = self.ledger.clone();
        let state = complete(&self.us.gateway, state, &self.folder.join("desired.json"))?;
        self.ledger = state["allocations"].clone();
        Ok(state)
    }

    /// Has the name in profiles lead a client that is near the first region, and works at this plant, to the gateway that
    /// is best for it, by what the gateways published last. Gives the region.
    ///
    /// # Errors
    /// If there is none.
    pub fn lead(&self, plant: &str) -> Result<String> {
        let client = self.folder.join("client.json");
        fs::write(&client, json!({ "plants": [plant], "latency_ms": { EU: NEAR_MS, US: FAR_MS } }).to_string())?;
        let mut pick = format!("vpn-agent pick --client {}", client.display());
        for region in [&self.eu, &self.us] {
            let name = region.gateway.host().region;
            let file = self.folder.join(format!("{name}.health"));
            // From a region that is cut off nothing new comes; what it published before is still there.
            if name != EU || !self.has_failed {
                fs::write(&file, region.gateway.agent(&["health"])?)?;
            }
            pick.push_str(&format!(" {}", file.display()));
        }
        let choices: Vec<Value> = serde_json::from_str(&run(&pick)?)?;
        let best = choices.first().and_then(|best| best["region"].as_str()).context("no gateway is left")?;
        let region = [&self.eu, &self.us].into_iter().find(|region| region.gateway.host().region == best);
        self.user.resolve(region.context("a region that nobody has")?.address)?;
        Ok(best.to_owned())
    }

    /// The device of a plant as the user writes it, in every region.
    ///
    /// # Errors
    /// If there is no such plant.
    pub fn device(&self, plant: &str) -> Result<Ipv4Addr> {
        let subnet = self.us.plant(plant)?.subnets.first().context("a plant without subnets")?;
        let network: Ipv4Addr = subnet.virtual_.network().to_string().parse()?;
        Ok(Ipv4Addr::from_bits(network.to_bits() | DEVICE.to_bits() & 0xff))
    }

    /// The user and a plant's device.
    ///
    /// # Errors
    /// If there is no such plant.
    pub fn between(&self, region: &'static str, plant: &'static str) -> Result<Between> {
        Ok(Between { region, user: "user-a", plant, addressed: self.device(plant)? })
    }
}

/// Has `vpn-agent allocate` complete the ledger of a state, with the pools of any of the gateways.
fn complete(gateway: &Gateway, state: Value, file: &Path) -> Result<Value> {
    fs::write(file, state.to_string())?;
    Ok(serde_json::from_str(&gateway.agent(&["allocate", &file.display().to_string()])?)?)
}

fn state(revision: u64, [user, north, south]: &[String; 3], role: &str, colleagues: &[&str]) -> Value {
    // Nobody uses their keys.
    let key = |name: &str| format!("{}A=", format!("{name}/").repeat(43)[..42].replace('-', "+"));
    let users = ["user-a"].iter().chain(colleagues).map(|name| json!({ "id": name }));
    let certificates = colleagues
        .iter()
        .map(|name| json!({ "id": format!("certificate-of-{name}"), "user": name, "public_key": key(name) }));
    let own = json!({ "id": "certificate-a", "user": "user-a", "public_key": user });
    let certificates: Vec<Value> = [own].into_iter().chain(certificates).collect();
    let users: Vec<Value> = users.collect();
    let plant = |name: &str, key: &str, regions: &[&str]| {
        json!({
            "id": name, "organisation": "alpha", "subnets": [SUBNET],
            "uplinks": [{ "regions": regions, "uplink": { "kind": "host", "public_key": key } }],
        })
    };
    json!({
        "revision": revision,
        "organisations": [{ "id": "alpha" }],
        "portfolios": [],
        "plants": [plant("north", north, &[EU, US]), plant("south", south, &[US])],
        "users": users,
        "memberships": [{ "user": "user-a", "organisation": "alpha", "kind": "member", "access": "all" }],
        "roles": [
            { "user": "user-a", "role": role, "on": { "plant": "north" } },
            { "user": "user-a", "role": "operator", "on": { "plant": "south" } },
        ],
        "cooperations": [],
        "certificates": certificates,
    })
}
