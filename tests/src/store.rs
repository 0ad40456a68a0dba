//! The embedded ClickHouse on the host, served by the collector's own command.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::steps::wait_for;

/// A store with its data in a folder that goes with it.
#[derive(Debug)]
pub struct Store {
    port: u16,
    collector: PathBuf,
    process: Option<Child>,
    folder: TempDir,
}

impl Store {
    /// Starts `vpn-collector serve` on a free loopback port, with an empty store.
    ///
    /// # Errors
    /// If it does not start; the message holds what it said.
    pub fn start(collector: &Path, library: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        let port = free_port()?;
        fs::write(
            folder.path().join("collector.toml"),
            format!(
                "directory = \"{0}/directory.json\"\nstate_dir = \"{0}\"\n\n\
                 [embedded]\nlibrary = \"{1}\"\npath = \"{0}/clickhouse\"\nlisten = \"127.0.0.1:{port}\"\n",
                folder.path().display(),
                library.display(),
            ),
        )?;
        let mut store = Self { port, collector: collector.to_owned(), process: None, folder };
        store.resume()?;
        Ok(store)
    }

    /// Ends the process; the data stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = rustix::process::Pid::from_child(&process);
            // Fails only if it has ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = process.wait();
        }
    }

    /// Starts the process with the data there is.
    ///
    /// # Errors
    /// If it does not start; the message holds what it said.
    pub fn resume(&mut self) -> Result<()> {
        let log = self.folder.path().join("log");
        let process = Command::new(&self.collector)
            .args(["serve", "--config"])
            .arg(self.folder.path().join("collector.toml"))
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("start {}", self.collector.display()))?;
        self.process = Some(process);
        wait_for("the embedded ClickHouse answers", Duration::from_secs(60), || self.answers(&log))
    }

    /// URL of its HTTP interface on the host's loopback.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on the host's loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn answers(&mut self, log: &Path) -> Result<()> {
        if let Some(status) = self.process.as_mut().context("it was started")?.try_wait()? {
            bail!("vpn-collector serve ended with {status}:\n{}", fs::read_to_string(log)?);
        }
        let url = format!("{}/ping", self.url());
        let output = Command::new("curl").args(["-s", "-m", "2", &url]).output()?;
        if output.stdout != b"Ok.\n" {
            bail!("no answer yet");
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nobody listens on. Another process could take it before the store does; then the store says so.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
