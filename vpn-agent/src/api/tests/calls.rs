//! What calls do, and what they refuse.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::{Agent, call, run, soon, state};
use crate::example;

/// Requirements: G2.
#[test]
fn a_whole_state_is_put_and_read_and_survives_a_restart() {
    run(async {
        let agent = Agent::start().await;
        assert_eq!(agent.get("/v1/state").await.status, StatusCode::NOT_FOUND);
        let put = agent.put("/v1/state", &state(7)).await;
        assert_eq!(put.status, StatusCode::OK);
        assert_eq!((&put.body["revision"], &put.body["changed"]), (&json!(7), &json!(true)));
        assert_eq!(agent.applied(), [7]);
        let read = agent.get("/v1/state").await;
        assert_eq!((read.status, read.tag()), (StatusCode::OK, put.tag()));
        assert_eq!(example::parse(&read.body), example::parse(&state(7)), "it says the same");

        let agent = agent.restart().await;
        let again = agent.get("/v1/state").await;
        assert_eq!((again.tag(), &again.body), (read.tag(), &read.body));
        soon(async || agent.applied() == [7]).await;
        assert_eq!(agent.events().len(), 1, "it was accepted once");
    });
}

/// Requirements: G2, G4.
#[test]
fn the_revision_counts_up() {
    run(async {
        let agent = Agent::start().await;
        let first = agent.put("/v1/state", &state(7)).await;
        let mut other = state(7);
        other["users"][0]["name"] = json!("Another");
        let before = agent.files();
        for revision in [7, 6, 0] {
            other["revision"] = json!(revision);
            let refused = agent.put("/v1/state", &other).await;
            assert_eq!((refused.status, refused.tag()), (StatusCode::CONFLICT, first.tag()));
            let error = refused.body["error"].as_str().unwrap();
            assert!(error.contains(&format!("revision {revision} is not newer than 7")), "{error}");
        }
        assert_eq!(agent.files(), before, "nothing was changed");

        // The same content, in another order.
        let mut same = state(7);
        same["users"].as_array_mut().unwrap().reverse();
        let again = agent.put("/v1/state", &same).await;
        assert_eq!((again.status, again.tag()), (StatusCode::OK, first.tag()));
        assert_eq!((&again.body["changed"], &again.body["difference"]), (&json!(false), &Value::Null));
        assert_eq!((agent.files(), agent.applied()), (before, vec![7]), "without effect");

        other["revision"] = json!(9);
        assert_eq!(agent.put("/v1/state", &other).await.status, StatusCode::OK);
        assert_eq!(agent.applied(), [7, 9]);
    });
}

#[test]
fn conditions_hold_or_nothing_happens() {
    run(async {
        let agent = Agent::start().await;
        let put = async |condition: &str, revision| {
            agent.call("PUT", "/v1/state", &[("if-match", condition)], Some(&state(revision))).await
        };
        let refused = put("*", 1).await;
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "there is none");
        assert!(!refused.headers.contains_key("etag"));
        let one = agent.put("/v1/state", &state(1)).await.tag();
        let two = put(&one, 2).await;
        assert_eq!(two.status, StatusCode::OK);
        let three = put("*", 3).await;
        assert_eq!(three.status, StatusCode::OK);
        for stale in [one.clone(), two.tag(), format!("W/{}", three.tag()), "\"x\"".to_owned(), String::new()] {
            let refused = put(&stale, 4).await;
            assert_eq!((refused.status, refused.tag()), (StatusCode::PRECONDITION_FAILED, three.tag()), "{stale}");
        }
        let four = put(&format!("{one}, {}", three.tag()), 4).await;
        assert_eq!(four.status, StatusCode::OK, "one of a list");

        let get = async |condition: &str| agent.call("GET", "/v1/state", &[("if-none-match", condition)], None).await;
        for (known, status) in [
            (four.tag(), StatusCode::NOT_MODIFIED),
            (format!("W/{}", four.tag()), StatusCode::NOT_MODIFIED),
            (format!("{one}, {}", four.tag()), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            (one.clone(), StatusCode::OK),
        ] {
            let answer = get(&known).await;
            assert_eq!((answer.status, answer.tag()), (status, four.tag()), "{known}");
        }
    });
}

