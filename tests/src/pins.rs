//! A BPF file system for one test.

use std::{path::Path, process::Command};

use tempfile::TempDir;

/// A BPF file system of the test's own, unmounted with the value.
#[derive(Debug)]
pub struct Pins(TempDir);

impl Default for Pins {
    fn default() -> Self {
        Self::new()
    }
}

impl Pins {
    /// Mounts one in a temporary folder.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "a BPF file system can be mounted; this test needs root");
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Left mounted, the folder could not be removed, which would show.
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
