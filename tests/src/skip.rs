//! Tests that cannot run on this machine say so, instead of passing in silence.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
};

use environment::{QUICK, SKIPPED_FILE};

mod environment;

/// Reports that `test` cannot run here. The test then returns, and counts as skipped instead of passed.
///
/// One report a test: a test that can do a part of its work is not skipped.
pub fn skipped(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}\n");
    // Not `println!`, which the test harness hides when the test succeeds.
    io::stdout().write_all(line.as_bytes()).expect("stdout can be written");
    if let Some(path) = env::var_os(SKIPPED_FILE) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        // One write: tests of several processes append to this file.
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file of skipped tests can be written");
    }
}

/// Whether only quick tests are wanted.
pub fn quick() -> bool {
    env::var_os(QUICK).is_some()
}