/// Requirements: G4.
#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(7)).await;
        let before = agent.files();

        let mut bad = state(8);
        bad["plants"][1]["subnets"][0] = json!("192.168.1.5/24");
        bad["roles"][0]["user"] = json!("nobody");
        let refused = agent.put("/v1/state", &bad).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.paths(), ["plants[1].subnets[0]", "roles[0].user"]);
        assert!(refused.body["problems"][0]["message"].as_str().unwrap().contains("use 192.168.1.0/24"));
        assert_eq!(agent.put("/v1/state", &json!("no JSON")).await.status, StatusCode::UNPROCESSABLE_ENTITY);

        agent.memory.lock().unwrap().refused = Some(8);
        let refused = agent.put("/v1/state", &state(8)).await;
        assert_eq!((refused.status, refused.paths()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["pools.tunnel"]));

        let mistyped = agent.put("/v1/state?dryrun=true", &state(9)).await;
        assert_eq!((mistyped.status, mistyped.paths()), (StatusCode::BAD_REQUEST, vec!["query"]));
        let unclear = agent.put("/v1/state?dry_run=perhaps", &state(9)).await;
        assert_eq!(unclear.status, StatusCode::BAD_REQUEST);
        let text = agent.call("PUT", "/v1/state", &[("content-type", "text/plain")], Some(&state(9))).await;
        assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!((agent.files(), agent.applied()), (before, vec![7]), "nothing was changed");
    });
}

#[test]
fn a_body_has_a_limit() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let api = "[api]\nsocket = 'FOLDER/api.sock'\nbody_max_bytes = 65536\n";
        let agent = Agent::start_in(folder, api).await;
        let mut large = state(1);
        large["users"][0]["name"] = json!("x".repeat(65_536));
        let refused = agent.put("/v1/state", &large).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(refused.body["error"].as_str().unwrap().contains("api.body_max_bytes"));
        assert_eq!(agent.put("/v1/state", &state(1)).await.status, StatusCode::OK);
    });
}

/// Requirements: G4.
#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(7)).await;
        let before = agent.files();
        let mut next = state(8);
        next["roles"].as_array_mut().unwrap().remove(0);
        next["certificates"].as_array_mut().unwrap().remove(1);
        let dry = agent.put("/v1/state?dry_run=true", &next).await;
        assert_eq!(
            (dry.status, &dry.body["dry_run"], &dry.body["revision"]),
            (StatusCode::OK, &json!(true), &json!(8))
        );
        assert!(!dry.headers.contains_key("etag"), "that is not in force");
        let difference = &dry.body["difference"];
        assert_eq!(difference["certificates"]["removed"], json!({"total": 1, "first": ["certificate-b"]}));
        let groups = difference["routes"]["groups"].as_array().unwrap();
        let lost: Vec<_> =
            groups.iter().map(|group| (&group["certificates"]["first"][0], &group["lost"]["first"])).collect();
        let expected =
            [(&json!("certificate-a"), &json!(["north"])), (&json!("certificate-b"), &json!(["north", "south"]))];
        assert_eq!(lost, expected);
        assert_eq!((agent.files(), agent.applied()), (before, vec![7]), "nothing was changed");

        let done = agent.put("/v1/state", &next).await;
        assert_eq!(done.body["difference"], *difference, "it does what it said");
        assert_eq!(agent.events()[1]["difference"], *difference, "and that is recorded");
    });
}

/// Requirements: B4, G2.
#[test]
fn what_the_kernel_does_not_follow_yet_is_said_and_tried_again() {
    run(async {
        let agent = Agent::start().await;
        agent.memory.lock().unwrap().broken = Some("the map is full".to_owned());
        let put = agent.put("/v1/state", &state(7)).await;
        assert_eq!(put.status, StatusCode::ACCEPTED);
        assert_eq!(put.body["pending"], json!("the map is full"));
        let status = agent.get("/v1/status").await.body;
        assert_eq!((&status["applied"], &status["pending"]), (&Value::Null, &json!("the map is full")));
        assert_eq!(status["in_force"]["revision"], json!(7), "it is in force all the same");

        *agent.memory.lock().unwrap() =
            super::Memory { no_north: Some("no interface".to_owned()), ..Default::default() };
        soon(async || agent.applied() == [7]).await;
        let status = agent.get("/v1/status").await.body;
        assert_eq!((&status["applied"]["revision"], &status["pending"]), (&json!(7), &Value::Null));
        assert_eq!(status["failed"], json!([{"plant": "north", "reason": "no interface"}]));

        agent.memory.lock().unwrap().no_north = None;
        soon(async || agent.applied() == [7, 7]).await;
        assert_eq!(agent.get("/v1/status").await.body["failed"], json!([]));
    });
}

