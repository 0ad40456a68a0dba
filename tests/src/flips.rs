//! A user's priority between two plants with the same subnet changes again and again, while the user works at the real
//! address that both of them have.
//!
//! `alpha` operates the plants `north` and `south`, and its member `user-a` is operator of both. As in the main job
//! nothing is mocked. What is asserted: each datagram and each connection is answered by one plant, and by the one that
//! has the priority; each row of the audit is of one plant, and holds what that plant has seen, to the byte; and no plant
//! gets a segment of a connection that was not opened there.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vpn_directory::Directory;

use crate::{
    api::Api,
    audit::Audit,
    device::blob,
    download::Download,
    gateway::{self, Clickhouse, Gateway, Host, StateSource},
    lab::{DEVICE, Peer, Plant, SUBNET},
    namespace::run,
    steps::{Steps, wait_for},
};

use check::Flip;
use load::{Answer, Load, serve_lines};
use wire::{Account, Wire};

mod check;
mod load;
mod wire;

/// How often the priority changes. An emulated agent takes up to a second for each.
const FLIPS: usize = 100;
/// How long it stays: mostly as short as can be, and every eleventh time, so for both plants, long enough for several exchanges.
const STAYS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(1_500)];
/// Programs of each protocol that the user runs.
const PROGRAMS: usize = 3;
/// Bytes of the download by a virtual address that goes on meanwhile.
const BLOB: usize = 3_000_000;
/// What it takes in a second.
const RATE: &str = "60k";
/// How long a packet is on its way at most.
const LAST: Duration = Duration::from_secs(1);
/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

const PLANTS: [&str; 2] = ["north", "south"];

/// The user opens many connections, and each must be in the kernel when it is compared.
const SETTINGS: &str =
    "[datapath.limits]\nnew_flows_per_second = 100000\nlive_flows = 100000\nanswers_per_second = 100000\n";

/// Plays the scenario in a fresh folder, against an empty store.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path, clickhouse: &Clickhouse) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = Scene::set_up(&mut steps, folder, clickhouse).and_then(|mut scene| {
        let played = scene.play(&mut steps);
        if played.is_err() {
            println!("{}", scene.gateway.logs());
        }
        played
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
    }
    outcome
}

/// What the flips have left behind.
struct Played {
    /// In their order.
    flips: Vec<Flip>,
    /// What the user's programs have got.
    answers: Vec<Answer>,
    /// What the plants have seen.
    plants: [Account; 2],
    /// What the user has seen.
    user: Account,
}

struct Scene {
    gateway: Gateway,
    api: Api,
    directory: Directory,
    audit: Audit,
    user: Peer,
    north: Plant,
    south: Plant,
    folder: PathBuf,
}

