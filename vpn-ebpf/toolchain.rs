//! The search for a compiler and a linker that can build the eBPF programs.
//!
//! One self-contained file, included by `vpn-agent/build.rs` (which builds the programs) and by `xtask` (which
//! installs what is missing), so that the two cannot disagree about what is good enough. It only looks: it
//! installs nothing and uses no network.
//!
//! The compiler must come with the sources of `core`, because no prebuilt `core` for BPF exists. The linker reads
//! the compiler's LLVM bitcode, and an older LLVM cannot read what a newer one wrote.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use cache::cache_dir;

#[path = "cache.rs"]
mod cache;

/// The release of `bpf-linker` that `cargo xtask setup` builds.
pub const LINKER_RELEASE: &str = "0.13.0";

/// A compiler and a linker that fit each other, by full path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The `cargo` that belongs to `rustc`, never the rustup proxy.
    pub cargo: PathBuf,
    /// A `rustc` with the sources of `core`.
    pub rustc: PathBuf,
    /// A `bpf-linker` whose LLVM is not older than that of `rustc`.
    pub linker: PathBuf,
}

impl Toolchain {
    /// A call of `program` (`cargo`, or a cargo subcommand by its path) that uses this toolchain and nothing else.
    ///
    /// Inside cargo and rustup, the environment names *their* compiler, wrapper, flags and target directory; any of
    /// these would mislead a build with another compiler.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let misleads = name.starts_with("CARGO_")
                && !["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"]
                    .iter()
                    .any(|kept| name.starts_with(kept));
            if misleads || name.starts_with("RUSTC") || matches!(&*name, "RUSTFLAGS" | "RUSTDOC" | "RUSTUP_TOOLCHAIN") {
                command.env_remove(&*name);
            }
        }
        command
            .env("CARGO", &self.cargo)
            .env("RUSTC", &self.rustc)
            // Building `core` is an unstable feature, and this compiler is a stable one.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        command
    }
}

/// Why the eBPF programs cannot be built on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No compiler that is new enough and has the sources of `core`.
    Compiler,
    /// No `bpf-linker` that runs.
    Linker,
    /// Both exist, but each linker is older than each compiler.
    Match {
        /// The oldest LLVM among the compilers.
        compiler: Version,
        /// The newest LLVM among the linkers.
        linker: Version,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Compiler => write!(
                out,
                "no Rust compiler with the sources of `core` (rust-src, Rust {} or later) to build the eBPF programs with",
                env!("CARGO_PKG_RUST_VERSION")
            )?,
            Missing::Linker => write!(out, "no bpf-linker to build the eBPF programs with")?,
            Missing::Match { compiler, linker } => write!(
                out,
                "bpf-linker has LLVM {linker} and cannot read what a Rust compiler with LLVM {compiler} writes"
            )?,
        }
        write!(out, "; run `cargo xtask setup`")
    }
}

impl std::error::Error for Missing {}

/// Numbers of a release, compared from the left: `22.1.8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// The number at the start of `text`; what follows the digits and dots (`-nightly`) does not matter.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let numbers = text[..end].split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Some(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        out.write_str(&numbers.join("."))
    }
}

/// The first compiler, in order of preference, that a linker fits.
pub fn find() -> Result<Toolchain, Missing> {
    let compilers = compilers();
    let linkers = linkers();
    for compiler in &compilers {
        if let Some(linker) = linkers.iter().find(|linker| linker.llvm >= compiler.llvm) {
            return Ok(Toolchain {
                cargo: compiler.rustc.with_file_name("cargo"),
                rustc: compiler.rustc.clone(),
                linker: linker.path.clone(),
            });
        }
    }
    let oldest = compilers.into_iter().map(|compiler| compiler.llvm).min();
    let newest = linkers.into_iter().map(|linker| linker.llvm).max();
    match (oldest, newest) {
        (_, None) => Err(Missing::Linker),
        (None, _) => Err(Missing::Compiler),
        (Some(compiler), Some(linker)) => Err(Missing::Match { compiler, linker }),
    }
}

/// Where `cargo xtask setup` puts its linker: the root of a `cargo install`.
pub fn linker_root() -> PathBuf {
    cache_dir().join(format!("bpf-linker-{LINKER_RELEASE}"))
}

struct Compiler {
    rustc: PathBuf,
    llvm: Version,
}

/// rustup's toolchains, the active one first, then the distribution's compiler.
fn compilers() -> Vec<Compiler> {
    let mut rustcs = Vec::new();
    let rustup = env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")));
    if let Some(toolchains) = rustup.map(|home| home.join("toolchains")) {
        let mut names: Vec<_> =
            fs::read_dir(&toolchains).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        let active = env::var_os("RUSTUP_TOOLCHAIN");
        names.sort_by_key(|name| (Some(name) != active.as_ref(), name.clone()));
        rustcs.extend(names.into_iter().map(|name| toolchains.join(name).join("bin/rustc")));
    }
    rustcs.push(PathBuf::from("/usr/bin/rustc"));
    rustcs.into_iter().filter_map(|rustc| inspect(&rustc)).collect()
}

/// The compiler at `rustc`, if it is new enough and can build `core`.
fn inspect(rustc: &Path) -> Option<Compiler> {
    // The sources are looked for first: it is cheaper than to ask each compiler for its version.
    let sysroot = rustc.parent()?.parent()?;
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() || !rustc.with_file_name("cargo").is_file() {
        return None;
    }
    let version = said_by(Command::new(rustc).arg("-vV"))?;
    let field = |name: &str| version.lines().find_map(|line| Version::parse(line.strip_prefix(name)?.trim()));
    let wanted = Version::parse(env!("CARGO_PKG_RUST_VERSION"))?;
    if field("release:")? < wanted {
        return None;
    }
    Some(Compiler { rustc: rustc.to_path_buf(), llvm: field("LLVM version:")? })
}

struct Linker {
    path: PathBuf,
    llvm: Version,
}

/// The linker of `cargo xtask setup`, then those on the path.
fn linkers() -> Vec<Linker> {
    let path = env::var_os("PATH").unwrap_or_default();
    [linker_root().join("bin")]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join("bpf-linker"))
        .filter(|linker| linker.is_file())
        .filter_map(|path| {
            // LLVM's own `--version` prints and exits before the linker looks at its other arguments.
            let said = said_by(Command::new(&path).args(["--llvm-args=--version", "--output=/dev/null", "/dev/null"]))?;
            let llvm = said.split_once("LLVM version ").and_then(|(_, version)| Version::parse(version))?;
            Some(Linker { path, llvm })
        })
        .collect()
}

/// What a program prints, if it runs and succeeds.
fn said_by(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
