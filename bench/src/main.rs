//! Benchmarks of the VPN gateway: `cargo xtask bench` builds everything and starts this.
//!
//! Absolute times say as much about the machine as about the gateway. So whatever there is a bound or an alternative for
//! is measured beside it, round by round, and the ratio is printed.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

mod control;
mod driver;
mod established;
mod fleet;
mod forwarding;
mod guest;
mod home;
mod machine;
mod memory;
mod nftables;
mod opening;
mod packet;
mod programs;
mod random;
mod report;
mod rounds;
mod scene;
mod topology;
mod tun;
mod wireguard;

use report::Report;
use rounds::Effort;
use scene::Scene;
use topology::Topology;

/// Measures how fast the gateway is on this machine. Needs root; changes nothing outside namespaces of its own.
#[derive(Parser)]
struct Arguments {
    /// Take two minutes, and leave out what needs a virtual machine
    #[arg(long)]
    quick: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Take seconds, on small maps, to see whether everything can be measured
    #[arg(long, hide = true)]
    trial: bool,
    /// Be the gateway, the users and the plants of a virtual machine
    #[arg(long, hide = true)]
    guest: bool,
    /// Be the agent, for one step
    #[arg(long, hide = true, value_enum, requires_all = ["size", "users", "folder", "changes"])]
    control: Option<control::Step>,
    /// How the figures of the step are named
    #[arg(long, hide = true)]
    size: Option<String>,
    /// How many users there are
    #[arg(long, hide = true)]
    users: Option<usize>,
    /// Where the state lies
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// How many changes of each kind are made
    #[arg(long, hide = true)]
    changes: Option<usize>,
}

/// A part of the benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The programs themselves.
    Programs,
    /// Packets of established flows.
    Established,
    /// Packets that open a flow.
    Opening,
    /// Packets that look their route up again.
    Routes,
    /// Memory in the kernel.
    Memory,
    /// The agent: whole states and single changes.
    Control,
    /// From TUN device to TUN device, beside nftables.
    Tun,
    /// From WireGuard to WireGuard, beside nftables.
    Wireguard,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        match self.only.as_slice() {
            [] => part != Part::Wireguard || self.effort() == Effort::Full,
            only => only.contains(&part),
        }
    }

    fn effort(&self) -> Effort {
        match (self.trial, self.quick) {
            (true, _) => Effort::Trial,
            (false, true) => Effort::Quick,
            (false, false) => Effort::Full,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = match &arguments {
        Arguments {
            control: Some(step), size: Some(size), users: Some(users), folder: Some(folder), changes, ..
        } => control::run(*step, size, *users, folder, changes.unwrap_or_default()),
        Arguments { guest: true, .. } => guest::run(),
        _ => run(&arguments),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root, to load programs and to make network namespaces");
    home::enter()?;
    let report = &mut Report::new(arguments.json, &machine::describe()?);
    let effort = arguments.effort();
    let wants = |part| arguments.wants(part);
    let large = if effort == Effort::Trial { Topology::SMALL } else { Topology::LARGE };

    if [Part::Programs, Part::Established].into_iter().any(wants) {
        let scene = &mut Scene::build(Topology::SMALL, 131_072)?;
        if wants(Part::Programs) {
            programs::measure(report, scene)?;
        }
        if wants(Part::Established) {
            established::measure_clock(report, scene, effort)?;
            established::measure(report, scene, "1k", 1_000, effort)?;
        }
    }
    // In scenes of their own, whose peers have used no addresses before.
    if wants(Part::Opening) {
        opening::measure(report, &mut Scene::build(Topology::SMALL, 131_072)?, "flow.new", effort)?;
        opening::measure(report, &mut Scene::build(large, effort.part(1 << 20))?, "flow.new.1m-routes", effort)?;
    }
    if wants(Part::Established) {
        let scene = &mut Scene::build(Topology::ETHERNET, 131_072)?;
        established::measure_ethernet(report, scene, "1k", 1_000, effort)?;
        let scene = &mut Scene::build(large, 131_072)?;
        established::measure(report, scene, "100k", effort.part(100_000), effort)?;
    }
    if [Part::Established, Part::Memory].into_iter().any(wants) {
        let scene = &mut Scene::build(large, effort.part(1 << 20))?;
        if wants(Part::Established) {
            established::measure(report, scene, "1m", effort.part(1_000_000), effort)?;
        }
        if wants(Part::Memory) {
            memory::measure(report, scene)?;
        }
    }
    if wants(Part::Routes) {
        for (name, topology) in Topology::BY_ROUTES {
            let topology = if effort == Effort::Trial { Topology::SMALL } else { topology };
            let scene = &mut Scene::build(topology, 131_072)?;
            opening::measure_again(report, scene, name, effort)?;
        }
    }
    if wants(Part::Control) {
        control::measure(report, effort)?;
    }
    if wants(Part::Tun) {
        for (name, users, flows) in [("1k", 1_000, 1_000), ("100k", 10_000, 100_000)] {
            forwarding::measure(report, name, effort.part(users), effort.part(flows), effort)?;
        }
    }
    if wants(Part::Wireguard) {
        wireguard::measure(report)?;
    }
    Ok(())
}
