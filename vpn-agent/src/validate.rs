//! From the text of a desired state to a [`State`], or to everything that is wrong with it (requirement G4).
//!
//! Two passes: JSON types first, since a record of the wrong shape has no fields to talk about; then content. Each
//! pass lists all that it finds.

mod lists;
pub(crate) mod records;
mod subnets;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::lists::Lists;
pub use self::subnets::{MAX_SUBNETS, PREFIX_LENGTHS, PREFIX_LENGTHS_6};
use crate::{
    document::{self, Document},
    problem::{Problem, Problems},
    state::State,
};

impl State {
    /// Reads a desired state from JSON.
    ///
    /// # Errors
    /// All problems found, each with the path of its field.
    pub fn parse(text: &[u8]) -> Result<Self, Problems> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let parsed = serde_path_to_error::deserialize(&mut deserializer);
        match parsed.and_then(|document| deserializer.end().map(|()| document).map_err(outside)) {
            Ok(document) => Self::try_from(&document),
            Err(first) => Err(shape_problems(text, first)),
        }
    }
}

impl TryFrom<&Document> for State {
    type Error = Problems;

    fn try_from(document: &Document) -> Result<Self, Problems> {
        let mut lists = Lists::default();
        let state = lists.document(document);
        Problems::none_of(lists.problems)?;
        Ok(state)
    }
}

/// An error that belongs to no field.
fn outside(error: serde_json::Error) -> serde_path_to_error::Error<serde_json::Error> {
    serde_path_to_error::Error::new(serde_path_to_error::Track::new().path(), error)
}

/// All records of the wrong shape, given that `first` is the first problem met.
fn shape_problems(text: &[u8], first: serde_path_to_error::Error<serde_json::Error>) -> Problems {
    let first_problem = problem("", &first);
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(text) else {
        return first_problem.into();
    };
    let mut problems = Vec::new();
    match fields.remove("revision") {
        Some(value) => shape_of::<u64>("revision", value, &mut problems),
        None => problems.push(missing("revision", "a number")),
    }
    list_shape::<document::Organisation>(&mut fields, "organisations", &mut problems);
    list_shape::<document::Portfolio>(&mut fields, "portfolios", &mut problems);
    list_shape::<document::Plant>(&mut fields, "plants", &mut problems);
    list_shape::<document::User>(&mut fields, "users", &mut problems);
    list_shape::<document::Membership>(&mut fields, "memberships", &mut problems);
    list_shape::<document::Job>(&mut fields, "roles", &mut problems);
    list_shape::<document::Cooperation>(&mut fields, "cooperations", &mut problems);
    list_shape::<document::Certificate>(&mut fields, "certificates", &mut problems);
    fields.entry("priorities").or_insert_with(|| Value::Array(Vec::new()));
    list_shape::<document::Priority>(&mut fields, "priorities", &mut problems);
    fields.entry("disabled").or_insert_with(|| Value::Array(Vec::new()));
    list_shape::<document::Disabled>(&mut fields, "disabled", &mut problems);
    if let Some(value) = fields.remove("allocations").filter(|value| !value.is_null()) {
        shape_of::<document::Ledger>("allocations", value, &mut problems);
    }
    for name in fields.keys() {
        let allowed = "revision, organisations, portfolios, plants, users, memberships, roles, cooperations, \
                       certificates, priorities, disabled, allocations";
        problems.push(Problem { path: name.clone(), message: format!("unknown field; use one of {allowed}") });
    }
    // A field given twice is lost in a `Value`; only the first pass over the text saw it.
    Problems::none_of(problems).err().unwrap_or_else(|| first_problem.into())
}

fn list_shape<T: DeserializeOwned>(
    fields: &mut serde_json::Map<String, Value>,
    name: &str,
    problems: &mut Vec<Problem>,
) {
    match fields.remove(name) {
        Some(Value::Array(values)) => {
            for (at, value) in values.into_iter().enumerate() {
                shape_of::<T>(&format!("{name}[{at}]"), value, problems);
            }
        }
        Some(_) => problems.push(Problem { path: name.to_owned(), message: "must be a list".to_owned() }),
        None => problems.push(missing(name, "a list, [] if there is nothing in it")),
    }
}

