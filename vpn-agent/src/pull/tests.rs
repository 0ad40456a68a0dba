//! Against a real HTTPS server.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Response, StatusCode, header},
    routing::get,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto, server::WebPkiClientVerifier},
};

use crate::{
    actor::Actor,
    api::{
        self, connection,
        tests::transport::{authority, certificate},
        tests::{Agent, run, soon, state},
    },
};

/// What the server says next.
#[derive(Clone, Default)]
struct Served {
    status: u16,
    tag: String,
    text: String,
    /// How often it was asked, and what for.
    known: Vec<Option<String>>,
}

type Shelf = Arc<Mutex<Served>>;

/// Serves what is on the shelf to whoever has a certificate.
async fn serve(folder: &Path, port: u16, shelf: Shelf) -> (u16, JoinSet<()>) {
    let provider = Arc::new(crypto::ring::default_provider());
    let roots = Arc::new(api::roots(&folder.join("ca.pem")).unwrap());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            api::certificates(&folder.join("server.pem")).unwrap(),
            api::private_key(&folder.join("server.key")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer = move |headers: HeaderMap| async move {
        let mut served = shelf.lock().unwrap();
        let known = headers.get(header::IF_NONE_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
        let is_known = known.as_ref() == Some(&served.tag);
        served.known.push(known);
        let status = if is_known { StatusCode::NOT_MODIFIED.as_u16() } else { served.status };
        let body = if is_known { String::new() } else { served.text.clone() };
        Response::builder().status(status).header(header::ETAG, &served.tag).body(Body::from(body)).unwrap()
    };
    let router = Router::new().route("/state", get(answer));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            open.spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    connection::serve(stream, Actor::of_user(0), router).await;
                }
            });
        }
    });
    (port, tasks)
}

fn put(shelf: &Shelf, document: &Value) {
    let mut served = shelf.lock().unwrap();
    let known = std::mem::take(&mut served.known);
    let tag = format!("\"{}\"", crate::version::Fingerprint::of(document.to_string().as_bytes()).as_str());
    *served = Served { status: 200, tag, text: document.to_string(), known };
}

async fn status(agent: &Agent) -> Value {
    agent.get("/v1/status").await.body
}

/// What is wrong with the source, once it is this.
async fn trouble(agent: &Agent, part: &str) {
    let mut last = Value::Null;
    for _ in 0..600 {
        last = status(agent).await["source"]["problem"].take();
        if last.as_str().is_some_and(|problem| problem.to_lowercase().contains(part)) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{last} does not contain {part}");
}

/// Requirements: G2, G4, E3.
#[test]
fn newer_states_are_taken_and_the_last_good_one_stays() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let ca = authority("the authority");
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        certificate(folder.path(), "server", &ca, Some("server"), &[]);
        certificate(folder.path(), "gateway", &ca, Some("gateway-1"), &[]);
        let shelf = Shelf::default();
        put(&shelf, &state(7));
        let (port, server) = serve(folder.path(), 0, shelf.clone()).await;
        let pull = |more: &str| {
            format!(
                "[pull]\nurl = 'https://127.0.0.1:{port}/state'\ninterval_seconds = 1\nca_file = 'FOLDER/ca.pem'\n{more}"
            )
        };
        let known = "certificate_file = 'FOLDER/gateway.pem'\nprivate_key_file = 'FOLDER/gateway.key'\n";

        // Without a certificate it gets nothing.
        let agent = Agent::start_in(folder.clone(), &pull("")).await;
        trouble(&agent, "certificate").await;
        assert_eq!(agent.get("/v1/state").await.status, StatusCode::NOT_FOUND);
        agent.stop().await;

        let agent = Agent::start_in(folder.clone(), &pull(known)).await;
        soon(async || agent.applied() == [7]).await;
        let now = status(&agent).await;
        assert_eq!((&now["in_force"]["revision"], &now["source"]["problem"]), (&json!(7), &Value::Null));
        assert_eq!(now["origin"]["actor"], json!(format!("pull:https://127.0.0.1:{port}/state")));
        assert_eq!(agent.put("/v1/state", &state(8)).await.status, StatusCode::CONFLICT, "changes come from there");
        let asked = shelf.lock().unwrap().known.len();
        soon(async || shelf.lock().unwrap().known.len() > asked + 1).await;
        assert!(shelf.lock().unwrap().known.last().unwrap().is_some(), "it says what it knows");

        // Not valid, and it stays so however often it is asked for.
        let mut bad = state(8);
        bad["roles"][0]["user"] = json!("nobody");
        put(&shelf, &bad);
        trouble(&agent, "not valid: roles[0].user").await;
        let asked = shelf.lock().unwrap().known.len();
        soon(async || shelf.lock().unwrap().known.len() > asked + 1).await;
        trouble(&agent, "not valid: roles[0].user").await;
        agent.memory.lock().unwrap().refused = Some(8);
        put(&shelf, &state(8));
        trouble(&agent, "not valid on this gateway: pools.tunnel").await;
        put(&shelf, &state(6));
        trouble(&agent, "revision 6 is not newer than 7").await;
        shelf.lock().unwrap().tag = "\"other\"".to_owned();
        shelf.lock().unwrap().status = 500;
        trouble(&agent, "answers 500").await;
        assert_eq!((agent.applied(), agent.events().len()), (vec![7], 1));

        // Out of reach, also over a restart.
        drop(server);
        trouble(&agent, "refused").await;
        agent.stop().await;
        let agent = Agent::start_in(folder.clone(), &pull(known)).await;
        soon(async || agent.applied() == [7]).await;
        trouble(&agent, "refused").await;

        put(&shelf, &state(9));
        let (_, _server) = serve(folder.path(), port, shelf.clone()).await;
        soon(async || agent.applied() == [7, 9]).await;
        soon(async || status(&agent).await["source"]["problem"].is_null()).await;
        assert_eq!(agent.events().iter().map(|event| event["from"].clone()).collect::<Vec<_>>(), ["pull", "pull"]);
    });
}

#[test]
fn a_server_of_another_authority_is_not_believed() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let theirs = TempDir::new().unwrap();
        let ca = authority("the authority");
        fs::write(folder.path().join("ca.pem"), authority("the authority").pem()).unwrap();
        fs::write(theirs.path().join("ca.pem"), ca.pem()).unwrap();
        certificate(theirs.path(), "server", &ca, Some("server"), &[]);
        let shelf = Shelf::default();
        put(&shelf, &state(7));
        let (port, _server) = serve(theirs.path(), 0, shelf.clone()).await;
        let pull = format!("[pull]\nurl = 'https://127.0.0.1:{port}/state'\nca_file = 'FOLDER/ca.pem'\n");
        let agent = Agent::start_in(folder, &pull).await;
        trouble(&agent, "certificate").await;
        assert_eq!(shelf.lock().unwrap().known.len(), 0);
    });
}
