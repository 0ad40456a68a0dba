//! Calls over real sockets, in front of a kernel that does nothing but remember. Every answer is checked against the
//! OpenAPI document.

mod calls;
mod changes;
mod document;
mod ended;
mod explain;
mod large;
pub(crate) mod transport;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HeaderMap};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    sync::oneshot,
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep},
};

use super::{Server, endpoints, openapi, routes};
use crate::{
    addressing::Allocations,
    change::Touched,
    config::Config,
    control::{Control, Kernel},
    example,
    id::{CertificateId, PlantId},
    key::PrivateKey,
    problem::{Problem, Problems},
    pull::Puller,
    state::State,
};

/// What the kernel that does nothing remembers, and how it shall fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Revisions that were applied.
    pub(crate) applied: Vec<u64>,
    /// Why nothing can be applied.
    pub(crate) broken: Option<String>,
    /// Why nothing leads to the plant `north`.
    pub(crate) no_north: Option<String>,
    /// Whether nothing is to be done at all, not even addresses be given.
    is_idle: bool,
    /// The revision that does not fit on this gateway.
    pub(crate) refused: Option<u64>,
}

#[derive(Clone, Default)]
struct Fake {
    memory: Arc<Mutex<Memory>>,
    allocations: Allocations,
    config: Option<Arc<Config>>,
}

impl Kernel for Fake {
    type Error = String;
    type Observed = ();

    fn check(&self, state: &State, _: &Touched) -> Result<(), Problems> {
        let refused = self.memory.lock().unwrap().refused == Some(state.revision);
        let problem = Problem { path: "pools.tunnel".to_owned(), message: "does not fit".to_owned() };
        Problems::none_of(if refused { vec![problem] } else { Vec::new() })
    }

    async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, String)>, String> {
        let mut memory = self.memory.lock().unwrap();
        if let Some(why) = &memory.broken {
            return Err(why.clone());
        }
        if memory.is_idle {
            return Ok(Vec::new());
        }
        self.allocations = self.allocations.extended(state, self.config.as_ref().unwrap()).unwrap();
        memory.applied.push(state.revision);
        Ok(memory.no_north.iter().map(|why| ("north".parse().unwrap(), why.clone())).collect())
    }

    async fn hurry(&mut self, state: &State, _: &BTreeSet<CertificateId>) -> Result<(), String> {
        self.apply(state).await.map(|_| ())
    }

    async fn look(&mut self) -> bool {
        true
    }

    async fn forget(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn is_detached(&self) -> bool {
        false
    }

    async fn idle(&mut self) -> Option<()> {
        std::future::pending().await
    }

    async fn reconcile(&mut self, (): ()) -> bool {
        false
    }

    fn allocations(&self) -> &Allocations {
        &self.allocations
    }
}

/// An agent with an API.
pub(crate) struct Agent {
    pub(crate) folder: Arc<TempDir>,
    config: Arc<Config>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    server: Server,
    puller: Option<Puller>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    fn tag(&self) -> String {
        self.headers["etag"].to_str().unwrap().to_owned()
    }

    /// The paths of what is wrong.
    fn paths(&self) -> Vec<&str> {
        self.body["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect()
    }
}

/// Runs a test that starts agents.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

impl Agent {
    /// One that takes its state by calls.
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), "").await
    }

    /// One whose files are in `folder`, with more of TOML; `FOLDER` in it stands for the folder.
    pub(crate) async fn start_in(folder: Arc<TempDir>, more: &str) -> Self {
        let path = folder.path().display().to_string();
        let api = if more.contains("[api]") { String::new() } else { format!("[api]\nsocket = '{path}/api.sock'\n") };
        PrivateKey::read_or_create(&folder.path().join("users.key")).unwrap();
        let text = format!(
            "gateway = 'gateway-1'\nregion = 'eu'\nstate_dir = '{path}'\nusers.private_key_file = '{path}/users.key'\n\
             users.endpoint = 'gateway.example:51820'\n{}\n{api}",
            more.replace("FOLDER", &path)
        );
        let config = Arc::new(Config::parse(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}")));
        let fake = Fake { config: Some(config.clone()), ..Fake::default() };
        let memory = fake.memory.clone();
        let (mut control, handle) = Control::open(config.clone(), fake).unwrap();
        let api = config.api.clone().unwrap();
        let server = Server::start(&api, routes(handle.clone(), &api)).await.unwrap();
        let puller = config.pull.as_ref().map(|pull| Puller::start(pull, handle.clone()).unwrap());
        let (stop, stopped) = oneshot::channel();
        let running = spawn_local(async move {
            control.run(async { drop(stopped.await) }).await;
        });
        Self { folder, config, memory, server, puller, stop, running }
    }

    fn socket(&self) -> PathBuf {
        self.config.api.clone().unwrap().socket.unwrap()
    }

    /// Ends it, and starts it again on the same files.
    async fn restart(self) -> Self {
        let folder = self.stop().await;
        Self::start_in(folder, "").await
    }

    pub(crate) async fn stop(self) -> Arc<TempDir> {
        drop((self.server, self.puller));
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
        self.folder
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], None).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &[], Some(body)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], Some(body)).await
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        call(stream, method, path, headers, body).await
    }

    /// The content of a file of the agent's.
    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Everything on disk that a change of the state could change.
    fn files(&self) -> [Vec<u8>; 3] {
        ["state.json", "changes.jsonl", "control.jsonl"].map(|name| self.file(name))
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        lines(&self.folder.path().join("control.jsonl"))
    }

    pub(crate) fn applied(&self) -> Vec<u64> {
        self.memory.lock().unwrap().applied.clone()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One call over a connection of its own, whose answer must be as it is described.
async fn call<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "agent");
    if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| Bytes::from(body.as_str().map_or_else(|| body.to_string(), ToOwned::to_owned)));
    let request = request.body(Full::new(body.unwrap_or_default())).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(async move { drop(connection.await) });
    let response = sender.send_request(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    document::check_answer(method, path.split('?').next().unwrap(), status, &body);
    Answer { status, headers, body }
}

/// [`example::json`] with another revision.
pub(crate) fn state(revision: u64) -> Value {
    let mut document = example::json();
    document["revision"] = json!(revision);
    document
}

/// Waits until it is so.
pub(crate) async fn soon(is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < end, "it does not come about");
        sleep(Duration::from_millis(20)).await;
    }
}
