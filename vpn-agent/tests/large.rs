//! How long the pure part of a change takes in a large fleet. It measures, so it runs only when it is asked for:
//!
//! `cargo test --release -p vpn-agent --test large -- --ignored --nocapture`

use std::{
    collections::BTreeSet,
    hint::black_box,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use vpn_agent::{
    change::{Change, Touched},
    policy::Policy,
    role::Role,
    state::State,
    terms::Terms,
};

const USERS: usize = 100_000;
const ORGANISATIONS: usize = 100;
const PORTFOLIOS: usize = 200;
const PLANTS: usize = 10_000;
/// Users of one group have the same rights: on a portfolio of their own and on one that is shared with them.
const GROUPS: usize = 5_000;

#[test]
#[ignore = "measures"]
fn a_fleet_of_100_000_users_and_10_000_plants() {
    let text = document().to_string();
    println!("document: {} MB", text.len() / 1_000_000);
    let (state, took) = timed(|| State::parse(text.as_bytes()).unwrap());
    println!("parse and check: {took:?}");
    let mut state = state;
    let terms = Terms { opening: BTreeSet::from([Role::Operator]), now: Timestamp::UNIX_EPOCH };

    let (_, took) = timed(|| state.to_document());
    println!("to_document: {took:?}");
    let (copy, took) = timed(|| state.clone());
    println!("clone: {took:?}");
    let (_, took) = timed(|| state.next_change(terms.now));
    println!("next_change: {took:?}");

    let (policy, took) = timed(|| Policy::compile(&state, &terms));
    let routes: usize = policy.reaches.iter().map(|reach| 2 * reach.plants.len()).sum();
    println!("compile: {took:?}, {} route sets, about {routes} routes", policy.reaches.len());
    assert_eq!((policy.reaches.len(), routes, policy.certificates.len()), (GROUPS, 1_000_000, USERS));
    drop(policy);

    for change in [
        json!({"change": "add-role", "user": "u77777", "role": "operator", "on": {"plant": "p50"}}),
        json!({"change": "put-membership", "user": "u77777", "organisation": "o1", "kind": "guest", "access": "all"}),
        json!({"change": "rotate-certificate", "id": "c77777", "public_key": key(9_000_000)}),
        json!({"change": "revoke-certificate", "id": "c77777"}),
        json!({"change": "set-priority", "user": "u77777", "plants": ["p77", "p78"]}),
        json!({"change": "disable-route", "user": "u77777", "plant": "p77", "until": "2027-01-01T00:00:00Z"}),
        json!({"change": "remove-user", "id": "u77777"}),
        json!({"change": "put-cooperation", "partner": "o7", "on": {"portfolio": "f3"}, "until": "2027-01-01T00:00:00Z"}),
        json!({"change": "remove-plant", "id": "p5"}),
    ] {
        let changes: Vec<Change> = vec![serde_json::from_value(change.clone()).unwrap()];
        let (changed, making) = timed(|| state.change(&changes).unwrap());
        let (count, compiling) = match &changed.touched {
            Touched::Certificates(touched) => {
                let (policy, took) = timed(|| Policy::compile_of(&state, &terms, touched));
                (policy.certificates.len(), took)
            }
            Touched::All => (USERS, Duration::ZERO),
        };
        let ((), undoing) = timed(|| state.undo(changed.undo));
        let kind = change["change"].as_str().unwrap();
        println!("{kind}: {making:?}, compile_of {count}: {compiling:?}, undo: {undoing:?}");
        assert!(state == copy, "{change}");
    }
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let value = black_box(what());
    (value, started.elapsed())
}

fn document() -> Value {
    let own = |group: usize| group % PORTFOLIOS;
    // Of another organisation.
    let foreign = |group: usize| (own(group) + ORGANISATIONS + 1 + group / PORTFOLIOS) % PORTFOLIOS;
    let organisation = |portfolio: usize| format!("o{}", portfolio % ORGANISATIONS);
    let cooperations: BTreeSet<_> = (0..GROUPS).map(|group| (organisation(own(group)), foreign(group))).collect();
    let cooperations = cooperations.into_iter().filter(|(partner, shared)| *partner != organisation(*shared));
    let role = |user: usize, portfolio: usize| json!({"user": format!("u{user}"), "role": "operator", "on": {"portfolio": format!("f{portfolio}")}});
    json!({
        "revision": 1,
        "organisations": (0..ORGANISATIONS).map(|at| json!({"id": format!("o{at}")})).collect::<Vec<_>>(),
        "portfolios": (0..PORTFOLIOS).map(|at| json!({"id": format!("f{at}"), "organisation": organisation(at)}))
            .collect::<Vec<_>>(),
        "plants": (0..PLANTS).map(|at| json!({
            "id": format!("p{at}"), "organisation": organisation(at % PORTFOLIOS),
            "portfolio": format!("f{}", at % PORTFOLIOS), "subnets": [format!("192.168.{}.0/24", at / PORTFOLIOS)],
            "uplink": {"kind": "host", "public_key": key(1_000_000 + at)},
        })).collect::<Vec<_>>(),
        "users": (0..USERS).map(|at| json!({"id": format!("u{at}")})).collect::<Vec<_>>(),
        "memberships": (0..USERS).map(|at| json!({
            "user": format!("u{at}"), "organisation": organisation(own(at % GROUPS)), "kind": "member", "access": "all",
        })).collect::<Vec<_>>(),
        "roles": (0..USERS)
            .flat_map(|at| [role(at, own(at % GROUPS)), role(at, foreign(at % GROUPS))]).collect::<Vec<_>>(),
        "cooperations": cooperations.map(|(partner, shared)| json!({
            "partner": partner, "on": {"portfolio": format!("f{shared}")},
        })).collect::<Vec<_>>(),
        "certificates": (0..USERS).map(|at| json!({
            "id": format!("c{at}"), "user": format!("u{at}"), "public_key": key(at + 1),
        })).collect::<Vec<_>>(),
    })
}

fn key(number: usize) -> String {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    BASE64_STANDARD.encode(bytes)
}
