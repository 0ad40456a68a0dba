//! What was repaired: changes in the kernel that something else had made. Kept in a file, for people to look at.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many repairs are kept, the last ones.
pub const KEPT: usize = 100;

/// The last repairs, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repairs {
    /// How many there were since the file was made.
    total: u64,
    repairs: VecDeque<Repair>,
}

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// When it was made, whole seconds.
    pub at: Timestamp,
    /// Which interface or map.
    pub what: String,
    /// How it was.
    pub found: String,
    /// What was done.
    pub made: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is something else.
    #[error("{}: damaged: {source}; it is only for people to read, and can be removed", path.display())]
    Json {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl Repairs {
    /// Reads the file at `path`; no file means that nothing was repaired.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::Io { path: path.to_owned(), source }),
        }
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// See [`Error`]; the old file is then still in place.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        vpn_directory::replace(path, &bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// Adds one, and forgets the oldest where there are too many.
    pub fn push(&mut self, repair: Repair) {
        self.total += 1;
        self.repairs.push_back(repair);
        while self.repairs.len() > KEPT {
            self.repairs.pop_front();
        }
    }

    /// How many there were since the file was made.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The last ones, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Repair> {
        self.repairs.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repairs.json");
        assert_eq!(Repairs::read(&path).unwrap(), Repairs::default());
        let mut repairs = Repairs::default();
        for number in 0..KEPT as i64 + 7 {
            let at = Timestamp::from_second(number).unwrap();
            repairs.push(Repair {
                at,
                what: "PEERS".into(),
                found: "nobody's: 100.64.0.9".into(),
                made: "removed".into(),
            });
        }
        repairs.write(&path).unwrap();
        let read = Repairs::read(&path).unwrap();
        assert_eq!((&read, read.total()), (&repairs, 107));
        assert_eq!((read.iter().count(), read.iter().next().unwrap().at.as_second()), (KEPT, 7));
        fs::write(&path, b"{").unwrap();
        let error = Repairs::read(&path).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("can be removed"), "{error}");
    }
}
