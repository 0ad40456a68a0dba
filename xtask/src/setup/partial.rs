//! A directory that is being filled, under a name that nobody takes for the finished one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Becomes `finished` by [`Partial::finish`]; dropped before that, it vanishes.
pub struct Partial {
    path: PathBuf,
    finished: PathBuf,
}

impl Partial {
    /// An empty directory beside `finished`, on the same file system, so that the rename is atomic.
    pub fn of(finished: &Path) -> Result<Self> {
        let name = finished.file_name().context("a finished directory has a name")?.to_string_lossy();
        let path = finished.with_file_name(format!(".partial-{name}"));
        remove(&path).with_context(|| format!("remove what an interrupted set-up left in {}", path.display()))?;
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, finished: finished.to_path_buf() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn finish(self) -> Result<()> {
        remove(&self.finished)?;
        fs::rename(&self.path, &self.finished).with_context(|| format!("complete {}", self.finished.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Best effort: the next set-up removes what is left.
        let _ = remove(&self.path);
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
