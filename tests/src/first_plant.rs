//! The documents' commands, run as they stand there: a first plant by the README, then what the other documents show.
//!
//! A block of commands is fenced as `sh` and the host it is for: `gateway`, `site` or `user`. With `again` it is
//! repeated until it succeeds, as a reader would who has to wait. A block of `text` behind it is what it prints, but for
//! numbers and keys; a line of `…` stands for lines left out.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    lab::{Peer, Plant},
    namespace::{Namespace, run},
    steps::{Steps, wait_for},
};

/// The documents, in the order in which their commands are run.
pub const DOCUMENTS: [(&str, &str); 5] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/operators.md", include_str!("../../docs/operators.md")),
    ("docs/state.md", include_str!("../../docs/state.md")),
    ("docs/audit.md", include_str!("../../docs/audit.md")),
    ("docs/verdicts.md", include_str!("../../docs/verdicts.md")),
];

/// The example files.
pub const EXAMPLES: [(&str, &str); 3] = [
    ("examples/agent.toml", include_str!("../../examples/agent.toml")),
    ("examples/collector.toml", include_str!("../../examples/collector.toml")),
    ("examples/state.json", include_str!("../../examples/state.json")),
];

/// Commands that continuous integration runs itself; of the benchmarks a trial, see `bench/tests/figures.rs`.
pub const CARGO: [&str; 3] = ["cargo xtask demo\n", "cargo xtask test\n", "cargo xtask bench\n"];

/// Where the machine has the ClickHouse library.
const LIBRARY: &str = "/sbin/libchdb.so";

/// The gateway's address in the Internet (RFC 5737), and its name in the documents.
const GATEWAY: (Ipv4Addr, &str) = (Ipv4Addr::new(203, 0, 113, 1), "gateway.example");

/// How long a reader has to wait at most, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A fenced block of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'d> {
    /// Name of the document.
    pub document: &'d str,
    /// Line of its opening fence, from 1.
    pub line: usize,
    /// The words behind the opening fence.
    pub info: Vec<&'d str>,
    /// The lines between the fences.
    pub text: String,
    /// Whether nothing but blank lines lies between this block and the one before.
    pub follows: bool,
}

impl Block<'_> {
    /// The first word behind the opening fence.
    #[must_use]
    pub fn language(&self) -> &str {
        self.info.first().copied().unwrap_or_default()
    }

    /// Where it stands, for people.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.document, self.line)
    }
}

/// The fenced blocks of a document.
///
/// # Panics
/// If the last one has no end.
#[must_use]
pub fn blocks<'d>((document, text): (&'d str, &'d str)) -> Vec<Block<'d>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'d>> = None;
    let mut follows = false;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let info = info.split_whitespace().collect();
                open = Some(Block { document, line: number + 1, info, text: String::new(), follows });
            }
            (None, None) => follows &= line.trim().is_empty(),
            (Some(_), Some("")) => {
                blocks.extend(open.take());
                follows = true;
            }
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "{document}: the last block has no end");
    blocks
}

/// A block of commands, and what it prints.
struct Commands<'d> {
    block: Block<'d>,
    printed: Option<String>,
}

impl<'d> Commands<'d> {
    fn all() -> Vec<Self> {
        let mut all = Vec::<Self>::new();
        for document in DOCUMENTS {
            let mut last_runs = false;
            for block in blocks(document) {
                let printed = block.language() == "text" && block.info.len() == 1 && block.follows && last_runs;
                last_runs = block.language() == "sh" && !CARGO.contains(&&*block.text);
                if last_runs {
                    all.push(Self { block, printed: None });
                } else if printed && let Some(commands) = all.last_mut() {
                    commands.printed = Some(block.text);
                }
            }
        }
        all
    }
}

/// Runs all commands of the documents in this namespace, which is the gateway's, and in those of a site and a user.
/// For a machine of its own: it writes to `/etc` and `/usr/local`, and what it starts it leaves running.
///
/// # Errors
/// The first block that does not do what its document says.
pub fn play(folder: &Path) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = Hosts::set_up(&mut steps, folder).and_then(|hosts| {
        for commands in Commands::all() {
            let host = commands.block.info.get(1).copied().unwrap_or("?");
            let title = format!("{}, {host}", commands.block.place());
            steps.step(&title, || hosts.run(&commands))?;
        }
        Ok(())
    });
    if let Err(error) = &outcome {
        println!("{error:?}");
        for log in ["/var/log/vpn-agent.log", "/var/log/vpn-collector.log"] {
            println!("--- {log}\n{}", fs::read_to_string(log).unwrap_or_default());
        }
    }
    outcome
}

/// The three machines that take part. Their commands share one folder, so what a document says to bring along is there.
struct Hosts {
    checkout: PathBuf,
    user: Peer,
    plant: Plant,
}

impl Hosts {
    fn set_up(steps: &mut Steps, folder: &Path) -> Result<Self> {
        let checkout = folder.join("vpn-gateway");
        steps.step("a checkout that was built, as a reader has it", || check_out(&checkout))?;
        steps
            .step("a user's device, a site with a device behind it, and the Internet", || {
                let (address, name) = GATEWAY;
                run(&format!("ip addr add {address}/32 dev lo"))?;
                fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{address} {name}\n"))?;
                fs::write("/etc/nsswitch.conf", "hosts: files\n")?;
                let user = Peer::connect("user", 1, folder)?;
                let plant = Plant::build("site", "site-lan", 11, &[], (1_000, 1_000), folder)?;
                fs::write(folder.join("site/index.html"), "<p>inverter 1</p>\n")?;
                for (namespace, link) in [(&user.namespace, 1), (&plant.router.namespace, 11)] {
                    namespace.run(&format!("ip route add {address}/32 via 198.18.{link}.1"))?;
                }
                Ok(Connected(user, plant))
            })
            .map(|Connected(user, plant)| Self { checkout, user, plant })
    }

