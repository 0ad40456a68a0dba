//! The collector's rows in a real ClickHouse engine, through the endpoint that serves it and the official client.
//!
//! Each test has a store of its own in a process of its own, as a process can open one data directory only.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::{Ipv6Addr, TcpListener},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;
use vpn_collector::{
    attribution::GATEWAY,
    client::client,
    config::ClickHouse,
    row::{DenialRow, FlowRow, Record},
    schema,
    writer::{self, Writer},
};

use crate::{
    access::AccessRow,
    merged::{greater_denial, greater_flow, merge},
    random::Random,
    sample::{DAY, SECOND, denial, flow, now},
    store::{Store, binary},
};

mod access;
mod merged;
mod random;
mod sample;
mod store;

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
