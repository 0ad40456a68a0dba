//! `/v1/routes`: what somebody may reach.

use axum::{
    Json,
    extract::State as Shared,
    http::{StatusCode, Uri},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    App,
    asked::{self, Whose},
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{
    control::View,
    liveness::Liveness,
    overview::{Link, Overview, Surroundings},
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Whose::described(Endpoint::new(
            Method::Get,
            "/v1/routes",
            get,
            "The routes of a user or certificate",
            "Every plant subnet that the rights open, also those that are switched off: real and virtual subnet, what \
             opens it, which plants share addresses with it, and where the real address leads to. Exactly one of `user` \
             and `certificate` is asked for.",
        ))
        .answers::<Overview<'_>>(200, "The routes.", &example()),
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

async fn get(Shared(app): Shared<App>, uri: Uri) -> Result<Json<Value>, Failure> {
    let whose: Whose = asked::query(&uri)?;
    Ok(Json(app.control.look(move |view| routes(view, &whose)).await??))
}

fn routes(view: &View<'_>, whose: &Whose) -> Result<Value, Failure> {
    let (state, certificate) = whose.certificate(view)?;
    let now = Timestamp::now();
    let seen = Liveness::current(&view.config.uplinks_file(), now);
    let link = |plant: &_| Link::of(seen.as_ref(), plant);
    let around = Surroundings { region: &view.config.region, given: view.allocations.plants(), link };
    let terms = view.config.terms(now);
    serde_json::to_value(Overview::of(state, &terms, certificate.as_str(), &around))
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))
}