    fn run(&self, commands: &Commands<'_>) -> Result<String> {
        let block = &commands.block;
        let namespace = match block.info.get(1).copied() {
            Some("gateway") => Namespace::own(),
            Some("site") => self.plant.router.namespace.clone(),
            Some("user") => self.user.namespace.clone(),
            _ => bail!("{}: for which host are these commands?", block.place()),
        };
        let once = || {
            let said = self.script(&namespace, &block.text)?;
            if let Some(expected) = &commands.printed {
                compare(&said, expected)?;
            }
            Ok(said)
        };
        match block.info.get(2).copied() {
            None => once(),
            Some("again") => wait_for("a reader's patience", PATIENCE, once),
            Some(other) => bail!("{}: what does {other} mean?", block.place()),
        }
    }

    fn script(&self, namespace: &Namespace, text: &str) -> Result<String> {
        let output = namespace
            .command("sh")
            .args(["-euc", &format!("exec 2>&1\n{text}")])
            .current_dir(&self.checkout)
            .env("PATH", "/usr/local/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .context("start sh")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{text}ended with {} and said:\n{said}", output.status);
        Ok(said)
    }
}

/// What the second step builds.
struct Connected(Peer, Plant);

impl crate::steps::Found for Connected {}

/// What a reader has before the first command: a checkout with both programs, set-up's cache, and a Linux system.
fn check_out(checkout: &Path) -> Result<()> {
    let built = checkout.join("target/debug");
    let cache = Path::new(&std::env::var("HOME")?).join(".cache/vpn-gateway/clickhouse");
    for folder in [&built, &checkout.join("examples"), &cache] {
        fs::create_dir_all(folder)?;
    }
    for program in ["vpn-agent", "vpn-collector"] {
        symlink(Path::new("/sbin").join(program), built.join(program))?;
    }
    symlink(LIBRARY, cache.join("libchdb.so"))?;
    for (name, text) in EXAMPLES {
        fs::write(checkout.join(name), text)?;
    }
    for folder in ["/usr/local/bin", "/usr/local/lib", "/var/log", "/var/lib", "/root"] {
        fs::create_dir_all(folder)?;
    }
    for (target, link) in [("/sbin/bash", "/bin/bash"), ("/proc/self/fd", "/dev/fd")] {
        if !Path::new(link).exists() {
            symlink(target, link).with_context(|| format!("link {link}"))?;
        }
    }
    Ok(())
}

/// Fails unless the lines of `expected` are among those of `said`, in this order; without a line of `…` between two of
/// them, one directly behind the other.
fn compare(said: &str, expected: &str) -> Result<()> {
    let said_lines: Vec<String> = said.lines().map(shape).collect();
    let mut rest = said_lines.iter();
    let mut gap = true;
    for line in expected.lines() {
        if line.trim() == "…" {
            gap = true;
            continue;
        }
        let wanted = shape(line);
        let found = if gap { rest.any(|line| *line == wanted) } else { rest.next() == Some(&wanted) };
        ensure!(found, "the document shows\n{line}\nwhich is not in its place in\n{said}");
        gap = false;
    }
    Ok(())
}

/// A line without what differs from run to run: numbers, keys, widths.
fn shape(line: &str) -> String {
    let is_key = |word: &str| word.len() == 44 && word.ends_with('=');
    let words = line.split_whitespace().map(|word| {
        if is_key(word) {
            return "KEY".to_owned();
        }
        let mut shape = String::new();
        for character in word.chars() {
            let character = if character.is_ascii_digit() { '0' } else { character };
            if !matches!(character, '0' | '─') || !shape.ends_with(character) {
                shape.push(character);
            }
        }
        shape
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: (&str, &str) =
        ("it", "a\n```sh user again\none\n\ntwo\n```\n\n```text\n1\n```\nb\n```text\n2\n```\n");

    #[test]
    fn blocks_are_found_with_their_places() {
        let blocks = blocks(DOCUMENT);
        let found: Vec<_> = blocks.iter().map(|block| (block.place(), &*block.text, block.follows)).collect();
        let expected = [("it:2", "one\n\ntwo\n", false), ("it:8", "1\n", true), ("it:12", "2\n", false)];
        assert_eq!(found, expected.map(|(place, text, follows)| (place.to_owned(), text, follows)));
        assert_eq!(blocks[0].info, ["sh", "user", "again"]);
    }

    #[test]
    fn what_is_printed_is_compared_by_its_shape() {
        let said = "start\nport 51821, key P2IfMDFuGhF3fSLAvgTz+2DeLxANiN6i9KEBQ4fM9Rg=\n┌─a──┐\n│ 12 │\nlast\n";
        for expected in [
            "port 1, key 2yXkZDpyb0fgRMcZ9bGyyzvJ7GkJRoyGkXQjSSz4bWk=\n┌─a─┐\n│  7 │\n",
            "start\n…\nlast\n",
            "…\nlast\n",
        ] {
            compare(said, expected).unwrap();
        }
        for expected in ["start\nlast\n", "last\nstart\n", "port 1, key none\n"] {
            assert!(compare(said, expected).is_err(), "{expected}");
        }
    }
}
