//! A Rust compiler with the sources of `core`.

use std::{env, path::Path, process::Command};

use anyhow::Result;

use super::{
    Missing, announce,
    debian::{self, Debian, Package},
    step,
};
use crate::toolchain::{self, Missing as Absent, Toolchain};

/// Debian's newest compiler; the plain `rustc` of a stable release is too old.
const DEBIAN: [Package; 3] = [
    Package { name: "rustc-web", why: "it compiles the eBPF programs" },
    Package { name: "cargo-web", why: "it builds the eBPF programs" },
    Package { name: "rust-web-src", why: "the eBPF programs need `core`, which is built from these sources" },
];
const DEBIAN_CLIPPY: Package = Package { name: "rust-web-clippy", why: "it lints the eBPF programs" };

/// Adds the sources to rustup's compiler, or else installs Debian's.
pub fn ensure(debian: &mut Debian, _cache: &Path) -> Result<()> {
    match toolchain::find() {
        Ok(found) => return ensure_clippy(debian, &found),
        // The step before this one has reported it. Which compiler fits cannot be told without a linker.
        Err(Absent::Linker) => return Ok(()),
        Err(Absent::Compiler | Absent::Match { .. }) => {}
    }
    if debian::on_path("rustup") {
        announce("rust-src in rustup's active toolchain", "the eBPF programs need `core`, which is built from it");
        match add_component() {
            Ok(()) if toolchain::find().is_ok() => return Ok(()),
            Ok(()) => println!("setup: rustup's compiler has a newer LLVM than bpf-linker and is not used for eBPF"),
            Err(error) => println!("setup: rustup does not have it ({error:#}); Debian's compiler will do"),
        }
    }
    let installed = debian.ensure(&DEBIAN);
    match (toolchain::find(), installed) {
        (Ok(found), _) => ensure_clippy(debian, &found),
        (Err(_), Err(error)) => {
            let by_hand = format!("`rustup component add rust-src`, then `cargo xtask setup` ({error:#})");
            let what = "a Rust compiler with the sources of `core`".to_owned();
            Err(Missing { what, why: "no prebuilt `core` for BPF exists", by_hand }.into())
        }
        (Err(absent), Ok(())) => Err(absent.into()),
    }
}

/// Debian's clippy for Debian's compiler. rustup's comes with its compiler.
fn ensure_clippy(debian: &mut Debian, found: &Toolchain) -> Result<()> {
    match found.rustc.starts_with("/usr/bin") {
        true => debian.ensure(&[DEBIAN_CLIPPY]),
        false => Ok(()),
    }
}

fn add_component() -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]);
    // Only the component is wanted, never a whole toolchain that some setting names.
    rustup.env("RUSTUP_AUTO_INSTALL", "0");
    if let Some(active) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(active);
    }
    step::run(&mut rustup)?;
    Ok(())
}
