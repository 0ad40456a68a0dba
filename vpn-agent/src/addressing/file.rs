//! The file of the allocations, and what was added to it since it was written as a whole.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};
use vpn_directory::tail::{self, TailedFile};

use super::{Allocations, FORMAT, FileError, Next, Peer, Tunnel6};
use crate::id::CertificateId;

/// The file, for the one process that writes it.
#[derive(Debug)]
pub struct AllocationsFile(TailedFile);

/// What is given besides, as a line of the file's tail. Made by [`Allocations::addition`] and
/// [`Allocations::reservation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    pub(super) next: Next,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tunnel6: Option<Tunnel6>,
    /// New ones, and those of which something else is true now.
    pub(super) peers: BTreeMap<CertificateId, Peer>,
}

impl Addition {
    /// What certificates were given now, or what is true of them now.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<CertificateId, Peer> {
        &self.peers
    }
}

impl AllocationsFile {
    /// For the file at `path`. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(TailedFile::new(path))
    }

    /// Makes the file hold these allocations, on disk when it returns. To be done before anything given is used.
    ///
    /// # Errors
    /// [`FileError::Io`]; the old content is then still in place, or the new one is.
    pub fn write(&mut self, given: &Allocations) -> Result<(), FileError> {
        let path = self.0.path().to_owned();
        let content = serde_json::to_vec(given).map_err(|source| FileError::Json { path: path.clone(), source })?;
        self.0.replace(&content).map(|_| ()).map_err(|source| FileError::Io { path, source })
    }

    /// Adds to the file, on disk when it returns. False, and nothing done, if it has to be written as a whole instead.
    ///
    /// # Errors
    /// [`FileError::Io`]; the addition is then not to be taken for written, and the file has to be.
    pub fn append(&mut self, addition: &Addition) -> Result<bool, FileError> {
        let appended = self.0.append(addition, true);
        appended.map_err(|source| FileError::Io { path: self.0.path().to_owned(), source })
    }

    /// Whether something can be added, and not so much was that it is time to write the file as a whole.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

impl Allocations {
    /// Reads the file at `path`; no file means that nothing was given yet.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let (content, additions) = match tail::read::<Addition>(path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(FileError::Io { path: path.to_owned(), source }),
        };
        let json = |source| FileError::Json { path: path.to_owned(), source };
        let Header { format } = serde_json::from_slice(&content).map_err(json)?;
        if !(1..=FORMAT).contains(&format) {
            return Err(FileError::Format { path: path.to_owned(), found: format });
        }
        let mut given: Self = serde_json::from_slice(&content).map_err(json)?;
        given.format = FORMAT;
        for addition in additions {
            given.add(addition);
        }
        given.check_unique().map_err(|what| FileError::Twice { path: path.to_owned(), what })?;
        Ok(given)
    }

    /// Takes up what is on disk.
    pub fn add(&mut self, Addition { next, tunnel6, peers }: Addition) {
        self.next = next;
        self.tunnel6 = tunnel6;
        self.peers.extend(peers);
    }

    /// Reserves the ids of route sets before `next`.
    #[must_use]
    pub fn reservation(&self, next: u32) -> Addition {
        let route_set = self.next.route_set.max(next);
        Addition { next: Next { route_set, ..self.next }, tunnel6: self.tunnel6, peers: BTreeMap::new() }
    }
}

/// Read before the rest, so that a newer format is reported as such and not as an unknown field.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::example;

    /// Requirements: C1.
    #[test]
    fn what_was_added_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocations.json");
        let config = example::config("");
        let mut document = example::json();
        let mut given = Allocations::default().extended(&example::parse(&document), &config).unwrap();
        let mut file = AllocationsFile::new(&path);
        let reservation = given.reservation(4_097);
        assert!(!file.append(&reservation).unwrap() && !file.is_settled());
        file.write(&given).unwrap();
        assert!(file.append(&reservation).unwrap() && file.is_settled());
        given.add(reservation);
        assert_eq!(Allocations::read(&path).unwrap(), given);
        assert_eq!(given.next_route_set(), 4_097);
        assert_eq!(given.reservation(7).next, given.next, "what is reserved stays so");

        for number in 3..6_u8 {
            let user = format!("user-{number}");
            document["users"].as_array_mut().unwrap().push(json!({"id": user}));
            let id = format!("certificate-{number}");
            let certificate = json!({"id": id, "user": user, "public_key": example::key(number)});
            document["certificates"].as_array_mut().unwrap().push(certificate);
            let state = example::parse(&document);
            let addition = given.addition(&state, &config, [&id.parse().unwrap()]).unwrap();
            let expected = given.extended(&state, &config).unwrap();
            assert!(file.append(&addition).unwrap());
            given.add(addition);
            assert_eq!(given, expected, "the same that the whole state would be given");
            assert_eq!(Allocations::read(&path).unwrap(), given);
        }
        assert_eq!(given.peers()["certificate-5"].id, 5);
        // As after a restart.
        let mut file = AllocationsFile::new(&path);
        file.write(&given).unwrap();
        assert_eq!(Allocations::read(&path).unwrap(), given);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "without a tail");
    }

    #[test]
    fn a_tail_in_which_something_is_given_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocations.json");
        let given = Allocations::default().extended(&example::state(), &example::config("")).unwrap();
        let mut file = AllocationsFile::new(&path);
        file.write(&given).unwrap();
        let mut addition = given.reservation(1);
        addition.peers.insert("c".parse().unwrap(), given.peers()["certificate-a"].clone());
        file.append(&addition).unwrap();
        let error = Allocations::read(&path).unwrap_err().to_string();
        assert!(error.contains("the peer id 1 is there twice"), "{error}");
    }
}
