//! The product's main job, end to end: two organisations, two users, two plants with the same subnet.
//!
//! `alpha` operates the plants `north` and `south`; its member `user-a` is operator of both. `beta` cooperates at
//! `north` only, and its member `user-b` is operator there. Nothing is mocked: kernel WireGuard on every host, the
//! programs under the real verifier, a real ClickHouse, and tools that a technician would use.

use std::{
    fs,
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
    accounts::{self, Between, Reported},
    audit::Audit,
    device::{HTTP_PORT, MODBUS_PORT, blob, exchange},
    download::Download,
    gateway::{self, Clickhouse, Gateway},
    lab::{DEVICE, Peer, Plant, SUBNET},
    namespace::{Namespace, run},
    steps::{Steps, equal, wait_for},
};

/// Bytes of each plant's download.
const BLOB: usize = 1_500_000;

/// Bytes of the download that is under way when the role is lost; at an emulated machine's speed it would take half a
/// minute.
const ARCHIVE: u64 = 64_000_000;

/// How soon after the change of the state file the last byte may arrive. Generous, for an emulated machine.
const STOP_LIMIT: Duration = Duration::from_secs(5);

const NORTH_REGISTERS: &[u16] = &[1_101, 1_102, 1_103, 1_104];
const SOUTH_REGISTERS: &[u16] = &[2_201, 2_202, 2_203, 2_204];

/// Plays the job in a fresh folder, against an empty store.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn play(folder: &Path, clickhouse: &Clickhouse) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = Job::set_up(&mut steps, folder, clickhouse).and_then(|mut job| {
        let played = job.play(&mut steps);
        if played.is_err() {
            println!("{}", job.gateway.account());
        }
        played
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
    }
    outcome
}

struct Job {
    gateway: Gateway,
    audit: Audit,
    folder: PathBuf,
    user_a: Peer,
    user_b: Peer,
    north: Plant,
    south: Plant,
    directory: Directory,
    /// What the tools said they moved, by flow.
    reported: Vec<Reported>,
}

impl Job {
    fn set_up(steps: &mut Steps, folder: &Path, clickhouse: &Clickhouse) -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let (user_a, user_b, north, south) = steps
            .step(&format!("two users, two plants, all on kernel WireGuard (Linux {})", release.trim()), || {
                Ok(Built(
                    Peer::connect("user-a", 1, folder)?,
                    Peer::connect("user-b", 2, folder)?,
                    Plant::build("north", "north-lan", 11, NORTH_REGISTERS, (BLOB, ARCHIVE), folder)?,
                    Plant::build("south", "south-lan", 12, SOUTH_REGISTERS, (BLOB, ARCHIVE), folder)?,
                ))
            })
            .map(|Built(a, b, north, south)| (a, b, north, south))?;

