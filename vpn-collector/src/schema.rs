//! The audit tables, created where they are missing.
//!
//! Flows and denied attempts are two tables on purpose. They have different columns: an attempt has no real
//! destination, no source port and no totals of its own, and a sum over bytes must not need a `WHERE` to leave out
//! what never reached a plant. Who wants both in one list asks the view `accesses`.

use std::{collections::BTreeMap, fmt, time::Duration};

use clickhouse::Client;

use crate::client::within;

/// Days from a row's last packet until ClickHouse deletes it.
pub const RETENTION_DAYS: u32 = 730;

/// How long ClickHouse may take over one statement.
pub const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

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
    /// ClickHouse refused, could not be reached, or took longer than the limit.
    #[error("{name} of the audit schema: {source}")]
    Statement {
        /// What was to be created or checked.
        name: &'static str,
        /// What the client said.
        source: clickhouse::error::Error,
    },
    /// A table was there already, with other rules for merging or deleting its rows.
    #[error(
        "table {table} was there already, but its {property} is `{found}`, where the audit needs `{expected}`; {}",
        .property.remedy(.table, .found, .expected)
    )]
    Table {
        /// The table concerned, with its database.
        table: String,
        /// What is different.
        property: Property,
        /// How it is, or `none`.
        found: String,
        /// How it has to be.
        expected: String,
    },
}

/// What makes a table keep each flow or denied attempt once, with its last totals, for long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// The table engine, which decides that rows merge.
    Engine,
    /// The sorting key, which decides which rows merge.
    SortingKey,
    /// The type of this column, which decides what they merge to.
    Column(String),
    /// The rule for deletion.
    Retention,
}

impl Property {
    fn remedy(&self, table: &str, found: &str, expected: &str) -> String {
        match self {
            Self::Engine | Self::SortingKey => format!(
                "that cannot be changed in place, so move the table away: RENAME TABLE {table} TO {table}_old; then \
                 run `vpn-collector schema apply`, and copy its rows: INSERT INTO {table} SELECT * FROM {table}_old"
            ),
            Self::Column(name) if found == NONE => format!("add it: ALTER TABLE {table} ADD COLUMN {name} {expected}"),
            Self::Column(name) => format!("change it: ALTER TABLE {table} MODIFY COLUMN {name} {expected}"),
            Self::Retention => format!("set it: ALTER TABLE {table} MODIFY TTL {expected}"),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine => f.write_str("engine"),
            Self::SortingKey => f.write_str("sorting key"),
            Self::Column(name) => write!(f, "column {name}"),
            Self::Retention => f.write_str("TTL"),
        }
    }
}

/// What is found where a table has nothing of the kind.
const NONE: &str = "none";

/// The statements, ready to run.
pub fn statements(database: &str) -> impl Iterator<Item = (&'static str, String)> {
    let days = RETENTION_DAYS.to_string();
    STATEMENTS
        .map(|(name, text)| (name, text.replace("{database}", database).replace("{retention_days}", &days)))
        .into_iter()
}

/// Creates what is missing, and checks that tables which were there already merge their rows as the audit needs it and
/// keep them long enough. Gives up on a statement that takes longer than [`STATEMENT_LIMIT`].
///
/// # Errors
/// See [`Error`].
pub async fn apply(client: &Client, database: &str) -> Result<(), Error> {
    apply_within(client, database, STATEMENT_LIMIT).await
}

/// [`apply`], with another limit for each statement.
///
/// # Errors
/// See [`Error`].
pub async fn apply_within(client: &Client, database: &str, limit: Duration) -> Result<(), Error> {
    // Not the audit database, which a server would refuse to make current before it exists.
    let client = client.clone().with_database("default");
    for (name, text) in statements(database) {
        let failed = |source| Error::Statement { name, source };
        within(limit, client.query_raw(&text).execute()).await.map_err(failed)?;
        // Before the view, whose statement would fail at such a table and say less.
        if TABLES.contains(&name) {
            let found = within(limit, Table::find(&client, database, name)).await.map_err(failed)?;
            found.check(&format!("{database}.{name}"), &text)?;
        }
    }
    Ok(())
}

/// A table as ClickHouse has it.
struct Table {
    engine: String,
    sorting_key: String,
    retention: String,
    /// Types by name.
    columns: BTreeMap<String, String>,
}

