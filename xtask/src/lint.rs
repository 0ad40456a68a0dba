//! Clippy on the eBPF programs, and on those of the benchmarks, for the target that they are built for.

use std::process::Command;

use crate::{toolchain, workspace};

/// The call that lints them, or the reason why this machine cannot.
pub fn ebpf_programs() -> Result<Command, String> {
    let toolchain = toolchain::find().map_err(|missing| missing.to_string())?;
    let clippy = toolchain.cargo.with_file_name("cargo-clippy");
    if !clippy.is_file() {
        let cargo = toolchain.cargo.display();
        return Err(format!("the compiler of the eBPF programs comes without clippy (there is none beside {cargo})"));
    }
    let mut lint = toolchain.command(&clippy);
    lint.args(["clippy", "--package", "vpn-ebpf", "--package", "vpn-bench-ebpf", "--release", "--locked"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        // A directory of its own: its flags are not those of the build, and each would undo the other's work.
        .arg("--target-dir")
        .arg(workspace::target().join("bpf-lint"))
        .args(["--", "-D", "warnings"])
        .env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"")
        .current_dir(workspace::root());
    Ok(lint)
}