        let mut gateway = Gateway::configure(folder, clickhouse, "")?;
        let state = state(1, [&user_a, &user_b], [&north, &south], true);
        gateway.write_state(&state)?;
        let directory = steps
            .step("the agent checks the state, creates the interfaces, loads and attaches the programs", || {
                let state_file = gateway.path("state.json").display().to_string();
                let checked = check(&gateway, &state_file)?;
                let directory = gateway.start_agent(1)?;
                Ok((directory, vec![checked]))
            })?
            .0;
        let audit = Audit::new(clickhouse.url());
        let mut job = Self {
            gateway,
            audit,
            folder: folder.to_owned(),
            user_a,
            user_b,
            north,
            south,
            directory,
            reported: Vec::new(),
        };
        steps.step("users apply their profiles and site routers their configuration", || job.connect_all())?;
        steps.step("the collector creates the audit tables and starts", || job.gateway.start_collector())?;
        Ok(job)
    }

    fn play(&mut self, steps: &mut Steps) -> Result<()> {
        steps.step("user-a pings both plants, which are both 192.168.1.0/24", || self.ping_both())?;
        steps.step("user-a downloads from both plants at the same time", || self.download_from_both())?;
        steps.step("user-a reads Modbus registers of both plants", || self.read_registers())?;
        steps.step("user-a talks to a UDP service at both plants", || self.exchange_datagrams())?;
        steps.step("user-a reaches north by its real address, too", || self.use_real_address())?;
        steps.step("user-b works at north and is refused at south", || self.refuse_user_b())?;
        steps.step("no plant can open a connection to a user", || self.try_from_plant())?;
        steps.step("without the programs nothing passes; with them again, everything", || self.detach_and_attach())?;
        steps
            .step("user-a loses the role: the running download stops, the device is untouched", || self.lose_role())?;
        steps.step("a bad state file changes nothing and the agent names the field", || self.try_bad_state())?;
        steps.step("ClickHouse holds exactly what the kernel counted, flow by flow", || self.compare_with_kernel())?;
        steps.step("and exactly what the tools reported", || self.compare_with_tools())?;
        steps.step("the auditor's view: who touched what, how often", || self.show_audit())?;
        steps.step("rows live for 730 days", || self.audit.retention())?;
        steps.step("both programs end when told to; the programs in the kernel stay", || self.end())
    }

    fn connect_all(&mut self) -> Result<Vec<String>> {
        let users_key = run("wg show wg-users public-key")?;
        let users_port = run("wg show wg-users listen-port")?.parse()?;
        for (user, peer) in [("user-a", &self.user_a), ("user-b", &self.user_b)] {
            peer.apply_profile(self.tunnel_ip(user)?, &users_key, users_port)?;
        }
        for (name, plant) in [("north", &self.north), ("south", &self.south)] {
            let id = self.plant(name)?.id;
            let key = run(&format!("wg show wgp-{id} public-key"))?;
            let port = run(&format!("wg show wgp-{id} listen-port"))?.parse()?;
            plant.router.apply_site(gateway::SOURCE, &key, port)?;
        }
        // The first packet waits for the handshake; what follows is measured.
        for plant in ["north", "south"] {
            let device = self.virtual_address(plant)?;
            wait_for("the tunnels are up", Duration::from_secs(60), || {
                self.user_a.namespace.run(&format!("busybox ping -c 1 -W 2 {device}"))
            })?;
        }
        let device = self.virtual_address("north")?;
        wait_for("the tunnels are up", Duration::from_secs(60), || {
            self.user_b.namespace.run(&format!("busybox ping -c 1 -W 2 {device}"))
        })?;
        let mut lines = Vec::new();
        for plant in &self.directory.plants {
            for subnet in &plant.subnets {
                lines.push(format!("{}: {} is {} for everyone", plant.plant, subnet.real, subnet.virtual_));
            }
        }
        Ok(lines)
    }

    /// Requirements: A6, C1.
    fn ping_both(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (plant, size) in [("north", 56_u64), ("south", 1_000)] {
            let device = self.virtual_address(plant)?;
            let said = self.user_a.namespace.run(&format!("busybox ping -c 3 -s {size} -W 5 {device}"))?;
            let summary = said.lines().find(|line| line.contains("packets transmitted")).context(said.clone())?;
            equal("ping", summary, "3 packets transmitted, 3 packets received, 0% packet loss")?;
            self.reported.push(between("user-a", plant, device).ping(3, size));
            lines.push(format!("{device} at {plant}: {summary}"));
        }
        Ok(lines)
    }

    /// Requirements: A6, C1.
    fn download_from_both(&mut self) -> Result<Vec<String>> {
        let (north, south) = (self.virtual_address("north")?, self.virtual_address("south")?);
        let user = &self.user_a.namespace;
        let downloads = [("north", north), ("south", south)].map(|(plant, device)| {
            Ok::<_, anyhow::Error>((plant, device, Download::start(user, &self.folder, plant, device)?))
        });
        let mut lines = Vec::new();
        for download in downloads {
            let (plant, device, download) = download?;
            let done = download.finish()?;
            equal(format!("content of {plant}"), fs::read(&done.file)? == blob(plant, BLOB), true)?;
            lines.push(format!("{device} at {plant}: {} bytes, {:.1} Mbit/s", done.body, done.mbit));
            self.reported.push(between("user-a", plant, device).http(&done));
        }
        Ok(lines)
    }

    /// Requirements: A6, C1.
    fn read_registers(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (plant, registers) in [("north", NORTH_REGISTERS), ("south", SOUTH_REGISTERS)] {
            let device = self.virtual_address(plant)?;
            let count = registers.len();
            let said = self
                .user_a
                .namespace
                .run(&format!("mbpoll -m tcp -p {MODBUS_PORT} -a 1 -r 1 -c {count} -1 -o 10 {device}"))?;
            let read: Vec<u16> = said
                .lines()
                .filter_map(|line| line.strip_prefix('[')?.split_whitespace().last()?.parse().ok())
                .collect();
            equal(format!("registers of {plant} (mbpoll: {said})"), &*read, registers)?;
            // A request is 12 bytes, a response 9 and the registers (Modbus application protocol 6.3, with its TCP header).
            let response = 9 + 2 * count as u64;
            self.reported.push(between("user-a", plant, device).stream(MODBUS_PORT, 12, response));
            lines.push(format!("{device} at {plant}: {read:?}"));
        }
        Ok(lines)
    }

    /// Requirements: A6, C1.
    fn exchange_datagrams(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (plant, count) in [("north", 20_u64), ("south", 30)] {
            let device = self.virtual_address(plant)?;
            let (sent, received) = exchange(&self.user_a.namespace, device, plant, count)?;
            self.reported.push(between("user-a", plant, device).datagrams(count, sent, received));
            lines.push(format!("{device} at {plant}: {count} datagrams, {sent} bytes out, {received} back"));
        }
        Ok(lines)
    }

    /// Requirements: C2.
    fn use_real_address(&mut self) -> Result<Vec<String>> {
        let done = Download::start(&self.user_a.namespace, &self.folder, "north", DEVICE)?.finish()?;
        equal("content", fs::read(&done.file)? == blob("north", BLOB), true)?;
        self.reported.push(between("user-a", "north", DEVICE).http(&done));
        Ok(vec![format!(
            "{DEVICE} is north's device for user-a: of two plants with one subnet the first by name has it"
        )])
    }

    /// Requirements: B1, B2.
    fn refuse_user_b(&mut self) -> Result<Vec<String>> {
        let (north, south) = (self.virtual_address("north")?, self.virtual_address("south")?);
        let done = Download::start(&self.user_b.namespace, &self.folder, "north", north)?.finish()?;
        equal("content", fs::read(&done.file)? == blob("north", BLOB), true)?;
        self.reported.push(between("user-b", "north", north).http(&done));
        self.refused("user-b", &format!("curl -s -m 3 -o /dev/null http://{south}/name"))?;
        self.refused("user-b", &format!("busybox ping -c 3 -W 1 {south}"))?;
        let scan = format!("nmap -n -Pn -sT -p {HTTP_PORT},{MODBUS_PORT},22 --max-retries 0 {south}");
        let said = self.user_b.namespace.run(&scan)?;
        equal(format!("filtered ports ({said})"), said.matches(" filtered ").count(), 3)?;
        Ok(vec![format!("{south} at south: no answer to curl, ping, or a scan of three ports")])
    }

    /// Requirements: D4.
    fn try_from_plant(&mut self) -> Result<()> {
        let user: Ipv4Addr = self.tunnel_ip("user-a")?;
        let [_, _, c, d] = user.octets();
        // The user as the plant sees it: the same host bits in the source prefix.
        let seen = Ipv4Addr::new(100, 80, c, d);
        let output = self.north.lan.output(&format!("busybox ping -c 2 -W 1 {seen}"))?;
        ensure!(!output.status.success(), "the device reached {seen}");
        let before = self.verdict("no-flow")?;
        let output = self.north.lan.output(&format!("curl -s -m 2 http://{seen}/"))?;
        ensure!(!output.status.success(), "the device reached {seen}");
        ensure!(self.verdict("no-flow")? > before, "the attempt was not counted as no-flow");
        Ok(())
    }

    /// Requirements: G3.
    fn detach_and_attach(&mut self) -> Result<Vec<String>> {
        let (north, south) = (self.virtual_address("north")?, self.virtual_address("south")?);
        // Counted where packets would arrive, since without programs nothing on the gateway counts.
        let arrived = |job: &Self| Ok::<_, anyhow::Error>([received(&job.north.lan)?, received(&job.south.lan)?]);
        let before = arrived(self)?;
        self.gateway.stop_agent()?;
        self.gateway.agent(&["detach"])?;
        for device in [north, south, DEVICE] {
            self.refused("user-a", &format!("busybox ping -c 2 -W 1 {device}"))?;
            self.refused("user-a", &format!("curl -s -m 2 -o /dev/null http://{device}/name"))?;
        }
        self.refused("user-b", &format!("busybox ping -c 2 -W 1 {north}"))?;
        equal("packets that reached the devices while detached", arrived(self)?, before)?;
        self.gateway.start_agent(1)?;
        for (plant, device) in [("north", north), ("south", south)] {
            self.user_a.namespace.run(&format!("busybox ping -c 2 -W 5 {device}"))?;
            self.reported.push(between("user-a", plant, device).ping(2, 56));
        }
        Ok(vec!["detached: 7 attempts of both users failed, no packet reached a device".into()])
    }

    /// Requirements: A4, B4.
    fn lose_role(&mut self) -> Result<Vec<String>> {
        let north = self.virtual_address("north")?;
        let user_b_before = self.user_b.namespace.run(&format!("busybox ping -c 1 -W 5 {north}"));
        ensure!(user_b_before.is_ok(), "user-b works before");
        let south = self.virtual_address("south")?;
        let download = Download::start_of("archive", &[], &self.user_a.namespace, &self.folder, "south", south)?;
        wait_for("the download runs", Duration::from_secs(20), || {
            let size = download.size();
            ensure!(size > 100_000, "{size} bytes so far");
            Ok(())
        })?;
        let profile = self.user_a.namespace.run("wg showconf wg0")?;

        self.gateway.write_state(&state(2, [&self.user_a, &self.user_b], [&self.north, &self.south], false))?;
        let changed = Instant::now();
        self.directory = self.gateway.applied(2)?;
        let (mut size, mut last_byte) = (download.size(), Instant::now());
        while last_byte.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(50));
            if download.size() != size {
                (size, last_byte) = (download.size(), Instant::now());
                ensure!(
                    changed.elapsed() < STOP_LIMIT,
                    "the download still runs {} s after the change",
                    STOP_LIMIT.as_secs()
                );
            }
        }
        ensure!(size < ARCHIVE, "the download was over before the change");
        drop(download);
        equal("the user's configuration", self.user_a.namespace.run("wg showconf wg0")?, profile)?;
        self.refused("user-a", &format!("busybox ping -c 2 -W 1 {north}"))?;
        self.user_b.namespace.run(&format!("busybox ping -c 2 -W 5 {north}"))?;
        let stopped = last_byte.duration_since(changed).as_millis();
        Ok(vec![format!(
            "stopped after {size} of {ARCHIVE} bytes, last byte {stopped} ms after the change; user-b goes on"
        )])
    }

    /// Requirements: G4.
    fn try_bad_state(&mut self) -> Result<Vec<String>> {
        let mut bad = state(3, [&self.user_a, &self.user_b], [&self.north, &self.south], true);
        bad["plants"][1]["subnets"][0] = json!("192.168.1.5/24");
        let file = self.folder.join("bad.json");
        fs::write(&file, serde_json::to_vec(&bad)?)?;
        let output = Namespace::own().output(&format!("vpn-agent check {}", file.display()))?;
        ensure!(!output.status.success(), "vpn-agent check took it");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(said.contains("plants[1].subnets[0]"), "vpn-agent check does not name the field: {said}");

        let maps = self.gateway.maps()?;
        let before = (maps.peers()?, maps.routes()?, maps.plants()?);
        self.gateway.write_state(&bad)?;
        thread::sleep(Duration::from_secs(2));
        equal("maps after a bad state", (maps.peers()?, maps.routes()?, maps.plants()?), before)?;
        ensure!(self.gateway.logs().contains("plants[1].subnets[0]"), "the agent did not name the field");
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Requirements: F4, F8.
    fn compare_with_kernel(&mut self) -> Result<Vec<String>> {
        wait_for("ClickHouse has every flow as the kernel has it", Duration::from_secs(30), || {
            let kernel = self.gateway.maps()?.flows()?;
            accounts::compare_with_kernels(
                &[(self.gateway.host(), &self.directory, kernel.clone())],
                &self.audit.flows()?,
            )?;
            let sum = kernel.values().fold(0, |sum, flow| sum + flow.to_plant.bytes + flow.to_user.bytes);
            // What the programs forwarded by their own counters is what stands in the flows.
            let stats = self.gateway.maps()?.stats()?;
            let forwarded: u64 = stats
                .iter()
                .filter(|(verdict, _)| ["to-plant", "to-user"].contains(&verdict.label()))
                .map(|(_, traffic)| traffic.bytes)
                .sum();
            equal("bytes forwarded by verdict", forwarded, sum)?;
            Ok(vec![format!("{} flows, {sum} bytes: kernel and ClickHouse are equal", kernel.len())])
        })
    }

    /// Requirements: F3, F4.
    fn compare_with_tools(&mut self) -> Result<Vec<String>> {
        let matched = accounts::compare_with_tools(&self.reported, &self.audit.flows()?)?;
        Ok(vec![format!("{matched} connections of curl, mbpoll, ping and the UDP client, to the byte")])
    }

    /// Requirements: F3, F5.
    fn show_audit(&mut self) -> Result<Vec<String>> {
        let denied = self.audit.denials()?;
        let refused = |protocol: &str| {
            denied.iter().any(|row| {
                row["user"] == "user-b"
                    && row["plant"] == "south"
                    && row["operator"] == "alpha"
                    && row["protocol"] == protocol
                    && row["verdict"] == "no-route"
            })
        };
        ensure!(refused("TCP") && refused("ICMP"), "user-b's attempts at south are missing: {denied:#?}");
        ensure!(
            denied.iter().any(|row| row["user"] == "user-a"),
            "user-a's attempts after losing the role are missing: {denied:#?}"
        );
        self.audit.summary()
    }

    fn end(&mut self) -> Result<()> {
        self.gateway.stop_collector()?;
        self.gateway.stop_agent()?;
        let north = self.virtual_address("north")?;
        self.user_b.namespace.run(&format!("busybox ping -c 2 -W 5 {north}"))?;
        Ok(())
    }

    /// A command of a user that has to fail.
    fn refused(&self, user: &str, line: &str) -> Result<()> {
        let peer = if user == "user-a" { &self.user_a } else { &self.user_b };
        let output = peer.namespace.output(line)?;
        ensure!(!output.status.success(), "{user}: `{line}` got through");
        Ok(())
    }

    fn tunnel_ip(&self, user: &str) -> Result<Ipv4Addr> {
        let peer = self.directory.peers.iter().find(|peer| peer.user == user).context("no such user")?;
        Ok(peer.address.to_string().parse()?)
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

    /// Packets under a verdict.
    fn verdict(&self, label: &str) -> Result<u64> {
        let stats = self.gateway.maps()?.stats()?;
        let (_, traffic) = stats.iter().find(|(verdict, _)| verdict.label() == label).context("no such verdict")?;
        Ok(traffic.packets)
    }
}

/// IP packets that a host has received (`InReceives` of RFC 4293).
fn received(host: &Namespace) -> Result<u64> {
    let table = host.run("cat /proc/net/snmp")?;
    let values = table.lines().filter(|line| line.starts_with("Ip:")).nth(1).context("no IP statistics")?;
    Ok(values.split_whitespace().nth(3).context("too few IP statistics")?.parse()?)
}

/// What the first step builds.
struct Built(Peer, Peer, Plant, Plant);

impl crate::steps::Found for Built {}

const fn between(user: &'static str, plant: &'static str, addressed: Ipv4Addr) -> Between {
    Between { region: gateway::REGION, user, plant, addressed }
}

fn check(gateway: &Gateway, state: &str) -> Result<String> {
    let said = Namespace::own().run(&format!("vpn-agent check {state}"))?;
    Ok(said.replace(&gateway.path("").display().to_string(), ""))
}

/// The desired state. Without the role, `user-a` is a plain member of `alpha`.
fn state(revision: u64, users: [&Peer; 2], plants: [&Plant; 2], user_a_is_operator: bool) -> Value {
    let [user_a, user_b] = users;
    let plant = |name: &str, plant: &Plant| {
        json!({
            "id": name, "organisation": "alpha", "portfolio": "alpha-solar", "subnets": [SUBNET],
            "uplink": { "kind": "host", "public_key": plant.router.public_key },
        })
    };
    let mut roles = vec![json!({ "user": "user-b", "role": "operator", "on": { "plant": "north" } })];
    if user_a_is_operator {
        roles.push(json!({ "user": "user-a", "role": "operator", "on": { "portfolio": "alpha-solar" } }));
    }
    json!({
        "revision": revision,
        "organisations": [{ "id": "alpha", "name": "Alpha Energy" }, { "id": "beta", "name": "Beta Service" }],
        "portfolios": [{ "id": "alpha-solar", "organisation": "alpha" }],
        "plants": [plant("north", plants[0]), plant("south", plants[1])],
        "users": [{ "id": "user-a" }, { "id": "user-b" }],
        "memberships": [
            { "user": "user-a", "organisation": "alpha", "kind": "member", "access": "all" },
            { "user": "user-b", "organisation": "beta", "kind": "member", "access": "all" },
        ],
        "roles": roles,
        "cooperations": [{ "partner": "beta", "on": { "plant": "north" } }],
        "certificates": [
            { "id": "certificate-a", "user": "user-a", "public_key": user_a.public_key },
            { "id": "certificate-b", "user": "user-b", "public_key": user_b.public_key },
        ],
    })
}
