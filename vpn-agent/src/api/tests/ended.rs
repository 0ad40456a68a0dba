//! What ends by itself is recorded like what somebody has changed.

use std::{fs, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Agent, run, soon, state};

/// Requirements: B4, C3, F10.
#[test]
fn what_is_over_is_an_event_of_the_time() {
    run(async {
        let agent = Agent::start().await;
        let until = in_seconds(2);
        agent.put("/v1/state", &ending(7, until)).await;
        let tag = agent.get("/v1/state").await.tag();
        soon(async || agent.events().len() == 2).await;
        assert_eq!(agent.applied(), [7, 7], "the kernel follows");

        let [put, ended] = agent.events().try_into().unwrap();
        assert_eq!((&ended["number"], &ended["time"]), (&json!(2), &json!(until)));
        assert_eq!((&ended["actor"], &ended["from"]), (&json!("time"), &json!("time")));
        assert_eq!((&ended["revision_before"], &ended["revision"]), (&json!(7), &json!(7)));
        assert_eq!(ended["fingerprint"], put["fingerprint"]);
        let changes = json!([
            {"change": "remove-cooperation", "partner": "beta", "on": {"plant": "north"}},
            {"change": "enable-route", "user": "user-b", "plant": "south"},
        ]);
        assert_eq!((&ended["changes"], &ended["changes_total"]), (&changes, &json!(2)));
        let routes = &ended["difference"]["routes"];
        assert_eq!(routes["certificates"], 1, "{routes:#}");
        let group = &routes["groups"][0];
        assert_eq!(group["certificates"]["first"], json!(["certificate-b"]));
        assert_eq!((&group["lost"]["first"], &group["gained"]["first"]), (&json!(["north"]), &json!(["south"])));
        assert_eq!(agent.get("/v1/state").await.tag(), tag, "the state is the same");

        // Whatever comes next counts on.
        agent.put("/v1/state", &state(8)).await;
        assert_eq!(numbers(&agent), [1, 2, 3]);
    });
}

/// Requirements: F10.
#[test]
fn what_is_over_while_no_agent_runs_is_an_event_of_its_time() {
    run(async {
        let agent = Agent::start().await;
        let until = in_seconds(2);
        agent.put("/v1/state", &ending(7, until)).await;
        let change = json!([{"change": "put-user", "id": "user-z"}]);
        agent.post("/v1/changes", &change).await;
        let folder = agent.stop().await;
        sleep(Duration::from_secs(3)).await;
        let agent = Agent::start_in(folder, "").await;
        soon(async || agent.events().len() == 3).await;
        let ended = agent.events().pop().unwrap();
        assert_eq!((&ended["actor"], &ended["time"], &ended["revision"]), (&json!("time"), &json!(until), &json!(8)));
        let agent = agent.restart().await;
        soon(async || agent.applied() == [8]).await;
        agent.post("/v1/changes", &change).await;
        assert_eq!(numbers(&agent), [1, 2, 3, 4], "once");
        assert_eq!(agent.events()[3]["actor"], agent.events()[0]["actor"]);
    });
}

/// Requirements: F10.
#[test]
fn what_was_over_before_a_file_was_followed_has_not_ended_here() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let write = |document: &Value| fs::write(folder.path().join("desired.json"), document.to_string()).unwrap();
        let source = "state = 'FOLDER/desired.json'";
        write(&ending(7, in_seconds(2)));
        let agent = Agent::start_in(folder.clone(), source).await;
        soon(async || agent.applied() == [7]).await;
        agent.stop().await;
        sleep(Duration::from_secs(4)).await;
        let agent = Agent::start_in(folder.clone(), source).await;
        soon(async || agent.events().len() == 2).await;
        assert_eq!(agent.events()[1]["actor"], "time", "the file is the same, and what it says is over");
        agent.stop().await;

        write(&ending(8, in_seconds(-1)));
        let agent = Agent::start_in(folder.clone(), source).await;
        soon(async || agent.applied() == [8]).await;
        let actors: Vec<_> = agent.events().iter().map(|event| event["from"].clone()).collect();
        assert_eq!(actors, ["file", "time", "file"]);
    });
}

/// A cooperation, and a route that is switched off, until then.
fn ending(revision: u64, until: Timestamp) -> Value {
    let mut document = state(revision);
    document["cooperations"][0]["until"] = json!(until);
    document["disabled"] = json!([{"user": "user-b", "plant": "south", "until": until}]);
    document
}

fn in_seconds(seconds: i64) -> Timestamp {
    let moment = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(moment.as_second()).unwrap()
}

fn numbers(agent: &Agent) -> Vec<Value> {
    agent.events().iter().map(|event| event["number"].clone()).collect()
}
