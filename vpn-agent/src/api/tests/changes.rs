//! Single changes.

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Agent, run, soon, state};
use crate::{
    change::Change,
    example,
    liveness::{FORMAT, Liveness, Uplink, UplinkKind, UplinkState},
    state::State,
};

fn add_role() -> Value {
    json!({"change": "add-role", "user": "user-a", "role": "viewer", "on": {"plant": "north"}})
}

/// Requirements: G2, F10.
#[test]
fn changes_are_made_kept_and_recorded() {
    run(async {
        let agent = Agent::start().await;
        let early = agent.post("/v1/changes", &json!([add_role()])).await;
        assert_eq!(early.status, StatusCode::CONFLICT);
        assert!(early.body["error"].as_str().unwrap().contains("PUT /v1/state"));

        let first = agent.put("/v1/state", &state(7)).await;
        let remove = json!({"change": "remove-user", "id": "user-b"});
        let second = agent.post("/v1/changes", &json!([add_role(), remove])).await;
        assert_eq!((second.status, &second.body["revision"]), (StatusCode::OK, &json!(8)));
        assert_ne!(second.tag(), first.tag());
        let removed = &second.body["difference"]["certificates"]["removed"];
        assert_eq!(removed, &json!({"total": 1, "first": ["certificate-b"]}));
        assert_eq!(agent.post("/v1/changes", &json!([])).await.tag(), second.tag(), "nothing is no change");
        let third = agent.call("DELETE", "/v1/certificates/certificate-a", &[], None).await;
        assert_eq!((third.status, &third.body["revision"]), (StatusCode::OK, &json!(9)));
        assert_eq!(agent.applied(), [7, 8, 9]);

        // It is the state that the changes lead to, also after a restart.
        let mut expected = example::parse(&state(7));
        let changes = |value: Value| serde_json::from_value::<Vec<Change>>(value).unwrap();
        expected.change(&changes(json!([add_role(), {"change": "remove-user", "id": "user-b"}]))).unwrap();
        expected.change(&changes(json!([{"change": "revoke-certificate", "id": "certificate-a"}]))).unwrap();
        let read = agent.get("/v1/state").await;
        assert_eq!(State::parse(read.body.to_string().as_bytes()).unwrap(), expected);
        let agent = agent.restart().await;
        let again = agent.get("/v1/state").await;
        assert_eq!((again.tag(), again.body), (third.tag(), read.body));
        soon(async || agent.applied() == [9]).await;

        let events: Vec<_> = agent.events().into_iter().map(|event| event["changes"].clone()).collect();
        let expected = [
            json!([{"change": "put-state"}]),
            json!([add_role(), {"change": "remove-user", "id": "user-b"}]),
            json!([{"change": "revoke-certificate", "id": "certificate-a"}]),
        ];
        assert_eq!(events, expected);
        let revisions = |name: &str| agent.events().iter().map(|event| event[name].clone()).collect::<Vec<_>>();
        assert_eq!(revisions("revision_before"), [Value::Null, json!(7), json!(8)]);
        assert_eq!(revisions("revision"), [7, 8, 9]);
        assert_eq!(revisions("difference")[2]["certificates"]["removed"]["first"], json!(["certificate-a"]));
    });
}

/// What was accepted just before a crash has its event afterwards.
///
/// Requirements: F8, F10.
#[test]
fn an_event_that_a_crash_has_prevented_is_made_up_for() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(7)).await;
        agent.post("/v1/changes", &json!([add_role()])).await;
        let whole = agent.file("control.jsonl");
        let folder = agent.stop().await;
        let path = folder.path().join("control.jsonl");
        for cut in [0, 10, whole.iter().position(|byte| *byte == b'\n').unwrap() + 1, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let agent = Agent::start_in(folder.clone(), "").await;
            let told: Vec<_> =
                agent.events().iter().map(|event| (event["number"].clone(), event["revision"].clone())).collect();
            assert_eq!(told, [(json!(1), json!(7)), (json!(2), json!(8))], "cut at {cut}");
            assert_eq!(agent.events()[1]["changes"], json!([add_role()]));
            assert_eq!(agent.events()[1]["difference"], Value::Null);
            agent.stop().await;
        }
    });
}

