//! The agent's API as a program of the control plane calls it: HTTP by its Unix socket, and nothing of the agent's code.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open connection.
#[derive(Debug)]
pub struct Api(BufReader<UnixStream>);

/// What the agent answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// The JSON; null if there is none.
    pub body: Value,
}

impl Api {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens at the socket.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Calls, and gives the answer, whatever it is.
    ///
    /// # Errors
    /// If there is none.
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        self.answer().with_context(|| format!("{method} {path}"))
    }

    /// Calls for a change, which must be in force when this returns.
    ///
    /// # Errors
    /// If it is not.
    pub fn change(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let Answer { status, body: said } = self.call(method, path, body)?;
        ensure!(status == 200, "{method} {path}: {status} {said}");
        Ok(said)
    }

    fn answer(&mut self) -> Result<Answer> {
        let status = self.line()?;
        let status = status.split_whitespace().nth(1).with_context(|| format!("the answer {status:?}"))?.parse()?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("an answer in pieces");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line)?;
        ensure!(length > 0, "the agent has closed the connection");
        Ok(line.trim_end().to_owned())
    }
}
