//! The collector's rows in a real ClickHouse engine, through the endpoint that serves it and the official client.
//!
//! Each test has a store of its own in a process of its own, as a process can open one data directory only.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clickhouse::{Client, Row};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use uuid::Uuid;
use vpn_collector::{
    attribution::GATEWAY,
    client::client,
    config::{ClickHouse, Config},
    row::{DenialRow, FlowRow, Record, mapped},
    schema,
    writer::{self, Writer},
};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Requirements: F3, F4.
#[tokio::test]
async fn every_column_reads_back_as_written() {
    let store = Store::start();
    // The second one has the bytes in it that end a line or a statement, and the limits of every number.
    let flows = [
        flow(1),
        FlowRow {
            operator: "Bürger;Energie\n\0'`\\".into(),
            organisations: vec![],
            source: "2001:db8::a3b:a0a".parse().unwrap(),
            addressed: Ipv6Addr::UNSPECIFIED,
            destination: Ipv6Addr::from([0xff; 16]),
            source_port: u16::MAX,
            port: 0x0a3b,
            protocol: 58,
            packets_to_plant: u64::MAX,
            bytes_to_plant: 0x0a0a_3b3b_0a0a_3b3b,
            packets_to_user: 0,
            bytes_to_user: u64::MAX - 1,
            closed: 1,
            ..flow(u128::MAX)
        },
    ];
    let denials = [
        denial(1),
        DenialRow { operator: String::new(), plant: String::new(), attempts: u64::MAX, bytes: 0, ..denial(2) },
    ];
    store.write(&flows).await;
    store.write(&denials).await;
    assert_eq!(store.read::<FlowRow>("ORDER BY toUInt128(flow)").await, flows);
    assert_eq!(store.read::<DenialRow>("ORDER BY toUInt128(denial)").await, denials);
}

/// Requirements: F8.
#[tokio::test]
async fn a_snapshot_sent_again_or_late_changes_nothing() {
    let mut store = Store::start();
    let early = flow(7);
    let late = FlowRow { last_seen: early.last_seen + 9 * SECOND, bytes_to_plant: 900, bytes_to_user: 5, ..flow(7) };
    let last = FlowRow { last_seen: late.last_seen + SECOND, bytes_to_plant: 1000, closed: 1, ..late.clone() };
    let expected = FlowRow { bytes_to_user: early.bytes_to_user.max(5), ..last.clone() };
    for rows in [[&late, &late], [&early, &last], [&last, &early]] {
        store.write(&rows.map(Clone::clone)).await;
    }
    for step in ["as written", "restarted", "again after the restart", "merged", "again after the merge"] {
        match step {
            "restarted" => store.restart(Signal::TERM),
            "merged" => store.execute("OPTIMIZE TABLE flows FINAL").await,
            "as written" => {}
            _ => store.write(&[early.clone(), late.clone()]).await,
        }
        assert_eq!(store.read::<FlowRow>("").await, std::slice::from_ref(&expected), "{step}");
        let view = "SELECT bytes_to_plant, bytes_to_user, toUInt64(closed) FROM accesses";
        let totals: Vec<(u64, u64, u64)> = store.client.query(view).fetch_all().await.unwrap();
        assert_eq!(totals, [(1000, expected.bytes_to_user, 1)], "{step}");
    }
}

/// The engine against a model of it, over snapshots in random order, whatever has been merged in between.
/// Requirements: F8.
#[tokio::test]
async fn every_column_is_exact_in_whatever_order_snapshots_come() {
    const INSERTS: usize = 8;
    let store = Store::start();
    let mut random = Random(42);
    let mut flows = Vec::new();
    let mut denials = Vec::new();
    for id in 1..=7 {
        for _ in 0..40 {
            let (flow, denial) = (random.flow(id), random.denial(100 + id));
            // Some are sent again, in whichever insert they come to be.
            let times = 1 + usize::from(random.below(3) == 0);
            flows.extend(std::iter::repeat_n(flow, times));
            denials.extend(std::iter::repeat_n(denial, times));
        }
    }
    random.shuffle(&mut flows);
    random.shuffle(&mut denials);
    let (mut flows_so_far, mut denials_so_far) = (BTreeMap::new(), BTreeMap::new());
    let part = flows.len().div_ceil(INSERTS);
    for (insert, (flows, denials)) in flows.chunks(part).zip(denials.chunks(part)).enumerate() {
        store.write(flows).await;
        store.write(denials).await;
        flows.iter().for_each(|row| merge(&mut flows_so_far, row.flow, row, greater_flow));
        denials.iter().for_each(|row| merge(&mut denials_so_far, row.denial, row, greater_denial));
        let mut expected: Vec<_> = flows_so_far.values().map(AccessRow::from).collect();
        expected.extend(denials_so_far.values().map(AccessRow::from));
        assert_eq!(store.accesses().await, expected, "insert {insert}");
        // So that the later inserts meet rows that are merged, and leave some beside them that are not.
        if [2, 5, INSERTS - 1].contains(&insert) {
            store.execute("OPTIMIZE TABLE flows FINAL").await;
            store.execute("OPTIMIZE TABLE denials FINAL").await;
            assert_eq!(store.accesses().await, expected, "insert {insert}, merged");
        }
    }
    // All that is left after the merges is one row each.
    for (table, rows) in [("flows", flows_so_far.len()), ("denials", denials_so_far.len())] {
        let count = store.client.query(&format!("SELECT count() FROM {table}")).fetch_one::<u64>();
        assert_eq!(count.await.unwrap(), rows as u64, "{table}");
    }
}

