//! Which content of the desired state is in force.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A revision and a fingerprint of what it is. Two states with the same version are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The state's own `revision`.
    pub revision: u64,
    /// What else tells it from other states.
    pub fingerprint: Fingerprint,
}

/// The first half of a SHA-256, in 32 hexadecimal digits. That of a state which came as a whole is the fingerprint of
/// its document; single changes add to the one before, so that nobody has to look at the whole state for a small
/// change. So the same content that came about in two ways has two fingerprints.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(#[schemars(regex(pattern = "^[0-9a-f]{32}$"))] String);

/// A text that is not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fingerprint, which has 32 of the characters 0-9 a-f")]
pub struct NotAFingerprint(String);

/// Bytes of a fingerprint, each two digits of its text.
const LENGTH: usize = 16;

impl Fingerprint {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::digest(&[bytes])
    }

    /// That of something that comes after what `self` is of.
    #[must_use]
    pub fn and(&self, bytes: &[u8]) -> Self {
        Self::digest(&[self.0.as_bytes(), bytes])
    }

    /// As hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digest(parts: &[&[u8]]) -> Self {
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part);
        }
        let digits = sha.finalize().iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect();
        Self(digits)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;

    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        let fine =
            text.len() == 2 * LENGTH && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if fine { Ok(Self(text)) } else { Err(NotAFingerprint(text)) }
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        text.to_owned().try_into()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Version {
    /// That of a state that came as a whole.
    #[must_use]
    pub fn of_document(revision: u64, document: &[u8]) -> Self {
        Self { revision, fingerprint: Fingerprint::of(document) }
    }

    /// That of the state that changes lead to.
    #[must_use]
    pub fn after(&self, changes: &[u8]) -> Self {
        Self { revision: self.revision + 1, fingerprint: self.fingerprint.and(changes) }
    }
}

/// As an entity tag of HTTP: in quotes.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}-{}\"", self.revision, self.fingerprint.0)
    }
}

/// A text that is no entity tag of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ETag of a desired state")]
pub struct NotATag;

impl FromStr for Version {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or(NotATag)?;
        let (revision, fingerprint) = tag.split_once('-').ok_or(NotATag)?;
        Ok(Self {
            revision: revision.parse().map_err(|_| NotATag)?,
            fingerprint: fingerprint.parse().map_err(|_| NotATag)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_or_history_is_another_version() {
        let first = Version::of_document(7, b"one");
        assert_eq!(first, Version::of_document(7, b"one"));
        assert_ne!(first, Version::of_document(7, b"two"));
        assert_ne!(first, Version::of_document(8, b"one"));
        let (a, b) = (first.after(b"a"), first.after(b"b"));
        assert_eq!((a.revision, b.revision), (8, 8));
        assert_ne!(a, b);
        assert_ne!(a.after(b"b"), b.after(b"a"));
    }

    #[test]
    fn a_version_is_written_as_it_is_read() {
        // The SHA-256 of nothing, as everybody knows it.
        let version = Version::of_document(7, b"");
        assert_eq!(version.to_string(), "\"7-e3b0c44298fc1c149afbf4c8996fb924\"");
        let text = serde_json::to_string(&version).unwrap();
        assert_eq!(serde_json::from_str::<Version>(&text).unwrap(), version);
        assert_eq!(version.to_string().parse(), Ok(version.clone()));
        for bad in ["", "\"", "7-e3b0c44298fc1c149afbf4c8996fb924", "\"x-e3b0c44298fc1c149afbf4c8996fb924\"", "\"7\""] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        for bad in ["", "e3b0", "E3B0C44298FC1C149AFBF4C8996FB924", "g3b0c44298fc1c149afbf4c8996fb924"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
