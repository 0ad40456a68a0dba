//! How a new state comes into force.

use std::io;

use jiff::Timestamp;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use tracing::error;

use super::{Call, Control, Desired, Given, Kernel, Outcome, Refusal};
use crate::{
    actor::{Actor, Origin, Way},
    change::{Change, Changed, Touched},
    config::Source,
    control_log::{self, Accepted},
    difference::Difference,
    portrait::Portrait,
    problem::{Problem, Problems},
    state::State,
    store::{self, journal::Entry},
    terms::Terms,
    version::Version,
};

impl<K: Kernel> Control<K> {
    /// A whole state by a call.
    pub(super) async fn replace(&mut self, call: Call, given: Given) -> Result<Outcome, Refusal> {
        self.check_writable()?;
        self.check_expected(&call)?;
        self.put(Origin::now(call.actor, Way::Api), given, call.dry_run).await
    }

    /// A whole state from the address that the agent asks.
    pub(super) async fn pulled(&mut self, actor: Actor, given: Given) -> Result<Outcome, Refusal> {
        self.put(Origin::now(actor, Way::Pull), given, false).await
    }

    async fn put(&mut self, origin: Origin, given: Given, dry_run: bool) -> Result<Outcome, Refusal> {
        self.record_ended();
        let Given { state, document, version } = given;
        if let Some(desired) = &self.desired {
            if desired.state == state {
                return Ok(self.outcome(desired.version.clone(), None));
            }
            if version.revision <= desired.version.revision {
                return Err(Refusal::NotNewer { revision: version.revision, in_force: desired.version.clone() });
            }
        }
        self.kernel.check(&state, &Touched::All)?;
        let difference = self.difference_to(&state);
        if dry_run {
            return Ok(Outcome::planned(version, difference));
        }
        if let Some(store) = &mut self.store {
            store.replace(document, version.clone(), origin.clone())?;
        }
        self.enforce(Desired { state, version: version.clone(), origin }, difference.clone());
        self.apply().await;
        Ok(self.outcome(version, Some(difference)))
    }

    /// Single changes by a call.
    pub(super) async fn change(&mut self, call: Call, changes: Vec<Change>) -> Result<Outcome, Refusal> {
        self.check_writable()?;
        self.check_expected(&call)?;
        self.record_ended();
        let terms = self.terms();
        let Some(Desired { state, version: before, .. }) = &mut self.desired else { return Err(Refusal::NoState) };
        let before = before.clone();
        if changes.is_empty() {
            return Ok(self.outcome(before, None));
        }

        // Made, looked at, and unmade: what was there before can only be seen once it is known what is touched.
        let Changed { touched, undo } = state.change(&changes)?;
        let checked = self.kernel.check(state, &touched);
        let after = portrait(state, &terms, &touched);
        state.undo(undo);
        checked?;
        let difference = Difference::between(&portrait(state, &terms, &touched), &after);
        drop(after);

        let listed = serde_json::to_vec(&changes).map_err(store::Error::Json)?;
        let version = before.after(&listed);
        if call.dry_run {
            return Ok(Outcome::planned(version, difference));
        }
        let raw = changes.iter().map(to_raw_value).collect::<Result<Vec<_>, _>>().map_err(store::Error::Json)?;
        let origin = Origin::now(call.actor, Way::Api);
        let Changed { touched, undo } = state.change(&changes)?;
        if let Some(store) = &mut self.store
            && let Err(error) = store.append(Entry { version: version.clone(), origin: origin.clone(), changes })
        {
            state.undo(undo);
            return Err(error.into());
        }
        self.set_version(version.clone(), origin.clone());
        self.record(origin, Some(before.revision), version.clone(), raw, difference.clone());
        self.follow(&touched).await;
        Ok(self.outcome(version, Some(difference)))
    }

