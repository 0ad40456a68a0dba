//! The guest's file system: an archive that the kernel unpacks into memory.
//!
//! The format is cpio "newc": per file a header of hexadecimal numbers, the name and the contents, each padded to
//! four bytes. It is not compressed: qemu loads it at memory speed, and an emulated processor is slow to unpack.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// An archive under construction. Guest paths are absolute; parent directories come by themselves.
#[derive(Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    /// Guest paths that are in the archive.
    present: HashSet<PathBuf>,
}

impl Initramfs {
    pub fn directory(&mut self, guest: &Path) {
        if guest.parent().is_some() && self.present.insert(guest.to_path_buf()) {
            self.parents(guest);
            self.entry(guest, DIRECTORY, b"");
        }
    }

    /// A file that everyone may read and execute. The first file at a path stays.
    pub fn file(&mut self, guest: &Path, contents: &[u8]) {
        self.node(guest, PROGRAM, contents);
    }

    pub fn link(&mut self, guest: &Path, target: &str) {
        self.node(guest, LINK, target.as_bytes());
    }

    /// A copy of the host's file.
    pub fn copy(&mut self, host: &Path, guest: &Path) -> Result<()> {
        let contents = fs::read(host).with_context(|| format!("read {}", host.display()))?;
        self.file(guest, &contents);
        Ok(())
    }

    /// A program of the host, with the dynamic loader and the libraries that it needs, each at its own path.
    pub fn program(&mut self, host: &Path, guest: &Path) -> Result<()> {
        self.copy(host, guest)?;
        // It fails for static programs, which need nothing.
        let needs = Command::new("ldd").arg(host).output().context("start ldd")?;
        for line in String::from_utf8_lossy(&needs.stdout).lines() {
            // Either `libc.so.6 => /lib/libc.so.6 (0x7f…)` or `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
            let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
            let path = Path::new(path);
            if !self.present.contains(path) {
                self.copy(path, path)?;
            }
        }
        Ok(())
    }

    /// The complete archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("/TRAILER!!!"), 0, b"");
        self.archive
    }

    fn node(&mut self, guest: &Path, mode: u32, contents: &[u8]) {
        if self.present.insert(guest.to_path_buf()) {
            self.parents(guest);
            self.entry(guest, mode, contents);
        }
    }

    fn parents(&mut self, guest: &Path) {
        if let Some(parent) = guest.parent() {
            self.directory(parent);
        }
    }

    fn entry(&mut self, guest: &Path, mode: u32, contents: &[u8]) {
        let name = guest.to_string_lossy();
        let name = name.trim_start_matches('/');
        let inode = self.present.len() + 1;
        let (size, name_size) = (contents.len(), name.len() + 1);
        // Inode, mode, uid, gid, links, mtime, size, device and special device (major, minor), name size, checksum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        self.archive.extend_from_slice(header.as_bytes());
        self.archive.extend_from_slice(name.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}
