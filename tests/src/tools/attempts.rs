//! What must not succeed.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::namespace::Namespace;

/// How long each of them tries.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Runs all lines at once, each on its host; every one must fail.
pub fn must_fail(attempts: &[(&Namespace, String)]) -> Result<()> {
    let outputs = std::thread::scope(|scope| {
        let running: Vec<_> = attempts.iter().map(|(host, line)| scope.spawn(|| host.output(line))).collect();
        running.into_iter().map(|attempt| attempt.join().expect("the thread does not panic")).collect::<Vec<_>>()
    });
    for ((host, line), output) in attempts.iter().zip(outputs) {
        ensure!(!output?.status.success(), "{}: `{line}` succeeded", host.name());
    }
    Ok(())
}

/// Fetches a page.
pub fn curl(authority: &str) -> String {
    format!("curl -gsS -m {} -o /dev/null http://{authority}/name", PATIENCE.as_secs())
}

/// Pings.
pub fn ping(target: &str) -> String {
    format!("ping -n -q -c 1 -W {} {target}", PATIENCE.as_secs())
}
