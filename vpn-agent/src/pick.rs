//! Which gateway is the best for a client (requirement E4). Pure: from what the gateways publish to an order of them.
//!
//! This is the reference of what `docs/regions.md` describes, for whoever answers for the name in users' profiles.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::Endpoint,
    health::{Health, Load},
    id::PlantId,
    place::Place,
};

/// Figures that are older say nothing about now; nor do those of a clock that is as far ahead.
pub const MAX_AGE: SignedDuration = SignedDuration::from_secs(30);

/// What stands for a time that nobody has measured, milliseconds.
pub const UNKNOWN_MS: f64 = 50.0;

/// A gateway whose load is this much or more is full: it comes after all that are not.
pub const FULL: f64 = 0.95;

/// Up to this much load makes no difference.
pub const EASY: f64 = 0.7;

/// What a load of 1 adds to a gateway's time, milliseconds; proportionally less down to [`EASY`].
pub const LOAD_MS: f64 = 100.0;

/// Who is to be led.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The plants that the user may reach.
    pub plants: BTreeSet<PlantId>,
    /// Where the client is, roughly.
    pub place: Option<Place>,
    /// Measured times from the client to regions and back, milliseconds; they count before places.
    pub latency_ms: BTreeMap<String, f64>,
}

/// A gateway that can be used, and why it has its place in the order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Name of the gateway.
    pub gateway: String,
    /// Its region.
    pub region: String,
    /// Where to reach it.
    pub endpoint: Option<Endpoint>,
    /// Whether it has hardly any room left.
    pub full: bool,
    /// The client's plants that it does not reach.
    pub unreached: BTreeSet<PlantId>,
    /// The time from the client by this gateway to its plants and back on average, milliseconds, with what its load adds.
    pub time_ms: f64,
}

/// The gateways that the client can use at `now`, the best first. A gateway that is not healthy is left out, and so is
/// one whose figures are stale. Of several figures of one gateway the newest count. The order in which they come makes
/// no difference.
#[must_use]
pub fn pick(fleet: &[Health], client: &Client, now: Timestamp) -> Vec<Choice> {
    let mut newest = BTreeMap::<&str, &Health>::new();
    for health in fleet {
        let known = newest.entry(&health.gateway).or_insert(health);
        if known.at < health.at {
            *known = health;
        }
    }
    let usable = newest.values().filter(|health| health.healthy && is_fresh(health.at, now));
    let mut choices: Vec<_> = usable.map(|health| Choice::new(health, client)).collect();
    choices.sort_by(Choice::compare);
    choices
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() <= MAX_AGE
}

impl Choice {
    fn new(health: &Health, client: &Client) -> Self {
        let reached = health.reached();
        let load = load(&health.load);
        Self {
            gateway: health.gateway.clone(),
            region: health.region.clone(),
            endpoint: health.endpoint.clone(),
            full: load >= FULL,
            unreached: client.plants.iter().filter(|plant| !reached.contains(plant)).cloned().collect(),
            time_ms: to_gateway(health, client) + to_plants(health, client, &reached) + penalty(load),
        }
    }

    /// What matters more comes first: room, then how many plants are reached, then time; then the name, so that there
    /// is always one answer.
    fn compare(&self, other: &Self) -> Ordering {
        let firsts = |choice: &Self| (choice.full, choice.unreached.len());
        firsts(self)
            .cmp(&firsts(other))
            .then_with(|| self.time_ms.total_cmp(&other.time_ms))
            .then_with(|| self.gateway.cmp(&other.gateway))
    }
}

fn to_gateway(health: &Health, client: &Client) -> f64 {
    let measured = client.latency_ms.get(&health.region).copied().filter(|ms| *ms >= 0.0);
    let by_place = || Some(client.place?.round_trip_ms(&health.place?));
    measured.or_else(by_place).unwrap_or(UNKNOWN_MS)
}

/// On average over those of the client's plants that the gateway reaches.
fn to_plants(health: &Health, client: &Client, reached: &BTreeSet<&PlantId>) -> f64 {
    let plants = || client.plants.iter().filter(|plant| reached.contains(plant));
    let time = |plant: &PlantId| health.plants.get(plant).and_then(|plant| plant.latency_ms).filter(|ms| *ms >= 0.0);
    match plants().count() {
        0 => 0.0,
        count => plants().map(|plant| time(plant).unwrap_or(UNKNOWN_MS)).sum::<f64>() / count as f64,
    }
}

