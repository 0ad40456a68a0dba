//! Rows on their way into one table.

use std::{collections::VecDeque, time::Duration};

use clickhouse::Client;

use crate::row::Record;

/// How long one piece of an insert may wait for the network.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long ClickHouse may take to acknowledge an insert.
const END_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// Connected, but no answer in time.
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
    rows: VecDeque<R>,
    counters: Counters,
}

impl<R: Record> Writer<R> {
    /// A writer of at most `batch` rows per insert. Connects to nothing yet.
    #[must_use]
    pub const fn new(client: Client, batch: usize) -> Self {
        Self { client, batch, rows: VecDeque::new(), counters: Counters::ZERO }
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
        let mut insert = self.client.insert::<R>(R::TABLE).await?.with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT));
        for row in self.rows.iter().take(count) {
            insert.write(row).await?;
        }
        insert.end().await
    }

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
                Error::Refused { table, source }
            }
            _ => {
                self.counters.mismatched += 1;
                // The client remembers the table's columns; they may be corrected by the next attempt.
                self.client.clear_cached_metadata().await;
                Error::Mismatch { table, source }
            }
        }
    }
}

impl Counters {
    const ZERO: Self = Self { rows: 0, inserts: 0, unreachable: 0, timed_out: 0, refused: 0, mismatched: 0 };
}