#[tokio::test]
async fn a_plant_that_becomes_known_later_takes_the_place_of_none() {
    let store = Store::start();
    let named = |id| DenialRow { operator: "delta".into(), plant: "east".into(), attempts: 9, ..denial(id) };
    let nameless = |id| DenialRow { operator: String::new(), plant: String::new(), ..denial(id) };
    // The second attempt's snapshots arrive the other way round.
    for (first, second) in [(nameless(1), named(2)), (named(1), nameless(2))] {
        store.write(&[first, second]).await;
    }
    let sql = "SELECT toString(operator), toString(plant), packets_refused FROM accesses ORDER BY id";
    for step in ["as written", "merged"] {
        if step == "merged" {
            store.execute("OPTIMIZE TABLE denials FINAL").await;
        }
        assert_eq!(store.read::<DenialRow>("ORDER BY toUInt128(denial)").await, [named(1), named(2)], "{step}");
        let found: Vec<(String, String, u64)> = store.client.query(sql).fetch_all().await.unwrap();
        assert_eq!(found, vec![("delta".into(), "east".into(), 9); 2], "{step}");
    }
    let rows = store.client.query("SELECT count() FROM denials").fetch_one::<u64>();
    assert_eq!(rows.await.unwrap(), 2, "snapshots merge across the change");
}

/// What the comments of the schema say about conditions.
#[tokio::test]
async fn conditions_of_auditors_reach_the_index() {
    let store = Store::start();
    store.write(&[flow(1)]).await;
    store.write(&[denial(1)]).await;
    let from_view = "SELECT * FROM accesses \
                     WHERE operator = 'alpha' AND plant = 'north' AND opened > now() - INTERVAL 1 DAY";
    let from_table = "SELECT denial FROM denials WHERE operator = 'alpha' AND plant = 'north'";
    for (sql, expected) in [
        (from_view, ["Keys: operator plant opened Condition:", "Keys: first_seen Condition:"]),
        (from_table, ["Name: by_operator", "Name: by_plant"]),
    ] {
        let plan = format!("EXPLAIN indexes = 1, pretty = 0 {sql}");
        let lines: Vec<String> = store.client.query(&plan).fetch_all().await.unwrap();
        let plan = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        for expected in expected {
            assert!(plan.contains(expected), "{expected}: {plan}");
        }
    }
}

/// Requirements: F6.
#[tokio::test]
async fn a_row_goes_730_days_after_its_last_packet() {
    let store = Store::start();
    let seen = |id, opened_days: i64, seen_days: i64| {
        let (opened, last_seen) = (now() - opened_days * DAY, now() - seen_days * DAY);
        (FlowRow { opened, last_seen, ..flow(id) }, DenialRow { first_seen: opened, last_seen, ..denial(id) })
    };
    let (flows, denials): (Vec<_>, Vec<_>) =
        [seen(1, 800, 800), seen(2, 700, 700), seen(3, 800, 10), seen(4, 732, 731), seen(5, 732, 729)]
            .into_iter()
            .unzip();
    store.write(&flows).await;
    store.write(&denials).await;
    for table in [FlowRow::TABLE, DenialRow::TABLE] {
        store.execute(&format!("OPTIMIZE TABLE {table} FINAL")).await;
        let sql = "SELECT create_table_query FROM system.tables WHERE database = 'audit' AND name = ?";
        let created: String = store.client.query(sql).bind(table).fetch_one().await.unwrap();
        assert!(created.contains("TTL toDateTime(last_seen) + toIntervalDay(730)"), "{created}");
    }
    let left = |ids: Vec<Uuid>| ids.into_iter().map(|id| id.as_u128()).collect::<Vec<_>>();
    let flows = store.read::<FlowRow>("ORDER BY toUInt128(flow)").await;
    assert_eq!(left(flows.into_iter().map(|row| row.flow).collect()), [2, 3, 5]);
    let denials = store.read::<DenialRow>("ORDER BY toUInt128(denial)").await;
    assert_eq!(left(denials.into_iter().map(|row| row.denial).collect()), [2, 3, 5]);
}

