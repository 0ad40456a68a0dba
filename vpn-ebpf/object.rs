//! Builds a package for the BPF target. Included by the build scripts of the packages that carry an object.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

#[path = "toolchain.rs"]
mod toolchain;

/// `--btf` makes the linker keep the types of maps, from debug information; the cfg is what `aya-ebpf` asks for.
const FLAGS: [&str; 3] = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"];

/// Builds the binary of `package`, which lies in `sources` of the workspace, and puts it into `OUT_DIR` under the same
/// name.
pub fn build(package: &str, sources: &[&str]) {
    for path in sources.iter().chain(&["vpn-ebpf-common", "Cargo.lock", "Cargo.toml"]) {
        println!("cargo:rerun-if-changed=../{path}");
    }
    println!("cargo:rerun-if-env-changed=VPN_CACHE");
    let toolchain = match toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            eprintln!("{missing}");
            exit(1);
        }
    };

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = target_dir(&out).join("bpf");
    let status = toolchain
        .command(&toolchain.cargo)
        .args(["build", "--package", package, "--release", "--locked"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .current_dir("..")
        .status()
        .expect("the toolchain that was found runs");
    if !status.success() {
        exit(1);
    }
    let object = target.join("bpfel-unknown-none/release").join(package);
    fs::copy(&object, out.join(package)).expect("the object that was built can be copied");
}

/// The target directory: `OUT_DIR` is `<target>/<profile>/build/<package>/out`. Objects are built once for all
/// profiles, beside them, in a directory whose lock cargo does not hold while this script runs.
fn target_dir(out: &Path) -> &Path {
    out.ancestors().nth(4).expect("OUT_DIR lies four levels below the target directory")
}
