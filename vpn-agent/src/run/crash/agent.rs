//! What the child process is: an agent without an API, which is told on its standard input which change to make.

use std::{
    collections::BTreeSet,
    env, fmt,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{process::getuid, thread::gettid};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::round::{Change, before, round};
use crate::{
    actor::Actor,
    addressing::Allocations,
    change::Touched,
    config::Config,
    control::{Call, Control, Given, Handle, Kernel},
    id::{CertificateId, PlantId},
    problem::Problems,
    run::{
        Error, Host, desired_users,
        idle::Idle,
        scene::{self, with_users},
    },
    state::State,
};

/// Tells the child where the files of the gateway are.
pub const FOLDER: &str = "VPN_CRASH_FOLDER";

/// What the child says: first, with the thread that does everything.
pub const HERE: &str = "here";
/// And then, each with the revision that is in force.
pub const READY: &str = "ready";
pub const DONE: &str = "done";

/// The process that is killed.
#[test]
#[ignore = "it is the process that is killed"]
fn child() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    // For the steps.
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(|| Parent);
    log.without_time().with_ansi(false).init();
    say(HERE, gettid().as_raw_nonzero());
    io::stdin().read_line(&mut String::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = config(Path::new(&folder));
        let kernel = Bridged(Host::open(config.clone()).unwrap());
        let (mut control, handle) = Control::open(Arc::new(config), kernel).unwrap();
        control.run(serve(&handle)).await;
    });
}

/// Hears what the child says, by a call that nothing else makes: so those of other names count what has an effect.
struct Parent;

impl io::Write for Parent {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::writev(io::stdout(), &[io::IoSlice::new(text)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn say(word: &str, number: impl fmt::Display) {
    Parent.write_all(format!("{word} {number}\n").as_bytes()).unwrap();
}

/// Makes the changes that it is told of.
async fn serve(handle: &Handle) {
    if revision(handle).await.is_none() {
        replace(handle, before()).await;
    }
    say(READY, applied(handle).await);
    let round = round();
    let (told, mut numbers) = mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    while let Some(number) = numbers.recv().await {
        match &round[number.parse::<usize>().unwrap()].1 {
            Change::Single(change) => {
                let change = serde_json::from_value(change.clone()).unwrap();
                handle.change(call(), vec![change]).await.unwrap();
            }
            Change::Whole(document) => replace(handle, document.clone()).await,
        }
        say(DONE, applied(handle).await);
    }
}

async fn replace(handle: &Handle, mut document: Value) {
    document["revision"] = json!(revision(handle).await.unwrap_or_default() + 1);
    let given = Given::parse(document.to_string().as_bytes()).unwrap();
    handle.replace(call(), Box::new(given)).await.unwrap();
}

fn call() -> Call {
    Call { actor: Actor::of_user(getuid().as_raw()), expected: None, dry_run: false }
}

/// That of the state in force.
async fn revision(handle: &Handle) -> Option<u64> {
    handle.look(|view| view.version.map(|version| version.revision)).await.unwrap()
}

/// The same, once the kernel follows.
async fn applied(handle: &Handle) -> u64 {
    loop {
        let looked = handle.look(|view| (view.version.cloned(), view.progress.clone())).await;
        let (version, progress) = looked.unwrap();
        if let Some(version) = version
            && progress.applied.as_ref() == Some(&version)
        {
            assert!(progress.failed.is_empty() && progress.error.is_none(), "{progress:?}");
            return version.revision;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// A host without WireGuard: its users' interface is a bridge, and has every peer as soon as it is wanted.
struct Bridged(Host);

impl Bridged {
    async fn meet(&mut self, state: &State) {
        if self.0.users.is_none() {
            return with_users(&mut self.0, state).await;
        }
        let given = self.0.allocations.extended(state, &self.0.config).unwrap();
        self.0.user_peers = Some(desired_users(state, &given, &self.0.config.pools));
    }
}

impl Kernel for Bridged {
    type Error = Error;
    type Observed = Idle;

    fn check(&self, state: &State, touched: &Touched) -> Result<(), Problems> {
        self.0.check(state, touched)
    }

    async fn apply(&mut self, state: &State) -> Result<Vec<(PlantId, Error)>, Error> {
        self.meet(state).await;
        self.0.apply(state).await
    }

    async fn hurry(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) -> Result<(), Error> {
        self.meet(state).await;
        let hurried = Kernel::hurry(&mut self.0, state, certificates).await;
        assert!(!matches!(hurried, Err(Error::Unsettled)), "the quick path is not taken");
        hurried
    }

    async fn look(&mut self) -> bool {
        self.0.look().await
    }

    async fn forget(&mut self) -> Result<(), Error> {
        Kernel::forget(&mut self.0).await
    }

    fn is_detached(&self) -> bool {
        self.0.is_detached()
    }

    async fn idle(&mut self) -> Option<Idle> {
        Kernel::idle(&mut self.0).await
    }

    async fn reconcile(&mut self, observed: Idle) -> bool {
        Kernel::reconcile(&mut self.0, observed).await
    }

    fn allocations(&self) -> &Allocations {
        &self.0.allocations
    }
}

/// Its changes come by calls, and it does nothing by itself.
pub fn config(folder: &Path) -> Config {
    Config { state: None, reconcile_seconds: 0, ..scene::config(folder) }
}