/// Requirements: G2, F10.
#[test]
fn a_gateway_that_follows_a_file_takes_no_changes_by_calls() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let path = folder.path().join("desired.json");
        std::fs::write(&path, state(7).to_string()).unwrap();
        let source = "state = 'FOLDER/desired.json'";
        let agent = Agent::start_in(folder.clone(), source).await;
        soon(async || agent.applied() == [7]).await;
        let refused = agent.put("/v1/state", &state(8)).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        let error = refused.body["error"].as_str().unwrap();
        assert!(error.contains("from the file ") && error.contains("desired.json; change it there"), "{error}");
        assert_eq!(agent.get("/v1/state").await.body["revision"], json!(7));
        assert_eq!(agent.files()[0], b"", "the store is not used");

        // A file may say what it likes, as long as it is valid.
        std::fs::write(&path, state(3).to_string()).unwrap();
        soon(async || agent.applied() == [7, 3]).await;
        std::fs::write(&path, "{}").unwrap();
        soon(async || agent.get("/v1/status").await.body["source"]["problem"].is_string()).await;
        assert_eq!(agent.get("/v1/status").await.body["in_force"]["revision"], json!(3));
        std::fs::write(&path, state(4).to_string()).unwrap();
        soon(async || agent.applied() == [7, 3, 4]).await;
        let actor = format!("file:{}", path.display());
        let events: Vec<_> =
            agent.events().iter().map(|event| (event["actor"].clone(), event["revision"].clone())).collect();
        assert_eq!(events, [7, 3, 4].map(|revision| (json!(actor), json!(revision))));

        agent.stop().await;
        let agent = Agent::start_in(folder, source).await;
        soon(async || agent.applied() == [4]).await;
        assert_eq!(agent.events().len(), 3, "what was recorded by the run before is not recorded again");
    });
}

/// Requirements: E4, G5.
#[test]
fn the_health_is_that_of_the_command() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = listener.local_addr().unwrap();
        let more = format!("datapath.pin_dir = 'FOLDER/pins'\nhealth.probes = {{north = '{probe}'}}\n");
        let agent = Agent::start_in(folder, &more).await;
        agent.put("/v1/state", &state(7)).await;
        let answer = agent.get("/v1/health").await;
        assert_eq!((answer.status, &answer.body["healthy"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
        let problems = answer.body["problems"].to_string();
        assert!(problems.contains("there are no maps"), "{problems}");
        assert_eq!((&answer.body["revision"], &answer.body["load"]["flows"]), (&json!(7), &json!(0)));
        let plants = &answer.body["plants"];
        assert!(plants["north"]["latency_ms"].as_f64().is_some_and(|ms| (0.0..1_000.0).contains(&ms)), "{plants}");
        assert_eq!(plants["south"], json!({"up": false, "latency_ms": null}), "without a probe");
        let health: crate::health::Health = serde_json::from_value(answer.body).unwrap();
        assert_eq!(health.gateway, "gateway-1", "`vpn-agent pick` takes it");
    });
}

#[test]
fn who_asks_while_the_agent_stops_is_told() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(1)).await;
        agent.stop.send(()).unwrap();
        agent.running.await.unwrap();
        for path in ["/v1/status", "/v1/health"] {
            let stream = UnixStream::connect(agent.config.api.clone().unwrap().socket.unwrap()).await.unwrap();
            let answer = call(stream, "GET", path, &[], None).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.body["error"].as_str().unwrap().contains("stopping"));
        }
    });
}
