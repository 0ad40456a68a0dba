//! The control events: who changed what of the desired state, and when (requirement F10).
//!
//! One line of JSON for each accepted change, and for what ends by itself, in `control.jsonl` in the agent's `state_dir`. Lines are only ever added,
//! and each is on disk before the change is answered. Whoever ships them elsewhere goes on by `number`, which counts
//! without a gap.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::error;

use crate::{
    actor::{Actor, Origin, Way},
    version::{Fingerprint, Version},
};

/// Name of the file.
pub const NAME: &str = "control.jsonl";

/// The most changes that one event lists.
const CHANGES_MAX: usize = 100;

/// The most bytes of changes that one event lists.
const BYTES_MAX: usize = 128 << 10;

/// What is read from the end of the file to find the last line; a line is shorter.
const TAIL: u64 = 1 << 20;

/// One accepted change.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event<D> {
    /// Counts the events of this gateway from 1.
    pub number: u64,
    /// When it was accepted.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// How it came.
    pub from: Way,
    /// Name of the gateway host.
    pub gateway: String,
    /// Its region.
    pub region: String,
    /// The revision that was in force; none before the first state.
    pub revision_before: Option<u64>,
    /// The revision that is in force now.
    pub revision: u64,
    /// What else tells the state that is in force now from others.
    pub fingerprint: Fingerprint,
    /// The changes, as they were asked for; the first ones, if they are many. A whole state is `put-state`.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub changes: Vec<Box<RawValue>>,
    /// How many changes there were.
    pub changes_total: usize,
    /// What they mean for certificates and plants; none where the agent found the change after a crash.
    pub difference: Option<D>,
}

/// What is to become an [`Event`].
#[derive(Clone, Debug)]
pub struct Accepted<D> {
    /// Who asked, when, and how.
    pub origin: Origin,
    /// The revision that was in force.
    pub revision_before: Option<u64>,
    /// What is in force now.
    pub version: Version,
    /// The changes, each a JSON object; see [`put_state`].
    pub changes: Vec<Box<RawValue>>,
    /// What they mean.
    pub difference: Option<D>,
}

/// The file, and what it cannot take at the moment.
#[derive(Debug)]
pub struct ControlLog {
    path: PathBuf,
    file: File,
    length: u64,
    gateway: String,
    region: String,
    next: u64,
    last: Option<Version>,
    time: Option<Timestamp>,
    /// Lines that could not be written yet.
    waiting: Vec<u8>,
}

impl ControlLog {
    /// Opens the file in `folder`, or makes it. What a crash has left of a line is cut off.
    ///
    /// # Errors
    /// What the file system says, or that the last line is not one of ours.
    pub fn open(folder: &Path, gateway: &str, region: &str) -> io::Result<Self> {
        let path = folder.join(NAME);
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let torn = (tail.len() - whole) as u64;
        if torn > 0 {
            file.set_len(length - torn)?;
            file.sync_all()?;
        }
        let last = tail[..whole].trim_ascii_end().rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
        let last: Option<Last> = last.map(serde_json::from_slice).transpose()?;
        Ok(Self {
            path,
            file,
            length: length - torn,
            gateway: gateway.to_owned(),
            region: region.to_owned(),
            next: last.as_ref().map_or(1, |last| last.number + 1),
            time: last.as_ref().map(|last| last.time),
            last: last.map(|last| Version { revision: last.revision, fingerprint: last.fingerprint }),
            waiting: Vec::new(),
        })
    }

    /// What was in force after the last event.
    #[must_use]
    pub fn last(&self) -> Option<&Version> {
        self.last.as_ref()
    }

    /// When the last event was.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// Adds an event; on disk when it returns. What cannot be written is logged, and written with the next one.
    pub fn add<D: Serialize>(&mut self, accepted: Accepted<D>) {
        let Accepted { origin, revision_before, version, mut changes, difference } = accepted;
        let changes_total = changes.len();
        let mut bytes = 0;
        let fits = changes.iter().take(CHANGES_MAX).take_while(|change| {
            bytes += change.get().len();
            bytes <= BYTES_MAX
        });
        changes.truncate(fits.count());
        self.last = Some(version.clone());
        self.time = Some(origin.time);
        let event = Event {
            number: self.next,
            time: origin.time,
            actor: origin.actor,
            from: origin.way,
            gateway: self.gateway.clone(),
            region: self.region.clone(),
            revision_before,
            revision: version.revision,
            fingerprint: version.fingerprint,
            changes,
            changes_total,
            difference,
        };
        self.next += 1;
        match serde_json::to_vec(&event) {
            Ok(line) => self.waiting.extend(line.iter().chain(b"\n")),
            Err(error) => error!("{}: {error}", self.path.display()),
        }
        if let Err(error) = self.write() {
            error!("{}: {error}; the event waits until there is another one", self.path.display());
        }
    }

