//! What a call that fails is answered with.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    control::Refusal,
    problem::{Problem, Problems},
    store,
    version::Version,
};

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// What went wrong, and what to do.
    pub error: String,
    /// Each field that is wrong, where fields are.
    pub problems: Vec<Problem>,
}

/// A call that fails. Nothing was changed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: Body,
    in_force: Option<Version>,
}

impl Failure {
    /// One that is about no field.
    pub fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status, body: Body { error: error.to_string(), problems: Vec::new() }, in_force: None }
    }

    /// What went wrong.
    pub fn error(self) -> String {
        self.body.error
    }

    /// One that is about a field of the query or the path.
    pub fn of_field(status: StatusCode, path: &str, message: impl ToString) -> Self {
        let problem = Problem { path: path.to_owned(), message: message.to_string() };
        Self::of_problems(status, problem.into())
    }

    /// One that is about fields of what was sent.
    pub fn of_problems(status: StatusCode, problems: Problems) -> Self {
        let body = Body { error: Refusal::Problems(problems.clone()).to_string(), problems: problems.list().to_vec() };
        Self { status, body, in_force: None }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Elsewhere { .. } | Refusal::NoState | Refusal::NotNewer { .. } => StatusCode::CONFLICT,
            Refusal::Unexpected { .. } => StatusCode::PRECONDITION_FAILED,
            Refusal::Problems(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Store(store::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Refusal::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut failure = Self::new(status, &refusal);
        match refusal {
            Refusal::NotNewer { in_force, .. } => failure.in_force = Some(in_force),
            Refusal::Unexpected { in_force } => failure.in_force = in_force,
            Refusal::Problems(problems) => failure.body.problems = problems.list().to_vec(),
            Refusal::Stopping | Refusal::Elsewhere { .. } | Refusal::NoState | Refusal::Store(_) => {}
        }
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let tag = self.in_force.map(|version| [(header::ETAG, version.to_string())]);
        (self.status, tag, Json(self.body)).into_response()
    }
}
