//! Desired states at random, in which there is a little of everything.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::key;
use crate::role::Role;

/// The moment around which things end.
pub const NOW: &str = "2027-01-01T00:00:00Z";

/// Moments just before, at and just after [`NOW`].
pub const UNTIL: [&str; 3] = ["2026-12-31T23:59:59Z", NOW, "2027-01-01T00:00:01Z"];

const SUBNETS: [&str; 3] = ["10.0.0.0/8", "192.168.1.0/24", "192.168.2.0/24"];

/// Three organisations with a portfolio each, six plants with some of the same subnets, three users with a certificate
/// each, three certificates of organisations; everything else at random.
pub fn documents() -> impl Strategy<Value = Value> {
    let membership = (0..3_usize, 0..3_usize, any::<bool>(), 0..8_u8);
    let job = (0..3_usize, 0..4_usize, scope());
    let cooperation = (0..3_usize, scope(), until());
    let plant = (any::<bool>(), subsequence(SUBNETS.to_vec(), 1..=3));
    let disabled = (0..3_usize, 0..6_usize, option::of(0..3_usize), until());
    let rights = (vec(membership, 0..6), vec(job, 0..10), vec(cooperation, 0..6));
    let wishes = (vec(option::of(subsequence((0..6_usize).collect::<Vec<_>>(), 1..=3)), 3), vec(disabled, 0..6));
    let organisations = vec(subsequence((0..6_usize).collect::<Vec<_>>(), 0..=6), 3);
    (rights, vec(plant, 6), wishes, organisations).prop_map(|(rights, plants, wishes, organisations)| {
        let (memberships, jobs, cooperations) = rights;
        let (priorities, disabled) = wishes;
        let listed = |plants: &[usize]| plants.iter().map(|at| numbered("p", *at)).collect::<Vec<_>>();
        json!({
            "revision": 1,
            "organisations": (0..3).map(|o| json!({"id": numbered("o", o)})).collect::<Vec<_>>(),
            "portfolios": (0..3).map(|o| json!({"id": numbered("f", o), "organisation": numbered("o", o)}))
                .collect::<Vec<_>>(),
            "plants": plants.iter().enumerate().map(|(at, (inside, subnets))| json!({
                "id": numbered("p", at), "organisation": numbered("o", at % 3),
                "portfolio": inside.then(|| numbered("f", at % 3)), "subnets": subnets,
                "uplink": {"kind": "host", "public_key": key(100 + at as u8)},
            })).collect::<Vec<_>>(),
            "users": (0..3).map(|u| json!({"id": numbered("u", u)})).collect::<Vec<_>>(),
            "memberships": once(memberships, |(u, o, ..)| (*u, *o)).iter().map(|(u, o, member, bits)| json!({
                "user": numbered("u", *u), "organisation": numbered("o", *o),
                "kind": if *member { "member" } else { "guest" }, "access": access(*o, *bits),
            })).collect::<Vec<_>>(),
            "roles": once(jobs, |(u, r, on)| (*u, *r, on.to_string())).iter().map(|(u, r, on)| json!({
                "user": numbered("u", *u), "role": Role::ALL[*r].to_string(), "on": on,
            })).collect::<Vec<_>>(),
            "cooperations": once(cooperations, |(partner, on, _)| (*partner, on.to_string())).iter()
                .filter(|(partner, on, _)| owner(on) != *partner)
                .map(|(partner, on, until)| json!({"partner": numbered("o", *partner), "on": on, "until": until}))
                .collect::<Vec<_>>(),
            "certificates": (0..3).map(|u| json!({
                "id": numbered("c", u), "user": numbered("u", u), "public_key": key(u as u8 + 1),
            })).chain(organisations.iter().enumerate().map(|(o, plants)| json!({
                "id": numbered("x", o), "organisation": numbered("o", o), "plants": listed(plants),
                "public_key": key(o as u8 + 10),
            }))).collect::<Vec<_>>(),
            "priorities": priorities.iter().enumerate().filter_map(|(u, order)| {
                // Backwards, so that it is not the order of the ids.
                let plants = listed(&order.as_ref()?.iter().rev().copied().collect::<Vec<_>>());
                Some(json!({"user": numbered("u", u), "plants": plants}))
            }).collect::<Vec<_>>(),
            "disabled": once(disabled.into_iter().map(|(u, p, nth, until)| {
                let own = &plants[p].1;
                (u, p, nth.map(|nth| own[nth % own.len()]), until)
            }).collect(), |(u, p, subnet, _)| (*u, *p, *subnet)).iter().map(|(u, p, subnet, until)| json!({
                "user": numbered("u", *u), "plant": numbered("p", *p), "subnet": subnet, "until": until,
            })).collect::<Vec<_>>(),
        })
    })
}

fn scope() -> impl Strategy<Value = Value> {
    (any::<bool>(), 0..6_usize).prop_map(|(plant, at)| match plant {
        true => json!({"plant": numbered("p", at)}),
        false => json!({"portfolio": numbered("f", at % 3)}),
    })
}

fn until() -> impl Strategy<Value = Option<&'static str>> {
    option::of((0..3_usize).prop_map(|at| UNTIL[at]))
}

/// The number of the organisation that owns what is shared.
fn owner(on: &Value) -> usize {
    let id = on["plant"].as_str().or(on["portfolio"].as_str()).unwrap();
    id[1..].parse::<usize>().unwrap() % 3
}

fn access(organisation: usize, bits: u8) -> Value {
    match bits {
        7 => json!("all"),
        _ => json!({
            "portfolios": if bits & 1 != 0 { vec![numbered("f", organisation)] } else { vec![] },
            "plants": (0..2).filter(|at| bits & 2 << at != 0)
                .map(|at| numbered("p", organisation + 3 * at)).collect::<Vec<_>>(),
        }),
    }
}

fn numbered(prefix: &str, number: usize) -> String {
    format!("{prefix}{number}")
}

/// The last record of each key.
fn once<T, K: Ord>(records: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    records.into_iter().map(|record| (key(&record), record)).collect::<BTreeMap<_, _>>().into_values().collect()
}
