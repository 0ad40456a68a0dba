//! The hosts of the scenario, and what its kernel holds.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vpn_agent::{liveness::Liveness, repairs::Repairs};
use vpn_directory::Directory;

use super::{
    PATIENCE,
    round::{self, key},
};
use crate::{
    gateway::{Clickhouse, Gateway, Host, SOURCE, StateSource},
    lab::{DEVICE, Peer, Plant, SUBNET, write_key},
    namespace::run,
    steps::{Found, wait_for},
    wg_quick,
};

/// Where the router of south is at first.
pub const SOUTH: &str = "198.18.12.2";
/// Where it moves to.
pub const OTHER: &str = "198.18.12.3";

/// Somebody with a profile.
pub struct Client {
    pub peer: Peer,
    pub tunnel: Ipv4Addr,
    /// As they write the device at north, and at south.
    devices: [Ipv4Addr; 2],
}

/// The gateway and what is around it.
pub struct Scene {
    pub gateway: Gateway,
    pub user: Client,
    /// The tunnel of the organisation.
    pub room: Client,
    /// A key of nobody's.
    pub stranger: String,
    pub stranger_key_file: String,
    pub north: Plant,
    /// Of its router, as the gateway has made it.
    pub north_key: String,
    pub south: Plant,
    /// What each change of the round leads to.
    pub expected: Vec<Vec<String>>,
    /// The record of north.
    record: Value,
    revision: u64,
    folder: PathBuf,
}

impl Found for Scene {}

