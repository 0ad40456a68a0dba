//! The parameters of a request: what is for the engine and what for the endpoint itself.

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Credentials, Refusal};
use crate::embedded::Session;

/// Parameters that steer parts of a server that the endpoint does not have, and change nothing about the result.
const WITHOUT_EFFECT: [&str; 8] = [
    "query_id",
    "quota_key",
    "wait_end_of_query",
    "buffer_size",
    "stacktrace",
    "add_http_cors_header",
    "enable_http_compression",
    "client_protocol_version",
];

/// A request, apart from its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) session: Session,
    /// `query` of the URL, or of a form.
    pub(super) query: String,
    /// Of the result, unless the statement says otherwise.
    pub(super) default_format: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

impl Request {
    /// Sorts URL parameters and headers. Parameters of the URL win over headers.
    pub(super) fn new(parameters: Vec<(String, String)>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if text("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::compression());
        }
        let mut request = Self {
            default_format: text("x-clickhouse-format"),
            user: text("x-clickhouse-user"),
            password: text("x-clickhouse-key"),
            ..Self::default()
        };
        request.session.database = text("x-clickhouse-database");
        if let Some((user, password)) = text(header::AUTHORIZATION.as_str()).as_deref().and_then(basic) {
            (request.user, request.password) = (Some(user), Some(password));
        }
        request.extend(parameters)?;
        Ok(request)
    }

    /// Adds further parameters, those of a form for instance.
    pub(super) fn extend(&mut self, parameters: Vec<(String, String)>) -> Result<(), Refusal> {
        for (name, value) in parameters {
            match name.as_str() {
                "query" => self.query = value,
                "default_format" => self.default_format = Some(value),
                "database" => self.session.database = Some(value).filter(|database| !database.is_empty()),
                "user" => self.user = Some(value),
                "password" => self.password = Some(value),
                "compress" | "decompress" if value == "0" => {}
                "compress" | "decompress" => return Err(Refusal::compression()),
                "session_id" | "role" => return Err(Refusal::unsupported(&name)),
                "readonly" if value != "0" => self.session.read_only = true,
                // The default, which a request must not go back to once it is read-only.
                "readonly" => {}
                _ if WITHOUT_EFFECT.contains(&name.as_str()) => {}
                _ => match name.strip_prefix("param_") {
                    Some(parameter) => self.session.parameters.push((parameter.to_owned(), value)),
                    None => self.session.settings.push((name, value)),
                },
            }
        }
        Ok(())
    }

    /// Whether the request comes with these credentials.
    pub(super) fn has(&self, credentials: &Credentials) -> bool {
        let given = |given: &Option<String>, wanted: &str| {
            // No early exit, so that the time taken does not tell how much of a guess was right.
            let given = given.as_deref().unwrap_or_default().as_bytes();
            given.len() == wanted.len() && given.iter().zip(wanted.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        };
        given(&self.user, &credentials.user) & given(&self.password, &credentials.password)
    }
}

/// User and password of an `Authorization: Basic` header.
fn basic(header: &str) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let (user, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn parameters_are_sorted_by_who_they_are_for() {
        let request = request(
            &[
                ("query", "SELECT 1"),
                ("database", "audit"),
                ("default_format", "JSON"),
                ("max_threads", "1"),
                ("param_x", "a\\tb"),
                ("query_id", "7"),
                ("decompress", "0"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(request.query, "SELECT 1");
        assert_eq!(request.default_format.as_deref(), Some("JSON"));
        let expected = Session {
            database: Some("audit".into()),
            settings: vec![("max_threads".into(), "1".into())],
            parameters: vec![("x".into(), "a\\tb".into())],
            read_only: false,
        };
        assert_eq!(request.session, expected);
    }

    #[test]
    fn what_the_endpoint_cannot_do_is_refused_by_name() {
        for (parameters, headers, named) in [
            (&[("decompress", "1")][..], &[][..], "compress"),
            (&[("compress", "1")], &[], "compress"),
            (&[], &[("content-encoding", "gzip")], "compress"),
            (&[("session_id", "x")], &[], "session_id"),
            (&[("role", "x")], &[], "role"),
        ] {
            let refusal = request(parameters, headers).unwrap_err();
            assert!(refusal.text.contains(named), "{parameters:?} {headers:?}: {}", refusal.text);
            assert!(refusal.status.is_client_error(), "{parameters:?} {headers:?}");
        }
    }

    #[test]
    fn credentials_are_taken_from_everywhere_a_server_takes_them() {
        let credentials = Credentials { user: "auditor".into(), password: "open sesame".into() };
        for (parameters, headers, right) in [
            (&[][..], &[("x-clickhouse-user", "auditor"), ("x-clickhouse-key", "open sesame")][..], true),
            (&[("user", "auditor"), ("password", "open sesame")], &[], true),
            (&[], &[("authorization", "Basic YXVkaXRvcjpvcGVuIHNlc2FtZQ==")], true),
            (&[("user", "auditor"), ("password", "open")], &[], false),
            (&[("password", "open sesame")], &[], false),
            (&[], &[], false),
        ] {
            assert_eq!(request(parameters, headers).unwrap().has(&credentials), right, "{parameters:?} {headers:?}");
        }
    }

    fn request(parameters: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<Request, Refusal> {
        let parameters = parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        Request::new(parameters, &headers)
    }
}
