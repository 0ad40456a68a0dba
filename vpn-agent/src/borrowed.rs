//! Borrowed interfaces: those of the host's that are plants' uplinks, and what was changed on them. Kept in a file, so
//! that they are given back as they were also after a restart of the agent.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{forwarding::Found, id::PlantId};

/// The format written by this version. A reader refuses any other.
pub const FORMAT: u32 = 1;

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The borrowed interfaces by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Borrowed {
    format: u32,
    interfaces: BTreeMap<String, Loan>,
}

/// A borrowed interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loan {
    /// The plant behind it.
    pub plant: PlantId,
    /// Which interface it is, since its name may be given to another one.
    pub instance: Instance,
    /// What was changed on it.
    pub found: Found,
}

/// An interface and no other that has its name earlier or later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The boot of the host in which its number counts.
    pub boot: String,
    /// Its number.
    pub ifindex: u32,
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
    #[error(
        "{}: damaged: {source}; remove it; the interfaces that it names stay closed to the kernel's forwarding until \
         the host restarts", path.display()
    )]
    Json {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by another version of the agent.
    #[error(
        "{}: format {found}, this program reads format {FORMAT}; install the version that wrote it, or a later one",
        path.display()
    )]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What the file says.
        found: u32,
    },
}

impl Instance {
    /// The interface that has this number now.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel does not say which boot this is.
    pub fn now(ifindex: u32) -> Result<Self, Error> {
        match fs::read_to_string(BOOT_ID) {
            Ok(text) => Ok(Self { boot: text.trim().to_owned(), ifindex }),
            Err(source) => Err(Error::Io { path: BOOT_ID.into(), source }),
        }
    }
}

impl Default for Borrowed {
    fn default() -> Self {
        Self { format: FORMAT, interfaces: BTreeMap::new() }
    }
}

impl Borrowed {
    /// Reads the file at `path`; no file means that nothing is borrowed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        };
        let json = |source| Error::Json { path: path.to_owned(), source };
        let Header { format } = serde_json::from_slice(&bytes).map_err(json)?;
        if format != FORMAT {
            return Err(Error::Format { path: path.to_owned(), found: format });
        }
        serde_json::from_slice(&bytes).map_err(json)
    }

    /// Replaces the file at `path`, on disk when it returns. To be done before anything is changed on an interface.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file is then still in place.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        vpn_directory::replace(path, &bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// Notes that an interface is the uplink of `plant`, and what is about to be changed on it. What was changed before
    /// on the same interface stays noted.
    pub fn lend(&mut self, name: &str, plant: &PlantId, instance: Instance, found: Found) {
        let before = self.interfaces.remove(name).filter(|loan| loan.instance == instance);
        let found = match before {
            Some(before) if found.settings.is_empty() => before.found,
            Some(before) => {
                let mut settings = before.found.settings;
                settings.extend(found.settings);
                Found { settings, ..found }
            }
            None => found,
        };
        self.interfaces.insert(name.to_owned(), Loan { plant: plant.clone(), instance, found });
    }

    /// Notes that an interface is no longer borrowed.
    pub fn forget(&mut self, name: &str) {
        self.interfaces.remove(name);
    }

    /// The borrowed interfaces, by name.
    #[must_use]
    pub fn interfaces(&self) -> &BTreeMap<String, Loan> {
        &self.interfaces
    }

    /// The borrowed interface of a plant.
    #[must_use]
    pub fn of(&self, plant: &str) -> Option<&str> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|(_, loan)| loan.plant.as_str() == plant).map(|(name, _)| name.as_str())
    }
}

/// Read before the rest, so that a newer format is reported as such and not as an unknown field.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_first_stays_noted_for_one_and_the_same_interface() {
        let plant: PlantId = "north".parse().unwrap();
        let mut borrowed = Borrowed::default();
        borrowed.lend("eth1", &plant, instance(3), open());
        borrowed.lend("eth1", &plant, instance(3), Found::default());
        assert_eq!(borrowed.interfaces()["eth1"].found, open(), "closed by an earlier run");
        borrowed.lend("eth1", &plant, instance(4), Found::default());
        assert_eq!(borrowed.interfaces()["eth1"].found, Found::default(), "another interface of the same name");
        let other_boot = Instance { boot: "b".into(), ifindex: 4 };
        borrowed.lend("eth1", &plant, instance(4), open());
        borrowed.lend("eth1", &plant, other_boot, Found::default());
        assert_eq!(borrowed.interfaces()["eth1"].found, Found::default(), "the host has restarted");

        let both =
            Found { settings: BTreeMap::from([("ipv6/force_forwarding".into(), "1".into())]), host_forwards: true };
        borrowed.lend("eth2", &plant, instance(5), open());
        borrowed.lend("eth2", &plant, instance(5), both);
        let found = &borrowed.interfaces()["eth2"].found;
        assert_eq!(found.settings.len(), 2, "one after the other");
        assert!(found.host_forwards);
    }

    #[test]
    fn the_file_brings_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("borrowed.json");
        assert_eq!(Borrowed::read(&path).unwrap(), Borrowed::default());
        let mut borrowed = Borrowed::default();
        borrowed.lend("eth1.10", &"north".parse().unwrap(), Instance::now(7).unwrap(), open());
        borrowed.write(&path).unwrap();
        assert_eq!(Borrowed::read(&path).unwrap(), borrowed);
        assert_eq!((borrowed.of("north"), borrowed.of("south")), (Some("eth1.10"), None));
        borrowed.forget("eth1.10");
        assert_eq!(borrowed, Borrowed::default());
        fs::write(&path, br#"{"format": 2, "more": []}"#).unwrap();
        assert!(matches!(Borrowed::read(&path), Err(Error::Format { found: 2, .. })));
        fs::write(&path, b"{").unwrap();
        let error = Borrowed::read(&path).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("remove it"), "{error}");
    }

    fn instance(ifindex: u32) -> Instance {
        Instance { boot: "a".into(), ifindex }
    }

    fn open() -> Found {
        Found { settings: BTreeMap::from([("ipv4/forwarding".into(), "1".into())]), host_forwards: false }
    }
}
