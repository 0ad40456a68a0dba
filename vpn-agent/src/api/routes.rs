//! `/v1/routes`: what somebody may reach.

use axum::{
    Json,
    extract::State as Shared,
    http::{StatusCode, Uri},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App, asked,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{
    control::{Refusal, View},
    liveness::Liveness,
    overview::{Link, Overview, Surroundings},
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let id = || json!({"type": "string", "pattern": crate::id::PATTERN});
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/routes",
            get,
            "The routes of a user or certificate",
            "Every plant subnet that the rights open, also those that are switched off: real and virtual subnet, what \
             opens it, which plants share addresses with it, and where the real address leads to. Exactly one of `user` \
             and `certificate` is asked for.",
        )
        .query("user", "The user.", id(), "user-a")
        .query("certificate", "The certificate.", id(), "certificate-a")
        .answers::<Overview<'_>>(200, "The routes.", &example())
        .fails(400, "The query is not as it must be.")
        .fails(404, "There is no such certificate, or the user has none.")
        .fails(409, "There is no state yet."),
    ]
}

fn example() -> Value {
    json!({
        "certificate": "certificate-a",
        "routes": [{
            "plant": "north", "operator": "alpha", "real": "192.168.1.0/24", "virtual": "10.128.0.0/24",
            "permission": {
                "owner": "user", "user": "user-a", "membership": "all", "cooperation": null,
                "jobs": {"opening": [{"role": "operator", "on": {"plant": "north"}}], "others": []},
            },
            "disabled": "no", "conflicts": [], "real_leads_to": "north", "link": "up",
        }],
    })
}

/// Whose routes are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    user: Option<String>,
    certificate: Option<String>,
}

async fn get(Shared(app): Shared<App>, uri: Uri) -> Result<Json<Value>, Failure> {
    let whose: Whose = asked::query(&uri)?;
    Ok(Json(app.control.look(move |view| routes(view, &whose)).await??))
}

fn routes(view: &View<'_>, whose: &Whose) -> Result<Value, Failure> {
    let state = view.state.ok_or_else(|| Failure::new(StatusCode::CONFLICT, Refusal::NoState))?;
    let (name, certificate) = match (&whose.user, &whose.certificate) {
        (Some(user), None) => (user, state.certificate_of(user).map(|id| id.as_str())),
        (None, Some(certificate)) => (certificate, Some(certificate.as_str())),
        _ => return Err(Failure::of_field(StatusCode::BAD_REQUEST, "query", "give one of `user` and `certificate`")),
    };
    let now = Timestamp::now();
    let seen = Liveness::current(&view.config.uplinks_file(), now);
    let link = |plant: &_| Link::of(seen.as_ref(), plant);
    let around = Surroundings { region: &view.config.region, given: view.allocations.plants(), link };
    let terms = view.config.terms(now);
    let overview = certificate.and_then(|certificate| Overview::of(state, &terms, certificate, &around));
    let unknown = || Failure::new(StatusCode::NOT_FOUND, format!("{name} is no certificate, nor a user who has one"));
    serde_json::to_value(overview.ok_or_else(unknown)?)
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))
}
