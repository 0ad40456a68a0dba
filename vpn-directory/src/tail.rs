//! A file that is replaced as a whole now and then, and a tail beside it that grows by lines in between: what is large
//! and changes often in small ways would otherwise be written anew for each change.
//!
//! The tail's first line says which content of the file it belongs to. A tail of another content is none, so the file
//! and its tail need not be replaced together. A last line that is not whole was not finished, and is none.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{replace, sync_folder_of};

/// From so many bytes on a tail is long.
const LONG: u64 = 4 * 1024 * 1024;

/// A file with a tail, for the one process that writes them.
#[derive(Debug)]
pub struct TailedFile {
    path: PathBuf,
    /// Digest of the file's content, once it is known and no tail of anybody else's belongs to it.
    base: Option<String>,
    tail: Option<Tail>,
}

#[derive(Debug)]
struct Tail {
    file: File,
    length: u64,
}

/// The first line of a tail.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    /// Digest of the content that it belongs to.
    pub base: String,
    /// Nanoseconds since 1970, so that no two tails begin in the same way.
    begun: u128,
}

impl TailedFile {
    /// For the file at `path`, which need not exist. Nothing is read or written yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), base: None, tail: None }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `content` the file's, without a tail, on disk when it returns. False if it was so already.
    ///
    /// # Errors
    /// What the file system says. The old content is then still in place, or the new one is.
    pub fn replace(&mut self, content: &[u8]) -> io::Result<bool> {
        let digest = digest(content);
        let is_there = match self.base.take() {
            Some(base) => base == digest && self.path.exists(),
            None => fs::read(&self.path).is_ok_and(|there| there == content),
        };
        self.tail = None;
        if !is_there {
            replace(&self.path, content)?;
        }
        let had_tail = remove(&tail_of(&self.path))?;
        self.base = Some(digest);
        Ok(!is_there || had_tail)
    }

    /// Adds a line to the tail. If `durable`, it is on disk when this returns, with the lines before it. False, and
    /// nothing done, if the file was not replaced by this process yet, or something failed since.
    ///
    /// # Errors
    /// What the file system says. The line is then not to be taken for written, and the file has to be replaced.
    pub fn append(&mut self, line: &impl Serialize, durable: bool) -> io::Result<bool> {
        let Some(base) = self.base.take() else { return Ok(false) };
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => Tail::begin(&self.path, &base)?,
        };
        tail.append(line)?;
        if durable {
            tail.file.sync_data()?;
        }
        (self.base, self.tail) = (Some(base), Some(tail));
        Ok(true)
    }

    /// Whether lines can be added. It is false as well once there are so many that it is time to replace the file by what
    /// it and its tail are together.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.base.is_some() && self.tail.as_ref().is_none_or(|tail| tail.length <= LONG)
    }
}

impl Tail {
    fn begin(path: &Path, base: &str) -> io::Result<Self> {
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut tail = Self { file: File::create(tail_of(path))?, length: 0 };
        tail.append(&Header { base: base.to_owned(), begun })?;
        sync_folder_of(path)?;
        Ok(tail)
    }

    /// In one piece, so that a reader seldom meets half a line.
    fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// A file's content, and the lines of its tail.
///
/// # Errors
/// What the file system says about the file. A line that is not what it should be is `InvalidData`, but for a last one,
/// which was not finished.
pub fn read<L: DeserializeOwned>(path: &Path) -> io::Result<(Vec<u8>, Vec<L>)> {
    let content = fs::read(path)?;
    let tail = match fs::read(tail_of(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((content, Vec::new())),
        tail => tail?,
    };
    let lines = match header(&tail) {
        Some((header, length)) if header.base == digest(&content) => parse(tail.get(length..).unwrap_or_default())?.0,
        _ => Vec::new(),
    };
    Ok((content, lines))
}

/// The first line of a tail, and its length.
pub(crate) fn header(tail: &[u8]) -> Option<(Header, usize)> {
    let length = tail.iter().position(|byte| *byte == b'\n')? + 1;
    Some((serde_json::from_slice(tail.get(..length)?).ok()?, length))
}

/// Whole lines, and how many bytes they are.
pub(crate) fn parse<L: DeserializeOwned>(bytes: &[u8]) -> io::Result<(Vec<L>, usize)> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (mut parsed, mut length) = (Vec::new(), 0);
    for line in bytes.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(line) => parsed.push(line),
            Err(_) if length + line.len() == bytes.len() => break,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        length += line.len();
    }
    Ok((parsed, length))
}

