//! The directory file: what the agent tells the collector about the numbers in the kernel.
//!
//! Packets and BPF maps carry `u32` ids; people ask about users and plants. The agent gives out the ids and
//! publishes this file whenever they change; the collector reads it to turn ids back into names. An entry
//! never leaves the file while the audit may still name it, it only becomes inactive: a flow that is
//! reported after its user was removed must still be attributed to that user.
//!
//! The file is the only thing the two programs share besides the kernel. It is replaced as a whole, so a reader sees
//! either the old or the new one; single additions in between go to a tail beside it, see [`tail`].

mod follower;
pub mod tail;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::follower::Follower;
use self::tail::TailedFile;

/// The format written by this version. Files of format 2, which have no tail, are read as well, and no others.
pub const FORMAT: u32 = 3;

/// Names of the ids that this gateway's kernel maps use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// See [`FORMAT`].
    pub format: u32,
    /// Revision of the desired state that this directory belongs to.
    pub revision: u64,
    /// Name of this gateway host, unique in the fleet.
    pub gateway: String,
    /// Region that this gateway serves.
    pub region: String,
    /// Sorted by id.
    pub peers: Vec<Peer>,
    /// Sorted by id.
    pub plants: Vec<Plant>,
}

/// A certificate and its owner, behind one peer id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The id in PEERS, FLOWS and DENIED.
    pub id: u32,
    /// Certificate id of the desired state.
    pub certificate: String,
    /// User id of the desired state.
    pub user: String,
    /// Organisations the user is a member of, sorted.
    pub organisations: Vec<String>,
    /// Tunnel IP of the certificate.
    pub address: IpAddr,
    /// IPv6 tunnel address of the certificate.
    pub address6: Ipv6Addr,
    /// Whether the desired state still has this certificate.
    pub active: bool,
}

impl Peer {
    /// The tunnel address that talks to `other`: that of the same family.
    #[must_use]
    pub const fn address_towards(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.address,
            IpAddr::V6(_) => IpAddr::V6(self.address6),
        }
    }
}

/// A plant and its subnets, behind one plant id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// The id in PLANTS and FLOWS.
    pub id: u32,
    /// Plant id of the desired state.
    pub plant: String,
    /// Organisation that operates the plant and owns its audit rows.
    pub operator: String,
    /// Sorted by id.
    pub subnets: Vec<Subnet>,
    /// Whether the desired state still has this plant.
    pub active: bool,
}

/// One subnet of a plant with its virtual twin of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The route id in ROUTES and FLOWS.
    pub id: u32,
    /// The subnet as the plant uses it.
    pub real: IpNet,
    /// The fleet-wide unique subnet that stands for it.
    #[serde(rename = "virtual")]
    pub virtual_: IpNet,
    /// Whether the desired state still has this subnet.
    pub active: bool,
}

/// What is added to a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Revision of the desired state that the directory belongs to with it.
    pub revision: u64,
    /// Peers that are new, and those of which something else is true now.
    pub peers: Vec<Peer>,
}

/// The directory file, for the one process that writes it.
#[derive(Debug)]
pub struct DirectoryFile(TailedFile);

impl DirectoryFile {
    /// For the file at `path`. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(TailedFile::new(path))
    }

    /// Makes the file say what `directory` is, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::Io`]; the old content is then still in place, or the new one is.
    pub fn publish(&mut self, directory: &Directory) -> Result<(), Error> {
        let path = self.0.path().to_owned();
        let content = directory.to_vec(&path)?;
        self.0.replace(&content).map(|_| ()).map_err(|source| io_error(&path, source))
    }

    /// Adds to what the file says. A reader sees it when this returns; after a crash of the host the file may be without
    /// it. False, and nothing done, if the directory has to be published instead.
    ///
    /// # Errors
    /// [`Error::Io`]; the directory has to be published then.
    pub fn append(&mut self, addition: &Addition) -> Result<bool, Error> {
        self.0.append(addition, false).map_err(|source| io_error(self.0.path(), source))
    }

    /// Whether something can be added, and not so much was that it is time to publish the directory as a whole.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

/// Why a directory file could not be read or written.
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
    /// Not a directory file, or one with a missing or unknown field.
    #[error("{}: not a directory file: {source}", path.display())]
    Json {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by another version of the agent.
    #[error("{}: format {found}, this program reads formats up to {FORMAT}; run agent and collector of the same version", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What the file says.
        found: u32,
    },
}

