//! Hosts of the test network: network namespaces.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, or the one this process runs in.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Option<&'static str>,
}

impl Namespace {
    /// The namespace of this process.
    #[must_use]
    pub const fn own() -> Self {
        Self { name: None }
    }

    /// A new one, with its loopback up.
    ///
    /// # Errors
    /// If `ip` refuses; it needs root.
    pub fn create(name: &'static str) -> Result<Self> {
        run(&format!("ip netns add {name}"))?;
        let namespace = Self { name: Some(name) };
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.unwrap_or("gateway")
    }

    /// A command that will run in it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        match self.name {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }

    /// Runs a line of words separated by blanks and gives what it printed.
    ///
    /// # Errors
    /// If it cannot be started or fails; the message holds what it said.
    pub fn run(&self, line: &str) -> Result<String> {
        succeed(&format!("{}: {line}", self.name()), self.output(line)?)
    }

    /// Runs a line and gives what came of it, success or not.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, line: &str) -> Result<Output> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        self.command(program)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{}: start {line}", self.name()))
    }

    /// Sets a kernel parameter: `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// If the kernel has no such parameter or refuses the value.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(parameter.replace('.', "/"));
        let value = value.to_owned();
        let write = move || std::fs::write(&path, value).with_context(|| format!("write {}", path.display()));
        self.enter(write)?.join().expect("the thread does not panic")
    }

    /// Runs `work` on a thread of its own in the namespace: sockets it opens belong there.
    ///
    /// # Errors
    /// If the namespace cannot be opened.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
        let namespace = match self.name {
            None => None,
            Some(name) => Some(File::open(Path::new("/run/netns").join(name)).with_context(|| format!("open {name}"))?),
        };
        Ok(thread::spawn(move || {
            if let Some(namespace) = namespace {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a network namespace");
            }
            work()
        }))
    }
}

/// Runs a line in the namespace of this process.
///
/// # Errors
/// As [`Namespace::run`].
pub fn run(line: &str) -> Result<String> {
    Namespace::own().run(line)
}

fn succeed(what: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
