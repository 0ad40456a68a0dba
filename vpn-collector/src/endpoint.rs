//! The embedded store as a ClickHouse HTTP interface on loopback.
//!
//! The collector's own writer, the official clients, SQL tools and `curl` all come this way, so that nothing has
//! to know whether ClickHouse is a server or a library. What differs from a server is refused by name rather than
//! ignored: compressed data, sessions and roles.

mod multipart;
mod request;
mod statement;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{self, Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get},
    serve::ListenerExt as _,
};
use futures_util::StreamExt as _;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time,
};

use self::{
    request::Request,
    statement::{Insert, Statement},
};
use crate::embedded::{self, Answer, Data, Session, Store};

/// Bytes of a statement that is not an insert with data behind it. Such data has no limit: it is passed on as it
/// arrives.
const MAX_STATEMENT: usize = 64 << 20;

/// How long an insert may go without a byte before it is given up: it occupies one of the store's sessions.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// How long [`Endpoint::stop`] waits for requests under way.
const MAX_FAREWELL: Duration = Duration::from_secs(10);

/// What a request has to come with, where a password is configured.
#[derive(Clone)]
pub struct Credentials {
    /// Name of the only user.
    pub user: String,
    /// Compared as is.
    pub password: String,
}

/// Why the endpoint does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error(
        "embedded.listen {listen}: {source}; if another ClickHouse or collector has it, stop that or choose another port"
    )]
    Listen {
        /// The address wanted.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A running endpoint.
pub struct Endpoint {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Endpoint {
    /// Serves `store` on `listen`. Port 0 means any free one, see [`Endpoint::address`].
    ///
    /// # Errors
    /// [`Error::Listen`]
    pub async fn start(store: Arc<Store>, listen: SocketAddr, credentials: Option<Credentials>) -> Result<Self, Error> {
        let refused = |source| Error::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        // Without it a small answer may wait for the other side's delayed acknowledgement.
        let listener = listener.tap_io(|connection| {
            // Only costs time if it fails.
            let _ = connection.set_nodelay(true);
        });
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router(store, credentials)).with_graceful_shutdown(async {
            // Also when the endpoint is dropped.
            let _ = stopped.await;
        });
        Ok(Self { address, stop, task: tokio::spawn(server.into_future()) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further requests and waits a while for those under way. The store stays open.
    pub async fn stop(self) {
        // Fails only if the server has ended already.
        let _ = self.stop.send(());
        let abort = self.task.abort_handle();
        if time::timeout(MAX_FAREWELL, self.task).await.is_err() {
            abort.abort();
        }
    }
}

struct Served {
    store: Arc<Store>,
    credentials: Option<Credentials>,
}

fn router(store: Arc<Store>, credentials: Option<Credentials>) -> Router {
    let ping = get(|| async { "Ok.\n" });
    Router::new().route("/ping", ping).fallback(any(answer)).with_state(Arc::new(Served { store, credentials }))
}

async fn answer(
    State(served): State<Arc<Served>>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if uri.path() != "/" {
        return (StatusCode::NOT_FOUND, "There is nothing here; queries go to /\n").into_response();
    }
    if uri.query().is_none() && matches!(method, Method::GET | Method::HEAD) {
        return "Ok.\n".into_response();
    }
    match execute(&served, &method, parameters, &headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn execute(
    served: &Served,
    method: &Method,
    parameters: Vec<(String, String)>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // A web page can make its visitor's browser post to loopback, but not without this header.
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            497,
            "requests from web pages are not served. (ACCESS_DENIED)",
        ));
    }
    let mut request = Request::new(parameters, headers)?;
    if served.credentials.as_ref().is_some_and(|credentials| !request.has(credentials)) {
        let text = "Authentication failed: password is incorrect, or there is no user with such name. \
                    (AUTHENTICATION_FAILED)";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, 516, text));
    }
    let body = match *method {
        Method::POST => body,
        Method::GET | Method::HEAD => {
            request.session.read_only = true;
            Body::empty()
        }
        _ => {
            let text = "only GET and POST are served. (NOT_IMPLEMENTED)";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 48, text));
        }
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = if content_type.starts_with("multipart/form-data") {
        let form = collect(body).await?;
        let fields = multipart::fields(content_type, &form).ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, 36, "the body is not multipart/form-data. (BAD_ARGUMENTS)")
        })?;
        request.extend(fields)?;
        Body::empty()
    } else {
        body
    };
    let Request { session, query, default_format, .. } = request;
    if let Statement::Insert(insert) = Statement::parse(query.as_bytes()) {
        return insert_from(served, session, insert, Bytes::from(query), body).await;
    }
    let text = concatenate(query, collect(body).await?);
    match Statement::parse(&text) {
        Statement::Insert(insert) => insert_from(served, session, insert, text, Body::empty()).await,
        Statement::FromFile => {
            let text = "the embedded store does not read files; send the data in the body. (NOT_IMPLEMENTED)";
            Err(Refusal::new(StatusCode::FORBIDDEN, 48, text))
        }
        Statement::Other { format } => {
            let default_format = default_format.unwrap_or_else(|| "TabSeparated".into());
            let shown = format.unwrap_or_else(|| default_format.clone());
            let answer = served.store.query(session, text.into(), default_format).await?;
            Ok(success(answer, &shown))
        }
    }
}