impl Directory {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// See [`Error`]; the file may be absent while the agent has never run.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (content, additions) = tail::read(path).map_err(|source| io_error(path, source))?;
        let mut directory = Self::parse(path, &content)?;
        for addition in additions {
            directory.add(addition);
        }
        Ok(directory)
    }

    fn parse(path: &Path, content: &[u8]) -> Result<Self, Error> {
        let json = |source| Error::Json { path: path.to_owned(), source };
        let Header { format } = serde_json::from_slice(content).map_err(json)?;
        if !(2..=FORMAT).contains(&format) {
            return Err(Error::Format { path: path.to_owned(), found: format });
        }
        Ok(Self { format: FORMAT, ..serde_json::from_slice(content).map_err(json)? })
    }

    fn to_vec(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let mut content = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        content.push(b'\n');
        Ok(content)
    }

    fn add(&mut self, addition: Addition) {
        self.revision = addition.revision;
        for peer in addition.peers {
            match self.peers.binary_search_by_key(&peer.id, |peer| peer.id) {
                Ok(at) => self.peers[at] = peer,
                Err(at) => self.peers.insert(at, peer),
            }
        }
    }

    /// Replaces the file at `path` by this directory, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file is then still in place.
    pub fn publish(&self, path: &Path) -> Result<(), Error> {
        DirectoryFile::new(path).publish(self)
    }

    /// The peer with this id.
    #[must_use]
    pub fn peer(&self, id: u32) -> Option<&Peer> {
        let at = self.peers.binary_search_by_key(&id, |peer| peer.id).ok()?;
        self.peers.get(at)
    }

    /// The plant with this id.
    #[must_use]
    pub fn plant(&self, id: u32) -> Option<&Plant> {
        let at = self.plants.binary_search_by_key(&id, |plant| plant.id).ok()?;
        self.plants.get(at)
    }

    /// The plant whose virtual subnet holds `address`. Real addresses name no single plant.
    #[must_use]
    pub fn plant_of_virtual(&self, address: IpAddr) -> Option<&Plant> {
        self.plants.iter().find(|plant| plant.subnets.iter().any(|subnet| subnet.virtual_.contains(&address)))
    }
}

/// Read before the rest, so that a newer format is reported as such and not as an unknown field.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

/// Writes `bytes` beside `path` and renames, so that a reader or a crash sees the old or the new file, whole.
///
/// # Errors
/// What the file system says; the old file is then still in place.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Has the names of files in the folder of `path` be on disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        let directory = example();
        directory.publish(&path).unwrap();
        assert_eq!(Directory::read(&path).unwrap(), directory);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no file is left beside it");
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        fs::write(&path, br#"{"format": 99, "something": "new"}"#).unwrap();
        let error = Directory::read(&path).unwrap_err();
        assert!(matches!(error, Error::Format { found: 99, .. }), "{error}");
    }

    #[test]
    fn a_file_of_a_version_without_a_tail_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        let old = serde_json::to_vec_pretty(&Directory { format: 2, ..example() }).unwrap();
        fs::write(&path, old).unwrap();
        assert_eq!(Directory::read(&path).unwrap(), example());
    }

    #[test]
    fn ids_and_virtual_addresses_lead_to_their_entries() {
        let directory = example();
        assert_eq!(directory.peer(9).map(|peer| peer.user.as_str()), Some("user-a"));
        assert_eq!(directory.peer(8), None);
        assert_eq!(directory.plant(2).map(|plant| plant.plant.as_str()), Some("north"));
        let plant = |address: &str| directory.plant_of_virtual(address.parse().unwrap()).map(|plant| plant.id);
        assert_eq!((plant("10.128.0.77"), plant("fd76:7600::77")), (Some(2), Some(2)));
        assert_eq!((plant("192.168.1.77"), plant("2001:db8:1::77")), (None, None));
    }

    #[test]
    fn a_peer_talks_to_each_family_by_its_own_address() {
        let directory = example();
        let towards = |other: &str| directory.peers[0].address_towards(other.parse().unwrap()).to_string();
        assert_eq!(towards("192.168.1.77"), "100.64.0.2");
        assert_eq!(towards("2001:db8:1::77"), "fd76:706e:6777::2");
    }

    pub(crate) fn example() -> Directory {
        Directory {
            format: FORMAT,
            revision: 3,
            gateway: "gateway-1".into(),
            region: "eu".into(),
            peers: vec![Peer {
                id: 9,
                certificate: "certificate-a".into(),
                user: "user-a".into(),
                organisations: vec!["alpha".into()],
                address: "100.64.0.2".parse().unwrap(),
                address6: "fd76:706e:6777::2".parse().unwrap(),
                active: true,
            }],
            plants: vec![Plant {
                id: 2,
                plant: "north".into(),
                operator: "alpha".into(),
                subnets: vec![
                    Subnet {
                        id: 4,
                        real: "192.168.1.0/24".parse().unwrap(),
                        virtual_: "10.128.0.0/24".parse().unwrap(),
                        active: true,
                    },
                    Subnet {
                        id: 5,
                        real: "2001:db8:1::/64".parse().unwrap(),
                        virtual_: "fd76:7600::/64".parse().unwrap(),
                        active: true,
                    },
                ],
                active: true,
            }],
        }
    }
}