impl Scene {
    fn set_up(steps: &mut Steps, folder: &Path, clickhouse: &Clickhouse) -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let title = format!("a user, and two plants with the same subnet (Linux {})", release.trim());
        let hosts = steps.step(&title, || {
            let user = Peer::connect("user-a", 1, folder)?;
            let [north, south] = [("north", "north-lan", 11), ("south", "south-lan", 12)].map(|(name, lan, link)| {
                let plant = Plant::build(name, lan, link, &[], (BLOB, 0), folder)?;
                serve_lines(&plant.lan, DEVICE, name)?;
                Ok::<_, anyhow::Error>(plant)
            });
            Ok((Some((user, north?, south?)), Vec::new()))
        });
        let (user, north, south) = hosts?.0.context("the hosts")?;
        let host = Host { state: StateSource::Calls, ..Host::only() };
        let mut gateway = Gateway::configure_on(host, folder, clickhouse, SETTINGS)?;
        let state = state([&user, &north.router, &south.router]);
        let (api, directory) = steps
            .step("the agent starts, and gets the state by a call", || {
                let directory = gateway.start_agent_with(&state)?;
                Ok(((gateway.api()?, directory), Vec::new()))
            })?
            .0;
        let audit = Audit::new(clickhouse.url());
        let folder = folder.to_owned();
        let mut scene = Self { gateway, api, directory, audit, user, north, south, folder };
        steps.step("the user and both sites connect, the collector starts", || scene.connect())?;
        Ok(scene)
    }

    fn connect(&mut self) -> Result<()> {
        let peer = self.directory.peers.first().context("no peer")?;
        let users_key = run("wg show wg-users public-key")?;
        let users_port = run("wg show wg-users listen-port")?.parse()?;
        self.user.apply_profile(peer.address.to_string().parse()?, &users_key, users_port)?;
        for (name, plant) in [("north", &self.north), ("south", &self.south)] {
            let id = self.plant(name)?.id;
            let key = run(&format!("wg show wgp-{id} public-key"))?;
            plant.router.apply_site(gateway::SOURCE, &key, run(&format!("wg show wgp-{id} listen-port"))?.parse()?)?;
        }
        for plant in PLANTS {
            let device = self.virtual_address(plant)?;
            wait_for("the tunnels are up", PATIENCE, || {
                self.user.namespace.run(&format!("busybox ping -c 1 -W 2 {device}"))
            })?;
        }
        self.gateway.start_collector()
    }

    fn play(&mut self, steps: &mut Steps) -> Result<()> {
        let title = format!("the priority changes {FLIPS} times, while the user works at {DEVICE}");
        let (played, _) = steps.step(&title, || self.flip())?;
        steps.step("each datagram and each connection is answered by one plant, and by the right one", || {
            check::answers(&played.answers, &played.flips)
        })?;
        steps.step("no plant has seen a connection that it did not open", || check::resets(&played.plants))?;
        steps.step("each row of the audit is what its plant has seen, to the byte", || self.compare(&played))?;
        Ok(())
    }

    /// Requirements: C2, C5.
    fn flip(&mut self) -> Result<(Played, Vec<String>)> {
        let device = self.virtual_address("south")?;
        let wires = [&self.north.lan, &self.south.lan, &self.user.namespace].map(|host| Wire::watch(host, DEVICE));
        let options = ["--limit-rate", RATE, "-m", "600"];
        // By its virtual address a plant is what it is, whatever the priority.
        let download = Download::start_of("blob", &options, &self.user.namespace, &self.folder, "south", device)?;
        let load = Load::start(&self.user.namespace, DEVICE, PLANTS, PROGRAMS)?;

        let started = Instant::now();
        let mut flips = Vec::new();
        for at in 0..FLIPS {
            let plant = PLANTS[at % 2];
            let begun = Instant::now();
            let change = json!([{ "change": "set-priority", "user": "user-a", "plants": [plant] }]);
            self.api.change("POST", "/v1/changes", &change)?;
            flips.push(Flip { begun, done: Instant::now(), plant });
            thread::sleep(STAYS[usize::from(at % 11 == 10)]);
        }
        let took = started.elapsed();
        let answers = load.finish()?;
        let (well, done) = download.end()?;
        ensure!(well && fs::read(&done.file)? == blob("south", BLOB), "the download by the virtual address broke off");
        // What still goes to and fro stops at the gateway, so that all accounts end at the same packet.
        self.gateway.agent(&["detach"])?;
        thread::sleep(LAST);
        let [north, south, user] = wires.map(|wire| wire?.finish());
        let mut lines = vec![format!("{FLIPS} changes in {:.1} s", took.as_secs_f64())];
        lines.push(format!("{} answers", answers.len()));
        Ok((Played { flips, answers, plants: [north?, south?], user: user? }, lines))
    }

    fn compare(&self, played: &Played) -> Result<Vec<String>> {
        wait_for("ClickHouse has every flow", PATIENCE, || {
            check::rows(&self.audit.flows()?, &played.plants, &played.user)
        })
    }

    fn plant(&self, name: &str) -> Result<&vpn_directory::Plant> {
        self.directory.plants.iter().find(|plant| plant.plant == name).context("no such plant")
    }

    /// The device's address in the plant's virtual subnet.
    fn virtual_address(&self, plant: &str) -> Result<Ipv4Addr> {
        let subnet = self.plant(plant)?.subnets.first().context("a plant without subnets")?;
        let network: Ipv4Addr = subnet.virtual_.network().to_string().parse()?;
        Ok(Ipv4Addr::from_bits(network.to_bits() | DEVICE.to_bits() & 0xff))
    }
}

fn state([user, north, south]: [&Peer; 3]) -> Value {
    let plant = |name: &str, router: &Peer| {
        json!({
            "id": name, "organisation": "alpha", "subnets": [SUBNET],
            "uplink": { "kind": "host", "public_key": router.public_key },
        })
    };
    json!({
        "revision": 1,
        "organisations": [{ "id": "alpha" }],
        "portfolios": [],
        "plants": [plant("north", north), plant("south", south)],
        "users": [{ "id": "user-a" }],
        "memberships": [{ "user": "user-a", "organisation": "alpha", "kind": "member", "access": "all" }],
        "roles": [
            { "user": "user-a", "role": "operator", "on": { "plant": "north" } },
            { "user": "user-a", "role": "operator", "on": { "plant": "south" } },
        ],
        "cooperations": [],
        "certificates": [{ "id": "certificate-a", "user": "user-a", "public_key": user.public_key }],
    })
}
