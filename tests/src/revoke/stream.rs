//! What comes in from a program of a user's, and when the last of it came.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};

/// A running program whose output is read as it comes. It ends with this value.
#[derive(Debug)]
pub struct Stream {
    program: Child,
    progress: Arc<Mutex<Progress>>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes.
    pub bytes: u64,
    /// When the last of them came.
    pub last: Instant,
}

impl Stream {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let program = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut program = program.with_context(|| format!("start {command:?}"))?;
        let mut output = program.stdout.take().context("its output is a pipe")?;
        let progress = Arc::new(Mutex::new(Progress { bytes: 0, last: Instant::now() }));
        let shared = Arc::clone(&progress);
        // Ends with the program.
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let mut progress = shared.lock().unwrap_or_else(PoisonError::into_inner);
                *progress = Progress { bytes: progress.bytes + length as u64, last: Instant::now() };
            }
        });
        Ok(Self { program, progress })
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the program still runs.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.program.try_wait()?.is_none())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
