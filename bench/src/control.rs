//! The agent: how long it takes until what somebody wants is in the maps, for fleets of all sizes.
//!
//! Each step runs in a process of its own, whose memory is counted. There are no interfaces and no WireGuard; and the
//! agent's files lie where temporary files do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json, value::to_raw_value};
use tempfile::TempDir;
use vpn_agent::{
    actor::{Actor, Origin, Way},
    addressing::Allocations,
    catalogue::Catalogue,
    change::{Change, Touched},
    config::Config,
    content::{content, gateway},
    control_log::{Accepted, ControlLog},
    datapath::{Datapath, fill::Content},
    difference::Difference,
    enforcement::{Enforcement, Records},
    id::{CertificateId, PlantId},
    policy::Policy,
    portrait::Portrait,
    state::State,
    store::{Store, journal::Entry},
    tables::{NO_INTERFACE, Tables, Uplink},
    version::Version,
};
use vpn_tests::pins::Pins;

use crate::{
    fleet::{self, Fleet},
    report::{Figure, Report},
    rounds::{Effort, median},
};

/// What a process of its own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// From the document to what the maps shall hold.
    Compile,
    /// Whole states and single changes, into real maps.
    Apply,
}

/// What is aimed at for a hundred thousand users: seconds from a document to tables, seconds into the maps, milliseconds
/// until a single change is in them, MiB.
const TARGETS: (f64, f64, f64, f64) = (5.0, 10.0, 50.0, 1024.0);

/// Measures fleets of all sizes.
pub fn measure(report: &Report, effort: Effort) -> Result<()> {
    let sizes: &[(&str, usize)] = match effort {
        Effort::Trial => &[("1k", 1_000)],
        Effort::Quick | Effort::Full => &[("1k", 1_000), ("10k", 10_000), ("100k", 100_000)],
    };
    for (name, users) in sizes {
        let folder = TempDir::new()?;
        let mut out = BufWriter::new(File::create(folder.path().join("state.json"))?);
        Fleet::of(*users).write(&mut out)?;
        out.flush()?;
        for step in ["compile", "apply"] {
            let mut command = Command::new(std::env::current_exe()?);
            let users = users.to_string();
            command.args(["--control", step, "--size", name, "--users", &users, "--folder"]).arg(folder.path());
            command.args(["--changes", if effort == Effort::Trial { "3" } else { "60" }]);
            let output = command.output().with_context(|| format!("start {step}"))?;
            ensure!(output.status.success(), "{step} of {name}: {}", String::from_utf8_lossy(&output.stderr));
            for line in String::from_utf8(output.stdout)?.lines() {
                report.add(&serde_json::from_str(line)?);
            }
        }
    }
    Ok(())
}

/// Does one step on the fleet whose state lies in `folder`, and prints figures as JSON.
pub fn run(step: Step, size: &str, users: usize, folder: &Path, changes: usize) -> Result<()> {
    let fleet = Fleet::of(users);
    let (compile, apply, change, memory) = TARGETS;
    match step {
        Step::Compile => {
            let seconds = self::compile(fleet, folder)?;
            print(Figure::new(format!("control.compile.{size}"), seconds, "s").against(compile))?;
            print(Figure::new(format!("control.compile.{size}.peak"), peak()?, "MiB").against(memory))?;
        }
        Step::Apply => {
            let pins = Pins::new();
            let mut host = Host::open(fleet, folder, pins.path())?;
            let started = Instant::now();
            let mut state = State::parse(&fs::read(folder.join("state.json"))?)?;
            host.apply(&state)?;
            print(Figure::new(format!("control.apply.{size}"), started.elapsed().as_secs_f64(), "s").against(apply))?;
            print(Figure::new(format!("control.apply.{size}.peak"), peak()?, "MiB").against(memory))?;
            let routes = host.content.route_sets.values().map(|routes| routes.len()).sum::<usize>();
            print(Figure::new(format!("control.routes.{size}"), routes as f64, ""))?;
            let started = Instant::now();
            host.apply(&state)?;
            let seconds = started.elapsed().as_secs_f64();
            print(Figure::new(format!("control.apply.again.{size}"), seconds, "s").against(apply))?;

            let mut journal = Journal::open(folder)?;
            let mut worst = 0.0_f64;
            for (name, changes) in single_changes(fleet, changes) {
                let mut took = Vec::new();
                for change in changes {
                    let change: Change = serde_json::from_value(change)?;
                    let started = Instant::now();
                    host.accept(&mut state, change, &mut journal)?;
                    took.push(started.elapsed().as_secs_f64() * 1_000.0);
                    // What the agent does when nothing else is to do.
                    while host.datapath.remove_resting_routes(1_024)? > 0 {}
                }
                worst = took.iter().copied().fold(worst, f64::max);
                print(Figure::new(format!("control.change.{name}.{size}"), median(took), "ms").against(change))?;
            }
            print(Figure::new(format!("control.change.worst.{size}"), worst, "ms").against(change))?;
            host.check(&state)?;
            print(Figure::new(format!("control.change.{size}.peak"), peak()?, "MiB").against(memory))?;
        }
    }
    Ok(())
}