    fn write(&mut self) -> io::Result<()> {
        // Half of a line may be left of the last time.
        if self.file.metadata()?.len() > self.length {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(&self.waiting)?;
        self.file.sync_data()?;
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

/// The change of which a whole state is the content.
#[must_use]
pub fn put_state() -> Box<RawValue> {
    RawValue::from_string(r#"{"change":"put-state"}"#.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// What has to be known of the last event.
#[derive(Deserialize)]
struct Last {
    number: u64,
    time: Timestamp,
    revision: u64,
    fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn accepted(revision: u64, changes: Vec<Box<RawValue>>) -> Accepted<Value> {
        Accepted {
            origin: Origin { time: "2026-11-28T10:00:00Z".parse().unwrap(), actor: Actor::of_user(7), way: Way::Api },
            revision_before: revision.checked_sub(1),
            version: Version::of_document(revision, b""),
            changes,
            difference: Some(json!({"to": revision})),
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path.join(NAME)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Requirements: F10.
    #[test]
    fn each_change_is_a_line_with_who_and_what() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ControlLog::open(folder.path(), "gateway-1", "eu").unwrap();
        assert_eq!(log.last(), None);
        log.add(accepted(3, vec![put_state()]));
        let expected = json!({
            "number": 1, "time": "2026-11-28T10:00:00Z", "actor": "uid:7", "from": "api",
            "gateway": "gateway-1", "region": "eu", "revision_before": 2, "revision": 3,
            "fingerprint": "e3b0c44298fc1c149afbf4c8996fb924",
            "changes": [{"change": "put-state"}], "changes_total": 1, "difference": {"to": 3},
        });
        assert_eq!(lines(folder.path()), [expected]);

        drop(log);
        let mut log = ControlLog::open(folder.path(), "gateway-1", "eu").unwrap();
        assert_eq!(log.last(), Some(&Version::of_document(3, b"")), "what was in force is known again");
        assert_eq!(log.time(), Some("2026-11-28T10:00:00Z".parse().unwrap()));
        log.add(accepted(4, vec![put_state()]));
        assert_eq!(lines(folder.path()).iter().map(|line| line["number"].clone()).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn many_or_long_changes_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ControlLog::open(folder.path(), "g", "r").unwrap();
        log.add(accepted(1, vec![put_state(); CHANGES_MAX + 1]));
        let long = RawValue::from_string(format!("{:?}", "x".repeat(BYTES_MAX / 2))).unwrap();
        log.add(accepted(2, vec![long; 5]));
        let listed = |line: &Value| (line["changes"].as_array().unwrap().len(), line["changes_total"].clone());
        assert_eq!(lines(folder.path()).iter().map(listed).collect::<Vec<_>>(), [(100, json!(101)), (1, json!(5))]);
        assert_eq!(ControlLog::open(folder.path(), "g", "r").unwrap().last().map(|last| last.revision), Some(2));
    }

    #[test]
    fn what_a_crash_has_left_of_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ControlLog::open(folder.path(), "g", "r").unwrap();
        log.add(accepted(1, vec![put_state()]));
        log.add(accepted(2, vec![put_state()]));
        drop(log);
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let log = ControlLog::open(folder.path(), "g", "r").unwrap();
            let left = if cut < first { 0 } else { 1 };
            assert_eq!(log.last().map(|last| last.revision), (left == 1).then_some(1), "cut at {cut}");
            assert_eq!(lines(folder.path()).len(), left);
        }
        fs::write(&path, b"something else\n").unwrap();
        assert!(ControlLog::open(folder.path(), "g", "r").is_err());
    }

    #[test]
    fn what_cannot_be_written_comes_with_the_next_event() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ControlLog::open(folder.path(), "g", "r").unwrap();
        let writable = std::mem::replace(&mut log.file, File::open(folder.path().join(NAME)).unwrap());
        log.add(accepted(1, vec![put_state()]));
        assert_eq!(lines(folder.path()).len(), 0);
        log.file = writable;
        log.add(accepted(2, vec![put_state()]));
        assert_eq!(lines(folder.path()).iter().map(|line| line["revision"].clone()).collect::<Vec<_>>(), [1, 2]);
    }
}
