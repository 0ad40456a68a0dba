//! Packages of the Debian or Ubuntu system that this runs on.

use std::{
    collections::HashSet,
    env, fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Result;

use super::{Missing, announce, step};

/// A package and the reason to want it, as a phrase that follows "needed because".
pub struct Package {
    pub name: &'static str,
    pub why: &'static str,
}

const TOOLS: [Package; 18] = [
    Package { name: "gcc", why: "Rust links its programs with it" },
    Package { name: "libc6-dev", why: "Rust links its programs against it" },
    Package { name: "ca-certificates", why: "downloads are checked with them" },
    Package { name: "xz-utils", why: "kernel modules are compressed with it" },
    Package { name: "kmod", why: "it knows which kernel modules WireGuard needs" },
    Package { name: "busybox-static", why: "it is the shell of the test machines" },
    Package { name: "iproute2", why: "tests and demo configure networks with ip" },
    Package { name: "wireguard-tools", why: "tests and demo play WireGuard clients with wg" },
    Package { name: "mbpoll", why: "tests and demo read Modbus registers through the tunnels with it" },
    Package { name: "curl", why: "tests and demo fetch pages through the tunnels with it" },
    Package { name: "nmap", why: "tests and demo play a curious user with it" },
    Package { name: "iputils-ping", why: "tests ping through the tunnels with it" },
    Package { name: "iputils-tracepath", why: "tests look for the path's MTU with it" },
    Package { name: "traceroute", why: "tests look for the hops between user and device with it" },
    Package { name: "iperf3", why: "tests send as much as goes through the tunnels with it" },
    Package { name: "dropbear-bin", why: "tests have a shell at a plant, through the tunnels, with it" },
    Package { name: "strace", why: "tests end the agent in the middle of a change with it" },
    Package { name: "nftables", why: "the benchmarks compare the gateway with rules of nft" },
];

/// The package manager, with what this run has done with it so far.
#[derive(Default)]
pub struct Debian {
    refreshed: bool,
}

/// The tools of the tests and of the demo.
pub fn ensure_tools(debian: &mut Debian, _cache: &Path) -> Result<()> {
    debian.ensure(&TOOLS)
}

impl Debian {
    /// Installs those of `packages` that are absent. Each that cannot be had is in the error.
    pub fn ensure(&mut self, packages: &[Package]) -> Result<()> {
        let installed = installed(packages);
        let absent: Vec<&Package> = packages.iter().filter(|package| !installed.contains(package.name)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        for package in &absent {
            announce(package.name, package.why);
        }
        self.refresh();
        let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
        let Err(error) = install(&names) else { return Ok(()) };

        // One unknown name makes apt refuse them all: what can be had is installed one by one.
        let refused: Vec<&&Package> = match absent.len() {
            1 => absent.iter().collect(),
            _ => absent.iter().filter(|package| install(&[package.name]).is_err()).collect(),
        };
        let Some(first) = refused.first() else { return Ok(()) };
        let names = refused.iter().map(|package| package.name).collect::<Vec<_>>().join(" ");
        let how = format!("`apt-get install {names}` as root, or another package source ({error:#})");
        Err(Missing { what: format!("the packages {names}"), why: first.why, by_hand: how }.into())
    }

    /// Fetches the package lists, once in a run.
    ///
    /// A failure is not reported here: often it is one source among many, and if it does matter, the installation
    /// that follows fails and says so.
    pub fn refresh(&mut self) {
        if !self.refreshed {
            self.refreshed = true;
            let _ = step::run(as_root("apt-get").args(["-q", "update"]));
        }
    }
}

/// The names of those of `packages` that are completely installed.
fn installed(packages: &[Package]) -> HashSet<String> {
    // It fails if one of them is unknown, and still lists the others.
    let listed = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages.iter().map(|package| package.name))
        .stderr(Stdio::null())
        .output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

fn install(names: &[&str]) -> Result<()> {
    // Never at the price of something that the machine has: Debian's compilers exclude each other.
    let options = ["-q", "-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300", "install"];
    step::run(as_root("apt-get").args(options).args(names))?;
    Ok(())
}

/// `program` as root, asking nobody anything. Without root and without sudo it fails with a message of its own.
fn as_root(program: &str) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let mut command = match root || !on_path("sudo") {
        true => Command::new("env"),
        false => Command::new("sudo"),
    };
    if command.get_program() == "sudo" {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a", program]);
    command
}

/// Whether a program of this name can be called.
pub fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
