//! Where this process finds ClickHouse: a server, this process, or another collector on this host.

use std::path::PathBuf;

use clickhouse::Client;
use tokio::net::TcpStream;

use crate::{
    client,
    config::{Config, Embedded},
    embedded::{self, Store},
    endpoint::{self, Endpoint},
};

/// Why ClickHouse is out of reach.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `[embedded]` table.
    #[error("[embedded] is missing in the configuration; give library and path of the embedded store")]
    NotConfigured,
    /// Nothing was ever stored.
    #[error("embedded.path {}: no store yet; `vpn-collector run` makes it", path.display())]
    NoStore {
        /// Where it would be.
        path: PathBuf,
    },
    /// See [`client::Error`].
    #[error(transparent)]
    Client(#[from] client::Error),
    /// See [`embedded::Error`].
    #[error(transparent)]
    Store(#[from] embedded::Error),
    /// See [`endpoint::Error`].
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
}

/// A ClickHouse to talk to.
pub struct Access {
    /// See [`client::client`].
    pub client: Client,
    /// Where it is, for people.
    pub url: String,
    /// The embedded store, where this process serves it.
    endpoint: Option<Endpoint>,
}

impl Access {
    /// For the process that writes: a configured server, else the embedded store, opened and served here.
    ///
    /// # Errors
    /// See [`Error`]. A server is not asked yet.
    pub async fn own(config: &Config) -> Result<Self, Error> {
        match &config.clickhouse.url {
            Some(url) => Self::at(url.clone(), config),
            None => Self::serve(config).await,
        }
    }

    /// For a command beside it: as [`Access::own`], but through the endpoint of a collector that already runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn beside(config: &Config) -> Result<Self, Error> {
        let (None, Some(Embedded { listen, path, .. })) = (&config.clickhouse.url, &config.embedded) else {
            return Self::own(config).await;
        };
        if TcpStream::connect(listen).await.is_ok() {
            return Self::at(format!("http://{listen}"), config);
        }
        // A store that this command made would be in the way of a collector that is about to make it.
        if !path.exists() {
            return Err(Error::NoStore { path: path.clone() });
        }
        Self::serve(config).await
    }

    /// Opens the embedded store and serves it, whether or not there is a server as well.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn serve(config: &Config) -> Result<Self, Error> {
        let embedded = config.embedded.as_ref().ok_or(Error::NotConfigured)?;
        let credentials = client::credentials(&config.clickhouse)?;
        let endpoint = Endpoint::start(Store::open(embedded)?, embedded.listen, credentials).await?;
        let access = Self::at(format!("http://{}", endpoint.address()), config)?;
        Ok(Self { endpoint: Some(endpoint), ..access })
    }

    /// Closes the embedded store, if it is served here. Without this the engine ends in the middle of its work,
    /// which costs no acknowledged row but a recovery at the next start.
    pub async fn close(self) {
        if let Some(endpoint) = self.endpoint {
            endpoint.stop().await;
        }
    }

    fn at(url: String, config: &Config) -> Result<Self, Error> {
        Ok(Self { client: client::client(&url, &config.clickhouse)?, url, endpoint: None })
    }
}