    /// A new content of the file that is followed. One that cannot be used changes nothing.
    pub(super) fn take_file(&mut self, text: io::Result<Vec<u8>>) {
        let Source::File(path) = self.config.source() else { return };
        let path = path.to_owned();
        let failed = |control: &mut Self, lines: &[String]| {
            for line in lines {
                error!("{}: {line}", path.display());
            }
            control.progress.source = Some(lines.join("\n"));
        };
        let text = match text {
            Ok(text) => text,
            Err(source) => return failed(self, &[format!("{source}; nothing is changed")]),
        };
        let checked =
            Given::parse(&text).and_then(|given| self.kernel.check(&given.state, &Touched::All).map(|()| given));
        let Given { state, version, .. } = match checked {
            Ok(given) => given,
            Err(problems) => {
                let lines = problems.list().iter().map(ToString::to_string);
                let lines: Vec<_> = lines.chain(["not valid; nothing is changed".to_owned()]).collect();
                return failed(self, &lines);
            }
        };
        self.record_ended();
        self.progress.source = None;
        let origin = Origin::now(Actor::of_file(&path), Way::File);
        match &mut self.desired {
            Some(desired) if desired.state == state => {}
            // Recorded by an earlier run.
            None if self.log.last() == Some(&version) => self.desired = Some(Desired { state, version, origin }),
            _ => {
                let difference = self.difference_to(&state);
                self.enforce(Desired { state, version, origin }, difference);
            }
        }
        self.apply_at = Some(Instant::now());
    }

    /// Whether calls may change anything.
    fn check_writable(&self) -> Result<(), Refusal> {
        let from = match self.config.source() {
            Source::Api => return Ok(()),
            Source::File(path) => format!("the file {}", path.display()),
            Source::Pull(pull) => pull.url.clone(),
        };
        Err(Refusal::Elsewhere { from })
    }

    /// Whether what the caller expects is in force.
    fn check_expected(&self, call: &Call) -> Result<(), Refusal> {
        let in_force = self.desired.as_ref().map(|desired| &desired.version);
        match &call.expected {
            Some(condition) if !condition.holds(in_force) => Err(Refusal::Unexpected { in_force: in_force.cloned() }),
            _ => Ok(()),
        }
    }

    fn terms(&self) -> Terms {
        self.config.terms(Timestamp::now())
    }

    fn difference_to(&self, state: &State) -> Difference {
        let terms = self.terms();
        let before =
            self.desired.as_ref().map_or_else(Portrait::default, |desired| Portrait::of(&desired.state, &terms));
        Difference::between(&before, &Portrait::of(state, &terms))
    }

    /// A whole state is in force from now on.
    fn enforce(&mut self, desired: Desired, difference: Difference) {
        let (origin, version) = (desired.origin.clone(), desired.version.clone());
        let before = self.desired.replace(desired).map(|before| before.version.revision);
        let before = before.or_else(|| self.log.last().map(|last| last.revision));
        // What was over before it came into force has not ended here.
        self.recorded_until = self.recorded_until.max(origin.time);
        self.record(origin, before, version, vec![control_log::put_state()], difference);
    }

    fn set_version(&mut self, version: Version, origin: Origin) {
        if let Some(desired) = &mut self.desired {
            (desired.version, desired.origin) = (version, origin);
        }
    }

    pub(super) fn record(
        &mut self,
        origin: Origin,
        revision_before: Option<u64>,
        version: Version,
        changes: Vec<Box<RawValue>>,
        difference: Difference,
    ) {
        self.log.add(Accepted { origin, revision_before, version, changes, difference: Some(difference) });
    }

    /// What is in force now, and how far the kernel is.
    fn outcome(&self, version: Version, difference: Option<Difference>) -> Outcome {
        Outcome {
            version,
            changed: difference.is_some(),
            difference,
            pending: self.progress.error.clone(),
            failed: self.progress.failed.clone(),
        }
    }
}

impl Outcome {
    /// Of a change that is not made.
    fn planned(version: Version, difference: Difference) -> Self {
        Self { version, changed: true, difference: Some(difference), pending: None, failed: Vec::new() }
    }
}

impl TryFrom<State> for Given {
    type Error = Problems;

    fn try_from(state: State) -> Result<Self, Problems> {
        let document = serde_json::to_vec(&state.to_document())
            .map_err(|error| Problems::from(Problem { path: String::new(), message: error.to_string() }))?;
        let version = Version::of_document(state.revision, &document);
        Ok(Self { state, document, version })
    }
}

/// Of what a change touches.
pub(super) fn portrait(state: &State, terms: &Terms, touched: &Touched) -> Portrait {
    match touched {
        Touched::Certificates(certificates) => Portrait::of_certificates(state, terms, certificates),
        Touched::All => Portrait::of(state, terms),
    }
}