/// Runs an insert with the data behind it in `text`, then that of `body` as it arrives.
async fn insert_from(
    served: &Served,
    session: Session,
    insert: Insert,
    text: Bytes,
    body: Body,
) -> Result<Response, Refusal> {
    let Insert { head, format, data } = insert;
    // A few chunks of the client's 256 KiB: enough for both sides to work at once.
    let (sender, receiver) = mpsc::channel(4);
    let feed = async move {
        let first = text.slice(data..);
        if !first.is_empty() && sender.send(Data::Chunk(first)).await.is_err() {
            return;
        }
        let mut chunks = body.into_data_stream();
        loop {
            let data = match time::timeout(MAX_SILENCE, chunks.next()).await {
                Ok(Some(Ok(chunk))) => Data::Chunk(chunk),
                Ok(None) => Data::End,
                // Dropping the sender tells the store.
                Ok(Some(Err(_))) | Err(_) => return,
            };
            let end = matches!(data, Data::End);
            // Fails if the engine has refused earlier data; the rest is then read and thrown away, or the
            // client would be cut off before it sees the reason.
            let refused = sender.send(data).await.is_err();
            if refused {
                while let Ok(Some(Ok(_))) = time::timeout(MAX_SILENCE, chunks.next()).await {}
            }
            if end || refused {
                return;
            }
        }
    };
    let (answer, ()) = tokio::join!(served.store.insert(session, head, format, receiver), feed);
    Ok(success(answer?, "TabSeparated"))
}

/// The statement of the URL, continued by the body as a server does it.
fn concatenate(query: String, body: Bytes) -> Bytes {
    if query.is_empty() {
        body
    } else if body.is_empty() {
        Bytes::from(query)
    } else {
        let mut text = query.into_bytes();
        text.push(b'\n');
        text.extend_from_slice(&body);
        Bytes::from(text)
    }
}

async fn collect(body: Body) -> Result<Bytes, Refusal> {
    let collected = time::timeout(MAX_SILENCE, body::to_bytes(body, MAX_STATEMENT)).await;
    collected.ok().and_then(Result::ok).ok_or_else(|| {
        let text = format!(
            "the statement did not arrive whole within {} s, or is larger than {MAX_STATEMENT} bytes; \
             for large inserts put the statement into the URL and only the data into the body. (BAD_ARGUMENTS)",
            MAX_SILENCE.as_secs()
        );
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, 36, &text)
    })
}

