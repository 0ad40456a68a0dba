//! The desired state of a gateway that has no file to follow: a snapshot and a journal of what was accepted since.
//!
//! Whatever is accepted is on disk before anybody is told so, and before the kernel is touched. A crash at any moment
//! leaves the state before or the state after. Both files lie in the agent's `state_dir`: `state.json` is a document
//! like any other, `changes.jsonl` is described in [`journal`].
//!
//! A new snapshot takes the place of the old one in five steps. (1) The journal says that it is about to. (2) It is
//! written under another name and (3) gets its own: from here on it counts. (4, 5) A new journal, which goes on from it,
//! takes the place of the old one. If this ends after (3), the old journal still says what the new snapshot is, and of
//! its changes those count that come after it.

pub mod journal;
mod step;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tracing::warn;

use self::{
    journal::{End, Entry, FORMAT, Record, Snapshot},
    step::Step,
};
use crate::{
    actor::{Actor, Origin, Way},
    version::{Fingerprint, Version},
};

/// Name of the file with the snapshot.
pub const SNAPSHOT: &str = "state.json";

const NEW_SNAPSHOT: &str = "state.json.new";
const NEW_JOURNAL: &str = "changes.jsonl.new";

/// A new snapshot is due after so many changes, which take a second or so to be made again at a start.
const ENTRIES_MAX: usize = 10_000;

/// Or after so many bytes of changes, if that is also more than the snapshot has.
const BYTES_MAX: u64 = 16 << 20;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not as the agent wrote it.
    #[error("{}: {damage}; restore {SNAPSHOT} and {} together from a backup", path.display(), journal::NAME)]
    Damaged {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Something cannot be written as JSON.
    #[error("a record for the journal: {0}")]
    Json(serde_json::Error),
    /// An earlier write failed in such a way that it is not known what is on disk.
    #[error("{}: an earlier write failed: {why}; restart the agent, which looks what is on disk", folder.display())]
    Unknown {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        why: String,
    },
}

/// How a file is not as the agent wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Something has changed a line, or taken one out.
    #[error("line {line} is damaged: its checksum is wrong")]
    Checksum {
        /// Counts from one.
        line: usize,
    },
    /// A line does not say what it should.
    #[error("line {line} is damaged: {source}")]
    Record {
        /// Counts from one.
        line: usize,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Written by another version of the agent.
    #[error("format {found}, this program reads format {FORMAT}; install the version that wrote it, or a later one")]
    Format {
        /// What the file says.
        found: u32,
    },
    /// The journal says nothing at all.
    #[error("has no whole line")]
    NoLine,
    /// The journal goes on from a snapshot that is not there.
    #[error("goes on from revision {revision} in {SNAPSHOT}, which is not there")]
    NoSnapshot {
        /// The revision of that snapshot.
        revision: u64,
    },
    /// The journal goes on from another snapshot than there is.
    #[error(
        "is not what {} goes on from: it was edited, or is of another time; to start over from it as it is, and without \
         what was accepted since, remove {0}",
        journal::NAME
    )]
    OtherSnapshot,
    /// Changes are missing.
    #[error("revision {found} comes after revision {before}")]
    Gap {
        /// The revision before it.
        before: u64,
        /// The revision of the changes.
        found: u64,
    },
    /// The snapshot is no document.
    #[error("is no desired state: {0}")]
    Document(serde_json::Error),
}

/// What the store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// What the document is.
    pub snapshot: Snapshot,
    /// The document.
    pub document: Vec<u8>,
    /// What was accepted since, in its order.
    pub entries: Vec<Entry>,
}

impl Contents {
    /// What state they come to.
    #[must_use]
    pub fn version(&self) -> &Version {
        self.entries.last().map_or(&self.snapshot.version, |entry| &entry.version)
    }
}

/// The files of one folder, which this process alone writes.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    end: End,
    /// Changes since the snapshot.
    entries: usize,
    /// Bytes of the snapshot.
    snapshot_bytes: u64,
    /// Why it is not known what is on disk.
    unknown: Option<String>,
}

