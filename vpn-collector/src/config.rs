//! `collector.toml`.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

/// The configuration file, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's directory file, see `vpn-directory`.
    pub directory: PathBuf,
    /// Folder for what must survive a restart.
    pub state_dir: PathBuf,
    /// Folder of the agent's pins, `datapath.pin_dir` in its configuration.
    #[serde(default = "default_pin_dir")]
    pub pin_dir: PathBuf,
    /// Milliseconds between two passes over the kernel's maps.
    #[serde(default = "one_second")]
    pub sweep_ms: u64,
    /// Where rows go.
    #[serde(default)]
    pub clickhouse: ClickHouse,
    /// The store to use without a ClickHouse server, and the one that `vpn-collector serve` serves.
    pub embedded: Option<Embedded>,
    /// How rows go.
    #[serde(default)]
    pub flush: Flush,
}

/// `[clickhouse]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouse {
    /// `http://host:port` of a server's HTTP interface. Without it the embedded store is used.
    pub url: Option<String>,
    /// User of the server; also the one that the embedded store's endpoint asks for, given a password.
    pub user: String,
    /// File whose first line is the password. Not the password itself: this file may be read by more people.
    pub password_file: Option<PathBuf>,
    /// Database of the audit tables.
    pub database: String,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self { url: None, user: "default".into(), password_file: None, database: "audit".into() }
    }
}

/// `[embedded]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// libchdb.so, version 26.7.
    pub library: PathBuf,
    /// Data directory, created if need be. One process at a time.
    pub path: PathBuf,
    /// Loopback address of its ClickHouse HTTP interface.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
}

/// `[flush]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flush {
    /// Milliseconds between two looks at the ring buffer for new flows and refusals.
    pub interval_ms: u64,
    /// Rows of one insert, at most.
    pub rows: usize,
}

impl Default for Flush {
    fn default() -> Self {
        Self { interval_ms: one_second(), rows: 100_000 }
    }
}

impl Flush {
    /// [`Flush::interval_ms`]
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// Why a configuration was refused. It names the file, and where and what is wrong in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML, a field of the wrong type, or one that is missing or unknown.
    #[error("{}: {source}", path.display())]
    Toml {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that is not allowed.
    #[error("{}: {field}: {why}", path.display())]
    Value {
        /// The file concerned.
        path: PathBuf,
        /// Name of the field, with its table.
        field: &'static str,
        /// What is wrong, and what is allowed.
        why: String,
    },
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let config: Self =
            toml::from_str(&text).map_err(|source| Error::Toml { path: path.to_owned(), source: Box::new(source) })?;
        config.check().map_err(|(field, why)| Error::Value { path: path.to_owned(), field, why })?;
        Ok(config)
    }

    /// [`Config::sweep_ms`]
    #[must_use]
    pub const fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        in_range("sweep_ms", self.sweep_ms, 10, 3_600_000)?;
        in_range("flush.interval_ms", self.flush.interval_ms, 10, 3_600_000)?;
        in_range("flush.rows", self.flush.rows as u64, 1, 1_000_000)?;
        let ClickHouse { url, database, .. } = &self.clickhouse;
        match (url, &self.embedded) {
            (None, None) => {
                let why = "missing; give the URL of a ClickHouse server, or an [embedded] table to use the library";
                return Err(("clickhouse.url", why.into()));
            }
            (Some(url), _) if !url.starts_with("http://") => {
                let why = format!("{url:?} does not begin with http://; TLS to a server is a proxy's work here");
                return Err(("clickhouse.url", why));
            }
            _ => {}
        }
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        if !database.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
            || !database.bytes().next().is_some_and(letter)
        {
            let why = format!("{database:?} is not a name; use letters, digits and _, not beginning with a digit");
            return Err(("clickhouse.database", why));
        }
        if let Some(Embedded { listen, .. }) = &self.embedded
            && !listen.ip().is_loopback()
        {
            let why = format!("{listen} is not on this host only; use 127.0.0.1:PORT or [::1]:PORT");
            return Err(("embedded.listen", why));
        }
        Ok(())
    }
}

fn in_range(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), (&'static str, String)> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err((field, format!("{value} is not between {least} and {most}")))
}

const fn one_second() -> u64 {
    1000
}

fn default_pin_dir() -> PathBuf {
    vpn_ebpf_common::names::PIN_DIR.into()
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8123).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMBEDDED: &str = "directory = '/d'\nstate_dir = '/s'\n[embedded]\nlibrary = '/l'\npath = '/p'\n";

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read(EMBEDDED).unwrap();
        assert_eq!((config.sweep(), config.flush.interval()), (Duration::from_secs(1), Duration::from_secs(1)));
        assert_eq!(config.clickhouse, ClickHouse::default());
        assert_eq!(config.clickhouse.database, "audit");
        assert_eq!(config.embedded.unwrap().listen, "127.0.0.1:8123".parse().unwrap());
    }

    #[test]
    fn a_server_needs_no_embedded_store() {
        let config = read("directory = '/d'\nstate_dir = '/s'\nclickhouse.url = 'http://[fd00::1]:8123'\n").unwrap();
        assert_eq!(config.embedded, None);
    }

    /// Requirements: G4.
    #[test]
    fn a_bad_field_is_named_with_what_is_allowed() {
        for (text, expected) in [
            (&*format!("{EMBEDDED}listen = '0.0.0.0:8123'"), &["embedded.listen", "127.0.0.1"][..]),
            (&format!("{EMBEDDED}listen = '127.0.0.1'"), &["listen"]),
            (&format!("{EMBEDDED}lissten = '127.0.0.1:1'"), &["lissten", "listen"]),
            (&format!("{EMBEDDED}[flush]\nrows = 0"), &["flush.rows", "1 and 1000000"]),
            (&format!("{EMBEDDED}[flush]\ninterval_ms = 0"), &["flush.interval_ms", "between"]),
            (&format!("{EMBEDDED}[clickhouse]\ndatabase = 'a-b'"), &["clickhouse.database", "letters"]),
            (&format!("{EMBEDDED}[clickhouse]\nurl = 'https://a'"), &["clickhouse.url", "http://"]),
            (&format!("{EMBEDDED}[clickhouse]\npassword = 'x'"), &["password", "password_file"]),
            (&format!("sweep_ms = 1\n{EMBEDDED}"), &["sweep_ms", "between"]),
            ("directory = '/d'\nstate_dir = '/s'\n", &["clickhouse.url", "[embedded]"]),
            ("state_dir = '/s'\n", &["directory"]),
        ] {
            let error = read(text).unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "{text}\n→ {error}\nlacks {part}");
            }
        }
    }

    fn read(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }
}
