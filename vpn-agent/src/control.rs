//! The one task that owns the desired state and the kernel. Whatever shall change or see either asks it, and it does
//! one thing after the other.
//!
//! A change is accepted in this order: what the caller expected holds; the new state is valid, also on this gateway; it
//! is on disk ([`crate::store`]); it is recorded who asked ([`crate::control_log`]). From then on it is in force, and
//! the kernel is made to follow. That is tried again until it works, and the caller is told if it has not worked yet.

mod accept;
mod ended;
mod replay;
mod request;

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{debug, error, info};

pub(crate) use self::replay::replay;
use self::request::Request;
pub use self::request::{Call, Condition, Given, Handle, Outcome, Refusal};
use crate::{
    actor::Origin,
    addressing::Allocations,
    change::Touched,
    config::{Config, Source},
    control_log::{self, ControlLog},
    id::{CertificateId, PlantId},
    problem::Problems,
    state::State,
    store::{self, Store},
    version::Version,
    watch::StateFile,
};

/// How long to wait before a change that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// How often to look whether something else has changed what keeps the gateway closed.
const LOOK: Duration = Duration::from_secs(1);

/// How many calls may wait. They are short; those for whole states are few, see [`crate::api`].
const QUEUE: usize = 64;

/// Why the state before cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What the store holds is no state for this version of the agent.
    #[error(
        "{}: revision {revision} is not valid: {problems}; install the version of the agent that wrote it, or restore a \
         backup",
        path.display()
    )]
    Stored {
        /// The file concerned.
        path: PathBuf,
        /// The revision concerned.
        revision: u64,
        /// One line each.
        problems: Problems,
    },
    /// The control events cannot be written.
    #[error("{}: {source}", path.display())]
    Log {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of the desired state cannot be followed.
    #[error("watch {}: {source}", path.display())]
    Watch {
        /// The file concerned.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// What has to follow the desired state.
pub(crate) trait Kernel {
    /// Why something could not be done.
    type Error: std::fmt::Display;

    /// What may be seen of the kernel when nothing else is to do.
    type Observed;

    /// Checks that `state`, of which so much is new, can be had on this gateway; touches nothing.
    fn check(&self, state: &State, touched: &Touched) -> Result<(), Problems>;

    /// Makes the kernel do what `state` wants. Returns the plants that nothing leads to, and why.
    async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, Self::Error)>, Self::Error>;

    /// The same where nothing else is different than what these certificates reach, their keys, and which of them there
    /// are: in a time that does not depend on how many others there are. If it fails, `state` is to be applied as a
    /// whole.
    async fn hurry(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) -> Result<(), Self::Error>;

    /// Looks whether something else has changed the kernel; false if there is something to apply.
    async fn look(&mut self) -> bool;

    /// Puts right and tells what something else has changed, and has the next [`Self::apply`] look at everything.
    async fn forget(&mut self) -> Result<(), Self::Error>;

    /// Whether trying again is of no use until somebody says so.
    fn is_detached(&self) -> bool;

    /// Does the next of the things that can wait, and waits for the next if there is none. May be cancelled.
    async fn idle(&mut self) -> Option<Self::Observed>;

    /// Does something about what was seen meanwhile; true if there is something to apply.
    async fn reconcile(&mut self, observed: Self::Observed) -> bool;

    /// What was given to certificates and plants.
    fn allocations(&self) -> &Allocations;
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Desired {
    pub(crate) state: State,
    version: Version,
    origin: Origin,
}

/// How far the kernel is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The state that it follows, as far as it can; `None` before the first.
    pub applied: Option<Version>,
    /// What went wrong the last time, if it did: it is tried again.
    pub error: Option<String>,
    /// Plants that nothing leads to, and why.
    pub failed: Vec<(PlantId, String)>,
    /// What is wrong with where the state comes from, if something is.
    pub source: Option<String>,
}

/// What somebody who asks may look at.
pub struct View<'v> {
    /// This gateway's configuration.
    pub config: &'v Config,
    /// The state that is in force, if there is one.
    pub state: Option<&'v State>,
    /// Which one it is.
    pub version: Option<&'v Version>,
    /// Who has put it in force.
    pub origin: Option<&'v Origin>,
    /// How far the kernel is.
    pub progress: &'v Progress,
    /// What was given to certificates and plants.
    pub allocations: &'v Allocations,
}

/// See the module's own description.
pub(crate) struct Control<K> {
    config: Arc<Config>,
    kernel: K,
    file: Option<StateFile>,
    store: Option<Store>,
    log: ControlLog,
    desired: Option<Desired>,
    progress: Progress,
    /// When the kernel is to be made to follow, if it is.
    apply_at: Option<Instant>,
    /// When something in the state counts no longer, or again, without anybody changing it.
    next_change: Option<Timestamp>,
    /// Up to when it is recorded what has ended by itself.
    recorded_until: Timestamp,
    requests: mpsc::Receiver<Request>,
}

