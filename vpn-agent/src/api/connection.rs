//! One connection: HTTP/1.1 with limits.

use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tracing::debug;

use crate::actor::Actor;

/// How long a client may take for the head of a request, and stay silent between two.
const HEAD: Duration = Duration::from_secs(60);

/// The largest head of a request, and what is read ahead of a body, bytes.
const BUFFER: usize = 64 << 10;

/// After this the answer to the request that there is is the last one.
const LIFE: Duration = Duration::from_secs(600);

/// How long that may take.
const LAST: Duration = Duration::from_secs(300);

/// Serves a connection until it ends.
pub(crate) async fn serve<S>(stream: S, actor: Actor, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(actor.clone())));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(LIFE) => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST, connection).await {
                Ok(ended) => ended,
                Err(_) => return debug!(%actor, "the connection is cut: it takes too long"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%actor, "the connection ended: {error}");
    }
}
