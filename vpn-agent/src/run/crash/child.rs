//! A child process that is an [agent](super::agent).

use std::{
    env,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::agent::{DONE, FOLDER, HERE, READY};

/// A child process that is a gateway.
pub struct Child {
    process: process::Child,
    said: Lines<BufReader<ChildStdout>>,
    told: ChildStdin,
    /// The thread that does everything.
    pub thread: u64,
    /// That of the state in force, as it has said last.
    pub revision: u64,
}

impl Child {
    /// Starts it, and waits until the kernel follows the state in force.
    pub fn start(folder: &Path) -> Self {
        let mut child = Self::spawn(folder);
        assert!(child.begin(), "the child has died");
        child
    }

    /// A process that has not begun.
    pub fn spawn(folder: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "run::crash::agent::child", "--ignored", "--nocapture"]).env(FOLDER, folder);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (told, said) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut child = Self { process, said: BufReader::new(said).lines(), told, thread: 0, revision: 0 };
        child.thread = child.hear(HERE).unwrap();
        child
    }

    /// False if it dies of it.
    pub fn begin(&mut self) -> bool {
        writeln!(self.told).unwrap();
        let revision = self.hear(READY);
        self.revision = revision.unwrap_or_default();
        revision.is_some()
    }

    /// Ends it if it has not ended, and starts the next one.
    pub fn again(self, folder: &Path) -> Self {
        drop(self);
        Self::start(folder)
    }

    /// Has it make a change.
    pub fn make(&mut self, number: usize) {
        self.revision = self.try_make(number).expect("the child has died");
    }

    /// The same where it may die of it.
    pub fn try_make(&mut self, number: usize) -> Option<u64> {
        writeln!(self.told, "{number}").unwrap();
        self.hear(DONE)
    }

    fn hear(&mut self, word: &str) -> Option<u64> {
        let mut lines = self.said.by_ref().map_while(Result::ok);
        lines.find_map(|line| line.split_once(word)?.1.trim().parse().ok())
    }

    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
