//! `/v1/changes`: single changes.

use axum::{
    Extension,
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde_json::{json, value::RawValue};

use super::{
    App,
    answer::{self, Answer},
    asked,
    endpoint::{Endpoint, Method},
    failure::Failure,
};
use crate::{
    actor::Actor,
    change::Change,
    control::Call,
    problem::{Problem, Problems},
};

/// The most changes in one call.
const CHANGES_MAX: usize = 10_000;

/// The calls of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            Method::Post,
            "/v1/changes",
            post,
            "Make single changes",
            "A list of changes, which are made in their order, all or none. The revision counts up by one for all of \
             them together.",
        )
        .changes()
        .takes::<Vec<Change>>(json!([
            {"change": "add-role", "user": "user-a", "role": "operator", "on": {"plant": "north"}},
        ]))
        .accepts::<Answer>(
            "They are in force, and the kernel follows them.",
            &Answer::example(),
            &Answer::pending_example(),
        ),
    ]
}

async fn post(
    Shared(app): Shared<App>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let call = asked::call(actor, &uri, &headers)?;
    let text = asked::body(&headers, body, app.body_max).await?;
    make(&app, call, changes(&text)?).await
}

/// Makes changes, or says what they would do.
pub(super) async fn make(app: &App, call: Call, changes: Vec<Change>) -> Result<Response, Failure> {
    let dry_run = call.dry_run;
    let outcome = app.control.change(call, changes).await?;
    Ok(answer::response(outcome, dry_run, |answer| answer))
}

/// Each on its own, so that all that are wrong can be told.
fn changes(text: &[u8]) -> Result<Vec<Change>, Failure> {
    let list: Vec<Box<RawValue>> = asked::record("changes", text).map_err(malformed)?;
    let many = Problem {
        path: "changes".to_owned(),
        message: format!("{} are too many for one call; give at most {CHANGES_MAX}", list.len()),
    };
    if list.len() > CHANGES_MAX {
        return Err(malformed(many.into()));
    }
    let (mut changes, mut problems) = (Vec::new(), Vec::new());
    for (at, change) in list.iter().enumerate() {
        match asked::record(&format!("changes[{at}]"), change.get().as_bytes()) {
            Ok(change) => changes.push(change),
            Err(found) => problems.extend_from_slice(found.list()),
        }
    }
    Problems::none_of(problems).map_err(malformed)?;
    Ok(changes)
}

pub(super) fn malformed(problems: Problems) -> Failure {
    Failure::of_problems(StatusCode::BAD_REQUEST, problems)
}
