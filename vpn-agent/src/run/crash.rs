//! What a kill in the middle of a change leaves: whatever it is, the next run brings the kernel and the files to where an
//! undisturbed one had brought them.
//!
//! A child process applies a change and is killed when it is about to make its first, second, third … system call of those
//! that have an effect. Between two of them nothing but PEERS changes, one word at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rtnetlink::LinkBridge;
use serde_json::{Value, json};
use vpn_directory::Directory;
use vpn_ebpf_common::{gateway::Gateway, plant::Plant, route::Route, service::ServiceKey};

use super::{Host, Step};
use crate::{
    datapath::{read::Maps as _, route_set::Destination},
    example,
    namespace::in_new_namespace,
    run::scene::{self, get, host, look_up, with_users},
    state::State,
    wireguard::WireGuard,
};

/// Tells the child where the files of the gateway are.
const FOLDER: &str = "VPN_CRASH_FOLDER";

/// Has every system call be a place to die, and not a part of them.
const EVERY: &str = "VPN_CRASH_EVERY";

/// Without it, one of so many.
const STRIDE: usize = 12;

/// Those by which the kernel and the files are changed.
const CALLS: &str =
    "bpf,sendto,sendmsg,write,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,fsync";

/// What the child says.
const READY: &str = "ready";
const DONE: &str = "done";

const USERS: &str = "wg-users";
const UPLINKS: [&str; 5] = ["eth1.10", "eth2", "eth3", "eth4", "eth5"];

/// When the child is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    Never,
    /// At this system call of the change.
    InChange(usize),
    /// At this system call of its life: it also loads the programs, and applies the state before.
    InLife(usize),
}

/// Requirements: G3, E3.
#[test]
fn a_gateway_that_is_killed_in_a_change_ends_up_where_it_was_to() {
    let stride = if env::var_os(EVERY).is_some() { 1 } else { STRIDE };
    let Some(died_in) = deaths(stride, Kill::InChange) else { return };
    assert!(died_in.len() > 80 / stride, "{died_in:?}");
    if stride == 1 {
        for step in Step::ALL {
            assert!(died_in.iter().any(|last| last == step.label()), "nobody was killed in {step:?}: {died_in:?}");
        }
    }
}

/// Requirements: G3, E3.
#[test]
fn a_gateway_that_is_killed_at_its_first_start_ends_up_where_it_was_to() {
    let stride = if env::var_os(EVERY).is_some() { 1 } else { 5 * STRIDE };
    let Some(died_in) = deaths(stride, Kill::InLife) else { return };
    assert!(died_in.len() > 200 / stride, "{died_in:?}");
}

/// In which steps the child died, killed at every so many system calls until it lives. None where that cannot be tried.
fn deaths(stride: usize, kill: impl Fn(usize) -> Kill) -> Option<Vec<String>> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no strace");
        return None;
    }
    let (undisturbed, last) = change(Kill::Never)?;
    assert_eq!(last, DONE);
    assert!(undisturbed.peers.values().any(|(_, routes)| !routes.is_empty()));
    let mut died_in = Vec::new();
    for call in (1..).step_by(stride) {
        let (after, last) = change(kill(call))?;
        after.is_as(&undisturbed, &format!("killed at system call {call}, in {last:?}"));
        if last == DONE {
            break;
        }
        died_in.push(last);
    }
    eprintln!("killed {} times: {died_in:?}", died_in.len());
    Some(died_in)
}

/// The child of the tests above.
#[test]
#[ignore = "it is the process that is killed"]
fn child() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    // To see in which step it dies.
    let steps = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stdout);
    steps.without_time().with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut host = host(Path::new(&folder));
        apply(&mut host, &before()).await;
        println!("{READY}");
        std::io::stdin().read_exact(&mut [0]).unwrap();
        apply(&mut host, &after()).await;
        println!("{DONE}");
    });
}

/// The gateway after the change, made by a child that is killed, and by another run after it; and the last thing that the
/// child said.
fn change(kill: Kill) -> Option<(After, String)> {
    let mut result = None;
    in_new_namespace(async {
        let folder = tempfile::tempdir().unwrap();
        let interfaces = WireGuard::open().unwrap();
        for name in UPLINKS.into_iter().chain([USERS]) {
            interfaces.add_link(name, LinkBridge::new(name).down().build()).await.unwrap();
        }
        scene::pins(folder.path());
        let last = run_child(folder.path(), kill);
        let mut host = host(folder.path());
        if matches!(kill, Kill::InLife(_)) {
            apply(&mut host, &before()).await;
        }
        apply(&mut host, &after()).await;
        result = Some((After::of(&host).await, last));
    });
    result
}

