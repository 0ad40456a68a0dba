//! The HTTP API: by a Unix socket, and by TLS with certificates on both sides (requirement G2).
//!
//! [`Server`] is the outside: who may connect, how many, for how long. What can be called is in [`routes`], each call
//! with its description, from which the OpenAPI document is made. What a call does is done by the one task that owns
//! the state and the kernel ([`crate::control`]), in the order of the calls.

mod allocations;
mod answer;
mod asked;
mod certificates;
mod changes;
pub(crate) mod connection;
mod endpoint;
mod explain;
mod failure;
mod health;
mod openapi;
mod routes;
mod state;
mod status;
mod tls;
mod unix;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State as Shared, http::StatusCode};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, error, warn};

pub(crate) use self::tls::{certificates, private_key, roots};
use self::{
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{config::Api as Config, control::Handle};

/// How long a client may take for its part of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait when the system takes no connection, for example because there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the API cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be made.
    #[error("api.socket: {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The port cannot be had.
    #[error("api.tls.listen: {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be used for TLS.
    #[error("{}: {what}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl Error {
    pub(crate) fn tls(path: &Path, what: impl fmt::Display) -> Self {
        Self::Tls { path: path.to_owned(), what: what.to_string() }
    }
}

/// What every call can use.
#[derive(Clone)]
struct App {
    control: Handle,
    /// The largest body of a call, bytes.
    body_max: usize,
    /// For whole states, of which one is read at a time.
    whole_states: Arc<Semaphore>,
    /// For looks at the kernel, of which there is one at a time.
    health: Arc<Semaphore>,
    /// The OpenAPI document.
    document: Arc<Value>,
}

/// The routes of every call.
pub fn routes(control: Handle, config: &Config) -> Router {
    let endpoints = endpoints();
    let app = App {
        control,
        body_max: config.body_max_bytes as usize,
        whole_states: Arc::new(Semaphore::new(1)),
        health: Arc::new(Semaphore::new(1)),
        document: Arc::new(openapi::document(&endpoints)),
    };
    endpoint::router(endpoints)
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is no such path; GET /v1/openapi.json lists all"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not possible here; GET /v1/openapi.json says what is")
        })
        .with_state(app)
}

fn endpoints() -> Vec<Endpoint> {
    let document = Endpoint::new(
        Method::Get,
        "/v1/openapi.json",
        async |Shared(app): Shared<App>| Json(Value::clone(&app.document)),
        "This document",
        "Every call, in the format OpenAPI 3.1.",
    )
    .answers::<Value>(200, "The document.", &json!({"openapi": "3.1.0"}));
    state::endpoints()
        .into_iter()
        .chain(changes::endpoints())
        .chain(certificates::endpoints())
        .chain(allocations::endpoints())
        .chain(routes::endpoints())
        .chain(explain::endpoints())
        .chain(status::endpoints())
        .chain(health::endpoints())
        .chain([document])
        .collect()
}

/// Takes calls until it is dropped.
pub struct Server {
    tasks: JoinSet<()>,
    /// Where TLS is spoken, if it is.
    pub tls: Option<SocketAddr>,
}

impl Server {
    /// Opens what the configuration says.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: &Config, router: Router) -> Result<Self, Error> {
        let mut server = Self { tasks: JoinSet::new(), tls: None };
        // Of their own each, so that nobody from outside can keep the host's administrator out.
        let connections = || Arc::new(Semaphore::new(config.connections_max as usize));
        if let Some(path) = &config.socket {
            let listener = unix::bind(path)?;
            server.tasks.spawn(by_socket(listener, router.clone(), connections()));
        }
        if let Some(tls) = &config.tls {
            let acceptor = tls::Acceptor::open(tls.clone())?;
            let address = tls.listen;
            let failed = |source| Error::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            server.tls = Some(listener.local_addr().map_err(failed)?);
            server.tasks.spawn(by_tls(listener, acceptor, router, connections()));
        }
        Ok(server)
    }
}

async fn by_socket(listener: UnixListener, router: Router, connections: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await.and_then(|(stream, _)| Ok((unix::actor(&stream)?, stream))) {
            Ok((actor, stream)) => {
                let router = router.clone();
                open.spawn(async move {
                    connection::serve(stream, actor, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!("api.socket: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn by_tls(listener: TcpListener, mut acceptor: tls::Acceptor, router: Router, connections: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("api.tls: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, router) = (acceptor.current(), router.clone());
        open.spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    match certificate.and_then(tls::actor) {
                        Some(actor) => connection::serve(stream, actor, router).await,
                        None => error!(%from, "a client certificate without a name that can be logged is not let in"),
                    }
                }
                Ok(Err(error)) => debug!(%from, "no TLS: {error}"),
                Err(_) => debug!(%from, "no TLS: too slow"),
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
pub(crate) mod tests;
