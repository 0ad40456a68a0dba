//! The directory as it is now, for a program that looks often: what was added is read, and no more.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Addition, Directory, Error, io_error,
    tail::{digest, header, parse, tail_of},
};

/// A directory file that is read again whenever it has changed.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    read: Option<Known>,
}

/// What was read.
#[derive(Debug)]
struct Known {
    directory: Directory,
    base: Stamp,
    /// Of the content.
    digest: String,
    tail: Option<Stamp>,
    /// How the tail begins that was read last.
    header: Vec<u8>,
    /// How far it was read.
    offset: u64,
}

/// Tells one file and its content from another. Not the number alone: a file system gives that of a removed file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { inode: file.ino(), length: file.len(), modified: (file.mtime(), file.mtime_nsec()) })
    }
}

impl Follower {
    /// For the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: None }
    }

    /// Reads what has changed since the last time, if anything. Gives whether that is so.
    ///
    /// # Errors
    /// See [`Error`]. What was read before is kept.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        // Looked at before anything is read: what is replaced in between is read again the next time.
        let (Some(base), tail) = (Stamp::of(&self.path), Stamp::of(&tail_of(&self.path))) else { return Ok(false) };
        if let Some(known) = self.read.as_mut().filter(|known| known.base == base) {
            if known.tail == tail {
                return Ok(false);
            }
            if known.go_on(&self.path, tail)? {
                return Ok(true);
            }
        }
        self.read = Some(Known::read(&self.path, base, tail)?);
        Ok(true)
    }

    /// What was read last.
    #[must_use]
    pub fn directory(&self) -> Option<&Directory> {
        self.read.as_ref().map(|known| &known.directory)
    }
}

impl Known {
    fn read(path: &Path, base: Stamp, tail: Option<Stamp>) -> Result<Self, Error> {
        let content = fs::read(path).map_err(|source| io_error(path, source))?;
        let directory = Directory::parse(path, &content)?;
        let mut known = Self { directory, base, digest: digest(&content), tail: None, header: Vec::new(), offset: 0 };
        known.go_on(path, tail)?;
        Ok(known)
    }

    /// Reads what was added. False if the tail that was read is not there any more.
    fn go_on(&mut self, path: &Path, stamp: Option<Stamp>) -> Result<bool, Error> {
        let tail = tail_of(path);
        self.add(&tail, stamp).map_err(|source| io_error(&tail, source))
    }

    fn add(&mut self, tail: &Path, stamp: Option<Stamp>) -> io::Result<bool> {
        let mut file = match File::open(tail) {
            // It may have been removed since the look at it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.header.is_empty()),
            file => file?,
        };
        let mut bytes = vec![0; HEADER_MAX];
        let length = read_up_to(&mut file, &mut bytes)?;
        bytes.truncate(length);
        let Some((header, length)) = header(&bytes).filter(|(header, _)| header.base == self.digest) else {
            self.tail = stamp;
            return Ok(self.header.is_empty());
        };
        bytes.truncate(length);
        drop(header);
        if self.header.is_empty() {
            (self.header, self.offset) = (bytes, length as u64);
        } else if self.header != bytes {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut added = Vec::new();
        file.read_to_end(&mut added)?;
        let (additions, length) = parse::<Addition>(&added)?;
        for addition in additions {
            self.directory.add(addition);
        }
        self.offset += length as u64;
        self.tail = stamp;
        Ok(true)
    }
}

/// More bytes than a tail's first line has.
const HEADER_MAX: usize = 256;

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{DirectoryFile, Peer, tests::example};

    #[test]
    fn what_is_added_is_seen_without_reading_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        let mut follower = Follower::new(&path);
        assert!(!follower.refresh().unwrap() && follower.directory().is_none());
        let mut file = DirectoryFile::new(&path);
        let mut expected = example();
        file.publish(&expected).unwrap();
        assert!(follower.refresh().unwrap() && !follower.refresh().unwrap());
        assert_eq!(follower.directory(), Some(&expected));

        for revision in 4..8 {
            let addition = addition(revision);
            assert!(file.append(&addition).unwrap());
            expected.add(addition);
            assert!(follower.refresh().unwrap() && !follower.refresh().unwrap());
            assert_eq!(follower.directory(), Some(&expected));
            assert_eq!(Directory::read(&path).unwrap(), expected);
        }

        // Half a line, and then the rest of it.
        let line = serde_json::to_string(&addition(9)).unwrap() + "\n";
        let mut tail = File::options().append(true).open(tail_of(&path)).unwrap();
        tail.write_all(&line.as_bytes()[..20]).unwrap();
        follower.refresh().unwrap();
        assert_eq!(follower.directory(), Some(&expected));
        tail.write_all(&line.as_bytes()[20..]).unwrap();
        follower.refresh().unwrap();
        expected.add(addition(9));
        assert_eq!(follower.directory(), Some(&expected));
    }

    #[test]
    fn a_file_that_is_replaced_and_a_tail_that_begins_anew_are_read_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("directory.json");
        let mut follower = Follower::new(&path);
        let mut file = DirectoryFile::new(&path);
        file.publish(&example()).unwrap();
        file.append(&addition(4)).unwrap();
        follower.refresh().unwrap();
        assert_eq!(follower.directory().unwrap().peers.len(), 2);

        file.publish(&example()).unwrap();
        follower.refresh().unwrap();
        assert_eq!(follower.directory(), Some(&example()), "without the tail");
        file.append(&addition(4)).unwrap();
        follower.refresh().unwrap();
        // Two steps between two looks.
        file.publish(&example()).unwrap();
        for revision in [5, 6, 7] {
            file.append(&addition(revision)).unwrap();
        }
        follower.refresh().unwrap();
        assert_eq!(follower.directory(), Some(&Directory::read(&path).unwrap()));

        let next = Directory { revision: 50, ..example() };
        file.publish(&next).unwrap();
        file.append(&addition(51)).unwrap();
        follower.refresh().unwrap();
        assert_eq!(follower.directory(), Some(&Directory::read(&path).unwrap()));
        assert_eq!(follower.directory().unwrap().revision, 51);
    }

    /// A peer more, and one that has become inactive.
    fn addition(revision: u64) -> Addition {
        let first = example().peers.remove(0);
        let id = 10 + revision as u32;
        let new = Peer { id, certificate: format!("certificate-{id}"), ..first.clone() };
        Addition { revision, peers: vec![Peer { active: false, ..first }, new] }
    }
}
