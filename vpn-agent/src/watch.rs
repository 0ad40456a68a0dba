//! Follows the file of the desired state.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How long after the first sign of a change the file is read, so that a burst of events is one change.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// How often the file is read without a sign: inotify does not see changes on network file systems, nor behind a link
/// into another folder.
const POLL: Duration = Duration::from_secs(10);

/// A file and what was last seen of it.
pub struct StateFile {
    path: PathBuf,
    /// `None` until the first reading, which always is a change.
    seen: Option<Result<Vec<u8>, io::ErrorKind>>,
    signs: mpsc::Receiver<()>,
    /// When to read next.
    due: Instant,
    _watcher: RecommendedWatcher,
}

impl StateFile {
    /// Starts to follow the file at `path`, which may be absent.
    ///
    /// # Errors
    /// If the folder of the file cannot be watched.
    pub fn follow(path: &Path) -> notify::Result<Self> {
        let (sender, signs) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may stand for lost events.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            // A full channel holds a sign already.
            let _ = sender.try_send(());
        })?;
        // The folder and not the file: a file that is replaced by a rename takes its watch with it.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { path: path.to_owned(), seen: None, signs, due: Instant::now(), _watcher: watcher })
    }

    /// Waits until the content, or the error on reading it, differs from what was returned before. The first call
    /// returns at once. May be cancelled without losing a change.
    pub async fn changed(&mut self) -> io::Result<Vec<u8>> {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.due) => {}
                Some(()) = self.signs.recv() => {
                    self.due = self.due.min(Instant::now() + DEBOUNCE);
                    continue;
                }
            }
            self.due = Instant::now() + POLL;
            let content = fs::read(&self.path);
            let seen = content.as_ref().map(Vec::clone).map_err(io::Error::kind);
            if self.seen.as_ref() != Some(&seen) {
                self.seen = Some(seen);
                return content;
            }
        }
    }
}

/// Whether an event comes from reading only, as our own reading does.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Requirements: G2.
    #[tokio::test]
    async fn every_way_to_change_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut file = StateFile::follow(&path).unwrap();
        assert_eq!(soon(&mut file).await.unwrap_err().kind(), io::ErrorKind::NotFound, "the first call returns");

        fs::write(&path, "one").unwrap();
        assert_eq!(soon(&mut file).await.unwrap(), b"one", "made");
        fs::write(&path, "two").unwrap();
        assert_eq!(soon(&mut file).await.unwrap(), b"two", "written in place");
        vpn_directory::replace(&path, b"three").unwrap();
        assert_eq!(soon(&mut file).await.unwrap(), b"three", "renamed into place");
        vpn_directory::replace(&path, b"four").unwrap();
        assert_eq!(soon(&mut file).await.unwrap(), b"four", "and again");
        fs::remove_file(&path).unwrap();
        assert!(soon(&mut file).await.is_err(), "removed");
    }

    #[tokio::test]
    async fn what_is_the_same_is_no_change_and_a_cancelled_call_loses_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "one").unwrap();
        let mut file = StateFile::follow(&path).unwrap();
        soon(&mut file).await.unwrap();

        vpn_directory::replace(&path, b"one").unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(timeout(Duration::from_millis(300), file.changed()).await.is_err(), "nothing has changed");

        fs::write(&path, "two").unwrap();
        for _ in 0..20 {
            if let Ok(content) = timeout(Duration::from_millis(1), file.changed()).await {
                assert_eq!(content.unwrap(), b"two");
                return;
            }
        }
        assert_eq!(soon(&mut file).await.unwrap(), b"two");
    }

    async fn soon(file: &mut StateFile) -> io::Result<Vec<u8>> {
        // Well under `POLL`: it was the event that was seen.
        timeout(Duration::from_secs(5), file.changed()).await.expect("a change is seen")
    }
}
