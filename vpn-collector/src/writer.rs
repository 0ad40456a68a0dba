//! Rows on their way into one table.

use std::{collections::VecDeque, time::Duration};

use clickhouse::Client;

use crate::{client::within, row::Record};

/// How long one insert may take, from the connection to the acknowledgement, unless [`Writer::with_limit`] says
/// otherwise.
pub const INSERT_LIMIT: Duration = Duration::from_secs(60);

/// Why rows were not written. They are kept for the next attempt in every case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("ClickHouse is not reachable, rows for {table} are kept and sent again: {source}")]
    Unreachable {
        /// The table concerned.
        table: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
    /// The writer's limit went by without an acknowledgement.
    #[error("ClickHouse did not acknowledge rows for {table} in time, they are kept and sent again: {source}")]
    TimedOut {
        /// The table concerned.
        table: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
    /// ClickHouse answered with an exception.
    #[error("ClickHouse refused rows for {table}, they are kept and sent again: {source}")]
    Refused {
        /// The table concerned.
        table: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
    /// The table's columns are not those of this version.
    #[error(
        "table {table} does not fit this version of the collector, rows are kept: {source}; \
         compare with `vpn-collector schema show`"
    )]
    Mismatch {
        /// The table concerned.
        table: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
}

/// What a writer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows that were acknowledged.
    pub rows: u64,
    /// Inserts that were acknowledged.
    pub inserts: u64,
    /// [`Error::Unreachable`]
    pub unreachable: u64,
    /// [`Error::TimedOut`]
    pub timed_out: u64,
    /// [`Error::Refused`]
    pub refused: u64,
    /// [`Error::Mismatch`]
    pub mismatched: u64,
}

/// Keeps rows until ClickHouse has acknowledged them.
///
/// Rows that ClickHouse took without the acknowledgement arriving are sent again. That changes nothing, since the
/// rows of one id merge by the greatest value.
pub struct Writer<R> {
    client: Client,
    batch: usize,
    limit: Duration,
    rows: VecDeque<R>,
    counters: Counters,
}

impl<R: Record> Writer<R> {
    /// A writer of at most `batch` rows per insert. Connects to nothing yet.
    #[must_use]
    pub const fn new(client: Client, batch: usize) -> Self {
        Self { client, batch, limit: INSERT_LIMIT, rows: VecDeque::new(), counters: Counters::ZERO }
    }

    /// With another limit than [`INSERT_LIMIT`] for each insert.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Takes a row; nothing is sent before [`Writer::flush`].
    pub fn push(&mut self, row: R) {
        self.rows.push_back(row);
    }

    /// Rows that are not acknowledged yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether every row was acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Sends what there is, oldest first. May be cancelled at any point: rows go only once they are acknowledged.
    ///
    /// Goes on only while ClickHouse acknowledges each insert within the limit. If it stays silent this returns
    /// [`Error::TimedOut`] after one limit.
    ///
    /// # Errors
    /// See [`Error`]; rows from the failed insert on are still there.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.rows.is_empty() {
            let count = self.rows.len().min(self.batch.max(1));
            if let Err(source) = self.insert(count).await {
                return Err(self.failed(source).await);
            }
            self.rows.drain(..count);
            self.counters.rows += count as u64;
            self.counters.inserts += 1;
        }
        Ok(())
    }

    async fn insert(&self, count: usize) -> clickhouse::error::Result<()> {
        // One limit around all of it. The client's own begin after it has asked for the table's columns.
        within(self.limit, async {
            let mut insert = self.client.insert::<R>(R::TABLE).await?;
            for row in self.rows.iter().take(count) {
                insert.write(row).await?;
            }
            insert.end().await
        })
        .await
    }

    /// The client remembers the table's columns. Where they may be why, it is made to ask again at the next attempt:
    /// somebody may have corrected them.
    async fn failed(&mut self, source: clickhouse::error::Error) -> Error {
        use clickhouse::error::Error as Source;
        let table = R::TABLE;
        match source {
            Source::Network(_) => {
                self.counters.unreachable += 1;
                Error::Unreachable { table, source }
            }
            Source::TimedOut => {
                self.counters.timed_out += 1;
                Error::TimedOut { table, source }
            }
            Source::BadResponse(_) => {
                self.counters.refused += 1;
                self.client.clear_cached_metadata().await;
                Error::Refused { table, source }
            }
            _ => {
                self.counters.mismatched += 1;
                self.client.clear_cached_metadata().await;
                Error::Mismatch { table, source }
            }
        }
    }
}

impl Counters {
    const ZERO: Self = Self { rows: 0, inserts: 0, unreachable: 0, timed_out: 0, refused: 0, mismatched: 0 };
}
