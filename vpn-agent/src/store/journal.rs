//! The journal: a line for each thing that happened to the desired state.
//!
//! A line is a checksum, a space, and a record in JSON. The checksum is over the record and the checksum of the line
//! before, so that a line that is damaged, missing or out of place is noticed.

use serde::{Deserialize, Serialize};

use super::Damage;
use crate::{
    actor::Origin,
    change::Change,
    version::{Fingerprint, Version},
};

/// Name of the file.
pub const NAME: &str = "changes.jsonl";

/// The format written by this version. A reader refuses any other.
pub const FORMAT: u32 = 1;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// There is no state yet. Only as the first line.
    Empty {
        /// See [`FORMAT`].
        format: u32,
    },
    /// A whole state. As the first line: what the lines that follow go on from. Later: what is about to take the place
    /// of the snapshot. It has done so if the snapshot has this fingerprint, and else it never happened.
    Snapshot(Snapshot),
    /// Single changes, accepted together.
    Changes(Entry),
}

/// A whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// See [`FORMAT`].
    pub format: u32,
    /// Of the state.
    pub version: Version,
    /// Of the file with the snapshot.
    pub document: Fingerprint,
    /// Of the last change before it.
    pub origin: Origin,
}

/// Single changes, accepted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Of the state that they lead to.
    pub version: Version,
    /// Who asked for them.
    pub origin: Origin,
    /// In their order.
    pub changes: Vec<Change>,
}

/// The end of a journal, where the next line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Bytes up to here.
    pub length: u64,
    /// Checksum of the last line.
    pub checksum: Fingerprint,
}

impl End {
    /// That of a journal without a line.
    pub fn start() -> Self {
        Self { length: 0, checksum: Fingerprint::of(b"") }
    }

    /// The line of a record that stands here, and the end after it.
    ///
    /// # Errors
    /// If the record cannot be written as JSON.
    pub fn line(&self, record: &Record) -> Result<(Vec<u8>, Self), serde_json::Error> {
        let json = serde_json::to_vec(record)?;
        let checksum = self.checksum.and(&json);
        let line = [checksum.as_str().as_bytes(), b" ", &json, b"\n"].concat();
        let length = self.length + line.len() as u64;
        Ok((line, Self { length, checksum }))
    }
}

/// Reads a journal up to the last whole line. What a crash has left of a line that was being written is not part of
/// it: no newline at its end, or blocks that were never written, which read as zeros.
///
/// # Errors
/// The first line that is not as it was written.
pub fn read(bytes: &[u8]) -> Result<(Vec<Record>, End), Damage> {
    let (mut records, mut end) = (Vec::new(), End::start());
    let mut rest = bytes;
    while let Some(newline) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..newline], &rest[newline + 1..]);
        let number = records.len() + 1;
        let Some(record) = record(line, &end) else {
            if after.is_empty() && line.contains(&0) {
                break;
            }
            return Err(Damage::Checksum { line: number });
        };
        if let Some(found) = serde_json::from_slice::<Header>(record).ok().and_then(|header| header.format)
            && found != FORMAT
        {
            return Err(Damage::Format { found });
        }
        let parsed = serde_json::from_slice(record).map_err(|source| Damage::Record { line: number, source })?;
        records.push(parsed);
        end.checksum = end.checksum.and(record);
        end.length += newline as u64 + 1;
        rest = after;
    }
    Ok((records, end))
}

/// The record in a line that stands at `end`, if the checksum is right.
fn record<'l>(line: &'l [u8], end: &End) -> Option<&'l [u8]> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    let (checksum, record) = (&line[..at], &line[at + 1..]);
    (checksum == end.checksum.and(record).as_str().as_bytes()).then_some(record)
}

/// Read before the rest, so that a newer format is reported as such and not as an unknown field.
#[derive(Deserialize)]
struct Header {
    format: Option<u32>,
}
