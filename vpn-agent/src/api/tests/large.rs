//! How long a call takes in a large fleet, but for what the kernel has to do. It measures, so it runs only when it is
//! asked for: `cargo test --release -p vpn-agent --lib large -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Agent, run};

const USERS: u32 = 100_000;
const PLANTS: u32 = 10_000;

#[test]
#[ignore = "measures"]
fn calls_for_a_fleet_of_100_000_users_and_10_000_plants() {
    run(async {
        let agent = Agent::start().await;
        agent.memory.lock().unwrap().is_idle = true;
        let (document, other) = (document(1), document(2));
        let (put, took) = timed(agent.put("/v1/state", &document)).await;
        println!("PUT of {} MB: {took:?}, {} MB of memory", document.to_string().len() / 1_000_000, memory());
        assert_eq!(put.status, StatusCode::OK);
        let (_, took) = timed(agent.get("/v1/state")).await;
        println!("GET: {took:?}");
        let known = put.tag();
        let (_, took) = timed(agent.call("GET", "/v1/state", &[("if-none-match", &known)], None)).await;
        println!("GET of what is known: {took:?}");
        let (dry, took) = timed(agent.put("/v1/state?dry_run=true", &other)).await;
        let size = dry.body.to_string().len();
        println!("dry run of another state: {took:?}, answer of {size} bytes, {} MB of memory", memory());
        for change in [
            json!({"change": "add-role", "user": "u77777", "role": "operator", "on": {"plant": "p50"}}),
            json!({"change": "rotate-certificate", "id": "c77777", "public_key": key(9_000_000)}),
            json!({"change": "revoke-certificate", "id": "c77777"}),
            json!({"change": "put-cooperation", "partner": "o7", "on": {"plant": "p3"}}),
        ] {
            let (answer, took) = timed(agent.post("/v1/changes", &json!([change]))).await;
            println!("{}: {took:?}", change["change"]);
            assert_eq!(answer.status, StatusCode::OK);
        }
        let (agent, took) = timed(agent.restart()).await;
        agent.memory.lock().unwrap().is_idle = true;
        println!("restart: {took:?}, {} MB of memory", memory());
        assert_eq!(agent.get("/v1/status").await.body["in_force"]["revision"], json!(5));
    });
}

async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let result = what.await;
    (result, started.elapsed())
}

/// What the process has, MB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_000
}

/// Each user has a membership, a role and a certificate; with each revision the role is on another plant.
fn document(revision: u32) -> Value {
    let users = || 0..USERS;
    json!({
        "revision": revision,
        "organisations": (0..100).map(|at| json!({"id": format!("o{at}")})).collect::<Vec<_>>(),
        "portfolios": [],
        "plants": (0..PLANTS).map(|at| json!({
            "id": format!("p{at}"), "organisation": format!("o{}", at % 100), "subnets": ["192.168.1.0/24"],
            "uplink": {"kind": "host", "public_key": key(1_000_000 + at)},
        })).collect::<Vec<_>>(),
        "users": users().map(|at| json!({"id": format!("u{at}")})).collect::<Vec<_>>(),
        "memberships": users().map(|at| json!({
            "user": format!("u{at}"), "organisation": format!("o{}", at % 100), "kind": "member", "access": "all",
        })).collect::<Vec<_>>(),
        "roles": users().map(|at| json!({
            "user": format!("u{at}"), "role": "operator",
            "on": {"plant": format!("p{}", (at + 100 * (revision - 1)) % PLANTS)},
        })).collect::<Vec<_>>(),
        "cooperations": [],
        "certificates": users().map(|at| json!({
            "id": format!("c{at}"), "user": format!("u{at}"), "public_key": key(at),
        })).collect::<Vec<_>>(),
    })
}

fn key(at: u32) -> String {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&at.to_be_bytes());
    BASE64_STANDARD.encode(bytes)
}
