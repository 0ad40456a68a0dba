//! `/v1/state`: the desired state as a whole.

use axum::{
    Extension, Json,
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{
    App,
    answer::{self, Answer},
    asked,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{
    actor::Actor,
    control::{Given, Refusal},
    document::Document,
    problem::Problems,
};

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            Method::Get,
            "/v1/state",
            get,
            "The desired state that is in force",
            "The whole document, every list of it sorted. With `If-None-Match`, only if another one is in force than the \
             caller knows.",
        )
        .header(
            "If-None-Match",
            "The `ETag` of the state that the caller knows.",
            "\"7-e3b0c44298fc1c149afbf4c8996fb924\"",
        )
        .answers::<Document>(200, "The state.", &example())
        .with_tag()
        .answers_nothing(304, "What the caller knows is in force.")
        .with_tag()
        .fails(400, "The headers are not as they must be.")
        .fails(404, "There is no state yet."),
        Endpoint::new(
            Method::Put,
            "/v1/state",
            put,
            "Put a whole desired state in force",
            "Takes the place of all that there is. Its revision must be greater than the one in force. The same content \
             again is no error and has no effect. Either the whole document is valid and takes effect as a whole, or \
             nothing is changed.",
        )
        .changes()
        .takes::<Document>(example())
        .accepts::<Answer>(
            "It is in force, and the kernel follows it.",
            &Answer::example(),
            &Answer::pending_example(),
        ),
    ]
}

/// A small state.
pub(super) fn example() -> Value {
    json!({
        "revision": 8,
        "organisations": [{"id": "alpha", "name": "Alpha Energy"}],
        "portfolios": [],
        "plants": [{
            "id": "north",
            "organisation": "alpha",
            "subnets": ["192.168.1.0/24"],
            "uplink": {"kind": "host", "public_key": KEY},
        }],
        "users": [{"id": "user-a"}],
        "memberships": [{"user": "user-a", "organisation": "alpha", "kind": "member", "access": "all"}],
        "roles": [{"user": "user-a", "role": "operator", "on": {"plant": "north"}}],
        "cooperations": [],
        "certificates": [{"id": "certificate-a", "user": "user-a", "public_key": OTHER_KEY}],
    })
}

/// Public keys for examples.
pub(super) const KEY: &str = "PUBLIC/KEY/OF/THE/SITE/ROUTER+++++++++++++A=";
pub(super) const OTHER_KEY: &str = "PUBLIC/KEY/OF/THE/USER++++++++++++++++++++A=";

async fn get(Shared(app): Shared<App>, headers: HeaderMap) -> Result<Response, Failure> {
    let known = asked::condition(&headers, header::IF_NONE_MATCH)?;
    let seen = app.control.look(move |view| {
        let (state, version) = view.state.zip(view.version)?;
        let is_known = known.is_some_and(|known| known.holds(Some(version)));
        Some((version.clone(), (!is_known).then(|| state.to_document())))
    });
    let Some((version, document)) = seen.await? else {
        return Err(Failure::new(StatusCode::NOT_FOUND, Refusal::NoState));
    };
    let tag = [(header::ETAG, version.to_string())];
    match document {
        Some(document) => Ok((tag, Json(document)).into_response()),
        None => Ok((StatusCode::NOT_MODIFIED, tag).into_response()),
    }
}

async fn put(
    Shared(app): Shared<App>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let call = asked::call(actor, &uri, &headers)?;
    // One at a time: a large one takes much memory.
    let _permit = app.whole_states.acquire().await.map_err(|_| Refusal::Stopping)?;
    let text = asked::body(&headers, body, app.body_max).await?;
    let given = spawn_blocking(move || Given::parse(&text)).await;
    let given = given.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    let given = given.map_err(unprocessable)?;
    let dry_run = call.dry_run;
    let outcome = app.control.replace(call, Box::new(given)).await?;
    Ok(answer::response(outcome, dry_run, |answer| answer))
}

fn unprocessable(problems: Problems) -> Failure {
    Failure::from(Refusal::Problems(problems))
}
