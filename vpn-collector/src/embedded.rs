//! The embedded store: ClickHouse as a library inside the collector, for a gateway without a ClickHouse server.
//!
//! The data directory belongs to one process at a time. Each statement runs in a session of its own on a blocking
//! thread, so settings of one request never reach another and a long query does not hold up inserts.

mod ffi;

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task,
};

use self::ffi::{Connection, Library};
use crate::config::Embedded;

/// Statements that run at once; the next one waits. Bounds the memory of the engine on a small gateway.
const SESSIONS: u32 = 8;

/// Why the store could not be opened or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `embedded.library` is not there or not a libchdb.
    #[error("embedded.library {}: {source}; install libchdb 26.7 there or correct the path", path.display())]
    Library {
        /// The library's path.
        path: PathBuf,
        /// What the loader said.
        source: libloading::Error,
    },
    /// The data directory could not be prepared.
    #[error("embedded.path {}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the data directory.
    #[error(
        "embedded.path {}: another process has this store open; query it through its endpoint, or stop it first",
        path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The engine did not start; it wrote the reason to stderr.
    #[error("embedded.path {}: the engine did not start, see its message above", path.display())]
    Start {
        /// The data directory.
        path: PathBuf,
    },
    /// The store is being closed.
    #[error("Code: 236. DB::Exception: the store is shutting down, try again later. (ABORTED)")]
    Closed,
    /// The engine's own answer, `Code: N. DB::Exception: …`.
    #[error("{0}")]
    Exception(String),
    /// The sender of an insert went away before its end.
    #[error("Code: 210. DB::Exception: the request ended before its data did. (NETWORK_ERROR)")]
    Incomplete,
}

impl From<ffi::Exception> for Error {
    fn from(exception: ffi::Exception) -> Self {
        Self::Exception(exception.0)
    }
}

/// What a statement runs under, beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Current database; the engine's `default` without.
    pub database: Option<String>,
    /// Settings by name, set in this order.
    pub settings: Vec<(String, String)>,
    /// Values of `{name:Type}` in the statement, in the engine's escaped text form.
    pub parameters: Vec<(String, String)>,
    /// Refuse everything that changes data.
    pub read_only: bool,
}

/// The result of a statement.
#[derive(Debug)]
pub struct Answer {
    /// In the format asked for.
    pub body: Bytes,
    /// Rows read from tables.
    pub read_rows: u64,
    /// Bytes read from tables.
    pub read_bytes: u64,
    /// Rows inserted.
    pub written_rows: u64,
    /// Bytes inserted.
    pub written_bytes: u64,
}

/// A piece of an insert's data. The channel closing without [`Data::End`] means that the sender failed.
#[derive(Debug)]
pub enum Data {
    /// The next bytes.
    Chunk(Bytes),
    /// There is no more; the insert may be acknowledged.
    End,
}

/// An open data directory. See [`Store::close`].
pub struct Store {
    library: &'static Library,
    path: PathBuf,
    config: PathBuf,
    /// Keeps the engine running between statements; `None` once closed.
    keeper: Mutex<Option<Connection>>,
    sessions: Arc<Semaphore>,
    /// Held until the engine has ended.
    _lock: File,
}

