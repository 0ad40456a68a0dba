//! The product under test, as an operator would run it: both programs with their configuration files.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use vpn_agent::datapath::read::Pinned;
use vpn_directory::Directory;

use crate::{lab::write_key, steps::wait_for};

/// How long a program may take until it works, under emulation.
const READY: Duration = Duration::from_secs(60);

/// Name of the gateway host.
pub const NAME: &str = "gateway-1";
/// Its region.
pub const REGION: &str = "eu-central";
/// The prefix that plants see users in.
pub const SOURCE: &str = "100.80.0.0/16";

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

/// A gateway host.
#[derive(Debug)]
pub struct Gateway {
    folder: PathBuf,
    agent: Option<Child>,
    collector: Option<Child>,
}

impl Gateway {
    /// Writes the configuration of a gateway below `folder`, with `settings` of the agent's behind the usual ones.
    /// Nothing runs yet.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn configure(folder: &Path, clickhouse: &Clickhouse, settings: &str) -> Result<Self> {
        let gateway = Self { folder: folder.join("gateway"), agent: None, collector: None };
        for dir in ["agent", "collector"] {
            fs::create_dir_all(gateway.path(dir))?;
        }
        let key = gateway.path("server.key");
        write_key(&key.display().to_string())?;
        fs::write(
            gateway.path("agent.toml"),
            format!(
                "gateway = \"{NAME}\"\nregion = \"{REGION}\"\nstate = \"{}\"\nstate_dir = \"{}\"\n\n\
                 [users]\nprivate_key_file = \"{}\"\n\n[pools]\nsource = \"{SOURCE}\"\n\n\
                 # Long enough for every flow of a scenario to be in the kernel when it is compared.\n\
                 [datapath.idle_seconds]\nicmp = 3600\nudp = 3600\ntcp_closed = 3600\ntcp_transitory = 3600\n\n\
                 {settings}",
                gateway.path("state.json").display(),
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
                "directory = \"{}\"\nstate_dir = \"{}\"\n\n{store}",
                gateway.path("agent/directory.json").display(),
                gateway.path("collector").display(),
            ),
        )?;
        Ok(gateway)
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
        self.agent = Some(self.start("vpn-agent", "agent.toml", "agent.log")?);
        self.applied(revision)
    }

    /// Waits until the agent has applied `revision`.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub fn applied(&mut self, revision: u64) -> Result<Directory> {
        let path = self.path("agent/directory.json");
        let (log, agent) = (self.log("agent.log"), self.agent.as_mut().context("the agent runs")?);
        wait_for("the agent applies the state", READY, || {
            if let Some(status) = agent.try_wait()? {
                bail!("the agent ended with {status}:\n{}", fs::read_to_string(&log)?);
            }
            let status: Value = serde_json::from_str(&output("vpn-agent", &["status", "--json"], &self.folder)?)?;
            if status["revision"] != revision {
                bail!("the agent is at revision {}:\n{}", status["revision"], fs::read_to_string(&log)?);
            }
            let directory = Directory::read(&path)?;
            let plants = status["plants"].as_array().context("plants")?;
            for interface in plants.iter().map(|plant| &plant["interface"]).chain([&status["users"]]) {
                ensure!(interface["program"] == "attached" && interface["up"] == true, "not ready: {interface}");
            }
            Ok(directory)
        })
    }

    /// Starts the collector and waits until it reads the kernel.
    ///
    /// # Errors
    /// If it ends or takes too long.
    pub fn start_collector(&mut self) -> Result<()> {
        let mut collector = self.start("vpn-collector", "collector.toml", "collector.log")?;
        let log = self.log("collector.log");
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
        stop(self.agent.take().context("the agent runs")?, &self.log("agent.log"))
    }

    /// Ends the collector as an operator would.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop_collector(&mut self) -> Result<()> {
        stop(self.collector.take().context("the collector runs")?, &self.log("collector.log"))
    }

    /// Runs a command of the agent and gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn agent(&self, arguments: &[&str]) -> Result<String> {
        output("vpn-agent", arguments, &self.folder)
    }

    /// Runs a command of the collector and gives what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn collector(&self, arguments: &[&str]) -> Result<String> {
        output("vpn-collector", arguments, &self.folder)
    }

    /// The kernel's maps.
    ///
    /// # Errors
    /// If the agent has not pinned them.
    pub fn maps(&self) -> Result<Pinned> {
        Ok(Pinned::open(Path::new(vpn_ebpf_common::names::PIN_DIR))?)
    }

    /// What both programs have logged.
    #[must_use]
    pub fn logs(&self) -> String {
        ["agent.log", "collector.log"]
            .map(|name| format!("--- {name}\n{}", fs::read_to_string(self.log(name)).unwrap_or_default()))
            .concat()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn start(&self, program: &str, config: &str, log: &str) -> Result<Child> {
        let log = File::options().append(true).create(true).open(self.log(log))?;
        Command::new(program)
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
        for mut child in [self.agent.take(), self.collector.take()].into_iter().flatten() {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn output(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let config = if program == "vpn-agent" { "agent.toml" } else { "collector.toml" };
    let output = Command::new(program)
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
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = wait_for("a program ends when told to", READY, || child.try_wait()?.context("it still runs"))?;
    if !status.success() {
        bail!("it ended with {status}:\n{}", fs::read_to_string(log)?);
    }
    Ok(())
}
