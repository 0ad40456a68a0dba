//! What a run leaves in the kernel and on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rtnetlink::LinkBridge;
use serde_json::Value;
use tokio::time::sleep;
use vpn_directory::Directory;
use vpn_ebpf_common::{gateway::Gateway, plant::Plant, route::Route, service::ServiceKey};

use super::agent::config;
use crate::{
    addressing::{self, Allocations},
    config::Config,
    datapath::{
        pinned_guard, pinned_program,
        read::{Maps as _, Pinned},
        route_set::Destination,
    },
    id::{CertificateId, PlantId},
    run::scene::get,
    source,
    state::State,
    wireguard::WireGuard,
};

/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);

const USERS: &str = "wg-users";
const UPLINKS: [&str; 5] = ["eth1.10", "eth2", "eth3", "eth4", "eth5"];

/// What the children share: a folder, and the network that they are started in.
pub struct Scene {
    pub folder: PathBuf,
    config: Config,
    wireguard: WireGuard,
}

impl Scene {
    pub async fn build(folder: &Path) -> Self {
        let config = config(folder);
        let wireguard = WireGuard::open().unwrap();
        for name in UPLINKS.into_iter().chain([USERS]) {
            wireguard.add_link(name, LinkBridge::new(name).down().build()).await.unwrap();
        }
        Self { folder: folder.to_owned(), config, wireguard }
    }

    /// What a change has led to, once nothing is left to do.
    pub async fn settled(&self) -> After {
        let mut after = After::of(self).await;
        let until = Instant::now() + PATIENCE;
        while !after.is_settled() {
            assert!(Instant::now() < until, "something stays: {after:#?}");
            sleep(Duration::from_millis(5)).await;
            after = After::of(self).await;
        }
        after
    }

    /// Fails unless that is `expected`.
    pub async fn becomes(&self, expected: &After, when: &str) {
        let until = Instant::now() + PATIENCE;
        let mut after = After::of(self).await;
        while after != *expected && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
            after = After::of(self).await;
        }
        after.is_as(expected, when);
    }
}

/// Everything that a run leaves, without the numbers of route sets and revisions, which count on.
#[derive(Debug, PartialEq)]
pub struct After {
    /// What is in force.
    state: State,
    /// By host number: the id, and the routes of the set.
    peers: BTreeMap<u32, (u32, Vec<(Destination, Route)>)>,
    /// Routes of sets that nobody has.
    others: usize,
    plants: BTreeMap<u32, Plant>,
    services: BTreeMap<ServiceKey, u32>,
    gateway: Gateway,
    /// Accounts by peer id.
    accounts: BTreeSet<u32>,
    /// By name.
    links: BTreeMap<String, Interface>,
    pinned: BTreeSet<String>,
    directory: Directory,
    peers_given: BTreeMap<CertificateId, addressing::Peer>,
    plants_given: BTreeMap<PlantId, addressing::Plant>,
    borrowed: Value,
    /// By name.
    files: BTreeSet<String>,
}

/// An interface of the host's.
#[derive(Debug, PartialEq)]
struct Interface {
    number: u32,
    mtu: u32,
    up: bool,
    /// Whether our program is there.
    has_program: bool,
    /// Of IPv4.
    forwarding: String,
}

impl After {
    async fn of(scene: &Scene) -> Self {
        let maps = Pinned::open(&scene.config.datapath.pin_dir).unwrap();
        let mut sets = BTreeMap::<u32, Vec<_>>::new();
        for ((set, address, bits), route) in maps.routes().unwrap() {
            sets.entry(set).or_default().push(((address, bits), route));
        }
        let peers = maps.peers().unwrap();
        let used: BTreeSet<_> = peers.values().map(|peer| peer.route_set).collect();
        let others = sets.iter().filter(|(set, _)| !used.contains(set)).map(|(_, routes)| routes.len()).sum();
        let routes = |set| sets.get(&set).cloned().unwrap_or_default();
        let pins = &scene.config.datapath.pin_dir;
        let (mut links, mut pinned) = (BTreeMap::new(), BTreeSet::new());
        for name in UPLINKS {
            let link = scene.wireguard.link(name).await.unwrap().unwrap();
            let found = link.first_program(pinned_guard(pins, name));
            let program = pinned_program(pins, name).unwrap();
            pinned.extend(program.map(|_| name.to_owned()));
            let (number, has_program) = (link.ifindex, found.is_some() && found == program);
            let forwarding = get("ipv4", name, "forwarding");
            links.insert(name.to_owned(), Interface { number, mtu: link.mtu, up: link.up, has_program, forwarding });
        }
        let accounts = maps.usage().unwrap().into_keys();
        let given = Allocations::read(&scene.config.allocations_file()).unwrap();
        let borrowed = fs::read(scene.config.borrowed_file()).unwrap_or_default();
        let mut state = source::current(&scene.config).unwrap();
        state.revision = 0;
        Self {
            state,
            peers: peers.iter().map(|(number, peer)| (*number, (peer.id, routes(peer.route_set)))).collect(),
            others,
            plants: maps.plants().unwrap(),
            services: maps.services().unwrap(),
            gateway: Gateway { generation: 0, ..maps.gateway().unwrap().unwrap() },
            accounts: accounts.chain(maps.released().unwrap().into_keys()).collect(),
            links,
            pinned,
            directory: Directory { revision: 0, ..Directory::read(&scene.config.directory_file()).unwrap() },
            peers_given: given.peers().clone(),
            plants_given: given.plants().clone(),
            borrowed: serde_json::from_slice(&borrowed).unwrap_or_default(),
            files: files(&scene.config.state_dir),
        }
    }

    /// Whether nothing is there but what is used.
    fn is_settled(&self) -> bool {
        let used = self.links.iter().filter(|(_, link)| self.plants.contains_key(&link.number));
        let used: Vec<_> = used.map(|(name, _)| name).collect();
        let borrowed = self.borrowed["interfaces"].as_object().into_iter().flatten().map(|(name, _)| name);
        let is_noted = self.files.contains("uplinks.json");
        self.others == 0 && self.pinned.iter().eq(used.iter().copied()) && borrowed.eq(used) && is_noted
    }

    fn is_as(&self, other: &Self, when: &str) {
        assert_eq!(self.state, other.state, "{when}");
        assert_eq!(self.peers, other.peers, "{when}");
        assert_eq!(self.others, other.others, "{when}");
        assert_eq!((&self.plants, &self.services), (&other.plants, &other.services), "{when}");
        assert_eq!((&self.gateway, &self.accounts), (&other.gateway, &other.accounts), "{when}");
        assert_eq!((&self.links, &self.pinned), (&other.links, &other.pinned), "{when}");
        assert_eq!(self.directory, other.directory, "{when}");
        assert_eq!((&self.peers_given, &self.plants_given), (&other.peers_given, &other.plants_given), "{when}");
        assert_eq!((&self.borrowed, &self.files), (&other.borrowed, &other.files), "{when}");
        assert_eq!(self, other, "{when}");
    }
}

/// Names of the files that a run leaves, without what is added to them, and what was begun and not ended: the next write
/// begins it anew.
fn files(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| ![".new", ".tail"].iter().any(|end| name.ends_with(end))).collect()
}
