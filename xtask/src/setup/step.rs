//! One external command of the set-up: silent when it succeeds, with the essence of its complaint when it fails.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` without input. Gives what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}: {}", output.status, essence(&complaint));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What matters in the last words of a program: its lines of error if there are any, else the end.
fn essence(complaint: &str) -> String {
    let is_error = |line: &&str| line.starts_with("E: ") || line.to_lowercase().starts_with("error");
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<&str> = lines.iter().copied().filter(is_error).take(4).collect();
    match errors.is_empty() {
        true => lines[lines.len().saturating_sub(4)..].join(" / "),
        false => errors.join(" / "),
    }
}