impl Store {
    /// Opens the store in `folder`, or makes one without a state. Finishes or undoes what a crash has interrupted.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(folder: &Path) -> Result<(Self, Option<Contents>), Error> {
        let Recovered { contents, end, steps } = recover(folder)?;
        for step in &steps {
            step.run(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        }
        let (entries, snapshot_bytes) =
            contents.as_ref().map_or((0, 0), |contents| (contents.entries.len(), contents.document.len() as u64));
        Ok((Self { folder: folder.to_owned(), end, entries, snapshot_bytes, unknown: None }, contents))
    }

    /// What the store in `folder` holds, for somebody who only looks; an agent may write it at the same time.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(folder: &Path) -> Result<Option<Contents>, Error> {
        let first = recover(folder);
        // Between the two reads the snapshot may have been replaced.
        if matches!(first, Err(Error::Damaged { .. })) { recover(folder) } else { first }.map(|found| found.contents)
    }

    /// Keeps single changes; on disk when it returns.
    ///
    /// # Errors
    /// See [`Error`]; they are not kept then.
    pub fn append(&mut self, entry: Entry) -> Result<(), Error> {
        let (line, end) = self.end.line(&Record::Changes(entry)).map_err(Error::Json)?;
        self.add(line, end)?;
        self.entries += 1;
        Ok(())
    }

    /// Puts a whole state in the place of all that there is; on disk when it returns. `version` and `origin` are those
    /// of the last change before it if the document says what is there already.
    ///
    /// # Errors
    /// See [`Error`]; the state before is still there then.
    pub fn replace(&mut self, document: Vec<u8>, version: Version, origin: Origin) -> Result<(), Error> {
        let snapshot = Snapshot { format: FORMAT, version, document: Fingerprint::of(&document), origin };
        let bytes = document.len() as u64;
        let Replacement { announcement, announced, commit, journal, end } = self.replacement(document, snapshot)?;
        self.add(announcement, announced)?;
        for step in &commit {
            self.run(step)?;
        }
        (self.entries, self.snapshot_bytes) = (0, bytes);
        for step in &journal {
            if let Err(error) = self.run(step) {
                // The old journal knows the new snapshot, and goes on.
                warn!("{error}; the journal is not cut, and everything is kept all the same");
                return Ok(());
            }
        }
        self.end = end;
        Ok(())
    }

    /// Whether the journal has become so long that a new snapshot should be written.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.entries >= ENTRIES_MAX || self.entries > 0 && self.end.length > self.snapshot_bytes.max(BYTES_MAX)
    }

    /// What [`Self::replace`] does, step by step.
    fn replacement(&self, document: Vec<u8>, snapshot: Snapshot) -> Result<Replacement, Error> {
        let record = Record::Snapshot(snapshot);
        let (announcement, announced) = self.end.line(&record).map_err(Error::Json)?;
        let (journal, end) = End::start().line(&record).map_err(Error::Json)?;
        Ok(Replacement {
            announcement,
            announced,
            commit: [Step::Write(NEW_SNAPSHOT, document), Step::Rename(NEW_SNAPSHOT, SNAPSHOT)],
            journal: [Step::Write(NEW_JOURNAL, journal), Step::Rename(NEW_JOURNAL, journal::NAME)],
            end,
        })
    }

    /// A line, of which nothing stays if it cannot be written.
    fn add(&mut self, line: Vec<u8>, end: End) -> Result<(), Error> {
        if let Err(error) = self.run(&Step::Append(line)) {
            if self.unknown.is_none()
                && let Err(undo) = Step::Truncate(self.end.length).run(&self.folder)
            {
                self.unknown = Some(format!("{error}, and then: {undo}"));
            }
            return Err(error);
        }
        self.end = end;
        Ok(())
    }

    fn run(&mut self, step: &Step) -> Result<(), Error> {
        if let Some(why) = &self.unknown {
            return Err(Error::Unknown { folder: self.folder.clone(), why: why.clone() });
        }
        step.run(&self.folder).map_err(|source| {
            // The name may lead to the one or the other.
            if matches!(step, Step::Rename(..)) {
                self.unknown = Some(source.to_string());
            }
            Error::Io { path: self.folder.clone(), source }
        })
    }
}

