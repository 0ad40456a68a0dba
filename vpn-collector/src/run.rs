//! The collector's main loop, and serving the embedded store alone.

use std::{future::Future, time::Duration};

use tokio::time::{self, MissedTickBehavior};
use tracing::{info, warn};

use crate::{
    collector::{self, Collector, Scope},
    config::Config,
    store::{self, Access},
};

/// Between two attempts to open the store.
const RETRY: Duration = Duration::from_secs(1);

/// Why the collector did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`store::Error`].
    #[error(transparent)]
    Store(#[from] store::Error),
    /// See [`collector::Error`].
    #[error(transparent)]
    Collector(#[from] collector::Error),
}

/// Collects until `stop` is ready: new flows and refusals every
/// [`Flush::interval_ms`](crate::config::Flush::interval_ms), everything that changed every [`Config::sweep_ms`]. At
/// the end one last pass over everything is made.
///
/// # Errors
/// See [`Error`], at the start only. Later failures are logged, and the rows sent again.
pub async fn run(config: &Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    tokio::pin!(stop);
    let access = tokio::select! {
        () = &mut stop => return Ok(()),
        access = open(config) => access?,
    };
    let mut collector = Collector::new(config, &access.client)?;
    let mut sweeps = time::interval(config.sweep());
    let mut events = time::interval(config.flush.interval());
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    events.set_missed_tick_behavior(MissedTickBehavior::Skip);
    info!(clickhouse = %access.url, "the audit tables are in place");
    loop {
        let scope = tokio::select! {
            () = &mut stop => break,
            _ = sweeps.tick() => Scope::Maps,
            _ = events.tick() => Scope::Events,
        };
        // Not beside `stop` in the selection: a pass that was begun is ended, within the writers' time limits.
        warn_of(collector.pass(scope).await);
    }
    warn_of(collector.pass(Scope::Maps).await);
    access.close().await;
    info!(rows_unsent = collector.unsent(), "ended");
    Ok(())
}

/// Serves the embedded store until `stop` is ready.
///
/// # Errors
/// See [`Error`].
pub async fn serve(config: &Config, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let access = Access::serve(config).await?;
    info!(clickhouse = %access.url, "serving the embedded store");
    stop.await;
    access.close().await;
    info!("ended");
    Ok(())
}

/// Opens the store and creates what is missing, as soon as that can be: a query that was begun before this program may
/// still have the store, and a server may start later than this host.
async fn open(config: &Config) -> Result<Access, store::Error> {
    loop {
        match Access::own(config).await {
            Err(error) if error.is_temporary() => {
                warn!("flows wait in the kernel, trying again: {error}");
                time::sleep(RETRY).await;
            }
            opened => return opened,
        }
    }
}

fn warn_of(result: Result<(), collector::Error>) {
    if let Err(error) = result {
        warn!("{error}");
    }
}
