//! The product under test, as an operator would run it: both programs with their configuration files.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vpn_agent::datapath::read::{Maps as _, Pinned};
use vpn_directory::Directory;

use crate::{api::Api, lab::write_key, namespace::Namespace, steps::wait_for};

/// How long a program may take until it works, under emulation: the kernel verifies the programs of two agents at once.
const READY: Duration = Duration::from_secs(120);

/// Name of the gateway host, where there is one.
pub const NAME: &str = "gateway-1";
/// Its region.
pub const REGION: &str = "eu-central";
/// The prefix that plants see users in.
pub const SOURCE: &str = "100.80.0.0/16";

/// Where a gateway runs, and what is its own among several.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its network.
    pub namespace: Namespace,
    /// Its name, and that of its folder.
    pub name: &'static str,
    /// Its region.
    pub region: &'static str,
    /// The prefix that plants see its users in.
    pub source: &'static str,
    /// Where its maps are pinned.
    pub pin_dir: &'static str,
    /// What stands in users' profiles, and in the configurations of sites.
    pub endpoints: Option<[&'static str; 2]>,
    /// Where the desired state comes from.
    pub state: StateSource,
}

/// Where a gateway's desired state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSource {
    /// From its file.
    File,
    /// From its file, which also says all numbers and addresses.
    FileWithLedger,
    /// By calls of its API.
    Calls,
}

impl Host {
    /// The only one, in the namespace of this process.
    #[must_use]
    pub const fn only() -> Self {
        Self {
            namespace: Namespace::own(),
            name: NAME,
            region: REGION,
            source: SOURCE,
            pin_dir: vpn_ebpf_common::names::PIN_DIR,
            endpoints: None,
            state: StateSource::File,
        }
    }
}

/// Where a gateway's audit goes.
#[derive(Clone, Debug)]
pub enum Clickhouse {
    /// To a server with this URL.
    Server(String),
    /// Into a store embedded in the collector; the library is here.
    Embedded(PathBuf),
}

impl Clickhouse {
    /// URL of its HTTP interface, as seen from the gateway.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Server(url) => url,
            Self::Embedded(_) => "http://127.0.0.1:8123",
        }
    }
}

/// The file with a gateway's private key.
pub const KEY: &str = "server.key";
/// The socket of its agent's API.
const SOCKET: &str = "api.socket";

/// A gateway host.
#[derive(Debug)]
pub struct Gateway {
    host: Host,
    folder: PathBuf,
    agent: Option<Child>,
    collector: Option<Child>,
}