impl Table {
    async fn find(client: &Client, database: &str, name: &str) -> clickhouse::error::Result<Self> {
        let (engine, sorting_key, definition): (String, String, String) = client
            .query("SELECT engine, sorting_key, engine_full FROM system.tables WHERE database = ? AND name = ?")
            .bind(database)
            .bind(name)
            .fetch_one()
            .await?;
        let columns: Vec<(String, String)> = client
            .query("SELECT name, type FROM system.columns WHERE database = ? AND table = ?")
            .bind(database)
            .bind(name)
            .fetch_all()
            .await?;
        let retention = definition.split_once(" TTL ").map_or("", |(_, rest)| rest);
        let retention = retention.split_once(" SETTINGS ").map_or(retention, |(rule, _)| rule);
        Ok(Self { engine, sorting_key, retention: retention.to_owned(), columns: columns.into_iter().collect() })
    }

    /// Compares it with the statement that would have created it as `table`.
    fn check(&self, table: &str, statement: &str) -> Result<(), Error> {
        let differs = |property, found: &str, expected: &str| {
            let found = if found.is_empty() { NONE } else { found };
            Err(Error::Table { table: table.into(), property, found: found.into(), expected: expected.into() })
        };
        let engine = clause(statement, "ENGINE = ");
        // A server may have it as ReplicatedAggregatingMergeTree, and ClickHouse Cloud as SharedAggregatingMergeTree.
        if !self.engine.ends_with(engine) {
            return differs(Property::Engine, &self.engine, engine);
        }
        let sorting_key = clause(statement, "ORDER BY ").trim_matches(['(', ')']);
        if self.sorting_key != sorting_key {
            return differs(Property::SortingKey, &self.sorting_key, sorting_key);
        }
        for (name, expected) in merged_columns(statement) {
            let found = self.columns.get(name).map_or("", String::as_str);
            if found != expected {
                return differs(Property::Column(name.to_owned()), found, expected);
            }
        }
        let retention = clause(statement, "TTL ");
        if self.retention != retention {
            return differs(Property::Retention, &self.retention, retention);
        }
        Ok(())
    }
}

/// The rest of the line that begins with `keyword`; each of our statements has one such line.
fn clause<'s>(statement: &'s str, keyword: &str) -> &'s str {
    statement.lines().find_map(|line| line.strip_prefix(keyword)).unwrap_or_default()
}

/// Names and types of the columns that are not the same in all snapshots.
fn merged_columns(statement: &str) -> impl Iterator<Item = (&str, &str)> {
    statement.lines().filter_map(|line| {
        let (column, _comment) = line.trim_start().split_once(" COMMENT ")?;
        column.split_once(' ').filter(|(_, kind)| kind.starts_with("SimpleAggregateFunction"))
    })
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

    #[test]
    fn what_a_table_is_compared_with_is_in_its_statement() {
        let found = |table| {
            let (_, text) = statements("audit").find(|(name, _)| *name == table).unwrap();
            let clauses = ["ENGINE = ", "ORDER BY ", "TTL "].map(|keyword| clause(&text, keyword).to_owned());
            (clauses, merged_columns(&text).count())
        };
        let retention = "toDateTime(last_seen) + toIntervalDay(730)";
        let clauses = |key: &str| ["AggregatingMergeTree", key, retention].map(str::to_owned);
        assert_eq!(found("flows"), (clauses("(operator, plant, opened, flow)"), 18));
        assert_eq!(found("denials"), (clauses("(first_seen, denial)"), 15));
    }
    /// Requirements: G1.
    #[test]
    fn a_server_may_replicate_the_tables() {
        let (_, text) = statements("audit").find(|(name, _)| *name == "denials").unwrap();
        let engine = |name: &str| Table {
            engine: name.into(),
            sorting_key: "first_seen, denial".into(),
            retention: "toDateTime(last_seen) + toIntervalDay(730)".into(),
            columns: merged_columns(&text).map(|(name, kind)| (name.into(), kind.into())).collect(),
        };
        for name in ["AggregatingMergeTree", "ReplicatedAggregatingMergeTree", "SharedAggregatingMergeTree"] {
            engine(name).check("audit.denials", &text).unwrap();
        }
        for name in ["ReplicatedMergeTree", "ReplacingMergeTree", "View", "Distributed"] {
            let error = engine(name).check("audit.denials", &text).unwrap_err().to_string();
            assert!(error.contains("audit.denials") && error.contains(name), "{error}");
        }
    }
}