fn print(figure: Figure) -> Result<()> {
    println!("{}", serde_json::to_string(&figure)?);
    Ok(())
}

/// Seconds from the bytes of a document to the content of the maps.
fn compile(fleet: Fleet, folder: &Path) -> Result<f64> {
    let config = fleet.config(folder, folder);
    let document = fs::read(folder.join("state.json"))?;
    let started = Instant::now();
    let state = State::parse(&document)?;
    let policy = Policy::compile(&state, &config.terms(Timestamp::now()));
    let given = Allocations::default().extended(&state, &config)?;
    let catalogue = &mut Catalogue::new(&given);
    let tables = Tables::new(&state, &given, catalogue, &config.pools, &policy, &uplinks(&state))?;
    let content = content(tables, &config);
    let seconds = started.elapsed().as_secs_f64();
    ensure!(content.peers.len() == fleet.users, "{} peers", content.peers.len());
    Ok(seconds)
}

/// Changes of each kind, of users far apart.
fn single_changes(fleet: Fleet, count: usize) -> Vec<(&'static str, Vec<Value>)> {
    let users: Vec<_> = (0..count).map(|at| at * (fleet.users / count) + 1).collect();
    let of_users = |change: &dyn Fn(usize) -> Value| users.iter().map(|user| change(*user)).collect::<Vec<_>>();
    let tagged = |name: &str, mut record: Value| {
        record["change"] = name.into();
        record
    };
    let first = |user: usize| fleet.portfolios_of(user)[0];
    vec![
        ("role.lost", of_users(&|user| tagged("remove-role", fleet::role(user, first(user))))),
        ("role", of_users(&|user| tagged("add-role", fleet::role(user, first(user))))),
        (
            "priority",
            of_users(
                &|user| json!({"change": "set-priority", "user": fleet::user(user), "plants": [fleet.wish_of(user)]}),
            ),
        ),
        ("revoke", of_users(&|user| json!({"change": "revoke-certificate", "id": format!("certificate-{user}")}))),
        (
            "issue",
            of_users(&|user| {
                let mut certificate = fleet::certificate(user);
                certificate["id"] = format!("new-{user}").into();
                tagged("issue-certificate", certificate)
            }),
        ),
    ]
}

/// Every plant has one.
fn uplinks(state: &State) -> BTreeMap<PlantId, Uplink> {
    let uplink = |ifindex| Uplink { ifindex, mtu: 1_420, link_header: 0 };
    state.plants.keys().cloned().zip((1_000..).map(uplink)).collect()
}

/// The journal of changes, and the events that tell of them.
struct Journal {
    store: Store,
    log: ControlLog,
    version: Version,
}