/// Requirements: G4.
#[test]
fn changes_that_are_wrong_are_named_and_none_is_made() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(7)).await;
        let before = (agent.files(), agent.get("/v1/state").await.body);
        let unknown = json!({"change": "add-role", "user": "nobody", "role": "viewer", "on": {"plant": "north"}});
        for (body, status, path) in [
            (json!([add_role(), unknown]), StatusCode::UNPROCESSABLE_ENTITY, "changes[1].user"),
            (json!([add_role(), {"change": "paint"}]), StatusCode::BAD_REQUEST, "changes[1]"),
            (json!([{"change": "remove-user"}]), StatusCode::BAD_REQUEST, "changes[0]"),
            (json!({"change": "remove-user", "id": "user-a"}), StatusCode::BAD_REQUEST, "changes"),
        ] {
            let refused = agent.post("/v1/changes", &body).await;
            assert_eq!(refused.status, status, "{}", refused.body);
            assert!(refused.paths()[0].starts_with(path), "{}", refused.body);
        }
        let many = vec![add_role(); 10_001];
        let refused = agent.post("/v1/changes", &json!(many)).await;
        assert!(refused.body["problems"][0]["message"].as_str().unwrap().contains("at most 10000"));

        // Valid, but not on this gateway.
        agent.memory.lock().unwrap().refused = Some(8);
        let refused = agent.post("/v1/changes", &json!([add_role()])).await;
        assert_eq!((refused.status, refused.paths()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["pools.tunnel"]));
        let stale = [("if-match", "\"6-e3b0c44298fc1c149afbf4c8996fb924\"")];
        let refused = agent.call("POST", "/v1/changes", &stale, Some(&json!([add_role()]))).await;
        assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!((agent.files(), agent.get("/v1/state").await.body), before, "nothing was changed");
        assert_eq!(agent.applied(), [7]);
    });
}

/// Requirements: G4, B4.
#[test]
fn a_dry_run_of_changes_changes_nothing() {
    run(async {
        let agent = Agent::start().await;
        agent.put("/v1/state", &state(7)).await;
        let before = (agent.files(), agent.get("/v1/state").await.body);
        for body in [
            json!([{"change": "remove-role", "user": "user-b", "role": "operator", "on": {"plant": "north"}}]),
            json!([{"change": "remove-cooperation", "partner": "beta", "on": {"plant": "north"}}]),
        ] {
            let dry = agent.post("/v1/changes?dry_run=true", &body).await;
            let group = json!({
                "certificates": {"total": 1, "first": ["certificate-b"]},
                "gained": {"total": 0, "first": []},
                "lost": {"total": 1, "first": ["north"]},
                "moved": {"total": 1, "first": ["192.168.1.0/24: north -> south"]},
            });
            assert_eq!(dry.body["difference"]["routes"]["groups"], json!([group]), "{body}");
            assert_eq!((agent.files(), agent.get("/v1/state").await.body), before, "nothing was changed");
        }
        assert_eq!(agent.applied(), [7]);
    });
}

