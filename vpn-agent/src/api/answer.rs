//! What a call that changes something is answered with.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{control::Outcome, difference::Difference};

/// A change that was accepted, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Accepted")]
pub(super) struct Answer {
    /// The revision that is in force now; after a dry run, the one that would be.
    pub revision: u64,
    /// Whether anything was changed, or would be.
    pub changed: bool,
    /// Whether only the difference was asked for.
    pub dry_run: bool,
    /// What it means for certificates and plants; none if nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Why the kernel does not follow yet. It is tried again every 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// Plants that nothing leads to at present, and why. That is tried again as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedPlant>,
}

/// A plant that nothing leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailedPlant {
    /// Which.
    pub plant: String,
    /// Why.
    pub reason: String,
}

/// The answer to a change. `more` makes of it what is told besides.
pub(super) fn response<T: Serialize>(outcome: Outcome, dry_run: bool, more: impl FnOnce(Answer) -> T) -> Response {
    let Outcome { version, changed, difference, pending, failed } = outcome;
    let is_complete = pending.is_none() && failed.is_empty();
    let status = if is_complete || dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    let failed = failed.into_iter().map(|(plant, reason)| FailedPlant { plant: plant.to_string(), reason }).collect();
    let answer = Answer { revision: version.revision, changed, dry_run, difference, pending, failed };
    // A dry run changes nothing, so it must not look as if this were in force.
    let tag = (!dry_run).then(|| [(header::ETAG, version.to_string())]);
    (status, tag, Json(more(answer))).into_response()
}

impl Answer {
    /// For the document.
    pub fn example() -> Self {
        let difference = Difference { from: Some(7), to: 8, ..Difference::default() };
        let (pending, failed) = (None, Vec::new());
        Self { revision: 8, changed: true, dry_run: false, difference: Some(difference), pending, failed }
    }

    /// For the document.
    pub fn pending_example() -> Self {
        let reason = "this host has no interface eth1.10".to_owned();
        Self { failed: vec![FailedPlant { plant: "north".to_owned(), reason }], ..Self::example() }
    }
}