impl Gateway {
    /// Writes the configuration of the only gateway below `folder`, with `settings` of the agent's behind the usual
    /// ones. Nothing runs yet.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn configure(folder: &Path, clickhouse: &Clickhouse, settings: &str) -> Result<Self> {
        Self::configure_on(Host::only(), folder, clickhouse, settings)
    }

    /// The same for one of several. It has the private key that is there already, or else a new one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn configure_on(host: Host, folder: &Path, clickhouse: &Clickhouse, settings: &str) -> Result<Self> {
        let gateway = Self { folder: folder.join(host.name), host, agent: None, collector: None };
        for dir in ["agent", "collector"] {
            fs::create_dir_all(gateway.path(dir))?;
        }
        let key = gateway.path(KEY);
        if !key.exists() {
            write_key(&key.display().to_string())?;
        }
        let Host { name, region, source, pin_dir, endpoints, state, .. } = gateway.host;
        let state = match state {
            StateSource::File => format!("state = \"{}\"", gateway.path("state.json").display()),
            StateSource::FileWithLedger => {
                format!("state = \"{}\"\nallocations = \"state\"", gateway.path("state.json").display())
            }
            StateSource::Calls => format!("api.socket = \"{}\"", gateway.path(SOCKET).display()),
        };
        let endpoints = endpoints.map_or(String::new(), |[users, plants]| {
            format!("users.endpoint = \"{users}\"\nplants.endpoint = \"{plants}\"\n")
        });
        fs::write(
            gateway.path("agent.toml"),
            format!(
                "gateway = \"{name}\"\nregion = \"{region}\"\n{state}\nstate_dir = \"{}\"\n\n\
                 users.private_key_file = \"{}\"\n{endpoints}\n[pools]\nsource = \"{source}\"\n\n\
                 [datapath]\npin_dir = \"{pin_dir}\"\n\n\
                 # Long enough for every flow of a scenario to be in the kernel when it is compared.\n\
                 [datapath.idle_seconds]\nicmp = 3600\nudp = 3600\ntcp_closed = 3600\ntcp_transitory = 3600\n\n\
                 {settings}",
                gateway.path("agent").display(),
                key.display(),
            ),
        )?;
        let store = match clickhouse {
            Clickhouse::Server(url) => format!("[clickhouse]\nurl = \"{url}\"\n"),
            Clickhouse::Embedded(library) => format!(
                "[embedded]\nlibrary = \"{}\"\npath = \"{}\"\n",
                library.display(),
                gateway.path("clickhouse").display()
            ),
        };
        fs::write(
            gateway.path("collector.toml"),
            format!(
                "directory = \"{}\"\nstate_dir = \"{}\"\npin_dir = \"{pin_dir}\"\n\n{store}",
                gateway.path("agent/directory.json").display(),
                gateway.path("collector").display(),
            ),
        )?;
        Ok(gateway)
    }

    /// Where it runs, and what it is called.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// A file of this gateway.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Replaces the desired state, as a whole.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_state(&self, state: &Value) -> Result<()> {
        Ok(vpn_directory::replace(&self.path("state.json"), &serde_json::to_vec_pretty(state)?)?)
    }

    /// Starts the agent and waits until it has applied `revision`.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub fn start_agent(&mut self, revision: u64) -> Result<Directory> {
        self.launch_agent()?;
        self.applied(revision)
    }

    /// Starts the agent, and does not wait for anything.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn launch_agent(&mut self) -> Result<()> {
        self.agent = Some(self.start(&self.host.namespace, "vpn-agent", "agent.toml", "agent.log")?);
        Ok(())
    }

    /// Connects to the agent's API.
    ///
    /// # Errors
    /// If the agent does not offer it.
    pub fn api(&self) -> Result<Api> {
        Api::connect(&self.path(SOCKET))
    }

    /// Starts the agent, and puts the state in force by a call.
    ///
    /// # Errors
    /// If the agent does not take it, or takes too long.
    pub fn start_agent_with(&mut self, state: &Value) -> Result<Directory> {
        self.launch_agent()?;
        let mut api = wait_for("the agent offers its API", READY, || self.api())?;
        api.change("PUT", "/v1/state", state)?;
        self.applied(state["revision"].as_u64().context("a state with a revision")?)
    }

    /// Waits until the agent has applied `revision`.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub fn applied(&mut self, revision: u64) -> Result<Directory> {
        let path = self.path("agent/directory.json");
        let (log, agent) = (self.path("agent.log"), self.agent.as_mut().context("the agent runs")?);
        wait_for("the agent applies the state", READY, || {
            if let Some(status) = agent.try_wait()? {
                bail!("the agent ended with {status}:\n{}", fs::read_to_string(&log)?);
            }
            // First the file, which costs nothing: an emulated processor has enough to do with the programs.
            let directory = Directory::read(&path)?;
            if directory.revision < revision {
                bail!("the directory is at revision {}:\n{}", directory.revision, fs::read_to_string(&log)?);
            }
            let status: Value =
                serde_json::from_str(&output(&self.host.namespace, "vpn-agent", &["status", "--json"], &self.folder)?)?;
            if status["revision"] != revision {
                bail!("the agent is at revision {}:\n{}", status["revision"], fs::read_to_string(&log)?);
            }
            let plants = status["plants"].as_array().context("plants")?;
            for interface in plants.iter().map(|plant| &plant["interface"]).chain([&status["users"]]) {
                ensure!(interface["program"] == "attached" && interface["up"] == true, "not ready: {interface}");
            }
            Ok(directory)
        })
    }

    /// Starts the collector and waits until it reads the kernel. It runs in the namespace of this process, from where
    /// it reaches ClickHouse; maps belong to no network.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub fn start_collector(&mut self) -> Result<()> {
        let mut collector = self.start(&Namespace::own(), "vpn-collector", "collector.toml", "collector.log")?;
        let log = self.path("collector.log");
        let ready = wait_for("the collector starts", READY, || {
            let text = fs::read_to_string(&log)?;
            if let Some(status) = collector.try_wait()? {
                bail!("the collector ended with {status}:\n{text}");
            }
            if !text.contains("ready") {
                bail!("the collector is not ready:\n{text}");
            }
            Ok(())
        });
        self.collector = Some(collector);
        ready
    }

    /// Ends the agent as an operator would. The programs and maps stay in the kernel.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop_agent(&mut self) -> Result<()> {
        stop(self.agent.take().context("the agent runs")?, &self.path("agent.log"))
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_agent(&self, signal: Signal) -> Result<()> {
        let agent = self.agent.as_ref().context("the agent runs")?;
        Ok(kill_process(Pid::from_child(agent), signal)?)
    }

    /// Ends the collector as an operator would.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop_collector(&mut self) -> Result<()> {
        stop(self.collector.take().context("the collector runs")?, &self.path("collector.log"))
    }

    /// Ends both programs as a host that fails would, without a chance to finish anything.
    pub fn kill(&mut self) {
        for mut child in [self.agent.take(), self.collector.take()].into_iter().flatten() {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs a command of the agent and gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn agent(&self, arguments: &[&str]) -> Result<String> {
        output(&self.host.namespace, "vpn-agent", arguments, &self.folder)
    }

    /// Runs a command of the collector and gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn collector(&self, arguments: &[&str]) -> Result<String> {
        output(&Namespace::own(), "vpn-collector", arguments, &self.folder)
    }

    /// The kernel's maps.
    ///
    /// # Errors
    /// If the agent has not pinned them.
    pub fn maps(&self) -> Result<Pinned> {
        Ok(Pinned::open(Path::new(self.host.pin_dir))?)
    }

    /// What both programs have logged, and what the kernel has counted, for whoever wants to know why a scenario failed.
    #[must_use]
    pub fn account(&self) -> String {
        let kernel = self.kernel_account().unwrap_or_else(|error| format!("{error:#}\n"));
        format!("{}\n--- kernel\n{kernel}", self.logs())
    }

    /// Packets by verdict, who was refused what, and which neighbours are known on uplinks.
    fn kernel_account(&self) -> Result<String> {
        let maps = self.maps()?;
        let counted = maps.stats()?.into_iter().filter(|(_, traffic)| traffic.packets > 0);
        let mut lines: Vec<_> =
            counted.map(|(verdict, traffic)| format!("{}: {} packets", verdict.label(), traffic.packets)).collect();
        lines.extend(maps.denials()?.iter().map(|(key, denial)| format!("{key:?}: {denial:?}")));
        lines.push(String::from_utf8(self.host.namespace.output("ip neigh show")?.stdout)?);
        Ok(lines.join("\n"))
    }

    /// What both programs have logged.
    #[must_use]
    pub fn logs(&self) -> String {
        ["agent.log", "collector.log"]
            .map(|name| format!("--- {name}\n{}", fs::read_to_string(self.path(name)).unwrap_or_default()))
            .concat()
    }

    fn start(&self, namespace: &Namespace, program: &str, config: &str, log: &str) -> Result<Child> {
        let log = File::options().append(true).create(true).open(self.path(log))?;
        namespace
            .command(program)
            .args(["run", "--config", config])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn output(namespace: &Namespace, program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let config = if program == "vpn-agent" { "agent.toml" } else { "collector.toml" };
    let output = namespace
        .command(program)
        .args(arguments)
        .args(["--config", config])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}\n{}", arguments.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn stop(mut child: Child, log: &Path) -> Result<()> {
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    let status = wait_for("a program ends when told to", READY, || child.try_wait()?.context("it still runs"))?;
    if !status.success() {
        bail!("it ended with {status}:\n{}", fs::read_to_string(log)?);
    }
    Ok(())
}