/// Requirements: A1, A2, A3.
#[test]
fn a_certificate_is_issued_rotated_and_revoked() {
    run(async {
        let agent = Agent::start().await;
        let mut document = state(7);
        document["users"].as_array_mut().unwrap().push(json!({"id": "user-c"}));
        agent.put("/v1/state", &document).await;

        let certificate = json!({"id": "certificate-c", "user": "user-c", "public_key": example::key(3)});
        let dry = agent.post("/v1/certificates?dry_run=true", &certificate).await;
        assert_eq!((dry.status, &dry.body["offer"]), (StatusCode::OK, &Value::Null));
        let issued = agent.post("/v1/certificates", &certificate).await;
        assert_eq!(issued.status, StatusCode::OK);
        let offer = &issued.body["offer"];
        assert_eq!(offer["addresses"], json!(["100.64.0.4/32", "fd76:706e:6777::4/128"]));
        assert_eq!(
            (&offer["public_key"], &offer["endpoint"]),
            (&json!(example::key(3)), &json!("gateway.example:51820"))
        );
        assert_eq!(&agent.get("/v1/offer?certificate=certificate-c").await.body, offer);

        // A1: one for each user.
        let second = json!({"id": "certificate-d", "user": "user-c", "public_key": example::key(4)});
        let refused = agent.post("/v1/certificates", &second).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.paths(), ["changes[0].user"]);

        let key = json!({"public_key": example::key(5)});
        let rotated = agent.post("/v1/certificates/certificate-c/rotate", &key).await;
        assert_eq!(rotated.status, StatusCode::OK);
        assert_eq!(rotated.body["difference"]["certificates"]["changed"]["first"], json!(["certificate-c"]));
        let offer = agent.get("/v1/offer?certificate=certificate-c").await.body;
        assert_eq!(
            (&offer["public_key"], &offer["addresses"]),
            (&json!(example::key(5)), &issued.body["offer"]["addresses"])
        );

        let revoked = agent.call("DELETE", "/v1/certificates/certificate-c", &[], None).await;
        assert_eq!(revoked.status, StatusCode::OK);
        assert_eq!(agent.get("/v1/offer?certificate=certificate-c").await.status, StatusCode::NOT_FOUND);
        let gone = agent.call("DELETE", "/v1/certificates/certificate-c", &[], None).await;
        assert_eq!((gone.status, gone.paths()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["changes[0].id"]));
        let kinds: Vec<_> = agent.events().iter().map(|event| event["changes"][0]["change"].clone()).collect();
        assert_eq!(kinds, ["put-state", "issue-certificate", "rotate-certificate", "revoke-certificate"]);
    });
}

/// What one gateway has given, another one takes over.
///
/// Requirements: E3.
#[test]
fn what_was_given_is_told_and_can_be_taken_over() {
    run(async {
        let agent = Agent::start().await;
        assert_eq!(agent.get("/v1/allocations").await.body["peers"], json!([]));
        agent.put("/v1/state", &state(7)).await;
        let given = agent.get("/v1/allocations").await.body;
        assert_eq!(given["peers"][0]["address"], json!("100.64.0.2"));
        assert_eq!(given["plants"][1]["subnets"][0]["virtual"], json!("10.128.1.0/24"));
        let other = Agent::start().await;
        let mut document = state(7);
        document["allocations"] = given.clone();
        assert_eq!(other.put("/v1/state", &document).await.status, StatusCode::OK);
        assert_eq!(other.get("/v1/allocations").await.body, given);
    });
}

/// Requirements: C2, C4.
#[test]
fn routes_are_told_by_user_or_certificate() {
    run(async {
        let agent = Agent::start().await;
        assert_eq!(agent.get("/v1/routes?user=user-b").await.status, StatusCode::CONFLICT);
        agent.put("/v1/state", &state(7)).await;
        let of_user = agent.get("/v1/routes?user=user-b").await;
        assert_eq!(of_user.status, StatusCode::OK);
        let plants = of_user.body["routes"].as_array().unwrap().iter().map(|route| route["plant"].clone());
        assert_eq!(plants.collect::<Vec<_>>(), ["north", "south"]);
        assert_eq!(agent.get("/v1/routes?certificate=certificate-b").await.body, of_user.body);
        let link = |answer: &Value| answer["routes"][0]["link"].clone();
        assert_eq!(link(&of_user.body), json!("unknown"), "nobody has looked");
        let up = Uplink::new(Some(UplinkKind::Host), UplinkState::Down, Timestamp::now());
        let mut seen =
            Liveness { format: FORMAT, at: Timestamp::now(), plants: [("north".parse().unwrap(), up)].into() };
        seen.write(&agent.config.uplinks_file()).unwrap();
        assert_eq!(link(&agent.get("/v1/routes?user=user-b").await.body), json!("down"));
        seen.at -= SignedDuration::from_hours(1);
        seen.write(&agent.config.uplinks_file()).unwrap();
        assert_eq!(link(&agent.get("/v1/routes?user=user-b").await.body), json!("unknown"), "that was long ago");
        for (query, status) in [
            ("", StatusCode::BAD_REQUEST),
            ("?user=user-b&certificate=certificate-b", StatusCode::BAD_REQUEST),
            ("?users=user-b", StatusCode::BAD_REQUEST),
            ("?user=nobody", StatusCode::NOT_FOUND),
        ] {
            assert_eq!(agent.get(&format!("/v1/routes{query}")).await.status, status, "{query}");
        }
    });
}