impl Journal {
    fn open(folder: &Path) -> Result<Self> {
        let document = fs::read(folder.join("state.json"))?;
        let version = Version::of_document(1, &document);
        // Beside the file, which has the name of the journal's own.
        let folder = folder.join("journal");
        fs::create_dir(&folder)?;
        let (mut store, _) = Store::open(&folder)?;
        store.replace(document, version.clone(), origin())?;
        Ok(Self { store, log: ControlLog::open(&folder, "gateway-1", "eu")?, version })
    }
}

fn origin() -> Origin {
    Origin::now(Actor::of_user(0), Way::Api)
}

/// What the agent holds.
struct Host {
    config: Config,
    datapath: Datapath,
    allocations: Allocations,
    records: Records,
    content: Content,
    uplinks: BTreeMap<PlantId, Uplink>,
}

impl Host {
    fn open(fleet: Fleet, folder: &Path, pins: &Path) -> Result<Self> {
        let config = fleet.config(folder, pins);
        let mut datapath = Datapath::open(pins, &config.sizes())?;
        datapath.configure(&gateway(&config, 1))?;
        let allocations = Allocations::read(&config.allocations_file())?;
        let records = Records::new(&config);
        Ok(Self { config, datapath, allocations, records, content: Content::default(), uplinks: BTreeMap::new() })
    }

    /// A whole state.
    fn apply(&mut self, state: &State) -> Result<()> {
        self.config.check_state(state)?;
        self.allocations.check(state, &self.config)?;
        self.uplinks = uplinks(state);
        let Self { config, datapath, allocations, records, content, uplinks } = self;
        let policy = Policy::compile(state, &config.terms(Timestamp::now()));
        let mut enforcement = Enforcement { config, datapath, allocations, records };
        enforcement.withdraw(state, &policy)?;
        enforcement.give(state)?;
        *content = enforcement.fill(state, &policy, uplinks)?;
        Ok(())
    }

    /// A single change, in the order in which the agent accepts it: made to see what it means, unmade and made again, on
    /// disk, told, and in the maps.
    fn accept(&mut self, state: &mut State, change: Change, journal: &mut Journal) -> Result<()> {
        let terms = self.config.terms(Timestamp::now());
        let changes = vec![change];
        let changed = state.change(&changes)?;
        let Touched::Certificates(certificates) = &changed.touched else {
            anyhow::bail!("{changes:?} touches everything")
        };
        self.allocations.check_some(state, &self.config, certificates)?;
        let after = Portrait::of_certificates(state, &terms, certificates);
        state.undo(changed.undo);
        let difference = Difference::between(&Portrait::of_certificates(state, &terms, certificates), &after);
        state.change(&changes)?;
        let listed = changes.iter().map(to_raw_value).collect::<Result<Vec<_>, _>>()?;
        let before = journal.version.clone();
        journal.version = before.after(&serde_json::to_vec(&changes)?);
        let version = journal.version.clone();
        journal.store.append(Entry { version: version.clone(), origin: origin(), changes })?;
        let revision_before = Some(before.revision);
        let difference = Some(difference);
        journal.log.add(Accepted { origin: origin(), revision_before, version, changes: listed, difference });
        self.hurry(state, certificates)
    }

    fn hurry(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) -> Result<()> {
        let Self { config, datapath, allocations, records, content, uplinks } = self;
        let policy = Policy::compile_of(state, &config.terms(Timestamp::now()), certificates);
        let ifindex = |id: &PlantId| uplinks.get(id).map_or(NO_INTERFACE, |uplink| uplink.ifindex);
        let mut enforcement = Enforcement { config, datapath, allocations, records };
        let part = enforcement.withdraw_some(state, &policy, certificates, ifindex)?;
        enforcement.fill_some(state, &policy, certificates, ifindex, part, content)?;
        Ok(())
    }

    /// Whether single changes have led to what the whole state leads to.
    fn check(&mut self, state: &State) -> Result<()> {
        let before = self.datapath.peer_table().entries();
        self.apply(state)?;
        ensure!(
            self.datapath.peer_table().entries() == before,
            "the whole state changes what single changes have made"
        );
        Ok(())
    }
}

/// The most memory that this process has had, MiB.
fn peak() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a process has `VmHWM`")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
