//! Programs that run beside a scenario.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A running program, which ends with this value.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    /// Starts it without input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("start {command:?}"))?))
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// If it is not.
    pub fn finish(mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "a program ended with {status}");
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
