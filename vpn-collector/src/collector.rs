//! From the kernel's maps to rows, one batch at a time.
//!
//! There is never more than one batch under way. While ClickHouse is out of reach nothing new is read: what is in
//! the maps is safe there, and its totals will be later ones when it is read.

use std::{io, path::PathBuf};

use rustix::time::ClockId;
use tokio::task::block_in_place;
use tracing::{info, warn};

use crate::{
    attribution::{Attribution, Names},
    clock::{self, Clock},
    config::Config,
    identity::Identity,
    kernel::{self, Kernel},
    row::{DenialRow, FlowRow},
    sweep::{Batch, Sweep},
    writer::{self, Writer},
};

/// How much of the kernel a pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// New flows and refusals from the ring buffer.
    Events,
    /// All maps.
    Maps,
}

/// Why a pass did not store everything. Nothing is lost by any of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`writer::Error`].
    #[error(transparent)]
    Writer(#[from] writer::Error),
    /// See [`kernel::Error`].
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The boot's clock offsets could not be kept.
    #[error("clock offsets in state_dir: {0}")]
    Clock(#[from] io::Error),
}

/// Reads the kernel and writes rows.
pub struct Collector {
    pin_dir: PathBuf,
    /// None until the agent has pinned the maps.
    kernel: Option<Kernel>,
    sweep: Sweep,
    names: Names,
    clock: Clock,
    flows: Writer<FlowRow>,
    denials: Writer<DenialRow>,
    /// What the writers hold.
    pending: Batch,
    /// Records taken from the ring buffer in one pass, at most.
    batch_rows: usize,
}

impl Collector {
    /// A collector that has read nothing yet.
    ///
    /// # Errors
    /// [`Error::Clock`].
    pub fn new(config: &Config, client: &clickhouse::Client) -> Result<Self, Error> {
        std::fs::create_dir_all(&config.state_dir)?;
        Ok(Self {
            pin_dir: config.pin_dir.clone(),
            kernel: None,
            sweep: Sweep::default(),
            names: Names::new(&config.directory),
            clock: Clock::open(&config.state_dir)?,
            flows: Writer::new(client.clone(), config.flush.rows),
            denials: Writer::new(client.clone(), config.flush.rows),
            pending: Batch::default(),
            batch_rows: config.flush.rows,
        })
    }

    /// Stores what an earlier pass could not, then what the kernel has now.
    ///
    /// # Errors
    /// See [`Error`]; the next pass takes it up again.
    pub async fn pass(&mut self, scope: Scope) -> Result<(), Error> {
        self.clock.observe()?;
        self.store().await?;
        let Some(batch) = block_in_place(|| self.read(scope))? else { return Ok(()) };
        self.pending = self.attribute(batch);
        self.store().await
    }

    /// Rows that ClickHouse has not acknowledged.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.flows.len() + self.denials.len()
    }

    /// None while the agent has not pinned the maps.
    fn read(&mut self, scope: Scope) -> Result<Option<Batch>, kernel::Error> {
        if self.kernel.is_none() {
            match Kernel::open(&self.pin_dir) {
                Ok(kernel) => {
                    info!(pins = %self.pin_dir.display(), "ready: reading the kernel's maps");
                    self.kernel = Some(kernel);
                }
                Err(error) if scope == Scope::Maps => {
                    warn!("waiting for the agent to pin the maps: {error}");
                    return Ok(None);
                }
                Err(_) => return Ok(None),
            }
        }
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        match scope {
            Scope::Events => Ok(Some(self.sweep.events(kernel, self.batch_rows))),
            Scope::Maps => self.sweep.all(kernel, clock::now_ns(ClockId::Boottime)).map(Some),
        }
    }

    /// Makes rows of a batch. What the directory has no name for yet is left out, so that it counts as not stored
    /// and comes again.
    fn attribute(&mut self, batch: Batch) -> Batch {
        let Some(directory) = self.names.current() else {
            if !batch.is_empty() {
                warn!("the agent has published no directory yet; flows wait in the kernel");
            }
            return Batch::default();
        };
        let identity = Identity::new(&directory.gateway, self.clock.boot());
        let attribution = Attribution { directory, clock: &self.clock, identity: &identity };
        let total = batch.flows.len() + batch.denials.len();
        let mut named = Batch::default();
        for snapshot in batch.flows {
            if let Some(row) = attribution.flow(&snapshot) {
                self.flows.push(row);
                named.flows.push(snapshot);
            }
        }
        for (key, denial) in batch.denials {
            if let Some(row) = attribution.denial(&key, &denial) {
                self.denials.push(row);
                named.denials.push((key, denial));
            }
        }
        let nameless = total - named.flows.len() - named.denials.len();
        if nameless > 0 {
            warn!(nameless, "the directory has no name for some ids yet; they wait in the kernel");
        }
        named
    }

    /// Sends the writers' rows and notes that they are stored. A table that fails does not hold up the other.
    async fn store(&mut self) -> Result<(), Error> {
        let flows = self.flows.flush().await;
        let denials = self.denials.flush().await;
        flows.and(denials)?;
        let stored = std::mem::take(&mut self.pending);
        if let Some(kernel) = &mut self.kernel {
            self.sweep.stored(kernel, &stored)?;
        }
        Ok(())
    }
}
