//! Taking up what the store holds.

use serde_json::value::to_raw_value;

use super::{Desired, Error};
use crate::{
    config::Config,
    control_log::{Accepted, ControlLog, put_state},
    difference::Difference,
    problem::Problems,
    state::State,
    store::{Contents, SNAPSHOT, journal},
};

/// The state that the store holds.
///
/// # Errors
/// [`Error::Stored`]: this version of the agent takes for wrong what another one has accepted.
pub(crate) fn replay(config: &Config, contents: Contents) -> Result<Desired, Error> {
    let stored = |name: &str, revision| {
        let path = config.state_dir.join(name);
        move |problems: Problems| Error::Stored { path, revision, problems }
    };
    let Contents { snapshot, document, entries } = contents;
    let mut state = State::parse(&document).map_err(stored(SNAPSHOT, snapshot.version.revision))?;
    let (mut version, mut origin) = (snapshot.version, snapshot.origin);
    for entry in entries {
        state.change(&entry.changes).map_err(stored(journal::NAME, entry.version.revision))?;
        (version, origin) = (entry.version, entry.origin);
    }
    Ok(Desired { state, version, origin })
}

/// Records what was accepted just before a crash, and of which there is no event yet.
pub(super) fn record_missing(log: &mut ControlLog, contents: &Contents) {
    let Contents { snapshot, entries, .. } = contents;
    let known = |log: &ControlLog| log.last().map(|last| last.revision);
    if known(log).is_none_or(|revision| revision < snapshot.version.revision) {
        log.add(Accepted::<Difference> {
            origin: snapshot.origin.clone(),
            revision_before: known(log),
            version: snapshot.version.clone(),
            changes: vec![put_state()],
            difference: None,
        });
    }
    for entry in entries {
        if known(log).is_none_or(|revision| revision < entry.version.revision) {
            log.add(Accepted::<Difference> {
                origin: entry.origin.clone(),
                revision_before: known(log),
                version: entry.version.clone(),
                changes: entry.changes.iter().filter_map(|change| to_raw_value(change).ok()).collect(),
                difference: None,
            });
        }
    }
}
