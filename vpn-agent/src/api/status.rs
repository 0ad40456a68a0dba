//! `/v1/status`: which state is in force, and how far the kernel is.

use axum::{Json, extract::State as Shared};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    App,
    answer::FailedPlant,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{actor::Origin, config::Source, control::View, version::Version};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/status",
            get,
            "Which state is in force, and how far the kernel is",
            "What the agent knows of itself. `vpn-agent status` shows what the kernel does.",
        )
        .answers::<Status>(200, "The status.", &Status::example()),
    ]
}

/// What the agent knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Status")]
struct Status {
    /// Name of this gateway host.
    gateway: String,
    /// Region that this gateway serves.
    region: String,
    /// Version of the agent.
    agent: String,
    /// Where the desired state comes from.
    source: SourceStatus,
    /// The state that is in force; none before the first.
    in_force: Option<Version>,
    /// Who has put it in force, and when.
    origin: Option<Origin>,
    /// The state that the kernel follows; none before the first.
    applied: Option<Version>,
    /// What went wrong when the kernel was made to follow; it is tried again.
    pending: Option<String>,
    /// Plants that nothing leads to at present, and why.
    failed: Vec<FailedPlant>,
}

/// Where the desired state comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "Source")]
enum SourceStatus {
    /// Calls of the API.
    Api,
    /// A file.
    File {
        /// Its path.
        path: String,
        /// Why it cannot be used as it is.
        problem: Option<String>,
    },
    /// An address that is asked again and again.
    Pull {
        /// The address.
        url: String,
        /// Why what it says cannot be had or used.
        problem: Option<String>,
    },
}

impl Status {
    fn of(view: &View<'_>) -> Self {
        let problem = view.progress.source.clone();
        let failed = view.progress.failed.iter();
        Self {
            gateway: view.config.gateway.clone(),
            region: view.config.region.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            source: match view.config.source() {
                Source::Api => SourceStatus::Api,
                Source::File(path) => SourceStatus::File { path: path.display().to_string(), problem },
                Source::Pull(pull) => SourceStatus::Pull { url: pull.url.clone(), problem },
            },
            in_force: view.version.cloned(),
            origin: view.origin.cloned(),
            applied: view.progress.applied.clone(),
            pending: view.progress.error.clone(),
            failed: failed
                .map(|(plant, reason)| FailedPlant { plant: plant.to_string(), reason: reason.clone() })
                .collect(),
        }
    }

    fn example() -> Self {
        let version = Version::of_document(8, b"");
        Self {
            gateway: "gateway-1".to_owned(),
            region: "eu-central".to_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            source: SourceStatus::Api,
            in_force: Some(version.clone()),
            origin: None,
            applied: Some(version),
            pending: None,
            failed: Vec::new(),
        }
    }
}

async fn get(Shared(app): Shared<App>) -> Result<Json<Status>, Failure> {
    Ok(Json(app.control.look(Status::of).await?))
}
