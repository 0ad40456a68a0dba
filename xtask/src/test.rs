//! `cargo xtask test`: every check and every test, with a summary.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{lint, requirements, setup, workspace};

#[path = "../../tests/src/skip/environment.rs"]
mod environment;
mod tally;

use tally::Tally;

/// How much is tested.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the tests that boot a machine
    #[arg(long)]
    quick: bool,
}

/// Runs everything, also after a failure, so that one run shows all that is wrong.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::run()?;
    let mut checks = Checks::default();
    checks.run("format", workspace::cargo().args(["fmt", "--all", "--check"]));
    checks.run("clippy", workspace::cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]));
    match lint::ebpf_programs() {
        Ok(mut clippy) => checks.run("clippy of the eBPF programs", &mut clippy),
        Err(reason) => checks.skip("clippy of the eBPF programs", &reason),
    }
    checks.run("documentation", workspace::cargo().args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"));
    checks.step("requirements", requirements::check);
    // Tests start the programs, and put them into virtual machines; testing alone does not build them. Without what tests
    // need, some libraries would have other features, and be built twice.
    checks.run("build", workspace::cargo().args(["build", "--all-targets"]));
    let mut tally = Tally::default();
    let skipped = SkippedFile::new()?;
    let mut test = workspace::cargo();
    test.args(["test", "--no-fail-fast"]).env(environment::SKIPPED_FILE, &skipped.path);
    match arguments.quick {
        true => test.env(environment::QUICK, "1"),
        false => test.env_remove(environment::QUICK),
    };
    checks.step("tests", || watch(&mut test, &mut tally));

    tally.skip(&skipped.read()?);
    println!("\n== Summary");
    for line in checks.skipped.iter().chain(tally.skipped()) {
        println!("{line}");
    }
    for name in &checks.failed {
        println!("FAILED: {name}");
    }
    println!("{tally}");
    Ok(if checks.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The checks of one run that did not pass.
#[derive(Default)]
struct Checks {
    failed: Vec<&'static str>,
    skipped: Vec<String>,
}

impl Checks {
    fn run(&mut self, name: &'static str, command: &mut Command) {
        self.step(name, || Ok(command.status().with_context(|| format!("start {command:?}"))?.success()));
    }

    fn step(&mut self, name: &'static str, step: impl FnOnce() -> Result<bool>) {
        println!("\n== {name}");
        let started = Instant::now();
        let passed = step().unwrap_or_else(|error| {
            println!("{error:#}");
            false
        });
        let outcome = if passed { "passed" } else { "FAILED" };
        println!("== {name}: {outcome} after {:.1} s", started.elapsed().as_secs_f32());
        if !passed {
            self.failed.push(name);
        }
    }

    fn skip(&mut self, name: &'static str, reason: &str) {
        println!("\n== {name}: skipped");
        self.skipped.push(format!("SKIPPED: {name}: {reason}"));
    }
}

/// Runs the tests, passes on what they print as it comes, and counts the results in it.
fn watch(test: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut running = test.stdout(Stdio::piped()).spawn().with_context(|| format!("start {test:?}"))?;
    let printed = running.stdout.take().context("the tests' output is a pipe")?;
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.context("read what the tests print")?;
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        tally.line(&String::from_utf8_lossy(&line));
    }
    Ok(running.wait().context("wait for the tests")?.success())
}

/// The file to which tests that cannot run append their reasons.
struct SkippedFile {
    path: PathBuf,
}

impl SkippedFile {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("vpn-tests-skipped-{}", process::id()));
        fs::write(&path, "").with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(Path::new(&self.path)).with_context(|| format!("read {}", self.path.display()))
    }
}

impl Drop for SkippedFile {
    fn drop(&mut self) {
        // Best effort: it is empty, or a few lines.
        let _ = fs::remove_file(&self.path);
    }
}
