//! The hosts of the scenario, and what its kernel holds.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vpn_agent::liveness::Liveness;
use vpn_directory::Directory;

use crate::{
    gateway::{Clickhouse, Gateway, SOURCE},
    lab::{DEVICE, Peer, Plant, SUBNET},
    namespace::run,
    steps::Found,
};

/// Where the router of south is at first.
pub const SOUTH: &str = "198.18.12.2";
/// Where it moves to.
pub const OTHER: &str = "198.18.12.3";

/// The gateway and what is around it.
pub struct Scene {
    pub gateway: Gateway,
    pub directory: Directory,
    pub user: Peer,
    /// A second key of nobody.
    pub stranger: Peer,
    pub north: Plant,
    pub south: Plant,
    revision: u64,
}

impl Found for Scene {}

impl Scene {
    pub fn build(folder: &Path) -> Result<Self> {
        fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
        fs::write("/etc/hosts", "127.0.0.1 localhost\n")?;
        let gateway = Gateway::configure(folder, &Clickhouse::Server("http://127.0.0.1:1".to_owned()), "")?;
        // Settings of no table stand before all tables.
        let config = gateway.path("agent.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, format!("reconcile_seconds = 1\n{text}"))?;
        let directory = Directory {
            format: vpn_directory::FORMAT,
            revision: 0,
            gateway: String::new(),
            region: String::new(),
            peers: Vec::new(),
            plants: Vec::new(),
        };
        Ok(Self {
            gateway,
            directory,
            user: Peer::connect_as_is("user-a", 1, folder)?,
            stranger: Peer::connect_as_is("stranger", 2, folder)?,
            north: Plant::build("north", "north-lan", 11, &[1], (1_000, 1_000), folder)?,
            south: Plant::build("south", "south-lan", 12, &[2], (1_000, 1_000), folder)?,
            revision: 0,
        })
    }

    /// Starts the agent on the first state.
    pub fn start(&mut self) -> Result<()> {
        let revision = self.next_state()?;
        self.directory = self.gateway.start_agent(revision)?;
        Ok(())
    }

    /// Writes the next state: every other one lacks `user-b` and the plant `west`, and has another subnet of north.
    pub fn next_state(&mut self) -> Result<u64> {
        self.revision += 1;
        let is_large = self.revision % 2 == 1;
        let plant = |name: &str, subnets: Value, uplink: Value| json!({ "id": name, "organisation": "alpha", "subnets": subnets, "uplink": uplink });
        let north = if is_large { json!([SUBNET]) } else { json!([SUBNET, "10.7.0.0/16"]) };
        let host = |key: &str| json!({ "kind": "host", "public_key": key });
        let dial = json!({
            "kind": "dial", "public_key": self.south.router.public_key, "endpoint": "south.example:51900",
            "keepalive_seconds": 5,
        });
        let mut plants =
            vec![plant("north", north, host(&self.north.router.public_key)), plant("south", json!([SUBNET]), dial)];
        let mut users = vec!["user-a"];
        let mut certificates =
            vec![json!({ "id": "certificate-a", "user": "user-a", "public_key": self.user.public_key })];
        if is_large {
            plants.push(plant("west", json!(["10.9.0.0/16"]), host("d2VzdHdlc3R3ZXN0d2VzdHdlc3R3ZXN0d2VzdHdlczA=")));
            users.push("user-b");
            certificates.push(json!({
                "id": "certificate-b", "user": "user-b", "public_key": "dXNlcnVzZXJ1c2VydXNlcnVzZXJ1c2VydXNlcnVzZTA=",
            }));
        }
        let of_users = |record: fn(&&str) -> Value| users.iter().map(record).collect::<Vec<_>>();
        let roles = plants.iter().flat_map(|plant| {
            users.iter().map(|user| json!({ "user": user, "role": "operator", "on": { "plant": plant["id"] } }))
        });
        let state = json!({
            "revision": self.revision,
            "organisations": [{ "id": "alpha" }],
            "portfolios": [],
            "users": of_users(|user| json!({ "id": user })),
            "memberships": of_users(|user| {
                json!({ "user": user, "organisation": "alpha", "kind": "member", "access": "all" })
            }),
            "roles": roles.collect::<Vec<_>>(),
            "plants": plants,
            "cooperations": [],
            "certificates": certificates,
        });
        self.gateway.write_state(&state)?;
        Ok(self.revision)
    }

    pub fn link_north(&self) -> Result<()> {
        let key = run("wg show wgp-1 public-key")?;
        self.north.router.apply_site(SOURCE, &key, 51_821)
    }

    /// The router of south waits to be dialled: it has a port, and knows of the gateway its key alone.
    pub fn link_south(&self) -> Result<()> {
        let router = &self.south.router;
        let key = run("wg show wgp-2 public-key")?;
        router.namespace.run("ip link add wg0 type wireguard")?;
        router.namespace.run(&format!(
            "wg set wg0 private-key {} listen-port 51900 peer {key} allowed-ips {SOURCE}",
            router.private_key_file()
        ))?;
        router.namespace.run("ip link set wg0 up")?;
        router.namespace.run(&format!("ip route add {SOURCE} dev wg0"))?;
        router.namespace.set("net.ipv4.ip_forward", "1")
    }

    /// Its router gets another address, and answers at the old one no longer.
    pub fn move_south(&self) -> Result<()> {
        let router = &self.south.router.namespace;
        // In this order: an address that is added beside one of its network goes with that.
        router.run(&format!("ip addr del {SOUTH}/24 dev eth0"))?;
        router.run(&format!("ip addr add {OTHER}/24 dev eth0"))?;
        // It would tell the gateway by itself, if it sent something: what WireGuard calls roaming.
        router.run("ip link set wg0 down")?;
        router.run("ip link set wg0 up")?;
        router.run(&format!("ip route add {SOURCE} dev wg0"))?;
        Ok(())
    }

    pub fn resolve_south(&self, address: &str) -> Result<()> {
        let hosts = Path::new("/etc/hosts");
        Ok(vpn_directory::replace(hosts, format!("127.0.0.1 localhost\n{address} south.example\n").as_bytes())?)
    }

    pub fn connect_user(&self) -> Result<()> {
        let peer = self.directory.peers.iter().find(|peer| peer.user == "user-a").context("user-a")?;
        let key = run("wg show wg-users public-key")?;
        self.user.apply_profile(peer.address.to_string().parse()?, &key, 51_820)
    }

    /// One ping of the user to the device of a plant.
    pub fn ping(&self, plant: &str) -> Result<String> {
        let found = self.directory.plants.iter().find(|found| found.plant == plant).context("no such plant")?;
        let network: Ipv4Addr = found.subnets[0].virtual_.network().to_string().parse()?;
        let device = Ipv4Addr::from_bits(network.to_bits() | DEVICE.to_bits() & 0xff);
        self.user.namespace.run(&format!("busybox ping -c 1 -W 2 {device}"))
    }

    /// Kind and state of an uplink, as the agent has noted it; `status` says the same.
    pub fn seen(&self, plant: &str) -> Result<String> {
        let file = Liveness::read(&self.gateway.path("agent/uplinks.json"))?.context("no file")?;
        let uplink = file.plants.get(plant).context("no such plant")?;
        let seen = format!("{} {}", uplink.kind.context("not linked")?.label(), uplink.state.label());
        let status: Value = serde_json::from_str(&self.gateway.agent(&["status", "--json"])?)?;
        let shown = status["plants"].as_array().context("plants")?.iter().find(|shown| shown["plant"] == plant);
        let shown = shown.context("not in the status")?;
        let shown = format!("{} {}", shown["uplink"].as_str().unwrap_or(""), shown["state"].as_str().unwrap_or(""));
        ensure!(shown == seen, "the status says {shown}, the file {seen}");
        Ok(seen)
    }

    pub fn endpoint_of_south(&self) -> Result<String> {
        let text = run("wg show wgp-2 endpoints")?;
        Ok(text.split_whitespace().nth(1).context("no endpoint")?.to_owned())
    }

    /// What WireGuard and the interfaces are configured with, line by line: not what happens to them, and no numbers of
    /// interfaces.
    pub fn configuration(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for line in run("wg show all dump")?.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            match fields[..] {
                // The port of an interface that dials is any.
                ["wgp-2", private, public, _, mark] => lines.push(format!("wgp-2 {private} {public} any {mark}")),
                [name, private, public, port, mark] => lines.push(format!("{name} {private} {public} {port} {mark}")),
                [name, key, preshared, _, allowed, _, _, _, keepalive] => {
                    let mut allowed: Vec<_> = allowed.split(',').collect();
                    allowed.sort_unstable();
                    lines.push(format!("{name} {key} {preshared} {allowed:?} {keepalive}"));
                }
                _ => {}
            }
        }
        for name in ["wg-users", "wgp-1", "wgp-2", "wgp-3"] {
            let link = run(&format!("ip -o link show {name}")).unwrap_or_default();
            let words: Vec<_> = link.split_whitespace().collect();
            let mtu = words.iter().position(|word| *word == "mtu").and_then(|at| words.get(at + 1));
            let is_up = words.get(2).is_some_and(|flags| flags.contains("UP"));
            lines.push(format!("{name} mtu {mtu:?} up {is_up}"));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// The [configuration](Self::configuration), once the maps are as the state has them and nothing waits.
    pub fn settled(&self) -> Result<Vec<String>> {
        let status: Value = serde_json::from_str(&self.gateway.agent(&["status", "--json"])?)?;
        ensure!(status["differences"].as_array().is_some_and(Vec::is_empty), "{}", status["differences"]);
        let sets = status["maps"]["route_sets"].as_array().context("no route sets")?;
        ensure!(sets.iter().all(|set| set["peers"] != 0), "a set that nobody has: {sets:?}");
        self.configuration()
    }

    /// How many repairs were told, by what they were about.
    pub fn repairs(&self) -> Result<BTreeMap<String, usize>> {
        let status: Value = serde_json::from_str(&self.gateway.agent(&["status", "--json"])?)?;
        let mut repairs = BTreeMap::new();
        for repair in status["repairs"].as_array().context("repairs")? {
            let text = |name: &str| repair[name].as_str().unwrap_or_default().to_owned();
            *repairs.entry(format!("{}: {}: {}", text("what"), text("found"), text("made"))).or_default() += 1;
        }
        Ok(repairs)
    }
}