#[tokio::test]
async fn a_table_with_other_rules_is_not_accepted() {
    let store = Store::start();
    let created: BTreeMap<_, _> = schema::statements("audit").collect();
    let retention = "TTL toDateTime(last_seen) + toIntervalDay(730)";
    let organisations = "organisations SimpleAggregateFunction(groupUniqArrayArray, Array(String))";
    for (table, from, to, difference) in [
        (
            "flows",
            "= AggregatingMergeTree",
            "= MergeTree",
            "engine is `MergeTree`, where the audit needs `AggregatingMergeTree`",
        ),
        (
            "denials",
            "ORDER BY (first_seen, denial)",
            "ORDER BY (operator, plant, first_seen, denial)",
            "sorting key is `operator, plant, first_seen, denial`, where the audit needs `first_seen, denial`",
        ),
        (
            "flows",
            organisations,
            "organisations SimpleAggregateFunction(max, Array(String))",
            "column organisations is `SimpleAggregateFunction(max, Array(String))`, where the audit needs \
             `SimpleAggregateFunction(groupUniqArrayArray, Array(String))`",
        ),
        (
            "denials",
            "attempts SimpleAggregateFunction(max, UInt64)",
            "attempts SimpleAggregateFunction(any, UInt64)",
            "column attempts is `SimpleAggregateFunction(any, UInt64)`, where the audit needs \
             `SimpleAggregateFunction(max, UInt64)`",
        ),
        (
            "denials",
            "bytes SimpleAggregateFunction(max, UInt64)",
            "octets SimpleAggregateFunction(max, UInt64)",
            "column bytes is `none`, where the audit needs `SimpleAggregateFunction(max, UInt64)`",
        ),
        (
            "flows",
            "toIntervalDay(730)",
            "toIntervalDay(30)",
            "TTL is `toDateTime(last_seen) + toIntervalDay(30)`, where the audit needs `toDateTime(last_seen) + \
             toIntervalDay(730)`",
        ),
        ("flows", retention, "", "TTL is `none`, where the audit needs `toDateTime(last_seen) + toIntervalDay(730)`"),
        // A second rule, by which some rows go sooner.
        (
            "denials",
            retention,
            "TTL toDateTime(last_seen) + toIntervalDay(730), toDateTime(first_seen) + toIntervalDay(9) WHERE port = 0",
            "toIntervalDay(9) WHERE port = 0`, where the audit needs `toDateTime(last_seen) + toIntervalDay(730)`",
        ),
    ] {
        let mut other = created[table].replace(from, to);
        assert_ne!(other, created[table], "{from}");
        if to.starts_with("ORDER BY (operator, plant") {
            // ClickHouse has no merged columns in a key.
            for name in ["operator", "plant"] {
                let merged = format!("{name} SimpleAggregateFunction(max, String)");
                other = other.replace(&merged, &format!("{name} LowCardinality(String)"));
            }
        }
        store.execute(&format!("DROP TABLE {table}")).await;
        store.execute(&other).await;
        let output = store.run(&["schema", "apply"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(difference), "{difference}: {error}");
        assert!(error.contains(&format!("table audit.{table} ")), "{error}");

        // What it says to do, to the letter, with the collector's statements in between.
        let moves = error.contains("RENAME");
        if moves {
            // The client knows the types of the table that was there before.
            store.client.clear_cached_metadata().await;
            store.write(&[flow(1)]).await;
            store.write(&[denial(1)]).await;
        }
        for verb in ["ALTER TABLE", "RENAME TABLE", "INSERT INTO"] {
            let Some(start) = error.find(verb) else { continue };
            store.execute(error[start..].split(';').next().unwrap().trim()).await;
            schema::apply(&store.client, "audit").await.unwrap();
        }
        schema::apply(&store.client, "audit").await.unwrap();
        if moves {
            assert_eq!(store.read::<FlowRow>("").await, [flow(1)]);
            assert_eq!(store.read::<DenialRow>("").await, [denial(1)]);
        }
    }
}

/// The system accepts connections for a listener, whether or not anybody ever takes them.
#[tokio::test]
async fn a_silent_clickhouse_is_waited_for_no_longer_than_the_limit() {
    const LIMIT: Duration = Duration::from_millis(300);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = client(&url, &ClickHouse::default()).unwrap();

    let mut writer = Writer::new(client.clone(), 1).with_limit(LIMIT);
    (1..=3).for_each(|id| writer.push(flow(id)));
    for failures in 1..=2 {
        let started = Instant::now();
        let error = tokio::time::timeout(10 * LIMIT, writer.flush()).await.expect("has a limit").unwrap_err();
        assert!(matches!(error, writer::Error::TimedOut { .. }) && started.elapsed() >= LIMIT, "{error}");
        assert_eq!((writer.len(), writer.counters().timed_out, writer.counters().rows), (3, failures, 0));
    }
    let applied = tokio::time::timeout(10 * LIMIT, schema::apply_within(&client, "audit", LIMIT));
    let error = applied.await.expect("has a limit").unwrap_err();
    let schema::Error::Statement { name: "database", source: clickhouse::error::Error::TimedOut } = error else {
        panic!("{error}")
    };
}

/// Requirements: F8.
#[tokio::test]
async fn an_acknowledged_row_survives_a_kill() {
    let mut store = Store::start();
    for id in 1..=5 {
        store.write(&[flow(id)]).await;
        store.restart(Signal::KILL);
        let ids: Vec<_> = store.read::<FlowRow>("ORDER BY toUInt128(flow)").await;
        assert_eq!(ids, (1..=id).map(flow).collect::<Vec<_>>());
    }
}

/// Requirements: F8.
#[tokio::test]
async fn rows_are_kept_while_clickhouse_is_away() {
    let mut store = Store::start();
    let mut writer = Writer::new(store.client.clone(), 2);
    (1..=5).for_each(|id| writer.push(flow(id)));
    store.stop(Signal::KILL);
    for failures in 1..=2 {
        let error = writer.flush().await.unwrap_err();
        assert!(matches!(error, writer::Error::Unreachable { .. }), "{error}");
        assert_eq!((writer.len(), writer.counters().unreachable, writer.counters().rows), (5, failures, 0));
    }
    store.resume();
    writer.flush().await.unwrap();
    assert_eq!((writer.len(), writer.counters().inserts, writer.counters().rows), (0, 3, 5));
    assert_eq!(store.read::<FlowRow>("ORDER BY toUInt128(flow)").await, (1..=5).map(flow).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_insert_of_tens_of_megabytes_arrives_whole() {
    let store = Store::start();
    let rows: Vec<_> = (0..150_000_u64)
        .map(|id| FlowRow { bytes_to_plant: id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8, ..flow(u128::from(id) + 1) })
        .collect();
    let expected: u64 = rows.iter().map(|row| row.bytes_to_plant).fold(0, u64::wrapping_add);
    store.write(&rows).await;
    let sql = "SELECT count(), sum(bytes_to_plant) FROM accesses";
    assert_eq!(store.client.query(sql).fetch_one::<(u64, u64)>().await.unwrap(), (150_000, expected));
}

/// Requirements: F3, F5.
#[tokio::test]
async fn an_auditor_sees_flows_and_denied_attempts_of_a_plant() {
    let store = Store::start();
    let elsewhere = FlowRow { plant: "south".into(), ..flow(2) };
    store.write(&[flow(1), flow(1), elsewhere]).await;
    store.write(&[denial(1)]).await;
    let sql = "SELECT user, protocol, source, addressed, destination, verdict, bytes_to_plant, bytes_refused \
               FROM accesses WHERE plant = 'north' AND opened BETWEEN now() - INTERVAL 1 DAY AND now() \
               ORDER BY verdict";
    let output = store.run(&["query", "--format", "TSV", sql]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "user-a\tTCP\t100.64.0.1\t10.128.0.77\t192.168.1.77\tforwarded\t400\t0\n\
         user-a\tUDP\t100.64.0.1\t10.128.0.99\t\tno-route\t0\t128\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn both_families_and_rows_without_an_address_are_readable() {
    let store = Store::start();
    let ipv6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    store
        .write(&[
            FlowRow { protocol: 1, port: 0, ..flow(1) },
            FlowRow {
                protocol: 58,
                port: 0,
                source: ipv6("fd00:64::5"),
                addressed: ipv6("fd00:1::ffff:20"),
                destination: ipv6("2001:db8::20"),
                ..flow(2)
            },
            FlowRow { operator: String::new(), plant: GATEWAY.into(), ..flow(3) },
        ])
        .await;
    let nowhere = DenialRow { operator: String::new(), plant: String::new(), ..denial(4) };
    let further = DenialRow { addressed: Ipv6Addr::UNSPECIFIED, port: 0, protocol: 0, ..nowhere.clone() };
    let unspecified = DenialRow { denial: Uuid::from_u128(5), addressed: Ipv6Addr::UNSPECIFIED, ..nowhere };
    store.write(&[further, unspecified]).await;
    let sql = "SELECT toString(operator), toString(plant), protocol, source, addressed, destination FROM accesses \
               ORDER BY toUInt128(id)";
    let rows: Vec<(String, String, String, String, String, String)> =
        store.client.query(sql).fetch_all().await.unwrap();
    let expected = [
        ["alpha", "north", "ICMP", "100.64.0.1", "10.128.0.77", "192.168.1.77"],
        ["alpha", "north", "ICMPv6", "fd00:64::5", "fd00:1::ffff:20", "2001:db8::20"],
        ["", "(gateway)", "TCP", "100.64.0.1", "10.128.0.77", "192.168.1.77"],
        ["", "", "any", "100.64.0.1", "", ""],
        ["", "", "UDP", "100.64.0.1", "::", ""],
    ];
    let found: Vec<_> = rows.iter().map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].map(String::as_str)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_error_names_the_field() {
    let store = Store::start();
    let error = store.client.query("SELECT nosuch FROM flows").fetch_all::<u64>().await.unwrap_err().to_string();
    assert!(error.contains("Code: 47") && error.contains("nosuch"), "{error}");

    store.execute("ALTER TABLE denials DROP COLUMN attempts").await;
    let mut writer = Writer::new(store.client.clone(), 10);
    writer.push(denial(1));
    let error = writer.flush().await.unwrap_err();
    assert!(matches!(error, writer::Error::Mismatch { .. }) && error.to_string().contains("attempts"), "{error}");
    assert_eq!((writer.len(), writer.counters().mismatched), (1, 1));
    // Corrected while the collector runs: the client must not remember the old columns.
    store.execute("ALTER TABLE denials ADD COLUMN attempts SimpleAggregateFunction(max, UInt64)").await;
    writer.flush().await.unwrap();
    // Nor their types.
    store.execute("ALTER TABLE denials MODIFY COLUMN attempts UInt64").await;
    writer.push(denial(2));
    let error = writer.flush().await.unwrap_err();
    assert!(matches!(error, writer::Error::Refused { .. }) && error.to_string().contains("attempts"), "{error}");
    writer.flush().await.unwrap();
}

#[tokio::test]
async fn parameters_settings_and_databases_are_those_of_the_request() {
    let store = Store::start();
    let one = store.client.query("SELECT {x:String}").param("x", "a'b\n").fetch_one::<String>();
    assert_eq!(one.await.unwrap(), "a'b\n");
    let sql = "SELECT currentDatabase(), getSetting('max_block_size')::UInt64";
    let two = store.client.query(sql).with_setting("max_block_size", "777").fetch_one::<(String, u64)>();
    assert_eq!(two.await.unwrap(), ("audit".into(), 777));
    let three = store.client.clone().with_database("default").query(sql).fetch_one::<(String, u64)>().await.unwrap();
    assert!(three.0 == "default" && three.1 != 777, "{three:?}");
}

#[test]
fn the_endpoint_speaks_plain_http_like_a_server() {
    let store = Store::start();
    for (request, status, body) in [
        ("GET /ping", 200, "Ok.\n"),
        ("GET /", 200, "Ok.\n"),
        ("GET /?query=SELECT+1", 200, "1\n"),
        ("GET /?query=SELECT+1+AS+a&default_format=JSONEachRow", 200, "{\"a\":1}\n"),
        ("GET /?query=SELECT+%7Bn:UInt8%7D&param_n=7", 200, "7\n"),
        ("GET /?query=DROP+TABLE+audit.flows", 403, "Code: 164."),
        ("GET /?query=SELECT+1+INTO+OUTFILE+'x'", 501, "Code: 48."),
        ("GET /?query=SELECT+*+FROM+file('/etc/passwd','LineAsString')", 403, "Code: 497."),
        ("GET /?query=SELECT+nosuch", 404, "Code: 47."),
        ("GET /?query=SELEC", 404, "Code: 47."),
        ("GET /?query=SELECT+1&decompress=1", 415, "Code: 48."),
        ("GET /nowhere", 404, "There is nothing here"),
    ] {
        let answer = store.http(request, "");
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(found.starts_with(body), "{request}: {answer}");
        let code = body.strip_prefix("Code: ").and_then(|code| code.strip_suffix('.'));
        let header = code.map(|code| format!("x-clickhouse-exception-code: {code}\r\n"));
        assert!(header.is_none_or(|header| head.contains(&header)), "{request}: {answer}");
    }
    store.http("POST /", "CREATE TABLE audit.notes (n UInt8, text String) ENGINE = MergeTree ORDER BY n");
    store.http("POST /", "INSERT INTO audit.notes FORMAT CSV\n1,\"a;b\"\n2,c\n");
    store.http("POST /?query=INSERT+INTO+audit.notes+FORMAT+TSV", "3\td;e\n");
    store.http("POST /", "INSERT INTO audit.notes VALUES (4, 'f;g')");
    let answer = store.http("POST /?query=SELECT+*+FROM+audit.notes", "ORDER BY n FORMAT CSV");
    assert!(answer.ends_with("\r\n\r\n1,\"a;b\"\n2,\"c\"\n3,\"d;e\"\n4,\"f;g\"\n"), "{answer}");
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let store = Store::start();
    let output = store.run(&["serve"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another process has this store open"), "{error}");
}

#[test]
fn who_is_answered_finds_the_tables() {
    for _ in 0..5 {
        let store = Store::start();
        let answer = store.http("GET /?query=SELECT+count()+FROM+audit.flows", "");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n0\n"), "{answer}");
    }
}

#[test]
fn of_two_that_start_at_once_one_serves_and_a_query_waits_for_it() {
    for _ in 0..3 {
        let store = Store::prepare(tempfile::tempdir().unwrap(), "");
        let start = || {
            let mut command = Command::new(binary());
            command.args(["serve", "--config"]).arg(store.config()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut both = [start(), start()];
        let deadline = Instant::now() + Duration::from_secs(60);
        // Written by who has the lock.
        while !store.folder.path().join("data/config.xml").exists() {
            assert!(Instant::now() < deadline, "no store is made");
            std::thread::sleep(Duration::from_millis(1));
        }
        let answer = store.run(&["query", "--format", "TSV", "SELECT count() FROM flows"]);
        let said = both.each_mut().map(|child| {
            let pid = Pid::from_child(child);
            // The loser has ended; what it was is known by its status.
            let _ = kill_process(pid, Signal::TERM);
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            (child.wait().unwrap().success(), text)
        });
        assert_eq!(answer.stdout, b"0\n", "{}{said:?}", String::from_utf8_lossy(&answer.stderr));
        assert_eq!(said.iter().filter(|(served, _)| *served).count(), 1, "{said:?}");
        let loser = said.iter().find(|(served, _)| !served).unwrap();
        assert!(loser.1.contains("another process has this store open"), "{said:?}");
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    const PASSWORD: &str = "open-sesame-4711";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let store = Store::start_in(folder, &format!("user = 'auditor'\npassword_file = {file:?}"));
    assert!(store.http("GET /?query=SELECT+1", "").starts_with("HTTP/1.1 401 "));
    assert!(store.http("GET /?query=SELECT+1&user=auditor&password=wrong", "").starts_with("HTTP/1.1 401 "));
    store.write(&[flow(1)]).await;
    assert_eq!(store.read::<FlowRow>("").await, [flow(1)]);

    let show = store.run(&["schema", "show"]);
    let query = store.run(&["query", "SELECT nosuch"]);
    let process = format!("/proc/{}", store.child.as_ref().unwrap().id());
    let shown = [
        fs::read(format!("{process}/cmdline")).unwrap(),
        fs::read(format!("{process}/environ")).unwrap(),
        fs::read(store.log()).unwrap(),
        [show.stdout, show.stderr, query.stdout, query.stderr].concat(),
    ];
    for text in shown {
        assert!(!text.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
    }
}

/// A row of the view `accesses`.
#[derive(Debug, PartialEq, Row, Deserialize)]
struct AccessRow {
    #[serde(with = "clickhouse::serde::uuid")]
    id: Uuid,
    operator: String,
    plant: String,
    user: String,
    certificate: String,
    organisations: Vec<String>,
    gateway: String,
    region: String,
    protocol: String,
    source: String,
    source_port: u16,
    addressed: String,
    destination: String,
    port: u16,
    opened: i64,
    last_seen: i64,
    packets_to_plant: u64,
    bytes_to_plant: u64,
    packets_to_user: u64,
    bytes_to_user: u64,
    packets_refused: u64,
    bytes_refused: u64,
    closed: u8,
    verdict: String,
}

impl From<&FlowRow> for AccessRow {
    fn from(row: &FlowRow) -> Self {
        let row = row.clone();
        Self {
            id: row.flow,
            operator: row.operator,
            plant: row.plant,
            user: row.user,
            certificate: row.certificate,
            organisations: row.organisations,
            gateway: row.gateway,
            region: row.region,
            protocol: protocol_name(row.protocol),
            source: address_text(row.source),
            source_port: row.source_port,
            addressed: address_text(row.addressed),
            destination: if row.verdict == "forwarded" { address_text(row.destination) } else { String::new() },
            port: row.port,
            opened: row.opened,
            last_seen: row.last_seen,
            packets_to_plant: row.packets_to_plant,
            bytes_to_plant: row.bytes_to_plant,
            packets_to_user: row.packets_to_user,
            bytes_to_user: row.bytes_to_user,
            packets_refused: 0,
            bytes_refused: 0,
            closed: row.closed,
            verdict: row.verdict,
        }
    }
}

impl From<&DenialRow> for AccessRow {
    fn from(row: &DenialRow) -> Self {
        let row = row.clone();
        Self {
            id: row.denial,
            operator: row.operator,
            plant: row.plant,
            user: row.user,
            certificate: row.certificate,
            organisations: row.organisations,
            gateway: row.gateway,
            region: row.region,
            protocol: protocol_name(row.protocol),
            source: address_text(row.source),
            source_port: 0,
            addressed: address_text(row.addressed),
            destination: String::new(),
            port: row.port,
            opened: row.first_seen,
            last_seen: row.last_seen,
            packets_to_plant: 0,
            bytes_to_plant: 0,
            packets_to_user: 0,
            bytes_to_user: 0,
            packets_refused: row.attempts,
            bytes_refused: row.bytes,
            closed: 0,
            verdict: row.verdict,
        }
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        0 => "any".into(),
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

fn address_text(address: Ipv6Addr) -> String {
    address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string())
}

/// Adds a snapshot to what a table should say.
fn merge<R: Clone>(rows: &mut BTreeMap<Uuid, R>, id: Uuid, row: &R, greater: fn(R, R) -> R) {
    // With itself if it is the first, so that its organisations are sorted as those of all others.
    let before = rows.remove(&id).unwrap_or_else(|| row.clone());
    rows.insert(id, greater(before, row.clone()));
}

fn greater_flow(a: FlowRow, b: FlowRow) -> FlowRow {
    FlowRow {
        user: a.user.max(b.user),
        certificate: a.certificate.max(b.certificate),
        organisations: union(a.organisations, b.organisations),
        gateway: a.gateway.max(b.gateway),
        region: a.region.max(b.region),
        protocol: a.protocol.max(b.protocol),
        source: a.source.max(b.source),
        source_port: a.source_port.max(b.source_port),
        addressed: a.addressed.max(b.addressed),
        destination: a.destination.max(b.destination),
        port: a.port.max(b.port),
        last_seen: a.last_seen.max(b.last_seen),
        packets_to_plant: a.packets_to_plant.max(b.packets_to_plant),
        bytes_to_plant: a.bytes_to_plant.max(b.bytes_to_plant),
        packets_to_user: a.packets_to_user.max(b.packets_to_user),
        bytes_to_user: a.bytes_to_user.max(b.bytes_to_user),
        closed: a.closed.max(b.closed),
        verdict: a.verdict.max(b.verdict),
        // The sort key.
        flow: a.flow,
        operator: a.operator,
        plant: a.plant,
        opened: a.opened,
    }
}

fn greater_denial(a: DenialRow, b: DenialRow) -> DenialRow {
    DenialRow {
        operator: a.operator.max(b.operator),
        plant: a.plant.max(b.plant),
        user: a.user.max(b.user),
        certificate: a.certificate.max(b.certificate),
        organisations: union(a.organisations, b.organisations),
        gateway: a.gateway.max(b.gateway),
        region: a.region.max(b.region),
        protocol: a.protocol.max(b.protocol),
        source: a.source.max(b.source),
        addressed: a.addressed.max(b.addressed),
        port: a.port.max(b.port),
        verdict: a.verdict.max(b.verdict),
        last_seen: a.last_seen.max(b.last_seen),
        attempts: a.attempts.max(b.attempts),
        bytes: a.bytes.max(b.bytes),
        // The sort key.
        denial: a.denial,
        first_seen: a.first_seen,
    }
}

fn union(a: Vec<String>, b: Vec<String>) -> Vec<String> {
    a.into_iter().chain(b).collect::<BTreeSet<_>>().into_iter().collect()
}

/// `vpn-collector serve` on a data directory of its own.
struct Store {
    folder: TempDir,
    listen: SocketAddr,
    client: Client,
    child: Option<Child>,
}

impl Store {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "")
    }

    /// With further lines of the `[clickhouse]` table.
    fn start_in(folder: TempDir, clickhouse: &str) -> Self {
        let mut store = Self::prepare(folder, clickhouse);
        store.child = Some(spawn(&store.config(), &store.log(), store.listen));
        store
    }

    /// With its configuration written, and no process.
    fn prepare(folder: TempDir, clickhouse: &str) -> Self {
        let library = library();
        assert!(library.exists(), "{} is missing: run `cargo xtask setup`", library.display());
        // Free now, and very likely still so in a moment.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "directory = 'none'\nstate_dir = 'none'\n[clickhouse]\n{clickhouse}\n\
             [embedded]\nlibrary = {library:?}\npath = {:?}\nlisten = '{listen}'\n",
            folder.path().join("data"),
        );
        let path = folder.path().join("collector.toml");
        fs::write(&path, text).unwrap();
        let client = connect(&path, listen);
        Self { folder, listen, client, child: None }
    }

    fn restart(&mut self, signal: Signal) {
        self.stop(signal);
        self.resume();
    }

    fn stop(&mut self, signal: Signal) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert!(signal == Signal::KILL || status.success(), "{status}: {}", fs::read_to_string(self.log()).unwrap());
    }

    fn resume(&mut self) {
        self.child = Some(spawn(&self.config(), &self.log(), self.listen));
        // The old one may try a connection to the process that has gone first, and fail once.
        self.client = connect(&self.config(), self.listen);
    }

    async fn write<R: Record + Clone>(&self, rows: &[R]) {
        let mut writer = Writer::new(self.client.clone(), rows.len());
        rows.iter().cloned().for_each(|row| writer.push(row));
        writer.flush().await.unwrap();
        assert!(writer.is_empty());
    }

    async fn read<R: Record>(&self, order: &str) -> Vec<R> {
        let sql = format!("SELECT ?fields FROM {} FINAL {order}", R::TABLE);
        self.client.query(&sql).fetch_all().await.unwrap()
    }

    /// The whole view, by id.
    async fn accesses(&self) -> Vec<AccessRow> {
        self.client.query("SELECT ?fields FROM accesses ORDER BY toUInt128(id)").fetch_all().await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        self.client.query(sql).execute().await.unwrap();
    }

    /// Another command of the collector with the same configuration.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config()).output().unwrap()
    }

    /// One request, by hand; the whole answer as it arrives.
    fn http(&self, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            self.listen
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("collector.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn connect(config: &Path, listen: SocketAddr) -> Client {
    client(&format!("http://{listen}"), &Config::read(config).unwrap().clickhouse).unwrap()
}

/// Returns once it serves.
fn spawn(config: &Path, log: &Path, listen: SocketAddr) -> Child {
    let log_file = fs::File::options().create(true).append(true).open(log).unwrap();
    let mut child = Command::new(binary())
        .args(["serve", "--config"])
        .arg(config)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(listen).is_err() {
        let text = fs::read_to_string(log).unwrap();
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "the store does not serve: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Where the set-up command puts it.
fn library() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from);
    let cache = variable("VPN_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("vpn-gateway")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/vpn-gateway")));
    cache.expect("VPN_CACHE or HOME is set").join("clickhouse/libchdb.so")
}

/// The collector, built the way this test is. Cargo builds the programs of other packages for no test.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "vpn-collector", "--target-dir"]).arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "vpn-collector does not build");
        folder.join("vpn-collector")
    })
}

fn flow(id: u128) -> FlowRow {
    let opened = today();
    FlowRow {
        flow: Uuid::from_u128(id),
        operator: "alpha".into(),
        plant: "north".into(),
        user: "user-a".into(),
        certificate: "certificate-a".into(),
        organisations: vec!["alpha".into(), "beta".into()],
        gateway: "gateway-1".into(),
        region: "eu".into(),
        protocol: 6,
        source: mapped("100.64.0.1".parse().unwrap()),
        source_port: 40_000,
        addressed: mapped("10.128.0.77".parse().unwrap()),
        destination: mapped("192.168.1.77".parse().unwrap()),
        port: 502,
        opened,
        last_seen: opened + SECOND + 1,
        packets_to_plant: 4,
        bytes_to_plant: 400,
        packets_to_user: 3,
        bytes_to_user: 300,
        closed: 0,
        verdict: "forwarded".into(),
    }
}

fn denial(id: u128) -> DenialRow {
    let flow = flow(id);
    DenialRow {
        denial: flow.flow,
        operator: flow.operator,
        plant: flow.plant,
        user: flow.user,
        certificate: flow.certificate,
        organisations: flow.organisations,
        gateway: flow.gateway,
        region: flow.region,
        protocol: 17,
        source: flow.source,
        addressed: mapped("10.128.0.99".parse().unwrap()),
        port: 161,
        verdict: "no-route".into(),
        first_seen: flow.opened,
        last_seen: flow.last_seen,
        attempts: 2,
        bytes: 128,
    }
}

/// Microseconds since the Unix epoch, an hour ago when the first test asked.
fn today() -> i64 {
    static TODAY: OnceLock<i64> = OnceLock::new();
    *TODAY.get_or_init(|| now() - 3600 * SECOND)
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// xorshift64
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.below(last as u64 + 1)).unwrap());
        }
    }

    /// A snapshot of one of the flows. All that merges is at random, each column on its own, though most columns of
    /// a real flow never change: what a column merges to shows only where it differs.
    fn flow(&mut self, id: u64) -> FlowRow {
        let opened = started(id);
        FlowRow {
            flow: Uuid::from_u128(id.into()),
            operator: format!("operator-{}", id % 2),
            plant: format!("plant-{}", id % 3),
            user: self.name("user"),
            certificate: self.name("certificate"),
            organisations: self.organisations(),
            gateway: self.name("gateway"),
            region: self.name("region"),
            protocol: self.protocol(id),
            source: self.address(id),
            source_port: self.port(),
            addressed: self.address(id),
            destination: self.address(id),
            port: self.port(),
            opened,
            last_seen: opened + self.below(1 << 40).cast_signed(),
            packets_to_plant: self.below(u64::MAX),
            bytes_to_plant: self.below(u64::MAX),
            packets_to_user: self.below(u64::MAX),
            bytes_to_user: self.below(u64::MAX),
            closed: u8::from(self.below(8) == 0),
            verdict: if self.below(2) == 0 { "forwarded".into() } else { String::new() },
        }
    }

    /// As [`Random::flow`].
    fn denial(&mut self, id: u64) -> DenialRow {
        let first_seen = started(id);
        // Known or not: two names would be two plants.
        let known = self.below(8) == 0;
        DenialRow {
            denial: Uuid::from_u128(id.into()),
            operator: if known { format!("operator-{}", id % 2) } else { String::new() },
            plant: if known { format!("plant-{}", id % 3) } else { String::new() },
            user: self.name("user"),
            certificate: self.name("certificate"),
            organisations: self.organisations(),
            gateway: self.name("gateway"),
            region: self.name("region"),
            protocol: self.protocol(id),
            source: self.address(id),
            addressed: self.address(id),
            port: self.port(),
            verdict: self.name("no-route"),
            first_seen,
            last_seen: first_seen + self.below(1 << 40).cast_signed(),
            attempts: self.below(u64::MAX),
            bytes: self.below(u64::MAX),
        }
    }

    fn name(&mut self, kind: &str) -> String {
        format!("{kind}-{}", self.below(1000))
    }

    fn organisations(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| format!("organisation-{}", self.below(30))).collect()
    }

    /// Not every id has the greatest one.
    fn protocol(&mut self, id: u64) -> u8 {
        let known = [6, 1, 17, 47, 58, 132];
        known[usize::try_from(self.below(id % 7 + 1)).unwrap().min(5)]
    }

    /// Of one family for each id.
    fn address(&mut self, id: u64) -> Ipv6Addr {
        let host = u32::try_from(self.below(1 << 32)).unwrap();
        if id.is_multiple_of(2) {
            mapped(Ipv4Addr::from(host).into())
        } else {
            Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(host))
        }
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.below(1 << 16)).unwrap()
    }
}

/// When a flow or attempt began: the ids spread over the months, and so the partitions.
fn started(id: u64) -> i64 {
    today() - (id.cast_signed() % 10 * 20 + 13) * DAY
}
