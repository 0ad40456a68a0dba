//! `bpf-linker`, built from source against the system's LLVM.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{
    Missing, announce,
    debian::{Debian, Package},
    partial::Partial,
    step,
};
use crate::toolchain;

/// The linker's LLVM. The compiler's may be older, not newer.
const LLVM_FEATURE: &str = "llvm-22";
const LLVM_DEV: Package = Package { name: "llvm-22-dev", why: "bpf-linker is built against it" };
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Builds the linker, unless a compiler and a linker that fit each other are already there.
pub fn ensure(debian: &mut Debian, _cache: &Path) -> Result<()> {
    let root = toolchain::linker_root();
    if root.is_dir() || toolchain::find().is_ok() {
        return Ok(());
    }
    debian.ensure(&[LLVM_DEV])?;
    announce(&format!("bpf-linker {}", toolchain::LINKER_RELEASE), "it links the eBPF programs; takes some minutes");
    build(&root).map_err(|error| {
        let what = format!("bpf-linker {}", toolchain::LINKER_RELEASE);
        let by_hand = format!(
            "put a bpf-linker on the PATH whose LLVM is not older than that of the Rust compiler, for instance one that \
             its project publishes ready-made ({error:#})"
        );
        Missing { what, why: "it links the eBPF programs", by_hand }.into()
    })
}

fn build(root: &Path) -> Result<()> {
    let partial = Partial::of(root)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["install", "bpf-linker", "--locked", "--version", toolchain::LINKER_RELEASE])
        .args(["--no-default-features", "--features", LLVM_FEATURE, "--root"])
        .arg(partial.path())
        .env("LLVM_PREFIX", LLVM_PREFIX)
        // The workspace's directory is no place for what belongs to a tool.
        .env("CARGO_TARGET_DIR", partial.path().join("target"))
        .current_dir(partial.path());
    step::run(&mut cargo)?;
    std::fs::remove_dir_all(partial.path().join("target"))?;
    partial.finish()
}