impl<K: Kernel> Control<K> {
    /// Takes up the state where it was left. The kernel is not touched yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn open(config: Arc<Config>, kernel: K) -> Result<(Self, Handle), Error> {
        let log_failed = |source| Error::Log { path: config.state_dir.join(control_log::NAME), source };
        let mut log = ControlLog::open(&config.state_dir, &config.gateway, &config.region).map_err(log_failed)?;
        let (mut file, mut store, mut desired) = (None, None, None);
        match config.source() {
            Source::File(path) => {
                let watch = |source| Error::Watch { path: path.to_owned(), source };
                file = Some(StateFile::follow(path).map_err(watch)?);
            }
            Source::Pull(_) | Source::Api => {
                let (opened, contents) = Store::open(&config.state_dir)?;
                store = Some(opened);
                if let Some(contents) = contents {
                    replay::record_missing(&mut log, &contents);
                    desired = Some(replay(&config, contents)?);
                }
            }
        }
        let apply_at = desired.is_some().then(Instant::now);
        let (handle, requests) = request::channel(QUEUE);
        let progress = Progress::default();
        // What has ended while no agent ran is recorded when this one begins.
        let recorded_until = log.time().unwrap_or_else(Timestamp::now);
        let control = Self {
            config,
            kernel,
            file,
            store,
            log,
            desired,
            progress,
            apply_at,
            next_change: None,
            recorded_until,
            requests,
        };
        Ok((control, handle))
    }

    /// Serves until `stop` is ready.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(request) = self.requests.recv() => self.serve(request).await,
                text = next(&mut self.file) => self.take_file(text),
                () = sleep_until(self.apply_at.unwrap_or_else(Instant::now)), if self.apply_at.is_some() => {
                    self.apply().await;
                }
                // Counted anew in each round, of which there is one a second: the clock may be set.
                () = sleep(until(self.next_change)), if self.next_change.is_some() => {
                    self.next_change = None;
                    self.apply_at = Some(Instant::now());
                }
                _ = look.tick() => if !self.kernel.look().await && self.desired.is_some() {
                    self.apply_at = Some(Instant::now());
                },
                observed = self.kernel.idle() => if let Some(observed) = observed
                    && self.kernel.reconcile(observed).await
                {
                    self.apply_at = self.desired.is_some().then(Instant::now);
                },
            }
        }
    }

    /// One question. Whoever has asked and gone away again gets no answer, and what was asked is done all the same.
    async fn serve(&mut self, request: Request) {
        match request {
            Request::Replace(call, given, answer) => drop(answer.send(self.replace(call, *given).await)),
            Request::Change(call, changes, answer) => drop(answer.send(self.change(call, changes).await)),
            Request::Pulled(actor, given, answer) => drop(answer.send(self.pulled(actor, *given).await)),
            Request::PullFailed(why) => self.progress.source = why,
            Request::Look(look) => look(&self.view()),
            Request::Forget => {
                match self.kernel.forget().await {
                    Ok(()) => info!("SIGHUP: everything in the kernel is looked at again"),
                    Err(error) => error!("SIGHUP: {error}"),
                }
                self.apply_at = self.desired.is_some().then(Instant::now);
            }
        }
        self.compact();
    }

    /// Makes the kernel follow. What cannot be done is tried again, unless that would be of no use.
    async fn apply(&mut self) {
        let Some(Desired { state, version, .. }) = &self.desired else {
            self.apply_at = None;
            return;
        };
        self.next_change = state.next_change(Timestamp::now());
        let started = Instant::now();
        let applied = self.kernel.apply(state).await;
        let complete = match applied {
            Ok(failed) => {
                for (plant, error) in &failed {
                    error!(%plant, "no route to this plant: {error}");
                }
                info!(
                    revision = state.revision,
                    users = state.certificates.len(),
                    plants = state.plants.len(),
                    failed = failed.len(),
                    milliseconds = started.elapsed().as_millis() as u64,
                    "applied"
                );
                self.progress.applied = Some(version.clone());
                self.progress.error = None;
                self.progress.failed = failed.into_iter().map(|(plant, error)| (plant, error.to_string())).collect();
                self.progress.failed.is_empty()
            }
            Err(error) => {
                error!(revision = state.revision, "not applied, will be tried again: {error}");
                self.progress.error = Some(error.to_string());
                false
            }
        };
        // While detached, what failed will not do better until somebody says so.
        self.apply_at = (!complete && !self.kernel.is_detached()).then(|| Instant::now() + RETRY);
        // After the kernel, which must not wait for that.
        self.record_ended();
    }

    /// Makes the kernel follow a change that touches so much.
    async fn follow(&mut self, touched: &Touched) {
        let (Touched::Certificates(certificates), Some(Desired { state, version, .. })) = (touched, &self.desired)
        else {
            return self.apply().await;
        };
        let started = Instant::now();
        if let Err(error) = self.kernel.hurry(state, certificates).await {
            debug!(revision = state.revision, "applied as a whole: {error}");
            return self.apply().await;
        }
        self.next_change = state.next_change(Timestamp::now());
        self.progress.applied = Some(version.clone());
        let milliseconds = started.elapsed().as_millis() as u64;
        info!(revision = state.revision, certificates = certificates.len(), milliseconds, "changed");
    }

    /// Writes a new snapshot if the journal has become long.
    fn compact(&mut self) {
        let (Some(store), Some(desired)) = (&mut self.store, &self.desired) else { return };
        if !store.is_long() {
            return;
        }
        let document = match serde_json::to_vec(&desired.state.to_document()) {
            Ok(document) => document,
            Err(error) => return error!("no new snapshot: {error}"),
        };
        if let Err(error) = store.replace(document, desired.version.clone(), desired.origin.clone()) {
            error!("no new snapshot: {error}");
        }
    }

    /// What somebody who asks may look at.
    fn view(&self) -> View<'_> {
        let desired = self.desired.as_ref();
        View {
            config: &self.config,
            state: desired.map(|desired| &desired.state),
            version: desired.map(|desired| &desired.version),
            origin: desired.map(|desired| &desired.origin),
            progress: &self.progress,
            allocations: self.kernel.allocations(),
        }
    }
}

/// The next content of the file, if there is one.
async fn next(file: &mut Option<StateFile>) -> io::Result<Vec<u8>> {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

/// How long it is until `moment`.
fn until(moment: Option<Timestamp>) -> Duration {
    moment.and_then(|moment| moment.duration_since(Timestamp::now()).try_into().ok()).unwrap_or_default()
}