/// The scarcest of what a gateway has, as a share of it. A gateway that says nothing sensible is full.
fn load(load: &Load) -> f64 {
    let flows = load.flows as f64 / load.flows_max as f64;
    let scarcest = if flows >= load.processors { flows } else { load.processors };
    if scarcest.is_nan() { 1.0 } else { scarcest.clamp(0.0, 1.0) }
}

fn penalty(load: f64) -> f64 {
    LOAD_MS * ((load - EASY) / (1.0 - EASY)).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::health::{FORMAT, PlantHealth};

    const NOW: i64 = 1_800_000_000;

    /// Requirements: E4.
    #[test]
    fn the_best_gateway_is_the_one_that_reaches_most_and_is_nearest() {
        type Change = fn(&mut Vec<Health>, &mut Client);
        let cases: [(&str, Change, &[&str]); 14] = [
            ("the nearest", |_, _| {}, &["eu-1", "us-1"]),
            ("who fails is left out", |fleet, _| fleet[0].healthy = false, &["us-1"]),
            ("who is silent is left out", |fleet, _| fleet[0].at = seconds(NOW - 31), &["us-1"]),
            ("a clock that is ahead is no news", |fleet, _| fleet[0].at = seconds(NOW + 31), &["us-1"]),
            ("half a minute is fresh", |fleet, _| fleet[0].at = seconds(NOW - 30), &["eu-1", "us-1"]),
            ("a full one comes late", |fleet, _| fleet[0].load.flows = 950, &["us-1", "eu-1"]),
            ("busy processors are full as well", |fleet, _| fleet[0].load.processors = 0.97, &["us-1", "eu-1"]),
            (
                "a high load is as a long way",
                |fleet, client| {
                    fleet[0].load.processors = 0.94;
                    client.latency_ms = BTreeMap::from([("us".to_owned(), 60.0)]);
                },
                &["us-1", "eu-1"],
            ),
            ("a load of half makes no difference", |fleet, _| fleet[0].load.processors = 0.5, &["eu-1", "us-1"]),
            (
                "a plant that is not reached counts more than any way",
                |fleet, _| fleet[0].plants.get_mut("north").unwrap().up = false,
                &["us-1", "eu-1"],
            ),
            (
                "a plant that is not linked is not reached",
                |fleet, _| {
                    fleet[0].plants.remove("south");
                },
                &["us-1", "eu-1"],
            ),
            (
                "plants of others do not matter",
                |fleet, client| {
                    client.plants.remove("south");
                    fleet[0].plants.remove("south");
                },
                &["eu-1", "us-1"],
            ),
            (
                "what is measured counts before the place",
                |_, client| client.latency_ms = BTreeMap::from([("eu".to_owned(), 190.0)]),
                &["us-1", "eu-1"],
            ),
            (
                "from the plants' side the other region is nearer",
                |fleet, _| fleet[0].plants.values_mut().for_each(|plant| plant.latency_ms = Some(200.0)),
                &["us-1", "eu-1"],
            ),
        ];
        for (name, change, expected) in cases {
            let (mut fleet, mut client) = (fleet(), berlin());
            change(&mut fleet, &mut client);
            assert_eq!(order(&fleet, &client), expected, "{name}");
        }
    }

    #[test]
    fn the_time_is_put_together_from_what_is_known() {
        let time = |fleet: &[Health], client: &Client| pick(fleet, client, seconds(NOW))[0].time_ms;
        let mut fleet = fleet()[..1].to_vec();
        let mut client = Client { latency_ms: BTreeMap::from([("eu".to_owned(), 20.0)]), ..berlin() };
        assert_eq!(time(&fleet, &client), 20.0 + (10.0 + 30.0) / 2.0);
        fleet[0].plants.get_mut("south").unwrap().latency_ms = None;
        assert_eq!(time(&fleet, &client), 20.0 + (10.0 + UNKNOWN_MS) / 2.0);
        fleet[0].plants.get_mut("south").unwrap().up = false;
        assert_eq!(time(&fleet, &client), 20.0 + 10.0, "only what is reached");
        client.plants.clear();
        assert_eq!(time(&fleet, &client), 20.0);
        (client.latency_ms, client.place) = (BTreeMap::new(), None);
        assert_eq!(time(&fleet, &client), UNKNOWN_MS);
        fleet[0].load.processors = 0.85;
        assert!((time(&fleet, &client) - (UNKNOWN_MS + LOAD_MS / 2.0)).abs() < 1e-9);
    }

    #[test]
    fn a_client_says_what_it_knows() {
        let text = json!({"plants": ["north"], "place": [52.5, 13.4], "latency_ms": {"eu": 12.0}}).to_string();
        let client: Client = serde_json::from_str(&text).unwrap();
        assert_eq!((client.plants.len(), client.latency_ms["eu"]), (1, 12.0));
        assert_eq!(serde_json::from_str::<Client>("{}").unwrap(), Client::default());
        for text in [r#"{"plant": []}"#, r#"{"place": [99, 0]}"#, r#"{"plants": ["A"]}"#] {
            assert!(serde_json::from_str::<Client>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_naive_choice_agrees(fleet in fleets(), client in clients()) {
            let picked = pick(&fleet, &client, seconds(NOW));
            let names: Vec<_> = picked.iter().map(|choice| choice.gateway.clone()).collect();
            prop_assert_eq!(names, naive(&fleet, &client));
            let reversed: Vec<_> = fleet.iter().rev().cloned().collect();
            prop_assert_eq!(pick(&reversed, &client, seconds(NOW)), picked, "whatever the order of the figures");
        }

        #[test]
        fn nobody_falls_back_by_getting_nearer(fleet in fleets(), client in clients(), at in any::<prop::sample::Index>()) {
            let before = pick(&fleet, &client, seconds(NOW));
            prop_assume!(!before.is_empty());
            let at = at.index(before.len());
            let mut nearer = client.clone();
            nearer.latency_ms.insert(before[at].region.clone(), 0.0);
            let place = |choices: &[Choice]| choices.iter().position(|choice| choice.gateway == before[at].gateway);
            let after = pick(&fleet, &nearer, seconds(NOW));
            prop_assert!(place(&after).unwrap() <= at || before[..at].iter().any(|c| c.region == before[at].region)
                || after[..place(&after).unwrap()].iter().any(|c| c.region == before[at].region));
        }
    }

    /// By the words of the document: again and again the best of those that are left, two at a time.
    fn naive(fleet: &[Health], client: &Client) -> Vec<String> {
        let is_newest = |health: &&Health| fleet.iter().all(|h| h.gateway != health.gateway || h.at <= health.at);
        let mut left: Vec<_> = fleet
            .iter()
            .filter(is_newest)
            .filter(|health| health.healthy && (health.at.as_second() - NOW).abs() <= 30)
            .collect();
        let share =
            |health: &Health| f64::max(health.load.flows as f64 / health.load.flows_max as f64, health.load.processors);
        let missed = |health: &Health| {
            client.plants.iter().filter(|plant| !health.plants.get(*plant).is_some_and(|plant| plant.up)).count()
        };
        let time = |health: &Health| {
            let gateway = match (client.latency_ms.get(&health.region), client.place, health.place) {
                (Some(measured), ..) => *measured,
                (None, Some(here), Some(there)) => here.round_trip_ms(&there),
                _ => 50.0,
            };
            let times: Vec<_> = client
                .plants
                .iter()
                .filter_map(|plant| health.plants.get(plant).filter(|plant| plant.up))
                .map(|plant| plant.latency_ms.unwrap_or(50.0))
                .collect();
            let plants = if times.is_empty() { 0.0 } else { times.iter().sum::<f64>() / times.len() as f64 };
            let above = if share(health) > 0.7 { (share(health) - 0.7) / (1.0 - 0.7) * 100.0 } else { 0.0 };
            gateway + plants + above
        };
        let beats = |a: &Health, b: &Health| {
            if (share(a) >= 0.95) != (share(b) >= 0.95) {
                return share(a) < 0.95;
            }
            if missed(a) != missed(b) {
                return missed(a) < missed(b);
            }
            let (time_a, time_b) = (time(a), time(b));
            if time_a != time_b { time_a < time_b } else { a.gateway < b.gateway }
        };
        let mut order = Vec::new();
        while !left.is_empty() {
            let best = (0..left.len()).find(|at| left.iter().all(|other| !beats(other, left[*at]))).unwrap();
            order.push(left.remove(best).gateway.clone());
        }
        order
    }

    fn fleets() -> impl Strategy<Value = Vec<Health>> {
        let plant = (any::<bool>(), option::of(0..4_u8))
            .prop_map(|(up, ms)| PlantHealth { up, latency_ms: ms.map(|ms| f64::from(ms) * 20.0) });
        let plants = vec(option::weighted(0.8, plant), 3);
        let load = (0..=1_000_u64, 0..=20_u8);
        let gateway = (0..4_usize, any::<bool>(), -40..40_i64, load, plants, 0..3_u8);
        // No two figures of one gateway are of one moment: which of them counts is then nobody's business.
        vec(gateway, 0..7).prop_map(|gateways| {
            let mut fleet = Vec::<Health>::new();
            for (number, healthy, age, (flows, processors), plants, place) in gateways {
                let name = format!("g{number}");
                let at = seconds(NOW - age);
                if fleet.iter().any(|health| health.gateway == name && health.at == at) {
                    continue;
                }
                let plants = plants.into_iter().zip(["north", "south", "west"]);
                fleet.push(Health {
                    healthy: healthy || number == 0,
                    at,
                    load: Load { processors: f64::from(processors) / 20.0, flows, flows_max: 1_000, connected: 0 },
                    plants: plants.filter_map(|(plant, name)| Some((name.parse().unwrap(), plant?))).collect(),
                    place: (place > 0).then(|| Place::try_from([50.0, 10.0 * f64::from(place)]).unwrap()),
                    ..health(&name, ["eu", "us", "eu", "ap"][number], [0.0, 0.0])
                });
            }
            fleet
        })
    }

    fn clients() -> impl Strategy<Value = Client> {
        let plants = prop::sample::subsequence(vec!["north", "south", "west"], 0..=3);
        (plants, any::<bool>(), vec(option::of(0..10_u8), 3)).prop_map(|(plants, has_place, latency)| Client {
            plants: plants.into_iter().map(|plant| plant.parse().unwrap()).collect(),
            place: has_place.then(|| Place::try_from([48.0, 11.0]).unwrap()),
            latency_ms: ["eu", "us", "ap"]
                .into_iter()
                .zip(latency)
                .filter_map(|(region, ms)| Some((region.to_owned(), f64::from(ms?) * 20.0)))
                .collect(),
        })
    }

    /// One in Frankfurt and one in Virginia, both linked to two plants.
    fn fleet() -> Vec<Health> {
        vec![health("eu-1", "eu", [50.1, 8.7]), health("us-1", "us", [39.0, -77.5])]
    }

    fn health(gateway: &str, region: &str, place: [f64; 2]) -> Health {
        let plant = |latency_ms| PlantHealth { up: true, latency_ms: Some(latency_ms) };
        Health {
            format: FORMAT,
            gateway: gateway.to_owned(),
            region: region.to_owned(),
            at: seconds(NOW),
            endpoint: Some(format!("{gateway}.example:51820").parse().unwrap()),
            place: Some(Place::try_from(place).unwrap()),
            healthy: true,
            problems: Vec::new(),
            revision: Some(7),
            load: Load { processors: 0.1, flows: 10, flows_max: 1_000, connected: 1 },
            plants: BTreeMap::from([("north".parse().unwrap(), plant(10.0)), ("south".parse().unwrap(), plant(30.0))]),
        }
    }

    fn berlin() -> Client {
        Client {
            plants: ["north", "south"].map(|plant| plant.parse().unwrap()).into(),
            place: Some(Place::try_from([52.5, 13.4]).unwrap()),
            latency_ms: BTreeMap::new(),
        }
    }

    fn order(fleet: &[Health], client: &Client) -> Vec<String> {
        pick(fleet, client, seconds(NOW)).into_iter().map(|choice| choice.gateway).collect()
    }

    fn seconds(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }
}
