//! `/v1/explain`, with maps of which the kernel's side is real.

use std::{collections::BTreeMap, fs, sync::Arc};

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::{Agent, run, state};
use crate::{
    addressing::Allocations,
    catalogue::Catalogue,
    config::Config,
    content,
    datapath::{Datapath, Sizes, fill::Content},
    explain::{Explanation, Kernel, Surroundings},
    id::PlantId,
    liveness::{FORMAT, Liveness, Uplink as Seen, UplinkKind, UplinkState},
    namespace::{made_in_new_namespace, mount_bpf},
    overview::Link,
    policy::Policy,
    source,
    tables::{Tables, Uplink},
};

const TO: &str = "10.128.1.20:502/tcp";

/// Requirements: B5, G4.
#[test]
fn what_cannot_be_asked_names_the_field() {
    run(async {
        let folder = Arc::new(TempDir::new().unwrap());
        let agent = Agent::start_in(folder, "datapath.pin_dir = 'FOLDER/pins'").await;
        assert_eq!(explain(&agent, "user=user-b", TO).await.0, StatusCode::CONFLICT, "there is no state");
        agent.put("/v1/state", &state(7)).await;
        for (whose, to, status, path, part) in [
            ("", TO, StatusCode::BAD_REQUEST, "query", "give one of `user` and `certificate`"),
            ("user=user-b&certificate=certificate-b", TO, StatusCode::BAD_REQUEST, "query", "give one of"),
            ("users=user-b", TO, StatusCode::BAD_REQUEST, "query", "unknown field `users`"),
            ("user=user-z", TO, StatusCode::NOT_FOUND, "user", "\"user-z\" is no user who has a certificate"),
            ("certificate=c", TO, StatusCode::NOT_FOUND, "certificate", "\"c\" is not in certificates"),
            ("user=user-b", "10.128.1.20:502", StatusCode::BAD_REQUEST, "to", "\"10.128.0.20:502/tcp\""),
            ("user=user-b", "", StatusCode::BAD_REQUEST, "to", "use an IP address"),
        ] {
            let (answered, body) = explain(&agent, whose, to).await;
            assert_eq!((answered, &body["problems"][0]["path"]), (status, &json!(path)), "{whose} {to}: {body}");
            assert!(body["problems"][0]["message"].as_str().unwrap().contains(part), "{whose} {to}: {body}");
        }
        let without = agent.get("/v1/explain?user=user-b").await;
        assert_eq!(without.status, StatusCode::BAD_REQUEST);
        assert!(without.body["problems"][0]["message"].as_str().unwrap().contains("missing field `to`"));

        let (answered, body) = explain(&agent, "user=user-b", TO).await;
        assert_eq!((answered, &body["denied_by"]["step"]["about"]), (StatusCode::OK, &json!("programs")));
        assert_eq!(body["state"]["outcome"], "plant", "the state allows what no program does");
    });
}

/// Requirements: B5.
#[test]
fn the_live_maps_are_explained_as_by_the_command() {
    made_in_new_namespace(|| async { LocalSet::new().run_until(explain_live_maps()).await });
}

async fn explain_live_maps() {
    let folder = Arc::new(TempDir::new().unwrap());
    let pins = folder.path().join("pins");
    fs::create_dir(&pins).unwrap();
    mount_bpf(&pins).unwrap();
    let agent = Agent::start_in(folder, "datapath.pin_dir = 'FOLDER/pins'").await;
    agent.put("/v1/state", &state(7)).await;
    let sizes = Sizes { flows_max: 1024, closed_max: 64, denials_max: 64, events_bytes: 65_536, ..Sizes::default() };
    let mut datapath = match Datapath::for_test_runs(Some(&pins), &sizes) {
        Ok(datapath) => datapath,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let (config, given) = (&agent.config, given(&agent.config));
    datapath.configure(&content::gateway(config, 1)).unwrap();
    let mut content = content_of(config, &given);
    datapath.fill(&content).unwrap();

    let up = Seen::new(Some(UplinkKind::Host), UplinkState::Up, Timestamp::now());
    let plants = BTreeMap::from([("south".parse().unwrap(), up)]);
    Liveness { format: FORMAT, at: Timestamp::now(), plants }.write(&config.uplinks_file()).unwrap();
    for whose in ["user=user-b", "certificate=certificate-b"] {
        let (status, body) = explain(&agent, whose, TO).await;
        assert_eq!((status, &body["denied_by"]), (StatusCode::OK, &Value::Null), "{body:#}");
        assert_eq!(body["kernel"]["steps"][0]["what"], "PEERS 3: peer 2, route set 2");
        assert_eq!((&body["kernel"]["verdict"], &body["kernel"]["plant"]), (&json!("to-plant"), &json!("south")));
        assert_eq!(body["state"]["target"]["link"], "up");
        assert_eq!(body, by_command(config, &given), "what `vpn-agent explain --json` prints");
    }

    // Only in the kernel, and at once.
    content.peers.remove(&3);
    datapath.fill(&content).unwrap();
    let (_, body) = explain(&agent, "user=user-b", TO).await;
    assert_eq!(
        (&body["denied_by"]["side"], &body["denied_by"]["step"]["what"]),
        (&json!("kernel"), &json!("PEERS has nobody at 3"))
    );
    assert_eq!(body["differences"].as_array().unwrap().len(), 1, "{body:#}");
    assert_eq!(body, by_command(config, &given));
}

async fn explain(agent: &Agent, whose: &str, to: &str) -> (StatusCode, Value) {
    let answer = agent.get(&format!("/v1/explain?{whose}&to={to}")).await;
    (answer.status, answer.body)
}

fn given(config: &Config) -> Allocations {
    Allocations::default().extended(&source::current(config).unwrap(), config).unwrap()
}

/// What an agent would fill in, with an interface for each plant.
fn content_of(config: &Config, given: &Allocations) -> Content {
    let state = source::current(config).unwrap();
    let uplink = |ifindex| Uplink { ifindex, mtu: 1_420, link_header: 0 };
    let uplinks: BTreeMap<PlantId, Uplink> =
        [("north", 11), ("south", 12)].map(|(plant, ifindex)| (plant.parse().unwrap(), uplink(ifindex))).into();
    let policy = Policy::compile(&state, &config.terms(Timestamp::now()));
    let catalogue = &mut Catalogue::new(&Allocations::default());
    content::content(Tables::new(&state, given, catalogue, &config.pools, &policy, &uplinks).unwrap(), config)
}

/// From the files of the agent, as the command does it.
fn by_command(config: &Config, given: &Allocations) -> Value {
    let state = source::current(config).unwrap();
    let seen = Liveness::current(&config.uplinks_file(), Timestamp::now());
    let link = |plant: &PlantId| Link::of(seen.as_ref(), plant);
    let kernel = Kernel::open(config).unwrap();
    let around = Surroundings { config, given, link, kernel: &kernel };
    let terms = config.terms(Timestamp::now());
    let answer = Explanation::of(&state, &terms, "certificate-b", TO.parse().unwrap(), &around).unwrap();
    serde_json::to_value(answer.unwrap()).unwrap()
}
