//! What a request says besides its path: query, conditions, body.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Query,
    http::{HeaderMap, HeaderName, StatusCode, Uri, header},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::timeout;

use super::{endpoint::Endpoint, failure::Failure};
use crate::{
    actor::Actor,
    control::{Call, Condition, Refusal, View},
    id::{self, CertificateId},
    problem::{Problem, Problems},
    state::State,
    version::Version,
};

/// How long a client may take for a body.
const BODY: Duration = Duration::from_secs(300);

/// What calls that change something can be told in the query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changing {
    #[serde(default)]
    dry_run: bool,
}

/// The query. An unknown field is an error: whoever mistypes `dry_run` shall not change anything by that.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    let failed = |error: axum::extract::rejection::QueryRejection| {
        Failure::of_field(StatusCode::BAD_REQUEST, "query", error.body_text())
    };
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(failed)
}

/// Whose routes are asked for: exactly one of both is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    pub user: Option<String>,
    pub certificate: Option<String>,
}

impl Whose {
    /// A call that is told whose routes are meant.
    pub fn described(endpoint: Endpoint) -> Endpoint {
        let id = || json!({"type": "string", "pattern": id::PATTERN});
        endpoint
            .query("user", "The user.", id(), "user-a")
            .query("certificate", "The certificate.", id(), "certificate-a")
            .fails(400, "The query is not as it must be.")
            .fails(404, "There is no such certificate, or the user has none.")
            .fails(409, "There is no state yet.")
    }

    /// The certificate that is meant, in the state that is in force.
    pub fn certificate<'v>(&self, view: &View<'v>) -> Result<(&'v State, &'v CertificateId), Failure> {
        let state = view.state.ok_or_else(|| Failure::new(StatusCode::CONFLICT, Refusal::NoState))?;
        let (field, name, found) = match (&self.user, &self.certificate) {
            (Some(user), None) => ("user", user, state.certificate_of(user)),
            (None, Some(name)) => {
                ("certificate", name, state.certificates.get_key_value(name.as_str()).map(|(id, _)| id))
            }
            _ => {
                let message = "give one of `user` and `certificate`";
                return Err(Failure::of_field(StatusCode::BAD_REQUEST, "query", message));
            }
        };
        let unknown = || match field {
            "user" => format!("\"{name}\" is no user who has a certificate"),
            _ => format!("\"{name}\" is not in certificates; a revoked one opens nothing"),
        };
        let found = found.ok_or_else(|| Failure::of_field(StatusCode::NOT_FOUND, field, unknown()))?;
        Ok((state, found))
    }
}

/// Who asks for a change, and on which terms.
pub(super) fn call(actor: Actor, uri: &Uri, headers: &HeaderMap) -> Result<Call, Failure> {
    let Changing { dry_run } = query(uri)?;
    Ok(Call { actor, expected: condition(headers, header::IF_MATCH)?, dry_run })
}

/// What `If-Match` or `If-None-Match` says.
pub(super) fn condition(headers: &HeaderMap, name: HeaderName) -> Result<Option<Condition>, Failure> {
    let mut versions = Vec::new();
    let mut any = false;
    let mut present = false;
    for value in headers.get_all(&name) {
        present = true;
        let text = value.to_str().map_err(|_| {
            Failure::of_field(StatusCode::BAD_REQUEST, name.as_str(), "has characters that no ETag has")
        })?;
        for tag in text.split(',').map(str::trim) {
            any |= tag == "*";
            // A tag that is none of ours is that of no state here. A weak one is good enough to read, not to write.
            let tag = if name == header::IF_NONE_MATCH { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
            versions.extend(tag.parse::<Version>());
        }
    }
    Ok(present.then_some(if any { Condition::Any } else { Condition::OneOf(versions) }))
}

/// The body, of JSON and of at most `limit` bytes.
pub(super) async fn body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = format!("the content type is {kind:?}; send JSON with `Content-Type: application/json`");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    match timeout(BODY, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => {
            let message = format!("the body is larger than {limit} bytes; api.body_max_bytes allows more");
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(error)) => Err(Failure::new(StatusCode::BAD_REQUEST, format!("the body ended early: {error}"))),
        Err(_) => Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A record of JSON whose fields are named below `path`.
pub(super) fn record<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T, Problems> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    let parsed = parsed.map_err(|error| {
        let inner = error.path().to_string();
        let path = match (path, inner.as_str()) {
            (path, ".") => path.to_owned(),
            ("", inner) => inner.to_owned(),
            (path, inner) => format!("{path}.{inner}"),
        };
        Problem { path, message: error.inner().to_string() }
    })?;
    let rest = deserializer.end();
    rest.map_err(|error| Problem { path: path.to_owned(), message: error.to_string() })?;
    Ok(parsed)
}
