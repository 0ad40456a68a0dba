//! The audit as an auditor sees it: SQL over HTTP with `curl`, and nothing of the collector's own code.

use std::{
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// A connection to ClickHouse.
#[derive(Clone, Debug)]
pub struct Audit {
    url: String,
}

/// A forwarded flow, from the view for auditors.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the view's columns")]
pub struct FlowRow {
    pub user: String,
    pub certificate: String,
    pub plant: String,
    pub operator: String,
    pub gateway: String,
    pub region: String,
    pub protocol: String,
    pub source: Ipv4Addr,
    pub source_port: u16,
    pub addressed: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub port: u16,
    pub packets_to_plant: u64,
    pub bytes_to_plant: u64,
    pub packets_to_user: u64,
    pub bytes_to_user: u64,
}

impl Audit {
    /// At the URL of a ClickHouse HTTP interface.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// The answer to a query, as text.
    ///
    /// # Errors
    /// What ClickHouse says.
    pub fn text(&self, query: &str) -> Result<String> {
        let mut curl = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-m", "60", "--data-binary", "@-", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start curl")?;
        curl.stdin.take().context("a pipe")?.write_all(query.as_bytes())?;
        let output = curl.wait_with_output()?;
        let said = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            bail!("{query}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// As [`Audit::text`].
    pub fn rows<T: for<'de> Deserialize<'de>>(&self, query: &str) -> Result<Vec<T>> {
        let text =
            self.text(&format!("{query} SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"))?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// All forwarded flows.
    ///
    /// # Errors
    /// As [`Audit::text`].
    pub fn flows(&self) -> Result<Vec<FlowRow>> {
        self.rows("SELECT * FROM audit.accesses WHERE verdict = 'forwarded' ORDER BY opened")
    }

    /// All denied attempts.
    ///
    /// # Errors
    /// As [`Audit::text`].
    pub fn denials(&self) -> Result<Vec<Value>> {
        self.rows("SELECT * FROM audit.accesses WHERE verdict != 'forwarded' ORDER BY opened")
    }

    /// Who touched what, how often: the question that auditors ask.
    ///
    /// # Errors
    /// As [`Audit::text`].
    pub fn summary(&self) -> Result<Vec<String>> {
        let table = self.text(
            "SELECT operator, plant, user, verdict, addressed, destination, protocol, port, count() AS times, \
             sum(bytes_to_plant) AS bytes_to_plant, sum(bytes_to_user) AS bytes_to_user, sum(packets_refused) AS refused \
             FROM audit.accesses GROUP BY operator, plant, user, verdict, addressed, destination, protocol, port \
             ORDER BY operator, plant, user, verdict, addressed, protocol, port FORMAT PrettyCompactMonoBlock",
        )?;
        Ok(table.lines().map(str::to_owned).collect())
    }

    /// Checks that both tables delete rows 730 days after their last packet, and no sooner.
    ///
    /// # Errors
    /// If one does not.
    pub fn retention(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for table in ["flows", "denials"] {
            let definition = self.text(&format!("SHOW CREATE TABLE audit.{table} FORMAT TSVRaw"))?;
            let ttl = definition.lines().find(|line| line.starts_with("TTL ")).context("no TTL")?;
            ensure!(ttl == "TTL toDateTime(last_seen) + toIntervalDay(730)", "audit.{table}: {ttl}");
            lines.push(format!("audit.{table}: {ttl}"));
        }
        Ok(lines)
    }
}