/// The steps to a new snapshot.
struct Replacement {
    announcement: Vec<u8>,
    announced: End,
    commit: [Step; 2],
    journal: [Step; 2],
    end: End,
}

/// What is on disk, and what is to be done about it.
struct Recovered {
    contents: Option<Contents>,
    /// Of the journal once the steps are done.
    end: End,
    steps: Vec<Step>,
}

fn recover(folder: &Path) -> Result<Recovered, Error> {
    let damaged = |name: &str| {
        let path = folder.join(name);
        move |damage| Error::Damaged { path, damage }
    };
    let document = read(&folder.join(SNAPSHOT))?;
    let Some(bytes) = read(&folder.join(journal::NAME))? else {
        let adopted = document.map(|document| adopt(folder, document)).transpose().map_err(damaged(SNAPSHOT))?;
        return rewritten(adopted);
    };
    let (records, end) = journal::read(&bytes).map_err(damaged(journal::NAME))?;
    let is_torn = end.length < bytes.len() as u64;
    let whole = records.len();
    let contents = match (records.first(), document) {
        (None, _) => return Err(damaged(journal::NAME)(Damage::NoLine)),
        // Whatever was about to be the first state was never told to be.
        (Some(Record::Empty { .. }), None) => None,
        (Some(Record::Snapshot(Snapshot { version, .. })), None) => {
            return Err(damaged(journal::NAME)(Damage::NoSnapshot { revision: version.revision }));
        }
        (Some(Record::Changes(_)), None) => return Err(damaged(journal::NAME)(Damage::NoLine)),
        (Some(_), Some(document)) => {
            let fingerprint = Fingerprint::of(&document);
            let of = |record: &Record| match record {
                Record::Snapshot(snapshot) if snapshot.document == fingerprint => Some(snapshot.clone()),
                _ => None,
            };
            let Some(snapshot) = records.iter().rev().find_map(of) else {
                return Err(damaged(SNAPSHOT)(Damage::OtherSnapshot));
            };
            let entries = entries_after(snapshot.version.revision, records).map_err(damaged(journal::NAME))?;
            Some(Contents { snapshot, document, entries })
        }
    };
    if whole > 1 + contents.as_ref().map_or(0, |contents| contents.entries.len()) {
        return rewritten(contents);
    }
    let steps = if is_torn { vec![Step::Truncate(end.length)] } else { Vec::new() };
    Ok(Recovered { contents, end, steps })
}

/// A snapshot without a journal: somebody has put it there to start from.
fn adopt(folder: &Path, document: Vec<u8>) -> Result<Contents, Damage> {
    #[derive(Deserialize)]
    struct Header {
        revision: u64,
    }
    let Header { revision } = serde_json::from_slice(&document).map_err(Damage::Document)?;
    let fingerprint = Fingerprint::of(&document);
    let version = Version { revision, fingerprint: fingerprint.clone() };
    let origin = Origin::now(Actor::of_file(&folder.join(SNAPSHOT)), Way::File);
    Ok(Contents {
        snapshot: Snapshot { format: FORMAT, version, document: fingerprint, origin },
        document,
        entries: Vec::new(),
    })
}

/// The changes that come after a revision, without a gap.
fn entries_after(revision: u64, records: Vec<Record>) -> Result<Vec<Entry>, Damage> {
    let mut entries = Vec::new();
    let mut before = revision;
    for record in records {
        let Record::Changes(entry) = record else { continue };
        let found = entry.version.revision;
        if found <= revision {
            continue;
        }
        if found != before + 1 {
            return Err(Damage::Gap { before, found });
        }
        before = found;
        entries.push(entry);
    }
    Ok(entries)
}

