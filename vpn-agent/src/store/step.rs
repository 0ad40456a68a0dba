//! What the store does to its files, one step after the other. Each is on disk when it is done, and a crash between
//! two of them leaves files that [`super::Store::open`] understands.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::journal;

/// One write of the store's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Adds these bytes to the end of the journal.
    Append(Vec<u8>),
    /// Makes a file with this name and content, which replaces one that is left of an earlier attempt.
    Write(&'static str, Vec<u8>),
    /// Gives a file the name of another one, which it replaces.
    Rename(&'static str, &'static str),
    /// Cuts the journal to this length.
    Truncate(u64),
}

impl Step {
    /// Does it, in this folder.
    ///
    /// # Errors
    /// What the file system says. The step may be done in part.
    pub(super) fn run(&self, folder: &Path) -> io::Result<()> {
        match self {
            Self::Append(bytes) => {
                let mut file = File::options().append(true).open(folder.join(journal::NAME))?;
                file.write_all(bytes)?;
                file.sync_data()
            }
            Self::Write(name, bytes) => {
                let mut file = File::create(folder.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()
            }
            Self::Rename(from, to) => {
                fs::rename(folder.join(from), folder.join(to))?;
                File::open(folder)?.sync_all()
            }
            Self::Truncate(length) => {
                let file = File::options().write(true).open(folder.join(journal::NAME))?;
                file.set_len(*length)?;
                file.sync_all()
            }
        }
    }
}
