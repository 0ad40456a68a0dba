//! Where this process finds ClickHouse: a server, this process, or another collector on this host.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clickhouse::Client;
use tokio::{
    net::TcpStream,
    time::{self, Instant},
};

use crate::{
    client,
    config::{Config, Embedded},
    embedded::{self, Store},
    endpoint::{self, Endpoint},
    schema,
};

/// How long a command waits for a collector that is starting.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at whether it has started.
const START_POLL: Duration = Duration::from_millis(100);

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
    /// See [`schema::Error`].
    #[error(transparent)]
    Schema(#[from] schema::Error),
}

impl Error {
    /// Whether it may end by itself: another process still has the store, or a server does not answer yet.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Store(embedded::Error::Locked { .. }) | Self::Schema(schema::Error::Statement { .. }))
    }
}

/// A ClickHouse to talk to.
pub struct Access {
    /// See [`client::client`].
    pub client: Client,
    /// Where it is, for people.
    pub url: String,
    /// The embedded store, where this process serves it.
    served: Option<Served>,
}

struct Served {
    endpoint: Endpoint,
    store: Arc<Store>,
}

impl Access {
    /// For the process that writes: a configured server, else the embedded store, opened and served here. The audit
    /// tables are there afterwards.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn own(config: &Config) -> Result<Self, Error> {
        let Some(url) = &config.clickhouse.url else {
            return Self::serve(config).await;
        };
        let access = Self::at(url.clone(), config, None)?;
        schema::apply(&access.client, &config.clickhouse.database).await?;
        Ok(access)
    }

    /// For a command beside it: a configured server, else the endpoint of a collector on this host, which may be about
    /// to start, else the embedded store as it is. The audit tables are as they are.
    ///
    /// # Errors
    /// See [`Error`]. A server is not asked yet.
    pub async fn beside(config: &Config) -> Result<Self, Error> {
        if let Some(url) = &config.clickhouse.url {
            return Self::at(url.clone(), config, None);
        }
        let embedded @ Embedded { listen, path, .. } = config.embedded.as_ref().ok_or(Error::NotConfigured)?;
        let begun = Instant::now();
        loop {
            if TcpStream::connect(listen).await.is_ok() {
                return Self::at(format!("http://{listen}"), config, None);
            }
            // A store that this command made would be in the way of a collector that is about to make it.
            if !path.exists() {
                return Err(Error::NoStore { path: path.clone() });
            }
            match Store::open(embedded) {
                Err(embedded::Error::Locked { .. }) if begun.elapsed() < START_LIMIT => time::sleep(START_POLL).await,
                opened => return Self::listen(Arc::new(opened?), *listen, config).await,
            }
        }
    }

    /// Opens the embedded store and serves it, whether or not there is a server as well. Nobody is served before the
    /// audit tables are there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn serve(config: &Config) -> Result<Self, Error> {
        let embedded = config.embedded.as_ref().ok_or(Error::NotConfigured)?;
        let store = Arc::new(Store::open(embedded)?);
        // At a port that nobody knows.
        let access = Self::listen(Arc::clone(&store), (Ipv4Addr::LOCALHOST, 0).into(), config).await?;
        let applied = schema::apply(&access.client, &config.clickhouse.database).await;
        access.stop_serving().await;
        if let Err(error) = applied {
            store.close().await;
            return Err(error.into());
        }
        Self::listen(store, embedded.listen, config).await
    }

    /// Closes the embedded store, if it is served here. Without this the engine ends in the middle of its work,
    /// which costs no acknowledged row but a recovery at the next start.
    pub async fn close(self) {
        if let Some(store) = self.stop_serving().await {
            store.close().await;
        }
    }

    async fn stop_serving(self) -> Option<Arc<Store>> {
        let Served { endpoint, store } = self.served?;
        endpoint.stop().await;
        Some(store)
    }

    async fn listen(store: Arc<Store>, address: SocketAddr, config: &Config) -> Result<Self, Error> {
        let credentials = client::credentials(&config.clickhouse)?;
        let endpoint = Endpoint::start(Arc::clone(&store), address, credentials).await?;
        let url = format!("http://{}", endpoint.address());
        Self::at(url, config, Some(Served { endpoint, store }))
    }

    fn at(url: String, config: &Config, served: Option<Served>) -> Result<Self, Error> {
        Ok(Self { client: client::client(&url, &config.clickhouse)?, url, served })
    }
}
