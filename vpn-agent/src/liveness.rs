//! Whether plants' uplinks are alive: what the agent last saw, in a file that `status`, the route overview and others read
//! (requirement C4).

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{id::PlantId, state};

/// The format written by this version. A reader refuses any other.
pub const FORMAT: u32 = 1;

/// How old a handshake of a live tunnel is at most: WireGuard refuses to use keys that are older (`REJECT_AFTER_TIME`),
/// and makes a new handshake a minute before that while there is traffic. Site routers keep some up.
pub const ALIVE: Duration = Duration::from_secs(180);

/// How old a file of a running agent is at most.
pub const FRESH: Duration = Duration::from_secs(90);

/// The uplinks of a gateway at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Liveness {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// When this was so, whole seconds.
    pub at: Timestamp,
    /// Every plant of the desired state.
    pub plants: BTreeMap<PlantId, Uplink>,
}

/// The uplink of a plant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// How the plant is reached; `None` if it is not linked to this gateway's region.
    pub kind: Option<UplinkKind>,
    /// Whether it is alive.
    pub state: UplinkState,
    /// When it was first seen in this state, whole seconds.
    pub since: Timestamp,
    /// When the last handshake was completed, whole seconds; `None` if there was none or it is no tunnel.
    pub latest_handshake: Option<Timestamp>,
    /// Bytes received from the plant with WireGuard's overhead; zero if it is no tunnel.
    pub rx_bytes: u64,
    /// Bytes sent to it, likewise.
    pub tx_bytes: u64,
    /// Where its packets came from last; for an endpoint that is dialled, where they are sent.
    pub endpoint: Option<SocketAddr>,
    /// Why there is no uplink, if there should be one.
    pub problem: Option<String>,
}

/// How a plant's network is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkKind {
    /// By a tunnel that the site's router opens.
    Host,
    /// By an interface of the host's.
    Interface,
    /// By a tunnel that the gateway opens.
    Dial,
}

impl UplinkKind {
    /// That of an uplink of the desired state.
    #[must_use]
    pub const fn of(uplink: &state::Uplink) -> Self {
        match uplink {
            state::Uplink::Host { .. } => Self::Host,
            state::Uplink::Interface { .. } => Self::Interface,
            state::Uplink::Dial { .. } => Self::Dial,
        }
    }

    /// Its name in the desired state.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Interface => "interface",
            Self::Dial => "dial",
        }
    }
}

/// Whether an uplink is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkState {
    /// Its last handshake is younger than [`ALIVE`], or something was received in that time; an Ethernet interface has
    /// its carrier.
    Up,
    /// It was alive once, or its interface cannot be used.
    Down,
    /// There was no handshake since its interface was made.
    Never,
    /// The plant is not linked to this gateway's region.
    NotLinked,
}

impl UplinkState {
    /// Its name in the file.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Never => "never",
            Self::NotLinked => "not-linked",
        }
    }
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
    #[error("{}: damaged: {source}; a running agent writes it again", path.display())]
    Json {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by another version of the agent.
    #[error("{}: format {found}, this program reads format {FORMAT}; restart the agent with this version", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What the file says.
        found: u32,
    },
}

impl Liveness {
    /// Reads the file at `path`; `None` if there is none yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        };
        let json = |source| Error::Json { path: path.to_owned(), source };
        let Header { format } = serde_json::from_slice(&bytes).map_err(json)?;
        if format != FORMAT {
            return Err(Error::Format { path: path.to_owned(), found: format });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(json)
    }

    /// What a running agent saw last; `None` where none runs. A file that cannot be read is as good as none.
    #[must_use]
    pub fn current(path: &Path, now: Timestamp) -> Option<Self> {
        Self::read(path).ok().flatten().filter(|seen| seen.is_fresh(now))
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// See [`Error`]; the old file is then still in place.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        vpn_directory::replace(path, &bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// Whether it is of an agent that runs: it says nothing about now if it is too old.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) <= SignedDuration::try_from(FRESH).unwrap_or(SignedDuration::MAX)
    }
}

impl Uplink {
    /// Of a plant that was not seen yet.
    #[must_use]
    pub const fn new(kind: Option<UplinkKind>, state: UplinkState, since: Timestamp) -> Self {
        Self { kind, state, since, latest_handshake: None, rx_bytes: 0, tx_bytes: 0, endpoint: None, problem: None }
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

    /// Requirements: C4.
    #[test]
    fn the_file_brings_everything_back_and_grows_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uplinks.json");
        assert_eq!(Liveness::read(&path).unwrap(), None);
        let at: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let north = Uplink {
            latest_handshake: Some(at),
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            ..Uplink::new(Some(UplinkKind::Dial), UplinkState::Up, at)
        };
        let south = Uplink::new(None, UplinkState::NotLinked, at);
        let plants = BTreeMap::from([("north".parse().unwrap(), north), ("south".parse().unwrap(), south)]);
        let liveness = Liveness { format: FORMAT, at, plants };
        liveness.write(&path).unwrap();
        assert_eq!(Liveness::read(&path).unwrap().as_ref(), Some(&liveness));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["plants"]["north"]["kind"], "dial");
        assert_eq!(json["plants"]["south"]["state"], "not-linked");
        assert!(liveness.is_fresh("2026-11-28T10:01:30Z".parse().unwrap()));
        assert!(!liveness.is_fresh("2026-11-28T10:01:31Z".parse().unwrap()));
        fs::write(&path, br#"{"format": 2, "more": []}"#).unwrap();
        assert!(matches!(Liveness::read(&path), Err(Error::Format { found: 2, .. })));
    }

    /// Requirements: C4.
    #[test]
    fn only_what_a_running_agent_saw_is_current() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uplinks.json");
        let at: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        assert_eq!(Liveness::current(&path, at), None);
        let seen = Liveness { format: FORMAT, at, plants: BTreeMap::new() };
        seen.write(&path).unwrap();
        assert_eq!(Liveness::current(&path, at), Some(seen));
        assert_eq!(Liveness::current(&path, "2026-11-28T10:01:31Z".parse().unwrap()), None, "too old");
        fs::write(&path, "half a file").unwrap();
        assert_eq!(Liveness::current(&path, at), None);
    }
}