impl Store {
    /// Loads the engine and opens its data directory, which is created if need be. A process can do this for one
    /// directory only.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(embedded: &Embedded) -> Result<Self, Error> {
        let (path, lock) = prepare(&embedded.path)?;
        let config = configure(&path)?;
        let library = Library::load(&embedded.library)
            .map_err(|source| Error::Library { path: embedded.library.clone(), source })?;
        let keeper =
            Connection::open(library, &path, &config).ok_or_else(|| Error::Start { path: embedded.path.clone() })?;
        Ok(Self {
            library,
            path,
            config,
            keeper: Mutex::new(Some(keeper)),
            sessions: Arc::new(Semaphore::new(SESSIONS as usize)),
            _lock: lock,
        })
    }

    /// Runs one statement and returns its result in `format`.
    ///
    /// # Errors
    /// [`Error::Exception`] with the engine's text, [`Error::Closed`].
    pub async fn query(self: &Arc<Self>, session: Session, sql: Vec<u8>, format: String) -> Result<Answer, Error> {
        self.blocking(move |store| {
            let mut connection = store.connect(&session, &sql)?;
            Ok(connection.query(&sql, &format, &session.parameters)?.into())
        })
        .await
    }

    /// Runs one insert whose data arrives in `format` through `data`; `sql` is the statement without its FORMAT
    /// clause. Acknowledged means: written and synced as the table's settings say.
    ///
    /// # Errors
    /// [`Error::Exception`] with the engine's text, [`Error::Closed`], or [`Error::Incomplete`]; rows that the
    /// engine had already taken may then be in the table, as with any ClickHouse server.
    pub async fn insert(
        self: &Arc<Self>,
        session: Session,
        sql: String,
        format: String,
        mut data: mpsc::Receiver<Data>,
    ) -> Result<Answer, Error> {
        self.blocking(move |store| {
            // Without its FORMAT clause the statement might not parse, and pass for something harmless.
            if session.read_only {
                return Err(read_only());
            }
            let mut connection = store.connect(&session, sql.as_bytes())?;
            let mut insert = connection.insert(&sql, &format, &session.parameters)?;
            loop {
                match data.blocking_recv() {
                    Some(Data::Chunk(bytes)) => insert.append(&bytes)?,
                    Some(Data::End) => return Ok(insert.finish()?.into()),
                    None => return Err(Error::Incomplete),
                }
            }
        })
        .await
    }

    /// Waits for running statements and closes the data directory. Later statements get [`Error::Closed`].
    pub async fn close(&self) {
        let all = self.sessions.acquire_many(SESSIONS).await;
        self.sessions.close();
        drop(all);
        let keeper = self.keeper.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        // Blocks while the engine stops its threads. A panic in there leaves nothing to be done about it.
        let _ = task::spawn_blocking(move || drop(keeper)).await;
    }

    /// Runs `work` on a thread that may block, once there is a free session.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit: OwnedSemaphorePermit =
            self.sessions.clone().acquire_owned().await.map_err(|_closed| Error::Closed)?;
        let store = Arc::clone(self);
        let work = move || {
            let result = work(&store);
            // Only now: the engine must not be closed under a statement whose requester has gone.
            drop(permit);
            result
        };
        task::spawn_blocking(work).await.unwrap_or(Err(Error::Closed))
    }

    /// A fresh session that is set up as asked and in which `sql` is allowed.
    fn connect(&self, session: &Session, sql: &[u8]) -> Result<Connection, Error> {
        let mut connection = Connection::open(self.library, &self.path, &self.config).ok_or(Error::Closed)?;
        if let Some(database) = &session.database {
            connection.query(format!("USE {}", identifier(database)).as_bytes(), "Null", &[])?;
        }
        let analysis = connection.classify(sql);
        if analysis.statements > 1 {
            return Err(refusal(62, "SYNTAX_ERROR", "one statement a request; send the others separately"));
        }
        if analysis.is_control() {
            let text = "SET, USE, SYSTEM, KILL and writing to files are not available here; give settings in the URL";
            return Err(refusal(48, "NOT_IMPLEMENTED", text));
        }
        if session.read_only && analysis.statements > 0 && !analysis.is_read_only() {
            return Err(read_only());
        }
        for (name, value) in &session.settings {
            connection.query(format!("SET {} = {}", identifier(name), literal(value)).as_bytes(), "Null", &[])?;
        }
        if session.read_only {
            // 2: nothing is written, but the statement may still have a SETTINGS clause.
            connection.query(b"SET readonly = 2", "Null", &[])?;
        }
        Ok(connection)
    }
}

impl From<ffi::Answer> for Answer {
    fn from(answer: ffi::Answer) -> Self {
        let [read_rows, read_bytes, written_rows, written_bytes] = answer.counts();
        Self { body: Bytes::from_owner(answer), read_rows, read_bytes, written_rows, written_bytes }
    }
}

/// Creates the folder, readable by its owner only, and locks it.
///
/// A file of our own is locked first: the engine's does not exist before its first start, so of two processes that
/// start at once, both would go on, and one engine fail.
fn prepare(path: &Path) -> Result<(PathBuf, File), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    let own = File::create(path.join("lock")).map_err(io)?;
    lock(&own, path)?;
    // The engine says only on stderr that it could not lock its file.
    match File::open(path.join("status")) {
        Ok(engine) => lock(&engine, path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    // The engine takes its paths relative to itself, not to the working directory.
    Ok((fs::canonicalize(path).map_err(io)?, own))
}

/// Locks a file, and waits a second for it: its last owner may have been killed an instant ago and still be on its way
/// out.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    for attempt in 0.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(Error::Io { path: path.to_owned(), source }),
            Err(TryLockError::WouldBlock) if attempt < 20 => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
        }
    }
    Ok(())
}

/// Writes the engine's configuration into the data directory and returns its path.
fn configure(path: &Path) -> Result<PathBuf, Error> {
    let write = |name: &str, text: &str| {
        let file = path.join(name);
        vpn_directory::replace(&file, text.as_bytes()).map_err(|source| Error::Io { path: file.clone(), source })?;
        Ok(file)
    };
    let users = write("users.xml", include_str!("embedded/users.xml"))?;
    let users = users.to_string_lossy().replace('&', "&amp;").replace('<', "&lt;");
    write(
        "config.xml",
        &format!(
            "<clickhouse>\n\
             <user_directories><users_xml><path>{users}</path></users_xml></user_directories>\n\
             <users_config>{users}</users_config>\n\
             <mark_cache_size>{MARK_CACHE}</mark_cache_size>\n\
             </clickhouse>\n"
        ),
    )
}

/// Bytes. The default of 5 GiB is meant for a server with a machine to itself.
const MARK_CACHE: u64 = 32 << 20;

fn read_only() -> Error {
    refusal(164, "READONLY", "a GET request only reads; send statements that write by POST")
}

fn refusal(code: u16, name: &str, text: &str) -> Error {
    Error::Exception(format!("Code: {code}. DB::Exception: {text}. ({name})"))
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        assert_eq!(identifier(r"a`b\"), r"`a\`b\\`");
        assert_eq!(literal(r"x' OR '\"), r"'x\' OR \'\\'");
    }
}
