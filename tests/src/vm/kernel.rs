//! The unpacked kernels in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::cache;

use super::host;

/// A kernel that `cargo xtask setup` unpacked, with its modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    release: String,
    tree: PathBuf,
}

impl Kernel {
    /// All kernels in the cache, the oldest first.
    pub fn all() -> Vec<Self> {
        let directory = cache::cache_dir().join("kernels");
        let mut kernels: Vec<Self> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let release = name.strip_prefix("linux-image-")?.to_owned();
                Some(Self { release, tree: entry.path() })
            })
            .collect();
        kernels.sort_by_key(Self::numbers);
        kernels
    }

    /// The newest kernel of a series, such as `6.12`.
    pub fn series(series: &str) -> Option<Self> {
        let prefix = format!("{series}.");
        Self::all().into_iter().rfind(|kernel| kernel.release.starts_with(&prefix))
    }

    /// What `uname -r` says in the guest.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel's image, as qemu loads it.
    pub(super) fn image(&self) -> PathBuf {
        self.tree.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The modules behind `wanted`, each after those that it needs. What is built in is not among them.
    pub(super) fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut modules = Vec::new();
        for name in wanted {
            let mut modprobe = Command::new(host::program("modprobe")?);
            // The configuration of the host's modprobe does not concern the guest.
            modprobe.args(["--show-depends", "-C", "/dev/null", "-S", &self.release]);
            modprobe.arg("-d").arg(&self.tree).arg(name);
            let listed = String::from_utf8(host::output_of(&mut modprobe)?).context("read modprobe's output")?;
            for path in listed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = PathBuf::from(path.trim());
                if !modules.contains(&path) {
                    modules.push(path);
                }
            }
        }
        Ok(modules)
    }

    fn numbers(&self) -> Vec<u32> {
        self.release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    }
}

/// The contents of a module's file, decompressed.
pub(super) fn read_module(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(path).with_context(|| format!("read {}", path.display())),
        Some("xz") => host::output_of(Command::new(host::program("xz")?).arg("-dc").arg(path)),
        _ => bail!("the module {} is compressed in a way that the tests do not know", path.display()),
    }
}
