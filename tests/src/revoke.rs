//! Certificates are revoked and rotated while their users work.
//!
//! `alpha` operates the plant `north`, and its members `user-a` and `user-b` are operators there. Both have a shell on
//! the device and a download from it. As in the main job nothing is mocked.

use std::{
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vpn_agent::datapath::read::Maps as _;
use vpn_directory::Directory;

use crate::{
    accounts,
    audit::Audit,
    capture::Capture,
    device::HTTP_PORT,
    gateway::{self, Clickhouse, Gateway, Host, StateSource},
    lab::{self, DEVICE, Peer, Plant, SUBNET, write_key},
    namespace::run,
    steps::{Steps, equal, wait_for},
};

use ssh::Server;
use stream::Stream;

mod ssh;
mod stream;

/// How soon after the call the last packet may have been seen. By the machine's clock, which under emulation counts
/// instructions: the agent is built for tests, without optimisation, and translated at that.
const LIMIT: Duration = Duration::from_millis(100);

/// How often somebody else's certificate is issued, rotated and revoked while both work.
const OTHERS: usize = 5;

/// How long nothing may come for it to be taken for the end.
const SILENCE: Duration = Duration::from_secs(2);

/// How long something may take that comes by itself, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the downloads, which do not come to their end.
const ARCHIVE: u64 = 1 << 30;
/// What each of them takes in a second.
const RATE: &str = "100k";

/// What the shells on the device run: see [`tick`].
const COMMAND: &str = "/sbin/guest tick";
/// How often it prints something.
const TICK: Duration = Duration::from_millis(20);

/// Plays the scenario in a fresh folder, against an empty store.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path, clickhouse: &Clickhouse) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = Scene::set_up(&mut steps, folder, clickhouse).and_then(|mut scene| {
        let played = scene.play(&mut steps);
        if played.is_err() {
            println!("{}", scene.gateway.account());
        }
        played
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
    }
    outcome
}

/// What the users' shells run: a number every few milliseconds, until nobody listens.
///
/// # Errors
/// When nobody does.
pub fn tick() -> Result<()> {
    let mut out = io::stdout();
    for number in 0_u64.. {
        writeln!(out, "{number}")?;
        out.flush()?;
        thread::sleep(TICK);
    }
    Ok(())
}

struct Scene {
    gateway: Gateway,
    directory: Directory,
    audit: Audit,
    users: [Peer; 2],
    plant: Plant,
    ssh: Server,
    /// The device as users write it.
    device: Ipv4Addr,
    folder: PathBuf,
}

/// What a user has open.
struct Work {
    shell: Stream,
    download: Stream,
}

impl Work {
    fn bytes(&self) -> [u64; 2] {
        [&self.shell, &self.download].map(|stream| stream.progress().bytes)
    }

    /// Fails unless both bring more and more.
    fn goes_on(&mut self) -> Result<()> {
        let before = self.bytes();
        wait_for("both go on", PATIENCE, || {
            let now = self.bytes();
            ensure!(now[0] > before[0] + 30 && now[1] > before[1] + 30_000, "from {before:?} to {now:?}");
            Ok(())
        })?;
        ensure!(self.shell.runs()? && self.download.runs()?, "the shell or the download has ended");
        Ok(())
    }
}