fn run_child(folder: &Path, kill: Kill) -> String {
    let program = env::current_exe().unwrap();
    let mut command = match kill {
        Kill::InLife(call) => strace(call),
        Kill::Never | Kill::InChange(_) => Command::new(&program),
    };
    if matches!(kill, Kill::InLife(_)) {
        command.arg(&program);
    }
    let mut child = command
        .args(["--exact", "run::crash::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut killer = None;
    if let Kill::InChange(call) = kill {
        while !lines.next().expect("the child was not ready").unwrap().contains(READY) {}
        killer = Some(attach(&child, call));
    }
    // It may be dead by now.
    let _ = child.stdin.take().unwrap().write_all(b"\n");
    let mut last = String::new();
    for line in lines.map_while(Result::ok) {
        if line.contains(DONE) {
            last = DONE.to_owned();
        } else if let Some((_, step)) = line.split_once("step=") {
            last = step.trim_matches('"').to_owned();
        }
    }
    let status: ExitStatus = child.wait().unwrap();
    if let Some(killer) = &mut killer {
        killer.wait().unwrap();
    }
    assert_eq!(status.success(), last == DONE, "{status} after {last:?}");
    last
}

/// What kills its tracees when one of them is about to make that many of [`CALLS`].
fn strace(call: usize) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    command.args(["-e", &format!("inject={CALLS}:signal=KILL:when={call}")]);
    command
}

/// Has `child` be killed, once this returns.
fn attach(child: &Child, call: usize) -> Child {
    let strace = strace(call).args(["-p", &child.id().to_string()]).stderr(Stdio::null()).spawn().unwrap();
    // It has come once all threads of the child are traced.
    let tasks = format!("/proc/{}/task", child.id());
    let is_traced =
        |status: String| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    let all_traced = || {
        fs::read_dir(&tasks).unwrap().all(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status"));
            status.is_ok_and(is_traced)
        })
    };
    while !all_traced() {
        thread::sleep(Duration::from_millis(1));
    }
    strace
}

/// As a run of the agent does, up to where nothing is left to do.
async fn apply(host: &mut Host, state: &State) {
    with_users(host, state).await;
    let failed = host.apply(state).await.unwrap();
    assert!(failed.is_empty(), "{:?}", failed.iter().map(|(id, error)| format!("{id}: {error}")).collect::<Vec<_>>());
    while host.has_removals() {
        host.remove_next().await;
    }
}

fn before() -> State {
    let mut document = scene::two_plants("eth1.10", "eth2");
    let plants = document["plants"].as_array_mut().unwrap();
    plants.push(plant("old", "alpha", "eth5", &["192.168.1.0/24"]));
    document["roles"].as_array_mut().unwrap().push(role("user-a", "old"));
    example::parse(&document)
}

/// Something is new, something other, and something gone, of everything that there is.
fn after() -> State {
    let mut document = scene::two_plants("eth1.10", "eth3");
    document["revision"] = json!(8);
    document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "10.7.0.0/16", "2001:db8:1::/64"]);
    document["plants"].as_array_mut().unwrap().push(plant("new", "alpha", "eth4", &["192.168.1.0/24"]));
    document["users"].as_array_mut().unwrap().push(json!({"id": "user-c"}));
    let membership = json!({"user": "user-c", "organisation": "alpha", "kind": "member", "access": "all"});
    document["memberships"].as_array_mut().unwrap().push(membership);
    // user-b loses south, which moves to another interface.
    document["roles"] = json!([role("user-a", "north"), role("user-b", "north"), role("user-c", "new")]);
    let certificates = document["certificates"].as_array_mut().unwrap();
    certificates.push(json!({"id": "certificate-c", "user": "user-c", "public_key": example::key(3)}));
    example::parse(&document)
}

fn plant(id: &str, organisation: &str, interface: &str, subnets: &[&str]) -> Value {
    let uplink = json!({"kind": "interface", "interface": interface});
    json!({"id": id, "organisation": organisation, "subnets": subnets, "uplink": uplink})
}

