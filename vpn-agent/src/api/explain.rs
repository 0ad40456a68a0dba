//! `/v1/explain`: why somebody reaches an address, or why not (requirement B5).

use axum::{
    Json,
    extract::State as Shared,
    http::{StatusCode, Uri},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App,
    asked::{self, Whose},
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{
    control::View,
    datapath,
    explain::{Explanation, Kernel, Question, Surroundings},
    liveness::Liveness,
    overview::Link,
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Whose::described(Endpoint::new(
            Method::Get,
            "/v1/explain",
            get,
            "Why somebody reaches an address, or why not",
            "Every step from the organisation to the entry in the kernel's maps, as it is at the moment, and which of them \
             denies. Exactly one of `user` and `certificate` is asked for. The same as `vpn-agent explain --json` prints.",
        ))
        .required_query(
            "to",
            "The address as the user writes it. Port and protocol matter for services of the gateway alone: \
             `10.128.0.20`, `10.128.0.20:502/tcp`, `[fd76:7600::20]:53/udp` or `100.64.0.1/icmp`.",
            json!({"type": "string"}),
            "10.128.0.20:502/tcp",
        )
        .answers::<Explanation<'_>>(200, "The steps.", &example())
        .fails(500, "The kernel's maps cannot be read."),
    ]
}

fn example() -> Value {
    let step = |about: &str, what: &str| json!({"about": about, "allows": true, "what": what});
    let plant = json!({"outcome": "plant", "plant": "north", "number": 1, "device": "192.168.1.20"});
    let with_outcome = |mut side: Value| {
        if let (Value::Object(side), Value::Object(plant)) = (&mut side, &plant) {
            side.extend(plant.clone());
        }
        side
    };
    json!({
        "certificate": "certificate-a",
        "owner": "user user-a",
        "question": "10.128.0.20:502/tcp",
        "revision": 8,
        "state": with_outcome(json!({
            "target": null,
            "others": [],
            "steps": [step("membership", "membership of user user-a: covers all plants of the organisation")],
        })),
        "kernel": with_outcome(json!({
            "verdict": "to-plant",
            "peer": 1,
            "route_set": 1,
            "steps": [step("peer", "PEERS 2: peer 1, route set 1")],
        })),
        "denied_by": null,
        "differences": [],
    })
}

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: Option<String>,
    certificate: Option<String>,
    to: String,
}

async fn get(Shared(app): Shared<App>, uri: Uri) -> Result<Json<Value>, Failure> {
    let Asked { user, certificate, to } = asked::query(&uri)?;
    let question = to.parse().map_err(|error| Failure::of_field(StatusCode::BAD_REQUEST, "to", error))?;
    let whose = Whose { user, certificate };
    // By the task that changes the maps, so that nothing is told of a change that is half made.
    Ok(Json(app.control.look(move |view| explain(view, &whose, question)).await??))
}

fn explain(view: &View<'_>, whose: &Whose, question: Question) -> Result<Value, Failure> {
    let (state, certificate) = whose.certificate(view)?;
    let failed = |error: datapath::Error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let now = Timestamp::now();
    let seen = Liveness::current(&view.config.uplinks_file(), now);
    let kernel = Kernel::open(view.config).map_err(failed)?;
    let link = |plant: &_| Link::of(seen.as_ref(), plant);
    let around = Surroundings { config: view.config, given: view.allocations, link, kernel: &kernel };
    let answer = Explanation::of(state, &view.config.terms(now), certificate.as_str(), question, &around);
    serde_json::to_value(answer.map_err(failed)?)
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))
}
