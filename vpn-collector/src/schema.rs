//! The audit tables, created where they are missing.
//!
//! Flows and denied attempts are two tables on purpose. They have different columns: an attempt has no real
//! destination, no source port and no totals of its own, and a sum over bytes must not need a `WHERE` to leave out
//! what never reached a plant. Who wants both in one list asks the view `accesses`.

use clickhouse::Client;

/// Days from a row's last packet until ClickHouse deletes it.
pub const RETENTION_DAYS: u32 = 730;

/// Name and text of each statement, in the order they need.
const STATEMENTS: [(&str, &str); 4] = [
    ("database", include_str!("schema/database.sql")),
    ("flows", include_str!("schema/flows.sql")),
    ("denials", include_str!("schema/denials.sql")),
    ("accesses", include_str!("schema/accesses.sql")),
];

/// The tables among [`STATEMENTS`].
const TABLES: [&str; 2] = ["flows", "denials"];

/// Why the schema is not in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ClickHouse refused or could not be reached.
    #[error("{name} of the audit schema: {source}")]
    Statement {
        /// What was to be created or checked.
        name: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
    /// A table was there already, with other rules for deletion.
    #[error(
        "table {database}.{table} does not keep its rows for {RETENTION_DAYS} days; set it: ALTER TABLE \
         {database}.{table} MODIFY TTL toDateTime(last_seen) + toIntervalDay({RETENTION_DAYS})"
    )]
    Retention {
        /// The configured database.
        database: String,
        /// The table concerned.
        table: &'static str,
    },
}

/// The statements, ready to run.
pub fn statements(database: &str) -> impl Iterator<Item = (&'static str, String)> {
    let days = RETENTION_DAYS.to_string();
    STATEMENTS
        .map(|(name, text)| (name, text.replace("{database}", database).replace("{retention_days}", &days)))
        .into_iter()
}

/// Creates what is missing, and checks that tables which were there already keep their rows long enough.
///
/// # Errors
/// See [`Error`].
pub async fn apply(client: &Client, database: &str) -> Result<(), Error> {
    // Not the audit database, which a server would refuse to make current before it exists.
    let client = client.clone().with_database("default");
    for (name, text) in statements(database) {
        client.query_raw(&text).execute().await.map_err(|source| Error::Statement { name, source })?;
    }
    for table in TABLES {
        let found: String = client
            .query("SELECT create_table_query FROM system.tables WHERE database = ? AND name = ?")
            .bind(database)
            .bind(table)
            .fetch_one()
            .await
            .map_err(|source| Error::Statement { name: table, source })?;
        if !found.contains(&format!("TTL toDateTime(last_seen) + toIntervalDay({RETENTION_DAYS})")) {
            return Err(Error::Retention { database: database.into(), table });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_substitute() {
        for (name, text) in statements("audit") {
            assert!(!text.contains(['{', '}']), "{name}: {text}");
        }
    }
}
