//! The collector as a store.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use clickhouse::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vpn_collector::{client::client, config::Config, row::Record, writer::Writer};

use crate::access::AccessRow;

/// `vpn-collector serve` on a data directory of its own.
pub struct Store {
    pub folder: TempDir,
    listen: SocketAddr,
    pub client: Client,
    pub child: Option<Child>,
}

impl Store {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "")
    }

    /// With further lines of the `[clickhouse]` table.
    pub fn start_in(folder: TempDir, clickhouse: &str) -> Self {
        let mut store = Self::prepare(folder, clickhouse);
        store.child = Some(spawn(&store.config(), &store.log(), store.listen));
        store
    }

    /// With its configuration written, and no process.
    pub fn prepare(folder: TempDir, clickhouse: &str) -> Self {
        let library = library();
        assert!(library.exists(), "{} is missing: run `cargo xtask setup`", library.display());
        // Free now, and very likely still so in a moment.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "directory = 'none'\nstate_dir = 'none'\n[clickhouse]\n{clickhouse}\n\
             [embedded]\nlibrary = {library:?}\npath = {:?}\nlisten = '{listen}'\n",
            folder.path().join("data"),
        );
        let path = folder.path().join("collector.toml");
        fs::write(&path, text).unwrap();
        let client = connect(&path, listen);
        Self { folder, listen, client, child: None }
    }

    pub fn restart(&mut self, signal: Signal) {
        self.stop(signal);
        self.resume();
    }

    pub fn stop(&mut self, signal: Signal) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert!(signal == Signal::KILL || status.success(), "{status}: {}", fs::read_to_string(self.log()).unwrap());
    }

    pub fn resume(&mut self) {
        self.child = Some(spawn(&self.config(), &self.log(), self.listen));
        // The old one may try a connection to the process that has gone first, and fail once.
        self.client = connect(&self.config(), self.listen);
    }

    pub async fn write<R: Record + Clone>(&self, rows: &[R]) {
        let mut writer = Writer::new(self.client.clone(), rows.len());
        rows.iter().cloned().for_each(|row| writer.push(row));
        writer.flush().await.unwrap();
        assert!(writer.is_empty());
    }

    pub async fn read<R: Record>(&self, order: &str) -> Vec<R> {
        let sql = format!("SELECT ?fields FROM {} FINAL {order}", R::TABLE);
        self.client.query(&sql).fetch_all().await.unwrap()
    }

    /// The whole view, by id.
    pub async fn accesses(&self) -> Vec<AccessRow> {
        self.client.query("SELECT ?fields FROM accesses ORDER BY toUInt128(id)").fetch_all().await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        self.client.query(sql).execute().await.unwrap();
    }

    /// Another command of the collector with the same configuration.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config()).output().unwrap()
    }

    /// One request, by hand; the whole answer as it arrives.
    pub fn http(&self, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.listen
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("collector.toml")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn connect(config: &Path, listen: SocketAddr) -> Client {
    client(&format!("http://{listen}"), &Config::read(config).unwrap().clickhouse).unwrap()
}

/// Returns once it serves.
pub fn spawn(config: &Path, log: &Path, listen: SocketAddr) -> Child {
    let log_file = fs::File::options().create(true).append(true).open(log).unwrap();
    let mut child = Command::new(binary())
        .args(["serve", "--config"])
        .arg(config)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(listen).is_err() {
        let text = fs::read_to_string(log).unwrap();
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "the store does not serve: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Where the set-up command puts it.
fn library() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from);
    let cache = variable("VPN_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("vpn-gateway")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/vpn-gateway")));
    cache.expect("VPN_CACHE or HOME is set").join("clickhouse/libchdb.so")
}

/// The collector, built the way this test is. Cargo builds the programs of other packages for no test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "vpn-collector", "--target-dir"]).arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "vpn-collector does not build");
        folder.join("vpn-collector")
    })
}