fn success(answer: Answer, format: &str) -> Response {
    let Answer { body, read_rows, read_bytes, written_rows, written_bytes } = answer;
    let summary = format!(
        r#"{{"read_rows":"{read_rows}","read_bytes":"{read_bytes}","written_rows":"{written_rows}","written_bytes":"{written_bytes}"}}"#
    );
    let content_type = match format {
        "TabSeparated" | "TSV" | "TabSeparatedWithNames" | "TSVWithNames" => "text/tab-separated-values; charset=UTF-8",
        "CSV" | "CSVWithNames" => "text/csv; charset=UTF-8",
        "JSON" | "JSONCompact" => "application/json; charset=UTF-8",
        "JSONEachRow" => "application/x-ndjson; charset=UTF-8",
        _ if format.starts_with("RowBinary") || format == "Native" || format == "Parquet" => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // A name with other characters does not exist, so that the engine has refused it before.
    if let Ok(format) = HeaderValue::from_str(format) {
        headers.insert("x-clickhouse-format", format);
    }
    if let Ok(summary) = HeaderValue::from_str(&summary) {
        headers.insert("x-clickhouse-summary", summary);
    }
    response
}

/// An answer other than success, in a server's form.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: u16,
    /// With the code in front and a line break behind.
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, code: u16, text: &str) -> Self {
        Self { status, code, text: format!("Code: {code}. DB::Exception: {text}\n") }
    }

    fn compression() -> Self {
        let text = "compressed requests are not served here: send data as it is, \
                    without compress=1, decompress=1 or Content-Encoding. (NOT_IMPLEMENTED)";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, 48, text)
    }

    fn unsupported(name: &str) -> Self {
        let text = format!("the embedded store has no {name}; leave the parameter out. (NOT_IMPLEMENTED)");
        Self::new(StatusCode::BAD_REQUEST, 48, &text)
    }
}

impl From<embedded::Error> for Refusal {
    fn from(error: embedded::Error) -> Self {
        let text = error.to_string();
        let code = exception_code(&text).unwrap_or(1002);
        Self { status: status(code), code, text: text + "\n" }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, [("x-clickhouse-exception-code", self.code.to_string())], self.text).into_response()
    }
}

/// N of `Code: N. DB::Exception: …`
fn exception_code(text: &str) -> Option<u16> {
    let (code, _) = text.strip_prefix("Code: ")?.split_once('.')?;
    code.parse().ok()
}

/// The status that a server sends with an exception of this code.
const fn status(code: u16) -> StatusCode {
    match code {
        // Text that is no SQL, or data or values that do not parse.
        6 | 26 | 27 | 33 | 36 | 38 | 41 | 53 | 62 | 70 | 72 | 117 | 386 | 456 | 457 => StatusCode::BAD_REQUEST,
        // No such function, identifier, table, database, column, setting.
        16 | 46 | 47 | 60 | 73 | 81 | 115 => StatusCode::NOT_FOUND,
        // Read-only, access denied.
        164 | 497 => StatusCode::FORBIDDEN,
        48 => StatusCode::NOT_IMPLEMENTED,
        // Timeout, shutting down.
        159 | 236 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_keeps_its_code_and_gets_a_status() {
        for (text, code, status) in [
            ("Code: 62. DB::Exception: Empty query. (SYNTAX_ERROR)", 62, StatusCode::BAD_REQUEST),
            ("Code: 60. DB::Exception: Table a.b does not exist. (UNKNOWN_TABLE)", 60, StatusCode::NOT_FOUND),
            ("Code: 241. DB::Exception: Memory. (MEMORY_LIMIT_EXCEEDED)", 241, StatusCode::INTERNAL_SERVER_ERROR),
            ("something else", 1002, StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let refusal = Refusal::from(embedded::Error::Exception(text.into()));
            assert_eq!((refusal.code, refusal.status), (code, status), "{text}");
            assert_eq!(refusal.text, format!("{text}\n"));
        }
    }

    #[test]
    fn the_url_comes_before_the_body() {
        for (query, body, text) in
            [("SELECT", "1", "SELECT\n1"), ("", "SELECT 1", "SELECT 1"), ("SELECT 1", "", "SELECT 1")]
        {
            assert_eq!(concatenate(query.into(), Bytes::from(body)), text);
        }
    }
}
