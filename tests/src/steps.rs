//! The visible progress of a scenario: a numbered step, its time, and what was found.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Prints steps as they end.
#[derive(Debug)]
pub struct Steps {
    start: Instant,
    number: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self { start: Instant::now(), number: 0 }
    }
}

impl Steps {
    /// Runs one step and prints its title, its time, and the lines it gives back.
    ///
    /// # Errors
    /// What the step fails with; the title is printed before.
    pub fn step<T: Found>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.number += 1;
        let started = Instant::now();
        let outcome = work();
        let (at, took) = (self.start.elapsed().as_secs_f64(), started.elapsed().as_secs_f64());
        let mark = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("[{at:6.1} s] {:2}. {title} ... {mark} ({took:.1} s)", self.number);
        if let Ok(found) = &outcome {
            for line in found.lines() {
                println!("              {line}");
            }
        }
        outcome
    }
}

/// What a step has to show.
pub trait Found {
    /// Lines to print below the step.
    fn lines(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Found for () {}

impl Found for String {
    fn lines(&self) -> Vec<String> {
        str::lines(self).map(str::to_owned).collect()
    }
}

impl Found for Vec<String> {
    fn lines(&self) -> Vec<String> {
        self.clone()
    }
}

impl<T> Found for (T, Vec<String>) {
    fn lines(&self) -> Vec<String> {
        self.1.clone()
    }
}

/// Fails with both values if they differ.
///
/// # Errors
/// If they differ.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: impl Display, found: T, expected: T) -> Result<()> {
    if found != expected {
        bail!("{what}: found {found:?}, expected {expected:?}");
    }
    Ok(())
}

/// Asks again until the answer is there or the time is up.
///
/// # Errors
/// The last answer, when the time is up.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {} s", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