/// The tail of the file at `path`.
pub(crate) fn tail_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(".tail");
    path.with_file_name(name)
}

/// SHA-256, in hexadecimal.
pub(crate) fn digest(content: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether there was one.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<u32> {
        read(path).unwrap().1
    }

    #[test]
    fn lines_belong_to_the_content_that_they_were_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        let mut file = TailedFile::new(&path);
        assert!(!file.append(&1, true).unwrap(), "there is nothing to add to");
        assert!(file.replace(b"old").unwrap() && !file.replace(b"old").unwrap());
        assert_eq!((fs::read(&path).unwrap(), lines(&path)), (b"old".to_vec(), vec![]));
        for line in [1, 2, 3] {
            assert!(file.append(&line, line == 3).unwrap());
        }
        assert_eq!(lines(&path), [1, 2, 3]);
        let old_tail = fs::read(tail_of(&path)).unwrap();

        assert!(file.replace(b"new").unwrap());
        assert_eq!(lines(&path), [] as [u32; 0]);
        // As after a crash between the two.
        fs::write(tail_of(&path), old_tail).unwrap();
        assert_eq!(lines(&path), [] as [u32; 0], "the tail of an older content");
        assert!(file.append(&4, true).unwrap());
        assert_eq!(lines(&path), [4]);
        assert!(file.replace(b"new").unwrap(), "the same content without the tail");
        assert_eq!((lines(&path), fs::read_dir(folder.path()).unwrap().count()), (vec![], 1));
    }

    #[test]
    fn another_run_begins_a_tail_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        let mut first = TailedFile::new(&path);
        first.replace(b"content").unwrap();
        first.append(&1, true).unwrap();
        let before = fs::read(tail_of(&path)).unwrap();
        let mut second = TailedFile::new(&path);
        assert!(!second.append(&2, true).unwrap(), "it does not know the content");
        assert!(second.replace(b"content").unwrap(), "and says what it shall be, without lines of others");
        second.append(&2, true).unwrap();
        assert_eq!(lines(&path), [2]);
        let after = fs::read(tail_of(&path)).unwrap();
        assert_ne!(header(&before).unwrap().0.begun, header(&after).unwrap().0.begun);
    }

    #[test]
    fn a_line_that_was_not_finished_is_none_and_one_in_between_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        let mut file = TailedFile::new(&path);
        file.replace(b"content").unwrap();
        file.append(&17, true).unwrap();
        file.append(&18, true).unwrap();
        let whole = fs::read(tail_of(&path)).unwrap();
        for cut in 0..=whole.len() {
            fs::write(tail_of(&path), &whole[..cut]).unwrap();
            let expected =
                [17, 18][..whole[..cut].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1)].to_vec();
            assert_eq!(lines(&path), expected, "cut at {cut}");
        }
        let text = String::from_utf8(whole).unwrap();
        fs::write(tail_of(&path), text.replace("\n18\n", "\n\0\0\n")).unwrap();
        assert_eq!(lines(&path), [17], "the file system knew its length, and not its content");
        fs::write(tail_of(&path), text.replace("\n17\n", "\nx\n")).unwrap();
        assert_eq!(read::<u32>(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn after_a_failure_the_file_has_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        let mut file = TailedFile::new(&path);
        file.replace(b"content").unwrap();
        // A folder in the tail's place.
        fs::create_dir(tail_of(&path)).unwrap();
        assert!(file.append(&1, true).is_err());
        fs::remove_dir(tail_of(&path)).unwrap();
        assert!(!file.append(&1, true).unwrap());
        file.replace(b"content").unwrap();
        assert!(file.append(&1, true).unwrap());
        assert_eq!(lines(&path), [1]);
    }

    #[test]
    fn a_tail_gets_long() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TailedFile::new(&folder.path().join("text"));
        assert!(!file.is_settled());
        file.replace(b"").unwrap();
        let line = "x".repeat(1024 * 1024);
        for is_settled in [true, true, true, false] {
            file.append(&line, false).unwrap();
            assert_eq!(file.is_settled(), is_settled);
        }
        file.replace(b"").unwrap();
        assert!(file.is_settled());
    }
}