impl Scene {
    fn set_up(steps: &mut Steps, folder: &Path, clickhouse: &Clickhouse) -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let title = format!("two users, and a plant whose device has an SSH server (Linux {})", release.trim());
        let hosts = steps.step(&title, || {
            let users = [Peer::connect("user-a", 1, folder)?, Peer::connect("user-b", 2, folder)?];
            for user in &users {
                lab::keep_buffers_small(&user.namespace)?;
            }
            let plant = Plant::build("north", "north-lan", 11, &[], (0, ARCHIVE), folder)?;
            let ssh = Server::start(&plant.lan, DEVICE, folder)?;
            Ok((Some((users, plant, ssh)), Vec::new()))
        });
        let (users, plant, ssh) = hosts?.0.context("the hosts")?;
        let host = Host { state: StateSource::Calls, ..Host::only() };
        let mut gateway = Gateway::configure_on(host, folder, clickhouse, "")?;
        let state = state(&users, &plant);
        let (directory, _) = steps.step("the agent starts, and gets the state by a call", || {
            Ok((gateway.start_agent_with(&state)?, Vec::new()))
        })?;
        let (audit, folder) = (Audit::new(clickhouse.url()), folder.to_owned());
        let subnet = directory.plants.first().and_then(|plant| plant.subnets.first()).context("a subnet")?;
        let network: Ipv4Addr = subnet.virtual_.network().to_string().parse()?;
        let device = Ipv4Addr::from_bits(network.to_bits() | DEVICE.to_bits() & 0xff);
        let mut scene = Self { gateway, directory, audit, users, plant, ssh, device, folder };
        steps.step("the users and the site connect, the collector starts", || scene.connect())?;
        Ok(scene)
    }

    fn connect(&mut self) -> Result<()> {
        let users_key = run("wg show wg-users public-key")?;
        let users_port = run("wg show wg-users listen-port")?.parse()?;
        for (name, user) in [("user-a", &self.users[0]), ("user-b", &self.users[1])] {
            user.apply_profile(self.tunnel_ip(name)?, &users_key, users_port)?;
        }
        let id = self.directory.plants.first().context("no plant")?.id;
        let key = run(&format!("wg show wgp-{id} public-key"))?;
        let port = run(&format!("wg show wgp-{id} listen-port"))?.parse()?;
        self.plant.router.apply_site(gateway::SOURCE, &key, port)?;
        for user in &self.users {
            wait_for("the tunnels are up", PATIENCE, || self.ping(user))?;
        }
        self.gateway.start_collector()
    }

    fn play(&mut self, steps: &mut Steps) -> Result<()> {
        let title = "both users have a shell on the device, and a download from it";
        let (mut works, _) = steps.step(title, || {
            let mut works = [self.work(0)?, self.work(1)?];
            works.iter_mut().try_for_each(Work::goes_on)?;
            Ok((works, Vec::new()))
        })?;
        steps.step("somebody else's certificate comes, changes and goes: both go on", || {
            self.others()?;
            works.iter_mut().try_for_each(Work::goes_on)
        })?;
        steps.step("user-a's certificate is revoked: both end", || self.revoke(&works[0]))?;
        steps.step("user-b goes on", || works[1].goes_on())?;
        steps.step("WireGuard forgets the key", || self.forget())?;
        let [_, mut work] = works;
        steps.step("user-b's key is rotated: the old one ends", || self.rotate(&work))?;
        steps.step("user-b goes on with the new key, under the same address", || self.renew(&mut work))?;
        drop(work);
        steps.step("the audit keeps what both did, as the kernel has it", || self.compare())?;
        Ok(())
    }

    fn work(&self, user: usize) -> Result<Work> {
        let user = &self.users[user].namespace;
        let mut curl = user.command("curl");
        curl.args(["-sS", "--no-buffer", "--limit-rate", RATE, "-o", "-"]);
        curl.arg(format!("http://{}:{HTTP_PORT}/archive", self.device));
        let shell = Stream::start(self.ssh.shell(user, self.device, COMMAND))?;
        Ok(Work { shell, download: Stream::start(curl)? })
    }

    fn others(&self) -> Result<()> {
        for round in 0..OTHERS {
            let id = format!("certificate-c{round}");
            let key = |name: &str| write_key(&self.path(&format!("user-c.{round}.{name}.key")));
            let mut api = self.gateway.api()?;
            let certificate = json!({ "id": id, "user": "user-c", "public_key": key("first")? });
            api.change("POST", "/v1/certificates", &certificate)?;
            let other = json!({ "public_key": key("second")? });
            api.change("POST", &format!("/v1/certificates/{id}/rotate"), &other)?;
            api.change("DELETE", &format!("/v1/certificates/{id}"), &Value::Null)?;
        }
        Ok(())
    }

    /// Requirements: A3, B4.
    fn revoke(&mut self, work: &Work) -> Result<Vec<String>> {
        let lines = self
            .ends(0, work, || self.gateway.api()?.change("DELETE", "/v1/certificates/certificate-a", &Value::Null))?;
        self.refused(0)?;
        Ok(lines)
    }

    /// Requirements: A3.
    fn rotate(&mut self, work: &Work) -> Result<Vec<String>> {
        let public_key = write_key(&self.new_key())?;
        let lines = self.ends(1, work, || {
            let body = json!({ "public_key": public_key });
            self.gateway.api()?.change("POST", "/v1/certificates/certificate-b/rotate", &body)
        })?;
        self.refused(1)?;
        Ok(lines)
    }

    /// The user's device gets the new key. Its connections were never closed, and its address is what it was.
    ///
    /// Requirements: A3.
    fn renew(&mut self, work: &mut Work) -> Result<()> {
        let user = &self.users[1];
        user.namespace.run(&format!("wg set wg0 private-key {}", self.new_key()))?;
        wait_for("the new key works", PATIENCE, || self.ping(user))?;
        work.goes_on()
    }

    /// Makes the call, and fails unless nothing of a user's passes any more once [`LIMIT`] is over.
    fn ends(&self, user: usize, work: &Work, call: impl FnOnce() -> Result<Value>) -> Result<Vec<String>> {
        let peer = &self.users[user];
        let (tunnel, device) = (self.tunnel_ip(["user-a", "user-b"][user])?, self.device);
        // As the plant sees the user: the same host bits in the source prefix.
        let [_, _, c, d] = tunnel.octets();
        let seen = Ipv4Addr::new(100, 80, c, d);
        let at_user = Capture::start(&peer.namespace, move |at, packet| between(packet, device, tunnel).then_some(at))?;
        let at_plant = Capture::start(&self.plant.lan, move |at, packet| between(packet, seen, DEVICE).then_some(at))?;
        thread::sleep(Duration::from_millis(500));

        let called = Instant::now();
        call()?;
        let answered = called.elapsed();
        thread::sleep(SILENCE);
        let mut lines = vec![format!("the agent has answered after {} ms", answered.as_millis())];
        for (what, capture) in [("reached the user", at_user), ("reached the device", at_plant)] {
            let packets = capture.finish()?;
            ensure!(packets.iter().any(|at| *at < called), "nothing {what} before");
            let last = packets.last().map_or(Duration::ZERO, |at| at.saturating_duration_since(called));
            lines.push(format!("the last packet has {what} {} ms after the call", last.as_millis()));
            ensure!(last <= LIMIT, "{}", lines.join("; "));
        }
        // The shell shows at once what it gets; the download takes its time.
        let last = work.shell.progress().last.saturating_duration_since(called);
        lines.push(format!("the last character has come to the shell {} ms after the call", last.as_millis()));
        ensure!(last <= answered + SILENCE / 2, "{}", lines.join("; "));
        Ok(lines)
    }

    fn forget(&self) -> Result<()> {
        let key = &self.users[0].public_key;
        wait_for("the key is gone", PATIENCE, || {
            let peers = run("wg show wg-users peers")?;
            ensure!(!peers.contains(key), "WireGuard still has {key}");
            equal("peers", peers.lines().count(), 1)
        })
    }

    fn compare(&mut self) -> Result<Vec<String>> {
        self.directory = Directory::read(&self.gateway.path("agent/directory.json"))?;
        wait_for("ClickHouse has every flow as the kernel has it", PATIENCE, || {
            let flows = self.gateway.maps()?.flows()?;
            let rows = self.audit.flows()?;
            accounts::compare_with_kernels(&[(self.gateway.host(), &self.directory, flows)], &rows)?;
            let mut lines = Vec::new();
            for user in ["user-a", "user-b"] {
                let own = rows.iter().filter(|row| row.user == user && row.protocol == "TCP");
                equal(format!("connections of {user}"), own.clone().count(), 2)?;
                lines.extend(own.map(|row| {
                    format!("{user}, port {}: {} bytes out, {} back", row.port, row.bytes_to_plant, row.bytes_to_user)
                }));
            }
            Ok(lines)
        })
    }

    fn ping(&self, user: &Peer) -> Result<String> {
        user.namespace.run(&format!("busybox ping -c 1 -W 2 {}", self.device))
    }

    fn refused(&self, user: usize) -> Result<()> {
        let output = self.users[user].namespace.output(&format!("busybox ping -c 2 -W 1 {}", self.device))?;
        ensure!(!output.status.success(), "the device still answers");
        Ok(())
    }

    fn tunnel_ip(&self, user: &str) -> Result<Ipv4Addr> {
        let peer = self.directory.peers.iter().find(|peer| peer.user == user).context("no such user")?;
        Ok(peer.address.to_string().parse()?)
    }

    fn new_key(&self) -> String {
        self.path("user-b.new.key")
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Whether it is an IPv4 packet from the one to the other.
fn between(packet: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
        && packet.get(12..16) == Some(&source.octets())
        && packet.get(16..20) == Some(&destination.octets())
}

fn state(users: &[Peer; 2], plant: &Plant) -> Value {
    let people = ["user-a", "user-b", "user-c"];
    let each = |make: &dyn Fn(&str) -> Value| people.iter().map(|user| make(user)).collect::<Vec<_>>();
    json!({
        "revision": 1,
        "organisations": [{ "id": "alpha" }],
        "portfolios": [],
        "plants": [{
            "id": "north", "organisation": "alpha", "subnets": [SUBNET],
            "uplink": { "kind": "host", "public_key": plant.router.public_key },
        }],
        "users": each(&|user| json!({ "id": user })),
        "memberships": each(&|user| json!({ "user": user, "organisation": "alpha", "kind": "member", "access": "all" })),
        "roles": each(&|user| json!({ "user": user, "role": "operator", "on": { "plant": "north" } })),
        "cooperations": [],
        "certificates": [
            { "id": "certificate-a", "user": "user-a", "public_key": users[0].public_key },
            { "id": "certificate-b", "user": "user-b", "public_key": users[1].public_key },
        ],
    })
}
