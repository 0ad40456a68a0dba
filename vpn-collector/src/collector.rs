//! From the kernel's maps to rows, one batch at a time.
//!
//! There is never more than one batch under way into a table. While ClickHouse does not take it no new rows are made
//! for that table: what is in the maps is safe there, and its totals will be later ones when they are. Flows that are
//! over are ended all the while, as far as there is room for them: the programs limit how many a user may have.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use rustix::{
    fs::{FlockOperation, flock},
    time::ClockId,
};
use tokio::task::block_in_place;
use tracing::{info, warn};
use vpn_directory::Directory;

use crate::{
    attribution::{Attribution, Names},
    clock::{self, Clock},
    config::Config,
    identity::Identity,
    kernel::{self, Kernel},
    row::{DenialRow, FlowRow},
    sweep::{Batch, Sweep},
    unrecorded::Growth,
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
    /// What must survive a restart cannot be read or kept, or the date is not set.
    #[error("state_dir: {0}")]
    State(#[from] io::Error),
    /// Another collector works for the same maps.
    #[error("state_dir is in use by another vpn-collector run; one per gateway host")]
    Locked,
}

/// Reads the kernel and writes rows.
pub struct Collector {
    pin_dir: PathBuf,
    /// None until the agent has pinned the maps.
    kernel: Option<Kernel>,
    sweep: Sweep,
    names: Names,
    clock: Clock,
    identity: Identity,
    /// Held while this collector lives.
    _lock: File,
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
    /// [`Error::State`], [`Error::Locked`].
    pub fn new(config: &Config, client: &clickhouse::Client) -> Result<Self, Error> {
        fs::create_dir_all(&config.state_dir)?;
        let lock = File::create(config.state_dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_held| Error::Locked)?;
        let clock = Clock::open(&config.state_dir)?;
        Ok(Self {
            pin_dir: config.pin_dir.clone(),
            kernel: None,
            sweep: Sweep::default(),
            names: Names::new(&config.directory),
            identity: Identity::open(&config.state_dir, clock.boot())?,
            clock,
            _lock: lock,
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
        let earlier = self.store().await;
        let takes = self.flows.is_empty() || self.denials.is_empty();
        if scope == Scope::Events && !takes {
            return earlier;
        }
        // Asked before the maps are read, so that what is read then is all that they will ever hold. Only if all of it
        // can become rows now is it the last time.
        let replaced = scope == Scope::Maps
            && self.unsent() == 0
            && self.names.current().is_some()
            && self.kernel.as_ref().is_some_and(|kernel| !kernel.is_pinned(&self.pin_dir));
        if let Some(batch) = block_in_place(|| self.read(scope))? {
            self.attribute(batch);
            if takes {
                self.store().await?;
            }
        }
        if replaced {
            info!("the agent has made new maps, the old ones are stored");
            (self.kernel, self.sweep) = (None, Sweep::default());
        }
        earlier
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

    /// Makes rows of a batch, for the tables that have taken what they were given before. What the directory has no
    /// name for yet is left out, so that it counts as not stored and comes again.
    fn attribute(&mut self, batch: Batch) {
        let directory = self.names.current();
        for growth in &batch.unrecorded {
            warn_of(growth, directory);
        }
        let Some(directory) = directory else {
            if !batch.is_empty() {
                warn!("the agent has published no directory yet; flows wait in the kernel");
            }
            return;
        };
        let attribution = Attribution { directory, clock: &self.clock, identity: &self.identity };
        let mut nameless = 0;
        if self.flows.is_empty() {
            for snapshot in batch.flows {
                let Some(row) = attribution.flow(&snapshot) else {
                    nameless += 1;
                    continue;
                };
                self.flows.push(row);
                self.pending.flows.push(snapshot);
            }
        }
        if self.denials.is_empty() {
            for refusal in batch.denials {
                let Some(row) = attribution.denial(&refusal) else {
                    nameless += 1;
                    continue;
                };
                self.denials.push(row);
                self.pending.denials.push(refusal);
            }
        }
        if nameless > 0 {
            warn!(nameless, "the directory has no name for some ids yet; they wait in the kernel");
        }
    }

    /// Sends the writers' rows and notes that they are stored. A table that fails does not hold up the other.
    async fn store(&mut self) -> Result<(), Error> {
        let flows = self.flows.flush().await;
        let denials = self.denials.flush().await;
        if let Some(kernel) = &mut self.kernel {
            if flows.is_ok() {
                self.sweep.flows_stored(kernel, &std::mem::take(&mut self.pending.flows))?;
            }
            if denials.is_ok() {
                self.sweep.denials_stored(kernel, &std::mem::take(&mut self.pending.denials))?;
            }
        }
        match (flows, denials) {
            (Ok(()), denials) => Ok(denials?),
            (Err(flows), denials) => {
                if let Err(denials) = denials {
                    warn!("{denials}");
                }
                Err(flows.into())
            }
        }
    }
}

fn warn_of(growth: &Growth, directory: Option<&Directory>) {
    let Growth { peer, more, total } = growth;
    let user = directory.and_then(|directory| directory.peer(*peer)).map(|peer| peer.user.as_str());
    warn!(
        peer,
        user,
        packets = more.packets,
        bytes = more.bytes,
        packets_in_all = total.packets,
        bytes_in_all = total.bytes,
        "refused packets of a peer have no row, as the map DENIED was full; raise datapath.denials_max",
    );
}