fn shape_of<T: DeserializeOwned>(path: &str, value: Value, problems: &mut Vec<Problem>) {
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(value) {
        problems.push(problem(path, &error));
    }
}

fn missing(name: &str, what: &str) -> Problem {
    Problem { path: name.to_owned(), message: format!("missing; give {what}") }
}

fn problem(outer: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.path().to_string();
    let path = match (outer, inner.as_str()) {
        (outer, ".") => outer.to_owned(),
        ("", inner) => inner.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    };
    Problem { path, message: error.inner().to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::IpNet;
    use serde_json::json;

    use super::*;
    use crate::{document::MembershipKind, example};

    #[test]
    fn the_example_is_valid_and_indexed() {
        let state = example::state();
        assert_eq!(state.revision, 7);
        let plant = &state.plants["north"];
        assert_eq!(plant.portfolio.as_ref().unwrap().as_str(), "alpha-wind");
        assert_eq!(plant.subnets, BTreeSet::from(["192.168.1.0/24".parse().unwrap()]));
        assert_eq!(state.memberships["user-a"]["alpha"].kind, MembershipKind::Member);
        assert_eq!(state.certificates["certificate-a"].owner.user().unwrap().as_str(), "user-a");
    }

    /// One mistake at a time: where it is made, what is put there, and the start and a part of the answer.
    /// Requirements: A1, G4.
    #[test]
    fn every_rule_names_the_field_and_what_is_allowed() {
        let other_key = example::key(77);
        for (pointer, value, path, part) in [
            // Shapes.
            ("/revision", json!(-1), "revision", "expected u64"),
            ("/plants", json!({}), "plants", "must be a list"),
            ("/plants/0/subnets", json!("192.168.1.0/24"), "plants[0].subnets", "expected a sequence"),
            ("/plants/0/colour", json!("red"), "plants[0].colour", "unknown field `colour`, expected one of `id`"),
            (
                "/plants/0/uplink/kind",
                json!("pigeon"),
                "plants[0].uplink.kind",
                "unknown variant `pigeon`, expected one of `host`, `interface`, `dial`",
            ),
            ("/roles/0/role", json!("boss"), "roles[0].role", "`technical-manager`"),
            ("/roles/0/on", json!({"site": "north"}), "roles[0].on", "expected `plant` or `portfolio`"),
            ("/memberships/0/access", json!("some"), "memberships[0].access", r#"expected "all" or {"portfolios""#),
            ("/memberships/0/access", json!({"plants": []}), "memberships[0].access", "missing field `portfolios`"),
            ("/extra", json!([]), "extra", "use one of revision, organisations"),
            // Ids and references.
            ("/users/0/id", json!("User A"), "users[0].id", "a-z 0-9"),
            ("/organisations/1/id", json!("alpha"), "organisations[1].id", "unique"),
            ("/plants/1/id", json!("north"), "plants[1].id", "unique"),
            ("/portfolios/0/organisation", json!("gamma"), "portfolios[0].organisation", "not in organisations"),
            ("/plants/0/organisation", json!("gamma"), "plants[0].organisation", "not in organisations"),
            ("/plants/0/portfolio", json!("gamma"), "plants[0].portfolio", "not in portfolios"),
            (
                "/plants/0/portfolio",
                json!("beta-sun"),
                "plants[0].portfolio",
                r#"belongs to "beta"; use one of "alpha""#,
            ),
            ("/memberships/0/user", json!("nobody"), "memberships[0].user", "not in users"),
            ("/memberships/0/organisation", json!("gamma"), "memberships[0].organisation", "not in organisations"),
            ("/memberships/0/access/plants/0", json!("nowhere"), "memberships[0].access.plants[0]", "not in plants"),
            (
                "/memberships/0/access/plants/0",
                json!("south"),
                "memberships[0].access.plants[0]",
                r#"belongs to "beta""#,
            ),
            ("/memberships/0/access/portfolios/0", json!("beta-sun"), "memberships[0].access.portfolios[0]", "belongs"),
            ("/roles/0/user", json!("nobody"), "roles[0].user", "not in users"),
            ("/roles/0/on", json!({"plant": "nowhere"}), "roles[0].on.plant", "not in plants"),
            ("/roles/0/on", json!({"portfolio": "nowhere"}), "roles[0].on.portfolio", "not in portfolios"),
            ("/cooperations/0/partner", json!("gamma"), "cooperations[0].partner", "not in organisations"),
            ("/cooperations/0/partner", json!("alpha"), "cooperations[0].partner", "another organisation"),
            ("/certificates/0/user", json!("nobody"), "certificates[0].user", "not in users"),
            ("/certificates/1/user", json!("user-a"), "certificates[1].user", "one active certificate"),
            ("/certificates/1/id", json!("certificate-a"), "certificates[1].id", "unique"),
            // Keys.
            ("/certificates/0/public_key", json!("secret"), "certificates[0].public_key", "44 characters"),
            (
                "/certificates/0/public_key",
                json!(example::key(2)),
                "certificates[1].public_key",
                "also certificates[0]",
            ),
            (
                "/plants/0/uplink/public_key",
                json!(example::key(1)),
                "certificates[0].public_key",
                "also plants[0].uplink",
            ),
            // Subnets.
            (
                "/plants/1/subnets/0",
                json!("192.168.1.5/24"),
                "plants[1].subnets[0]",
                "host bits set; use 192.168.1.0/24",
            ),
            ("/plants/1/subnets/0", json!("fd00::1/64"), "plants[1].subnets[0]", "host bits set; use fd00::/64"),
            ("/plants/1/subnets/0", json!("fd00::/31"), "plants[1].subnets[0]", "prefix lengths 32 to 128"),
            ("/plants/1/subnets/0", json!("fd00::/129"), "plants[1].subnets[0]", "is not a subnet"),
            ("/plants/1/subnets/0", json!("::/32"), "plants[1].subnets[0]", "in the reserved range"),
            ("/plants/1/subnets/0", json!("::1/128"), "plants[1].subnets[0]", "in the reserved range"),
            ("/plants/1/subnets/0", json!("fe80::/64"), "plants[1].subnets[0]", "link-local"),
            ("/plants/1/subnets/0", json!("ff02::/64"), "plants[1].subnets[0]", "multicast"),
            ("/plants/1/subnets/0", json!("::ffff:10.0.0.0/104"), "plants[1].subnets[0]", "IPv4-mapped"),
            ("/plants/1/subnets/0", json!("10.0.0.0/7"), "plants[1].subnets[0]", "prefix lengths 8 to 32"),
            ("/plants/1/subnets/0", json!("10.0.0.0"), "plants[1].subnets[0]", "is not a subnet"),
            ("/plants/1/subnets/0", json!("127.0.0.0/24"), "plants[1].subnets[0]", "loopback"),
            ("/plants/1/subnets/0", json!("224.1.0.0/24"), "plants[1].subnets[0]", "multicast"),
            ("/plants/1/subnets/1", json!("192.168.1.128/25"), "plants[1].subnets[1]", r#"overlaps "192.168.1.0/24""#),
            ("/plants/1/subnets/1", json!("192.168.1.0/24"), "plants[1].subnets[1]", "disjoint"),
            (
                "/plants/1/subnets",
                json!(["fd00::/48", "192.168.1.0/24", "fd00:0:0:7::/64"]),
                "plants[1].subnets[2]",
                r#"overlaps "fd00::/48" (plants[1].subnets[0])"#,
            ),
            (
                "/plants/1/subnets",
                (0..17).map(|at| format!("fd00:{at}::/64")).collect(),
                "plants[1].subnets",
                "17 subnets; a plant may have at most 16",
            ),
            // Moments.
            ("/cooperations/0/until", json!("2027-01-01"), "cooperations[0].until", "use whole seconds with Z"),
            ("/cooperations/0/until", json!(1_800_000_000), "cooperations[0].until", "expected a string"),
            (
                "/disabled",
                json!([{"user": "user-a", "plant": "north", "until": "tomorrow"}]),
                "disabled[0].until",
                "\"tomorrow\" is not a moment",
            ),
            // Owners.
            (
                "/certificates/0",
                json!({"id": "certificate-a", "public_key": example::key(1)}),
                "certificates[0].user",
                "missing; give the user or the `organisation`",
            ),
            ("/certificates/0/organisation", json!("alpha"), "certificates[0].organisation", "is of one of them"),
            (
                "/certificates/0/plants",
                json!(["north"]),
                "certificates[0].plants",
                "are for certificates of organisations",
            ),
            (
                "/certificates/0",
                tunnel(json!("gamma"), json!([])),
                "certificates[0].organisation",
                "not in organisations",
            ),
            (
                "/certificates/0",
                tunnel(json!("alpha"), Value::Null),
                "certificates[0].plants",
                "missing; list the plants",
            ),
            ("/certificates/0", tunnel(json!("alpha"), json!(["x"])), "certificates[0].plants[0]", "not in plants"),
            (
                "/certificates/0",
                tunnel(json!("alpha"), json!(["north", "north"])),
                "certificates[0].plants[1]",
                "list each plant once",
            ),
            // What users want.
            ("/priorities", json!([{"user": "x", "plants": ["north"]}]), "priorities[0].user", "not in users"),
            ("/priorities", json!([{"user": "user-a", "plants": []}]), "priorities[0].plants", "is empty"),
            (
                "/priorities",
                json!([{"user": "user-a", "plants": ["north", "x"]}]),
                "priorities[0].plants[1]",
                "not in plants",
            ),
            (
                "/priorities",
                json!([{"user": "user-a", "plants": ["north", "south", "north"]}]),
                "priorities[0].plants[2]",
                "list each plant once",
            ),
            (
                "/priorities",
                json!([{"user": "user-a", "plants": ["north"]}, {"user": "user-a", "plants": ["south"]}]),
                "priorities[1].user",
                "list each user once",
            ),
            ("/priorities", json!({}), "priorities", "must be a list"),
            ("/disabled", json!([{"user": "x", "plant": "north"}]), "disabled[0].user", "not in users"),
            ("/disabled", json!([{"user": "user-a", "plant": "x"}]), "disabled[0].plant", "not in plants"),
            (
                "/disabled",
                json!([{"user": "user-a", "plant": "north", "subnet": "192.168.7.0/24"}]),
                "disabled[0].subnet",
                "is no subnet of plant \"north\"; use one of 192.168.1.0/24",
            ),
            (
                "/disabled",
                json!([{"user": "user-a", "plant": "north", "subnet": "192.168.1.5/24"}]),
                "disabled[0].subnet",
                "use 192.168.1.0/24",
            ),
            (
                "/disabled",
                json!([{"user": "user-a", "plant": "north"}, {"user": "user-a", "plant": "north"}]),
                "disabled[1]",
                "list each route of a user once",
            ),
            ("/disabled", json!([{"user": "user-a"}]), "disabled[0]", "missing field `plant`"),
            // The ledger.
            ("/allocations", json!("x"), "allocations", "invalid type"),
            (
                "/allocations",
                ledger(json!([]), json!([]), json!({"peer": 1})),
                "allocations.next",
                "missing field `plant`",
            ),
            (
                "/allocations",
                ledger(json!([peer("certificate-a", 0, "100.64.0.2")]), json!([]), next(3)),
                "allocations.peers[0].id",
                "0 is no id",
            ),
            (
                "/allocations",
                ledger(json!([peer("certificate-a", 1, "100.64.0.x")]), json!([]), next(3)),
                "allocations.peers[0].address",
                "invalid IPv4 address",
            ),
            (
                "/allocations",
                ledger(
                    json!([peer("certificate-a", 1, "100.64.0.2"), peer("gone", 1, "100.64.0.3")]),
                    json!([]),
                    next(3),
                ),
                "allocations.peers[1].id",
                "1 is the id of another certificate",
            ),
            (
                "/allocations",
                ledger(json!([peer("certificate-b", 1, "100.64.0.2")]), json!([]), next(3)),
                "allocations.peers[0].user",
                "the entry is of user user-a, the certificate is of user user-b",
            ),
            (
                "/allocations",
                ledger(json!([peer("gone", 3, "100.64.0.2")]), json!([]), next(3)),
                "allocations.next.peer",
                "3 was given already; use 4 or more",
            ),
            (
                "/allocations",
                ledger(
                    json!([]),
                    json!([{"plant": "north", "id": 1, "operator": "alpha", "subnets": [
                        {"real": "192.168.1.0/24", "id": 1, "virtual": "10.128.0.0/24"},
                        {"real": "192.168.2.0/24", "id": 2, "virtual": "10.128.0.0/24"},
                    ]}]),
                    next(3),
                ),
                "allocations.plants[0].subnets[1].virtual",
                "10.128.0.0/24 overlaps 10.128.0.0/24",
            ),
            // Uplinks.
            ("/plants/0/uplink", Value::Null, "plants[0].uplink", "missing; give an uplink, or `uplinks`"),
            ("/plants/0/uplinks", json!([]), "plants[0].uplinks", "is there beside `uplink`"),
            (
                "/plants/0/uplink",
                json!({"kind": "dial", "public_key": example::key(9), "endpoint": "site.example"}),
                "plants[0].uplink.endpoint",
                "use a host and a port",
            ),
            (
                "/plants/0/uplink",
                json!({"kind": "dial", "public_key": example::key(1), "endpoint": "192.0.2.1:51820"}),
                "certificates[0].public_key",
                "also plants[0].uplink.public_key",
            ),
            // Interfaces.
            ("/plants/0/uplink", json!({"kind": "interface"}), "plants[0].uplink", "missing field `interface`"),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "eth 1"}),
                "plants[0].uplink.interface",
                "is not an interface name",
            ),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "wgp-1"}),
                "plants[0].uplink.interface",
                "does not start with",
            ),
            (
                "/plants/0/uplink",
                json!({"kind": "interface", "interface": "eth1", "public_key": example::key(9)}),
                "plants[0].uplink",
                "unknown field `public_key`, expected `interface`",
            ),
        ] {
            let problems = problems_with(&[(pointer, value.clone())]);
            let found = problems.iter().any(|problem| problem.path == path && problem.message.contains(part));
            assert!(found, "{pointer} = {value}: {problems:?}");
            // An id that is gone is missed wherever it was used.
            assert!(problems.len() == 1 || pointer.ends_with("/id"), "{pointer} = {value}: {problems:?}");
        }
        assert!(problems_with(&[("/certificates/0/public_key", json!(other_key))]).is_empty(), "a rotation is fine");
    }

    #[test]
    fn a_region_has_one_uplink_and_a_key_one_plant() {
        let host = |key: u8| json!({"kind": "host", "public_key": example::key(key)});
        let uplinks = |plant: usize, uplinks: Value| {
            move |document: &mut Value| {
                let plant = document["plants"][plant].as_object_mut().unwrap();
                plant.remove("uplink");
                plant.insert("uplinks".to_owned(), uplinks.clone());
            }
        };
        let in_regions = |regions: Value, uplink: Value| json!({"regions": regions, "uplink": uplink});
        let problems = |changes: &[&dyn Fn(&mut Value)]| {
            let mut document = example::json();
            changes.iter().for_each(|change| change(&mut document));
            problems_of(&document).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        // One router on site for two regions, another for a third; and no uplink yet.
        let several = json!([in_regions(json!(["eu", "us"]), host(9)), in_regions(json!(["ap"]), host(9))]);
        assert_eq!(problems(&[&uplinks(0, several.clone()), &uplinks(1, json!([]))]), "");
        for (records, expected) in [
            (json!([in_regions(json!(["eu"]), host(9)), in_regions(json!(["us", "eu"]), host(8))]), "[1].regions[1]"),
            (json!([in_regions(json!([]), host(9))]), "[0].regions"),
            (json!([in_regions(json!([""]), host(9))]), "[0].regions[0]"),
            (json!([in_regions(json!(["eu"]), host(101))]), "plants[1].uplink.public_key"),
        ] {
            let found = problems(&[&uplinks(0, records.clone())]);
            assert!(found.contains(&format!("{expected}: ")) && found.lines().count() == 1, "{records}: {found}");
        }
        // The same interface on the gateways of two regions is two interfaces.
        let interface =
            |regions: Value| json!([in_regions(regions, json!({"kind": "interface", "interface": "eth1"}))]);
        let both = |north, south| problems(&[&uplinks(0, interface(north)), &uplinks(1, interface(south))]);
        assert_eq!(both(json!(["eu"]), json!(["us"])), "");
        let found = both(json!(["eu", "us"]), json!(["us"]));
        assert!(
            found.starts_with("plants[1].uplinks[0].uplink.interface: \"eth1\" is also plants[0].uplinks"),
            "{found}"
        );
        let everywhere = |document: &mut Value| {
            document["plants"][1]["uplink"] = json!({"kind": "interface", "interface": "eth1"});
        };
        let found = problems(&[&uplinks(0, interface(json!(["eu"]))), &everywhere]);
        assert!(found.starts_with("plants[1].uplink.interface: \"eth1\" is also"), "{found}");

        let mut document = example::json();
        uplinks(0, several)(&mut document);
        let plant = &example::parse(&document).plants["north"];
        assert!(["eu", "us", "ap"].iter().all(|region| plant.uplink_in(region).is_some()));
        assert_eq!(plant.uplink_in("sa"), None);
        assert!(example::state().plants["north"].uplink_in("sa").is_some(), "in every region");
    }

    #[test]
    fn an_interface_is_the_uplink_of_one_plant() {
        let uplink = |name: &str| json!({"kind": "interface", "interface": name});
        let both =
            |north, south| problems_with(&[("/plants/0/uplink", uplink(north)), ("/plants/1/uplink", uplink(south))]);
        assert_eq!(both("eth1.10", "eth1.11"), []);
        let problems = both("eth1.10", "eth1.10");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, "plants[1].uplink.interface");
        assert!(problems[0].message.contains("also plants[0].uplink.interface"), "{problems:?}");
    }

    #[test]
    fn subnets_of_both_families_are_kept() {
        let mut document = example::json();
        let subnets: Vec<_> = (0..8).flat_map(|at| [format!("fd00:{at}::/64"), format!("10.{at}.0.0/16")]).collect();
        document["plants"][0]["subnets"] = json!(subnets);
        let expected: BTreeSet<IpNet> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        assert_eq!(example::parse(&document).plants["north"].subnets, expected, "as many as there may be");
        document["plants"][0]["subnets"] = json!(["FD00:0::/128", "2001:db8::/32"]);
        let kept: Vec<_> = example::parse(&document).plants["north"].subnets.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["2001:db8::/32", "fd00::/128"]);
    }

    /// The schema is for editors, so it may take what is refused later, but it must not refuse what is taken.
    #[test]
    fn the_schema_knows_both_families_and_every_kind_of_uplink() {
        let schema = serde_json::to_string(&schemars::schema_for!(Document)).unwrap();
        for part in ["[0-9A-Fa-f]*:", r#""const":"interface""#, r#""const":"host""#, r#""const":"dial""#] {
            assert!(schema.contains(part), "{part}: {schema}");
        }
    }

    /// Requirements: G4.
    #[test]
    fn records_listed_twice_are_named() {
        for list in ["memberships", "roles", "cooperations"] {
            let mut document = example::json();
            let first = document[list][0].clone();
            let records = document[list].as_array_mut().unwrap();
            let path = format!("{list}[{}]", records.len());
            records.push(first);
            let problems = problems_of(&document);
            assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
        }
    }

    /// Requirements: G4.
    #[test]
    fn all_problems_of_a_pass_are_listed() {
        let content = problems_with(&[
            ("/plants/0/subnets/0", json!("192.168.1.1/24")),
            ("/plants/0/uplink/public_key", json!("?")),
            ("/plants/1/organisation", json!("gamma")),
            ("/users/0/id", json!("")),
            ("/certificates/1/user", json!("nobody")),
        ]);
        let paths: Vec<_> = content.iter().map(|problem| problem.path.as_str()).collect();
        for path in [
            "plants[0].subnets[0]",
            "plants[0].uplink.public_key",
            "plants[1].organisation",
            "users[0].id",
            "certificates[1].user",
        ] {
            assert!(paths.contains(&path), "{path} is missing in {paths:?}");
        }
        let shapes = problems_with(&[
            ("/plants/0/subnets", json!(7)),
            ("/users/0/name", json!(7)),
            ("/roles/1/role", json!("boss")),
            ("/extra", json!(7)),
        ]);
        let paths: Vec<_> = shapes.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["plants[0].subnets", "users[0].name", "roles[1].role", "extra"]);
    }

    /// Requirements: G4.
    #[test]
    fn what_is_not_a_document_says_where_it_stops() {
        let error = |text: &str| State::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("EOF"), "{}", error(""));
        assert!(error("{\n\"revision\": x}").contains("line 2"), "{}", error("{\n\"revision\": x}"));
        assert!(error("[]").contains("expected struct Document") || error("[]").contains("invalid"), "{}", error("[]"));
        let text = example::json().to_string();
        assert!(error(&format!("{text}}}")).contains("trailing"), "{}", error(&format!("{text}}}")));
        let twice = text.replacen('{', r#"{"revision": 8,"#, 1);
        assert!(error(&twice).contains("duplicate field `revision`"), "{}", error(&twice));
        let mut cut = example::json();
        cut.as_object_mut().unwrap().remove("certificates");
        assert!(
            error(&cut.to_string()).starts_with("certificates: missing; give a list"),
            "{}",
            error(&cut.to_string())
        );
    }

    fn ledger(peers: Value, plants: Value, next: Value) -> Value {
        json!({"peers": peers, "plants": plants, "next": next})
    }

    fn peer(certificate: &str, id: u32, address: &str) -> Value {
        json!({"certificate": certificate, "id": id, "address": address, "user": "user-a"})
    }

    fn next(number: u32) -> Value {
        json!({"peer": number, "plant": number, "route": number})
    }

    /// A certificate of an organisation.
    fn tunnel(organisation: Value, plants: Value) -> Value {
        json!({"id": "certificate-a", "organisation": organisation, "plants": plants, "public_key": example::key(1)})
    }

    fn problems_with(changes: &[(&str, Value)]) -> Vec<Problem> {
        let mut document = example::json();
        for (pointer, value) in changes {
            set(&mut document, pointer, value.clone());
        }
        problems_of(&document)
    }

    fn problems_of(document: &Value) -> Vec<Problem> {
        State::parse(document.to_string().as_bytes()).err().map(|problems| problems.list().to_vec()).unwrap_or_default()
    }

    /// Replaces or adds what `pointer` names.
    fn set(document: &mut Value, pointer: &str, value: Value) {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(items) if items.len() == last.parse::<usize>().unwrap() => items.push(value),
            Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
            Value::Object(fields) => {
                fields.insert(last.to_owned(), value);
            }
            other => panic!("{parent} is {other}"),
        }
    }
}