impl Scene {
    /// Everything but the tunnels.
    pub fn build(folder: &Path) -> Result<Self> {
        wg_quick::prepare()?;
        fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
        let host = Host {
            state: StateSource::Calls,
            endpoints: Some(["gateway.example:51820", "198.18.11.1"]),
            ..Host::only()
        };
        let nowhere = Clickhouse::Server("http://127.0.0.1:1".to_owned());
        let mut gateway = Gateway::configure_on(host, folder, &nowhere, "")?;
        // Settings of no table stand before all tables.
        let config = gateway.path("agent.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, format!("reconcile_seconds = 1\n{text}"))?;

        let north = Plant::build("north", "north-lan", 11, &[], (0, 0), folder)?;
        let south = Plant::build("south", "south-lan", 12, &[], (0, 0), folder)?;
        let user = Peer::connect_as_is("user-a", 1, folder)?;
        let room = Peer::connect_as_is("room", 2, folder)?;
        let stranger_key_file = folder.join("stranger.key").display().to_string();
        let stranger = write_key(&stranger_key_file)?;

        // The key of north is anybody's until the gateway has made one.
        let uplink = json!({ "kind": "host", "public_key": north.router.public_key });
        let record = json!({ "id": "north", "organisation": "alpha", "subnets": [SUBNET], "uplink": uplink });
        let state = state(&record, &south.router.public_key, [&user.public_key, &room.public_key]);
        let directory = gateway.start_agent_with(&state)?;
        let [user, room] = [(user, "certificate-a"), (room, "control-room")]
            .map(|(peer, certificate)| Client::new(peer, certificate, &directory));
        let (user, room) = (user?, room?);
        let (north_key, expected, folder) = (String::new(), Vec::new(), folder.to_owned());
        Ok(Self {
            gateway,
            user,
            room,
            stranger,
            stranger_key_file,
            north,
            north_key,
            south,
            expected,
            record,
            revision: 1,
            folder,
        })
    }

    /// The gateway makes a key pair for the site and its configuration; the key goes into the state as the gateway says,
    /// the file to the router.
    pub fn link_north(&mut self) -> Result<()> {
        let file = self.folder.join("north.conf");
        let change =
            self.gateway.agent(&["site-config", "north", "--new-key", "--out", &file.display().to_string()])?;
        let change: Value = serde_json::from_str(&change)?;
        self.north_key = change["uplink"]["public_key"].as_str().context("no key")?.to_owned();
        self.record["uplink"] = change["uplink"].clone();
        self.change(&json!([change]))?;
        self.north.router.apply_site_file(&file)
    }

    /// The endpoint at south is there already: it has a key, a port, and gets the section of the gateway.
    pub fn link_south(&self) -> Result<()> {
        let router = &self.south.router;
        let file = self.folder.join("south.peer").display().to_string();
        self.gateway.agent(&["site-config", "south", "--out", &file])?;
        router.namespace.run("ip link add wg0 type wireguard")?;
        router.namespace.run(&format!("wg set wg0 private-key {} listen-port 51900", router.private_key_file()))?;
        router.namespace.run(&format!("wg addconf wg0 {file}"))?;
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
        let hosts = format!("127.0.0.1 localhost\n{address} south.example\n");
        Ok(vpn_directory::replace(Path::new("/etc/hosts"), hosts.as_bytes())?)
    }

    pub fn endpoint_of_south(&self) -> Result<String> {
        let text = run("wg show wgp-2 endpoints")?;
        Ok(text.split_whitespace().nth(1).context("no endpoint")?.to_owned())
    }

    /// The router of north begins anew.
    pub fn restart_north(&self) -> Result<()> {
        let file = self.folder.join("north.conf");
        wg_quick::down(&self.north.router.namespace, &file)?;
        wg_quick::up(&self.north.router.namespace, &file)
    }

    /// Kind and state of an uplink, as the agent has noted it; `status` says the same.
    pub fn seen(&self, plant: &str) -> Result<String> {
        let file = Liveness::read(&self.gateway.path("agent/uplinks.json"))?.context("no file")?;
        let uplink = file.plants.get(plant).context("no such plant")?;
        let seen = format!("{} {}", uplink.kind.context("not linked")?.label(), uplink.state.label());
        let status = self.status()?;
        let shown = status["plants"].as_array().context("plants")?.iter().find(|shown| shown["plant"] == plant);
        let shown = shown.context("not in the status")?;
        let shown = format!("{} {}", shown["uplink"].as_str().unwrap_or(""), shown["state"].as_str().unwrap_or(""));
        ensure!(shown == seen, "the status says {shown}, the file {seen}");
        let routes: Value = serde_json::from_str(&self.gateway.agent(&["routes", "--user", "user-a", "--json"])?)?;
        let mut routes = routes["routes"].as_array().context("routes")?.iter();
        let route = routes.find(|route| route["plant"] == plant).context("not in the overview")?;
        ensure!(route["link"] == uplink.state.label(), "the overview says {}, the file {seen}", route["link"]);
        Ok(seen)
    }

    /// The control room's certificate, for this plant.
    pub fn certificate_of_room(&self, plant: &str) -> Value {
        let mut certificate = certificate_of_room(&self.room.peer.public_key, plant);
        certificate["change"] = json!("issue-certificate");
        certificate
    }

    /// Makes changes, which are in force when this returns.
    pub fn change(&mut self, changes: &Value) -> Result<()> {
        self.gateway.api()?.change("POST", "/v1/changes", changes)?;
        self.revision += 1;
        Ok(())
    }

    /// Makes a change of the round.
    pub fn make(&mut self, number: usize) -> Result<()> {
        self.change(&round::change(number, &self.record))
    }

    /// Asks for a change of the round, and kills the agent when it has begun this step of it.
    pub fn die_in(&mut self, number: usize, step: &str) -> Result<()> {
        let log = self.gateway.path("agent.log");
        let before = fs::read(&log)?.len();
        let mut api = self.gateway.api()?;
        let changes = round::change(number, &self.record);
        // Whether it is answered is no matter.
        let call = thread::spawn(move || api.change("POST", "/v1/changes", &changes));
        let begun = format!("step=\"{step}\"");
        let until = Instant::now() + PATIENCE;
        while !String::from_utf8_lossy(&fs::read(&log)?[before..]).contains(&begun) {
            ensure!(Instant::now() < until, "the step {step} does not begin");
            thread::sleep(Duration::from_millis(1));
        }
        self.gateway.kill();
        let _ = call.join();
        Ok(())
    }

    /// Starts the agent, and makes the change again if it was not accepted. Gives whether it was.
    pub fn start_again(&mut self, number: usize) -> Result<bool> {
        self.gateway.launch_agent()?;
        let revision = wait_for("the agent says what is in force", PATIENCE, || {
            let state = self.gateway.api()?.call("GET", "/v1/state", &Value::Null)?.body;
            state["revision"].as_u64().context("no revision")
        })?;
        let was_accepted = revision > self.revision;
        if was_accepted {
            self.revision = revision;
        } else {
            self.make(number)?;
        }
        self.gateway.applied(self.revision)?;
        Ok(was_accepted)
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
        for link in run("ip -o link show type wireguard")?.lines() {
            let words: Vec<_> = link.split_whitespace().collect();
            let mtu = words.iter().position(|word| *word == "mtu").and_then(|at| words.get(at + 1));
            let is_up = words.get(2).is_some_and(|flags| flags.contains("UP"));
            lines.push(format!("{:?} mtu {mtu:?} up {is_up}", words.get(1)));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// The [configuration](Self::configuration), once the maps are as the state has them and nothing waits.
    pub fn settled(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        ensure!(status["differences"].as_array().is_some_and(Vec::is_empty), "{}", status["differences"]);
        let sets = status["maps"]["route_sets"].as_array().context("no route sets")?;
        ensure!(sets.iter().all(|set| set["peers"] != 0), "a set that nobody has: {sets:?}");
        self.configuration()
    }

    /// Fails unless all of these are among the repairs that were told.
    pub fn told(&self, expected: &[String]) -> Result<()> {
        let repairs = Repairs::read(&self.gateway.path("agent/repairs.json"))?;
        let told: Vec<_> =
            repairs.iter().map(|repair| format!("{}: {}: {}", repair.what, repair.found, repair.made)).collect();
        let missing = expected
            .iter()
            .find(|expected| !told.iter().any(|told| told.starts_with(*expected) && !told.contains("not repaired")));
        ensure!(missing.is_none(), "{missing:?} is not told: {told:#?}");
        Ok(())
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.gateway.agent(&["status", "--json"])?)?)
    }
}

impl Client {
    fn new(peer: Peer, certificate: &str, directory: &Directory) -> Result<Self> {
        let given = directory.peers.iter().find(|peer| peer.certificate == certificate).context("no such peer")?;
        let device = |plant: &str| {
            let found = directory.plants.iter().find(|found| found.plant == plant).context("no such plant")?;
            let network: Ipv4Addr = found.subnets[0].virtual_.network().to_string().parse()?;
            Ok::<_, anyhow::Error>(Ipv4Addr::from_bits(network.to_bits() | DEVICE.to_bits() & 0xff))
        };
        let tunnel = given.address.to_string().parse()?;
        Ok(Self { peer, tunnel, devices: [device("north")?, device("south")?] })
    }