fn role(user: &str, plant: &str) -> Value {
    json!({"user": user, "role": "operator", "on": {"plant": plant}})
}

/// Everything that a run leaves, without the numbers of route sets, which count on.
#[derive(Debug, PartialEq)]
struct After {
    /// By host number: the id, and the routes of the set.
    peers: BTreeMap<u32, (u32, Vec<(Destination, Route)>)>,
    /// Routes of sets that nobody has.
    others: usize,
    plants: BTreeMap<u32, Plant>,
    services: BTreeMap<ServiceKey, u32>,
    gateway: Gateway,
    /// Accounts by peer id.
    accounts: BTreeSet<u32>,
    /// By name: number, MTU, whether up, whether our program is there, IPv4 forwarding.
    links: BTreeMap<String, (u32, u32, bool, bool, String)>,
    pinned: BTreeSet<String>,
    directory: Directory,
    /// By name, with the content where it is always the same.
    files: BTreeMap<String, Option<Value>>,
}

impl After {
    async fn of(host: &Host) -> Self {
        let mut sets = BTreeMap::<u32, Vec<_>>::new();
        for ((set, address, bits), route) in host.datapath.routes().unwrap() {
            sets.entry(set).or_default().push(((address, bits), route));
        }
        let peers = host.datapath.peers().unwrap();
        let used: BTreeSet<_> = peers.values().map(|peer| peer.route_set).collect();
        let others = sets.iter().filter(|(set, _)| !used.contains(set)).map(|(_, routes)| routes.len()).sum();
        let routes = |set| sets.get(&set).cloned().unwrap_or_default();
        let accounts = host.datapath.usage().unwrap().into_keys();
        let mut links = BTreeMap::new();
        for name in UPLINKS {
            let link = look_up(host, name).await.unwrap();
            let found = link.first_program(crate::datapath::pinned_guard(&host.config.datapath.pin_dir, name));
            let pinned = crate::datapath::pinned_program(&host.config.datapath.pin_dir, name).unwrap();
            assert_eq!(found, pinned, "{name}: what is pinned is what is there");
            let forwarding = get("ipv4", name, "forwarding");
            links.insert(name.to_owned(), (link.ifindex, link.mtu, link.up, found.is_some(), forwarding));
        }
        Self {
            peers: peers.iter().map(|(number, peer)| (*number, (peer.id, routes(peer.route_set)))).collect(),
            others,
            plants: host.datapath.plants().unwrap(),
            services: host.datapath.services().unwrap(),
            gateway: Gateway { generation: 0, ..host.datapath.gateway().unwrap().unwrap() },
            accounts: accounts.chain(host.datapath.released().unwrap().into_keys()).collect(),
            links,
            // What stands for the users' interface is no tunnel, and is taken for a leftover in the end.
            pinned: host.datapath.pinned_interfaces().unwrap().into_iter().filter(|name| name != USERS).collect(),
            directory: Directory::read(&host.config.directory_file()).unwrap(),
            files: files(&host.config.state_dir),
        }
    }
}

impl After {
    fn is_as(&self, other: &Self, when: &str) {
        assert_eq!(self.peers, other.peers, "{when}");
        assert_eq!(self.others, other.others, "{when}");
        assert_eq!((&self.plants, &self.services), (&other.plants, &other.services), "{when}");
        assert_eq!((&self.gateway, &self.accounts), (&other.gateway, &other.accounts), "{when}");
        assert_eq!((&self.links, &self.pinned), (&other.links, &other.pinned), "{when}");
        assert_eq!((&self.directory, &self.files), (&other.directory, &other.files), "{when}");
        assert_eq!(self, other, "{when}");
    }
}

fn files(folder: &Path) -> BTreeMap<String, Option<Value>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // What was begun and not ended; the next write begins it anew.
        if name.ends_with(".new") {
            continue;
        }
        let content = match name.as_str() {
            "allocations.json" => {
                let mut content: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
                let content_of = content.as_object_mut().unwrap();
                content_of.remove("route_sets");
                content_of["next"].as_object_mut().unwrap().remove("route_set");
                Some(content)
            }
            "borrowed.json" => Some(serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap()),
            _ => None,
        };
        files.insert(name, content);
    }
    files
}