/// With a journal that holds these contents and nothing else.
fn rewritten(contents: Option<Contents>) -> Result<Recovered, Error> {
    let first = contents
        .as_ref()
        .map_or(Record::Empty { format: FORMAT }, |contents| Record::Snapshot(contents.snapshot.clone()));
    let changes = contents.iter().flat_map(|contents| &contents.entries).cloned().map(Record::Changes);
    let (mut lines, mut end) = (Vec::new(), End::start());
    for record in [first].into_iter().chain(changes) {
        let (line, next) = end.line(&record).map_err(Error::Json)?;
        lines.extend(line);
        end = next;
    }
    let steps = vec![Step::Write(NEW_JOURNAL, lines), Step::Rename(NEW_JOURNAL, journal::NAME)];
    Ok(Recovered { contents, end, steps })
}

/// The file at `path`, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{change::Change, document::Id};

    /// What happens to a store, and how it is told.
    #[derive(Clone, Debug)]
    enum Action {
        Change,
        /// A whole state, this much newer.
        Replace(u64),
        /// A snapshot of what is in force.
        Compact,
    }

    /// What a store shall hold: the naive twin.
    type Model = Option<(Version, Vec<u8>, Vec<Version>)>;

    fn origin() -> Origin {
        Origin { time: "2026-11-28T10:00:00Z".parse().unwrap(), actor: Actor::of_user(0), way: Way::Api }
    }

    fn document(revision: u64, note: &str) -> Vec<u8> {
        json!({"revision": revision, "note": note}).to_string().into_bytes()
    }

    fn entry(before: &Version, note: &str) -> Entry {
        let changes = vec![Change::RemoveUser { id: Id(note.to_owned()) }];
        Entry { version: before.after(note.as_bytes()), origin: origin(), changes }
    }

    /// The version that is in force according to the model.
    fn in_force(model: &Model) -> Option<&Version> {
        model.as_ref().map(|(version, _, changes)| changes.last().unwrap_or(version))
    }

    fn model_of(contents: Option<Contents>) -> Model {
        contents.map(|contents| {
            let changes = contents.entries.iter().map(|entry| entry.version.clone()).collect();
            (contents.snapshot.version, contents.document, changes)
        })
    }

    /// The steps of an action, and what shall be there after it.
    fn plan(store: &Store, model: &Model, action: &Action, note: &str) -> Option<(Vec<Step>, Model)> {
        let whole = |document: Vec<u8>, version: Version| {
            let snapshot = Snapshot {
                format: FORMAT,
                version: version.clone(),
                document: Fingerprint::of(&document),
                origin: origin(),
            };
            let Replacement { announcement, commit, journal, .. } =
                store.replacement(document.clone(), snapshot).unwrap();
            let steps = [Step::Append(announcement)].into_iter().chain(commit).chain(journal).collect();
            Some((steps, Some((version, document, Vec::new()))))
        };
        match (action, model) {
            (Action::Replace(newer), _) => {
                let revision = in_force(model).map_or(0, |version| version.revision) + newer;
                let document = document(revision, note);
                let version = Version::of_document(revision, &document);
                whole(document, version)
            }
            (Action::Compact, Some(_)) => {
                let version = in_force(model)?.clone();
                whole(document(version.revision, "compacted"), version)
            }
            (Action::Change, Some((version, document, changes))) => {
                let entry = entry(in_force(model)?, note);
                let changes = changes.iter().cloned().chain([entry.version.clone()]).collect();
                let (line, _) = store.end.line(&Record::Changes(entry)).unwrap();
                Some((vec![Step::Append(line)], Some((version.clone(), document.clone(), changes))))
            }
            (_, None) => None,
        }
    }

    fn run(store: &mut Store, model: &mut Model, action: &Action, note: &str) {
        let Some((_, next)) = plan(store, model, action, note) else { return };
        match (action, &next) {
            (Action::Change, _) => store.append(entry(in_force(model).unwrap(), note)).unwrap(),
            (_, Some((version, document, _))) => store.replace(document.clone(), version.clone(), origin()).unwrap(),
            (_, None) => panic!("every action leads to a state"),
        }
        *model = next;
    }

    /// Does the first steps, and the next one in part, as a crash does.
    fn crash(folder: &Path, steps: &[Step], done: usize, part: usize) {
        for step in &steps[..done] {
            step.run(folder).unwrap();
        }
        match steps.get(done) {
            Some(Step::Append(bytes)) => Step::Append(bytes[..part % bytes.len()].to_vec()).run(folder).unwrap(),
            Some(Step::Write(name, bytes)) => {
                Step::Write(name, bytes[..part % bytes.len()].to_vec()).run(folder).unwrap();
            }
            Some(Step::Rename(..) | Step::Truncate(_)) | None => {}
        }
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![3 => Just(Action::Change), 1 => (1..4_u64).prop_map(Action::Replace), 1 => Just(Action::Compact)];
        vec(action, 1..8)
    }

    proptest! {
        /// A crash at any step of anything, also several crashes one after the other, leaves the state before or the
        /// state after; and the store goes on from there.
        ///
        /// Requirements: G2, G3.
        #[test]
        fn a_crash_leaves_the_state_before_or_after(rounds in vec((actions(), 0..8_usize, any::<usize>()), 1..4)) {
            let folder = TempDir::new().unwrap();
            let mut model = None;
            for (round, (actions, done, part)) in rounds.iter().enumerate() {
                let (mut store, contents) = Store::open(folder.path()).unwrap();
                prop_assert_eq!(&model_of(contents), &model, "what was left is found");
                let (last, first) = actions.split_last().unwrap();
                for (at, action) in first.iter().enumerate() {
                    run(&mut store, &mut model, action, &format!("{round}-{at}"));
                }
                let Some((steps, after)) = plan(&store, &model, last, &format!("{round}-last")) else { continue };
                let done = done % (steps.len() + 1);
                crash(folder.path(), &steps, done, *part);

                let seen = model_of(Store::read(folder.path()).unwrap());
                let committed = match last {
                    Action::Change => done == 1,
                    Action::Replace(_) | Action::Compact => done >= 3,
                };
                prop_assert_eq!(&seen, if committed { &after } else { &model }, "{} of {} steps", done, steps.len());
                model = seen;
            }
        }
    }

    /// What a crash has left of the last line is dropped, wherever it is cut.
    #[test]
    fn a_torn_last_line_is_dropped() {
        let folder = TempDir::new().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let mut model = None;
        for (at, action) in [Action::Replace(7), Action::Change, Action::Change].iter().enumerate() {
            run(&mut store, &mut model, action, &at.to_string());
        }
        let path = folder.path().join(journal::NAME);
        let whole = fs::read(&path).unwrap();
        let before = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for cut in before..whole.len() {
            for tail in [&b""[..], &[0; 5], b"\0\0\n"] {
                fs::write(&path, [&whole[..cut], tail].concat()).unwrap();
                let (mut store, contents) = Store::open(folder.path()).unwrap();
                let contents = contents.unwrap();
                assert_eq!(contents.version().revision, 8, "cut at {cut}");
                assert_eq!(fs::read(&path).unwrap(), &whole[..before], "nothing of it is left");
                store.append(entry(contents.version(), "again")).unwrap();
                assert_eq!(Store::read(folder.path()).unwrap().unwrap().version().revision, 9);
            }
        }
    }

    /// Anything else that is not as it was written is an error, and changes nothing.
    #[test]
    fn damage_is_an_error() {
        let folder = TempDir::new().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let mut model = None;
        for (at, action) in [Action::Replace(7), Action::Change, Action::Change, Action::Change].iter().enumerate() {
            run(&mut store, &mut model, action, &at.to_string());
        }
        let (journal, snapshot) = (folder.path().join(journal::NAME), folder.path().join(SNAPSHOT));
        let (lines, document) = (fs::read(&journal).unwrap(), fs::read(&snapshot).unwrap());
        for at in 0..lines.len() {
            let mut bad = lines.clone();
            bad[at] ^= 1;
            fs::write(&journal, &bad).unwrap();
            // The last newline is all that tells a whole line from a torn one.
            if at + 1 == lines.len() {
                assert_eq!(Store::read(folder.path()).unwrap().unwrap().version().revision, 9);
                continue;
            }
            let error = Store::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(journal::NAME) && error.contains("restore"), "byte {at}: {error}");
            assert_eq!(fs::read(&journal).unwrap(), bad, "it is left as it is");
        }

        let text = String::from_utf8(lines.clone()).unwrap();
        let second = text.lines().nth(2).unwrap();
        fs::write(&journal, text.replace(&format!("{second}\n"), "")).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 3 is damaged"), "{error}");

        fs::write(&journal, &lines).unwrap();
        fs::write(&snapshot, b"{\"revision\": 7}").unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("state.json: is not what changes.jsonl goes on from"), "{error}");
        fs::remove_file(&snapshot).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("goes on from revision 7 in state.json, which is not there"), "{error}");

        fs::write(&snapshot, &document).unwrap();
        assert_eq!(Store::open(folder.path()).unwrap().1.unwrap().version().revision, 10, "as before");
        fs::write(&journal, b"").unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no whole line"), "{error}");
        let checksum = Fingerprint::of(b"").and(br#"{"record":"empty","format":2}"#);
        fs::write(&journal, format!("{} {{\"record\":\"empty\",\"format\":2}}\n", checksum.as_str())).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 2, this program reads format 1"), "{error}");
    }

    #[test]
    fn a_state_that_somebody_puts_there_is_a_beginning() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(SNAPSHOT), document(7, "by hand")).unwrap();
        let (mut store, contents) = Store::open(folder.path()).unwrap();
        let contents = contents.unwrap();
        assert_eq!(contents.version(), &Version::of_document(7, &document(7, "by hand")));
        assert!(contents.snapshot.origin.actor.to_string().ends_with("/state.json"));
        store.append(entry(contents.version(), "next")).unwrap();
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().1.unwrap().version().revision, 8);
    }

    #[test]
    fn what_cannot_be_written_is_not_kept() {
        let folder = TempDir::new().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let mut model = None;
        run(&mut store, &mut model, &Action::Replace(7), "first");
        let before = in_force(&model).unwrap().clone();

        // A folder cannot be written as a file.
        let blocked = folder.path().join(NEW_SNAPSHOT);
        fs::create_dir(&blocked).unwrap();
        let error = store.replace(document(9, "x"), Version::of_document(9, b""), origin()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        store.append(entry(&before, "on")).unwrap();
        assert_eq!(Store::read(folder.path()).unwrap().unwrap().version().revision, 8, "and it goes on");

        fs::remove_dir(&blocked).unwrap();
        fs::create_dir(folder.path().join(NEW_JOURNAL)).unwrap();
        let next = document(9, "y");
        store.replace(next.clone(), Version::of_document(9, &next), origin()).unwrap();
        let nine = Store::read(folder.path()).unwrap().unwrap();
        assert_eq!((nine.version().revision, nine.entries.len()), (9, 0), "the old journal knows the new snapshot");
        store.append(entry(nine.version(), "on")).unwrap();
        fs::remove_dir(folder.path().join(NEW_JOURNAL)).unwrap();
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().1.unwrap().version().revision, 10);

        let (mut store, contents) = Store::open(folder.path()).unwrap();
        fs::remove_file(folder.path().join(journal::NAME)).unwrap();
        let ten = contents.unwrap().version().clone();
        store.append(entry(&ten, "lost")).unwrap_err();
        let error = store.append(entry(&ten, "lost")).unwrap_err().to_string();
        assert!(error.contains("restart the agent"), "{error}");
    }

    #[test]
    fn a_long_journal_is_noticed() {
        let folder = TempDir::new().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let mut model = None;
        run(&mut store, &mut model, &Action::Replace(1), "first");
        assert!(!store.is_long());
        store.entries = ENTRIES_MAX;
        assert!(store.is_long());
        run(&mut store, &mut model, &Action::Compact, "");
        assert!(!store.is_long());
    }
}