    /// Applies the profile, also where it is applied already.
    pub fn connect(&self) -> Result<()> {
        // Fails if there is none.
        let _ = self.peer.namespace.run("ip link del wg0");
        self.peer.apply_profile(self.tunnel, &run("wg show wg-users public-key")?, 51_820)
    }

    /// One ping to the device of a plant.
    pub fn ping(&self, plant: &str) -> Result<String> {
        let device = self.devices[usize::from(plant == "south")];
        self.peer.namespace.run(&format!("busybox ping -c 1 -W 1 {device}"))
    }
}

fn state(north: &Value, south: &str, [user, room]: [&str; 2]) -> Value {
    let users = ["user-a", "user-b", "user-c", "user-d"];
    let roles =
        [("user-a", "north"), ("user-a", "south"), ("user-b", "north"), ("user-c", "south"), ("user-d", "north")];
    json!({
        "revision": 1,
        "organisations": [{ "id": "alpha" }],
        "portfolios": [],
        "plants": [
            north,
            {
                "id": "south", "organisation": "alpha", "subnets": [SUBNET],
                "uplink": {
                    "kind": "dial", "public_key": south, "endpoint": "south.example:51900", "keepalive_seconds": 5,
                },
            },
        ],
        "users": users.map(|user| json!({ "id": user })),
        "memberships": users.map(|user| {
            json!({ "user": user, "organisation": "alpha", "kind": "member", "access": "all" })
        }),
        "roles": roles.map(|(user, plant)| json!({ "user": user, "role": "operator", "on": { "plant": plant } })),
        "cooperations": [],
        "certificates": [
            { "id": "certificate-a", "user": "user-a", "public_key": user },
            { "id": "certificate-c", "user": "user-c", "public_key": key("AwMD") },
            { "id": "certificate-d", "user": "user-d", "public_key": key("BQUF") },
            certificate_of_room(room, "north"),
        ],
    })
}

fn certificate_of_room(public_key: &str, plant: &str) -> Value {
    json!({ "id": "control-room", "organisation": "alpha", "plants": [plant], "public_key": public_key })
}
