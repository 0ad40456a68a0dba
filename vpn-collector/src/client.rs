//! The official ClickHouse client, set up the one way that all of this program uses it.

use std::{fs, io, path::PathBuf, time::Duration};

use clickhouse::{Client, Compression};
use tokio::time;

use crate::{config::ClickHouse, endpoint::Credentials};

/// Why the client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The password file cannot be read.
    #[error("clickhouse.password_file {}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The password file's first line is empty.
    #[error("clickhouse.password_file {}: its first line is empty; write the password there", path.display())]
    Empty {
        /// The file concerned.
        path: PathBuf,
    },
}

/// User and password, if there is a password.
///
/// # Errors
/// See [`Error`].
pub fn credentials(config: &ClickHouse) -> Result<Option<Credentials>, Error> {
    let Some(path) = &config.password_file else { return Ok(None) };
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.clone(), source })?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => {
            Ok(Some(Credentials { user: config.user.clone(), password: password.to_owned() }))
        }
        _ => Err(Error::Empty { path: path.clone() }),
    }
}

/// A client of the ClickHouse at `url`. Connects to nothing yet.
///
/// # Errors
/// See [`Error`].
pub fn client(url: &str, config: &ClickHouse) -> Result<Client, Error> {
    let client = Client::default()
        .with_url(url)
        .with_user(&config.user)
        .with_database(&config.database)
        .with_product_info(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        // The path to the store is loopback or a private network; the embedded store takes no compressed data.
        .with_compression(Compression::None)
        // Otherwise an insert is acknowledged before it is on disk, unless told to wait.
        .with_setting("async_insert", "0")
        // Merging the rows of one insert at once takes the engine half of its time, and a background merge follows.
        .with_setting("optimize_on_insert", "0");
    Ok(match credentials(config)? {
        Some(Credentials { password, .. }) => client.with_password(password),
        None => client,
    })
}

/// Waits for an answer of ClickHouse, but no longer than `limit`.
///
/// The client has no limit of its own: it would wait for a server that takes the connection and then stays silent for
/// as long as that keeps the connection up.
///
/// # Errors
/// Those of `answer`, and [`clickhouse::error::Error::TimedOut`].
pub async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = clickhouse::error::Result<T>>,
) -> clickhouse::error::Result<T> {
    time::timeout(limit, answer).await.unwrap_or(Err(clickhouse::error::Error::TimedOut))
}
