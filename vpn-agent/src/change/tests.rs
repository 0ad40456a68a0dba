//! Changes against the document that they stand for.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::*;
use crate::{
    example::{
        self,
        random::{NOW, UNTIL, documents},
    },
    policy::Policy,
    role::Role,
    terms::Terms,
};

/// Requirements: G2.
#[test]
fn a_change_is_written_as_the_record_and_a_word() {
    let change = |value: Value| serde_json::from_value::<Change>(value);
    let role = json!({"change": "add-role", "user": "u", "role": "operator", "on": {"plant": "north"}});
    let parsed = change(role.clone()).unwrap();
    assert!(matches!(&parsed, Change::AddRole(job) if job.user.0 == "u"), "{parsed:?}");
    assert_eq!(serde_json::to_value(&parsed).unwrap(), role);
    let rotate = json!({"change": "rotate-certificate", "id": "c", "public_key": example::key(1)});
    assert_eq!(serde_json::to_value(change(rotate.clone()).unwrap()).unwrap(), rotate);
    for (value, part) in [
        (json!({"change": "add-rule"}), "unknown variant `add-rule`, expected one of `put-organisation`"),
        (json!({"change": "add-role", "user": "u", "role": "boss", "on": {"plant": "p"}}), "unknown variant `boss`"),
        (json!({"change": "remove-user"}), "missing field `id`"),
        (json!({"change": "remove-user", "id": "u", "force": true}), "unknown field `force`"),
        (json!({"change": "put-user", "id": "u", "age": 7}), "unknown field `age`"),
        (json!({"id": "u"}), "missing field `change`"),
    ] {
        let error = change(value).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// One mistake at a time in the example; nothing is changed then.
///
/// Requirements: G4.
#[test]
fn what_cannot_be_done_names_the_field_and_changes_nothing() {
    let membership = |user: &str| {
        json!({"change": "put-membership", "user": user, "organisation": "alpha", "kind": "member",
               "access": {"portfolios": [], "plants": ["south"]}})
    };
    let plant = |more: Value| {
        let mut plant = json!({"change": "put-plant", "id": "north", "organisation": "alpha",
                               "subnets": ["192.168.1.0/24"], "uplink": {"kind": "host", "public_key": example::key(100)}});
        plant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plant
    };
    let host = |number: u8| json!({"uplink": {"kind": "host", "public_key": example::key(number)}});
    for (change, path, part) in [
        (json!({"change": "put-organisation", "id": "Alpha"}), "id", "a-z 0-9"),
        (json!({"change": "remove-organisation", "id": "gamma"}), "id", "not in organisations"),
        (
            json!({"change": "remove-organisation", "id": "alpha"}),
            "id",
            "\"alpha\" is still needed by portfolio alpha-wind, plant north, the membership of user-a; remove or change",
        ),
        (
            json!({"change": "put-portfolio", "id": "p", "organisation": "gamma"}),
            "organisation",
            "not in organisations",
        ),
        (
            json!({"change": "put-portfolio", "id": "alpha-wind", "organisation": "beta"}),
            "organisation",
            "is still needed by plant north, the membership of user-a in alpha",
        ),
        (
            json!({"change": "remove-portfolio", "id": "alpha-wind"}),
            "id",
            "plant north, the membership of user-a in alpha, a role of user-a; remove",
        ),
        (plant(json!({"subnets": ["192.168.1.1/24"]})), "subnets[0]", "use 192.168.1.0/24"),
        (plant(json!({"organisation": "beta"})), "organisation", "the membership of user-a in alpha, the cooperation"),
        (plant(json!({"portfolio": "beta-sun"})), "portfolio", "belongs to \"beta\""),
        (plant(host(1)), "uplink.public_key", "is also the key of certificate certificate-a"),
        (plant(host(101)), "uplink.public_key", "is also the key of plant south"),
        (json!({"change": "remove-plant", "id": "west"}), "id", "not in plants"),
        (json!({"change": "remove-user", "id": "user-c"}), "id", "not in users"),
        (membership("user-c"), "user", "not in users"),
        (membership("user-a"), "access.plants[0]", "belongs to \"beta\""),
        (
            json!({"change": "remove-membership", "user": "user-a", "organisation": "beta"}),
            "organisation",
            "\"user-a\" has no membership in \"beta\"",
        ),
        (
            json!({"change": "add-role", "user": "user-a", "role": "viewer", "on": {"plant": "west"}}),
            "on.plant",
            "not in plants",
        ),
        (
            json!({"change": "remove-role", "user": "user-a", "role": "viewer", "on": {"plant": "north"}}),
            "role",
            "does not have the role viewer on plant north",
        ),
        (
            json!({"change": "put-cooperation", "partner": "alpha", "on": {"plant": "north"}}),
            "partner",
            "owns what is shared",
        ),
        (
            json!({"change": "put-cooperation", "partner": "beta", "on": {"plant": "north"}, "until": "soon"}),
            "until",
            "is not a moment",
        ),
        (
            json!({"change": "remove-cooperation", "partner": "alpha", "on": {"plant": "south"}}),
            "partner",
            "plant south is not shared with \"alpha\"",
        ),
        (
            json!({"change": "issue-certificate", "id": "certificate-a", "organisation": "beta", "plants": [],
                   "public_key": example::key(9)}),
            "id",
            "use `rotate-certificate`",
        ),
        (
            json!({"change": "issue-certificate", "id": "c", "user": "user-a", "public_key": example::key(9)}),
            "user",
            "has the certificate \"certificate-a\"",
        ),
        (
            json!({"change": "issue-certificate", "id": "c", "organisation": "beta", "plants": [],
                   "public_key": example::key(100)}),
            "public_key",
            "the key of plant north",
        ),
        (
            json!({"change": "rotate-certificate", "id": "certificate-a", "public_key": example::key(2)}),
            "public_key",
            "the key of certificate certificate-b",
        ),
        (
            json!({"change": "rotate-certificate", "id": "c", "public_key": "?"}),
            "public_key",
            "44 characters of base64",
        ),
        (json!({"change": "set-certificate-plants", "id": "c", "plants": []}), "id", "not in certificates"),
        (
            json!({"change": "set-certificate-plants", "id": "certificate-a", "plants": ["north"]}),
            "id",
            "\"certificate-a\" is the certificate of the user \"user-a\", whose roles say what the user reaches",
        ),
        (
            json!({"change": "set-certificate-plants", "id": "certificate-a", "plants": ["west"]}),
            "plants[0]",
            "not in plants",
        ),
        (json!({"change": "revoke-certificate", "id": "c"}), "id", "not in certificates"),
        (json!({"change": "set-priority", "user": "user-a", "plants": ["west"]}), "plants[0]", "not in plants"),
        (
            json!({"change": "disable-route", "user": "user-a", "plant": "north", "subnet": "10.0.0.0/8"}),
            "subnet",
            "use one of 192.168.1.0/24",
        ),
        (
            json!({"change": "put-allocations", "peers": [
                {"certificate": "certificate-a", "id": 1, "address": "100.64.0.2", "user": "user-b"},
            ]}),
            "peers[0].user",
            "the entry is of user user-b, the certificate is of user user-a",
        ),
        (
            json!({"change": "put-allocations", "peers": [
                {"certificate": "certificate-a", "id": 1, "address": "100.64.0.2", "user": "user-a"},
                {"certificate": "certificate-b", "id": 2, "address": "100.64.0.2", "user": "user-b"},
            ]}),
            "peers[1].address",
            "100.64.0.2 is the address of another certificate",
        ),
        (
            json!({"change": "put-allocations", "plants": [
                {"plant": "north", "id": 1, "operator": "alpha",
                 "subnets": [{"real": "192.168.1.0/24", "id": 1, "virtual": "10.128.0.0/25"}]},
            ]}),
            "plants[0].subnets[0].virtual",
            "10.128.0.0/25 is not as large as 192.168.1.0/24",
        ),
        (
            json!({"change": "enable-route", "user": "user-a", "plant": "north"}),
            "plant",
            "plant \"north\" as a whole is not switched off for \"user-a\"",
        ),
    ] {
        let before = example::state();
        let mut state = before.clone();
        // What was well before it is undone as well.
        let changes = [json!({"change": "put-user", "id": "user-z"}), change.clone()];
        let problems = state.change(&parsed(&changes)).unwrap_err();
        let path = format!("changes[1].{path}");
        let found = problems.list().iter().any(|problem| problem.path == path && problem.message.contains(part));
        assert!(found, "{change}: {problems}");
        assert_eq!(state, before, "{change}");
    }
}

#[test]
fn an_interface_is_taken_once_in_a_region() {
    let mut state = example::state();
    let put = |plant: &str, organisation: &str, region: &str| {
        json!({"change": "put-plant", "id": plant, "organisation": organisation, "subnets": ["192.168.1.0/24"],
               "uplinks": [{"regions": [region], "uplink": {"kind": "interface", "interface": "eth1"}}]})
    };
    let both = [put("north", "alpha", "eu"), put("south", "beta", "us")];
    state.change(&parsed(&both)).unwrap();
    state.change(&parsed(&both)).unwrap();
    let problems = state.change(&parsed(&[put("south", "beta", "eu")])).unwrap_err().to_string();
    assert!(
        problems.starts_with("changes[0].uplinks[0].uplink.interface: \"eth1\" is also the uplink of plant north"),
        "{problems}"
    );
}

/// Requirements: D3.
#[test]
fn the_plants_of_an_organisations_certificate_change_what_it_reaches_alone() {
    let mut document = example::json();
    let tunnel = json!({"id": "tunnel", "organisation": "beta", "plants": ["south"], "public_key": example::key(3)});
    document["certificates"].as_array_mut().unwrap().push(tunnel);
    let (mut state, before) = (example::parse(&document), example::parse(&document));
    let both = json!({"change": "set-certificate-plants", "id": "tunnel", "plants": ["south", "north"]});
    let changed = state.change(&parsed(&[both])).unwrap();
    document["revision"] = json!(8);
    document["certificates"][2]["plants"] = json!(["north", "south"]);
    assert_eq!(state, example::parse(&document), "as the whole state says it");
    assert_eq!(changed.touched, Touched::Certificates(["tunnel".parse().unwrap()].into()));
    let terms = Terms { opening: [Role::Operator].into(), now: NOW.parse().unwrap() };
    let reach = |state: &State| reaches(state, &terms)["tunnel"].clone();
    assert!(reach(&state).contains("north") && !reach(&before).contains("north"), "beta has it by a cooperation");
    state.undo(changed.undo);
    assert_eq!(state, before);
}

/// What a batch needs of itself may come before it, and what is in its way may go before it.
#[test]
fn changes_are_made_in_their_order() {
    let mut state = example::state();
    let changes = [
        json!({"change": "put-user", "id": "user-c"}),
        json!({"change": "put-membership", "user": "user-c", "organisation": "beta", "kind": "member", "access": "all"}),
        json!({"change": "add-role", "user": "user-c", "role": "operator", "on": {"plant": "south"}}),
        json!({"change": "remove-user", "id": "user-a"}),
        json!({"change": "issue-certificate", "id": "certificate-c", "user": "user-c", "public_key": example::key(1)}),
    ];
    let changed = state.change(&parsed(&changes)).unwrap();
    assert_eq!(state.revision, 8, "one for all of them");
    let touched = ["certificate-a", "certificate-c"].map(|id| id.parse().unwrap());
    assert_eq!(changed.touched, Touched::Certificates(touched.into()));
    assert!(!state.certificates.contains_key("certificate-a") && !state.roles.contains_key("user-a"));
    state.undo(changed.undo);
    assert_eq!(state, example::state());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Requirements: G2.
    #[test]
    fn a_change_gives_the_state_of_the_changed_document(document in documents(), changes in vec(changes(), 1..12)) {
        let mut state = example::parse(&document);
        let mut document = document;
        for change in changes {
            let before = state.clone();
            let mut changed_document = document.clone();
            let expected = naive(&mut changed_document, &change)
                .then(|| State::parse(changed_document.to_string().as_bytes()).ok())
                .flatten();
            match (state.change(&parsed(std::slice::from_ref(&change))), expected) {
                (Ok(changed), Some(expected)) => {
                    prop_assert_eq!(&state, &expected, "{}", change);
                    untouched_is_as_it_was(&before, &state, &changed.touched)?;
                    let after = state.clone();
                    state.undo(changed.undo);
                    prop_assert_eq!(&state, &before, "{}", change);
                    state = after;
                    document = changed_document;
                }
                (Err(_), None) => prop_assert_eq!(&state, &before, "{}", change),
                (Ok(_), None) => prop_assert!(false, "{} should not be possible", change),
                (Err(problems), Some(_)) => prop_assert!(false, "{} should be possible: {}", change, problems),
            }
        }
    }

    #[test]
    fn several_changes_are_made_or_undone_together(document in documents(), changes in vec(changes(), 1..5)) {
        let before = example::parse(&document);
        let (mut at_once, mut one_by_one) = (before.clone(), before.clone());
        let possible = changes.iter().all(|change| one_by_one.change(&parsed(std::slice::from_ref(change))).is_ok());
        match at_once.change(&parsed(&changes)) {
            Ok(changed) => {
                prop_assert!(possible);
                one_by_one.revision = at_once.revision;
                prop_assert_eq!(&at_once, &one_by_one);
                untouched_is_as_it_was(&before, &at_once, &changed.touched)?;
                at_once.undo(changed.undo);
            }
            Err(_) => prop_assert!(!possible),
        }
        prop_assert_eq!(at_once, before);
    }
}

fn untouched_is_as_it_was(before: &State, after: &State, touched: &Touched) -> Result<(), TestCaseError> {
    let Touched::Certificates(touched) = touched else { return Ok(()) };
    prop_assert_eq!(&before.plants, &after.plants);
    for moment in [NOW, UNTIL[0]] {
        let terms = Terms { opening: [Role::Operator, Role::Viewer].into(), now: moment.parse().unwrap() };
        let (old, new) = (reaches(before, &terms), reaches(after, &terms));
        for id in before.certificates.keys().chain(after.certificates.keys()).filter(|id| !touched.contains(*id)) {
            prop_assert_eq!(before.certificates.get(id), after.certificates.get(id), "{}", id);
            prop_assert_eq!(old.get(id), new.get(id), "{}", id);
        }
    }
    Ok(())
}

fn reaches(state: &State, terms: &Terms) -> BTreeMap<CertificateId, String> {
    let policy = Policy::compile(state, terms);
    policy.certificates.iter().map(|(id, at)| (id.clone(), format!("{:?}", policy.reaches[*at]))).collect()
}

/// The same change by hand: false if what it is about is not there, or is there already and may not be.
fn naive(document: &mut Value, change: &Value) -> bool {
    let mut record = change.clone();
    let kind = record.as_object_mut().unwrap().remove("change").unwrap();
    document["revision"] = json!(document["revision"].as_u64().unwrap() + 1);
    let id = record["id"].clone();
    match kind.as_str().unwrap() {
        "put-organisation" => put(document, "organisations", &["id"], record),
        "remove-organisation" => remove(document, "organisations", |other| other["id"] == id),
        "put-portfolio" => put(document, "portfolios", &["id"], record),
        "remove-portfolio" => remove(document, "portfolios", |other| other["id"] == id),
        "put-plant" => {
            let kept = record["subnets"].as_array().unwrap().clone();
            let lost = |off: &Value| off["plant"] == id && !off["subnet"].is_null() && !kept.contains(&off["subnet"]);
            remove(document, "disabled", lost);
            put(document, "plants", &["id"], record)
        }
        "remove-plant" => {
            for list in ["roles", "cooperations"] {
                remove(document, list, |other| other["on"]["plant"] == id);
            }
            remove(document, "disabled", |other| other["plant"] == id);
            for (list, pointer) in
                [("memberships", "/access/plants"), ("priorities", "/plants"), ("certificates", "/plants")]
            {
                for other in document[list].as_array_mut().unwrap() {
                    if let Some(plants) = other.pointer_mut(pointer).and_then(Value::as_array_mut) {
                        plants.retain(|plant| *plant != id);
                    }
                }
            }
            remove(document, "priorities", |other| other["plants"] == json!([]));
            remove(document, "plants", |other| other["id"] == id)
        }
        "put-user" => put(document, "users", &["id"], record),
        "remove-user" => {
            for list in ["memberships", "roles", "priorities", "disabled", "certificates"] {
                remove(document, list, |other| other["user"] == id);
            }
            remove(document, "users", |other| other["id"] == id)
        }
        "put-membership" => put(document, "memberships", &["user", "organisation"], record),
        "remove-membership" => {
            remove(document, "memberships", |other| equal(other, &record, &["user", "organisation"]))
        }
        "add-role" => put(document, "roles", &["user", "role", "on"], record),
        "remove-role" => remove(document, "roles", |other| equal(other, &record, &["user", "role", "on"])),
        "put-cooperation" => put(document, "cooperations", &["partner", "on"], record),
        "remove-cooperation" => remove(document, "cooperations", |other| equal(other, &record, &["partner", "on"])),
        "issue-certificate" => {
            document["certificates"].as_array_mut().unwrap().push(record);
            true
        }
        "rotate-certificate" => {
            let mut all = document["certificates"].as_array_mut().unwrap().iter_mut();
            let certificate = all.find(|other| other["id"] == id);
            certificate.map(|certificate| certificate["public_key"] = record["public_key"].clone()).is_some()
        }
        "set-certificate-plants" => {
            let mut all = document["certificates"].as_array_mut().unwrap().iter_mut();
            let certificate = all.find(|other| other["id"] == id && other["organisation"].is_string());
            certificate.map(|certificate| certificate["plants"] = record["plants"].clone()).is_some()
        }
        "revoke-certificate" => remove(document, "certificates", |other| other["id"] == id),
        "set-priority" => {
            let there_is = document["users"].as_array().unwrap().iter().any(|user| user["id"] == record["user"]);
            remove(document, "priorities", |other| equal(other, &record, &["user"]));
            record["plants"] == json!([]) && there_is || put(document, "priorities", &["user"], record)
        }
        "put-allocations" => put_allocations(document, &record),
        "disable-route" => put(document, "disabled", &["user", "plant", "subnet"], record),
        "enable-route" => remove(document, "disabled", |other| equal(other, &record, &["user", "plant", "subnet"])),
        other => panic!("{other}"),
    }
}

fn put_allocations(document: &mut Value, record: &Value) -> bool {
    if document["allocations"].is_null() {
        document["allocations"] = json!({"peers": [], "plants": [], "next": {"peer": 1, "plant": 1, "route": 1}});
    }
    let ledger = &mut document["allocations"];
    for peer in record["peers"].as_array().unwrap() {
        let peers = ledger["peers"].as_array_mut().unwrap();
        match peers.iter().find(|other| other["certificate"] == peer["certificate"]) {
            Some(before) if before != peer => return false,
            Some(_) => {}
            None => peers.push(peer.clone()),
        }
        raise(&mut ledger["next"]["peer"], &peer["id"]);
    }
    for plant in record["plants"].as_array().unwrap() {
        let plants = ledger["plants"].as_array_mut().unwrap();
        let Some(before) = plants.iter_mut().find(|other| other["plant"] == plant["plant"]) else {
            plants.push(plant.clone());
            raise(&mut ledger["next"]["plant"], &plant["id"]);
            for subnet in plant["subnets"].as_array().unwrap() {
                raise(&mut ledger["next"]["route"], &subnet["id"]);
            }
            continue;
        };
        if !equal(before, plant, &["id", "operator"]) {
            return false;
        }
        for subnet in plant["subnets"].as_array().unwrap() {
            let subnets = before["subnets"].as_array_mut().unwrap();
            match subnets.iter().find(|other| other["real"] == subnet["real"]) {
                Some(before) if before != subnet => return false,
                Some(_) => {}
                None => subnets.push(subnet.clone()),
            }
        }
        for subnet in plant["subnets"].as_array().unwrap() {
            raise(&mut ledger["next"]["route"], &subnet["id"]);
        }
    }
    true
}

fn raise(next: &mut Value, id: &Value) {
    *next = json!(next.as_u64().unwrap().max(id.as_u64().unwrap() + 1));
}

fn equal(a: &Value, b: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| a[field] == b[field])
}

fn put(document: &mut Value, list: &str, key: &[&str], record: Value) -> bool {
    remove(document, list, |other| equal(other, &record, key));
    document[list].as_array_mut().unwrap().push(record);
    true
}

fn remove(document: &mut Value, list: &str, gone: impl Fn(&Value) -> bool) -> bool {
    let records = document[list].as_array_mut().unwrap();
    let before = records.len();
    records.retain(|record| !gone(record));
    records.len() < before
}

fn parsed(changes: &[Value]) -> Vec<Change> {
    changes.iter().map(|change| serde_json::from_value(change.clone()).unwrap()).collect()
}

/// Changes of the states of [`documents`], some of which are not possible: one of each kind of thing is not there at
/// first.
fn changes() -> impl Strategy<Value = Value> {
    let id = |prefix: &'static str, many: usize| (0..many).prop_map(move |at| format!("{prefix}{at}"));
    let (o, f, p, u) = (|| id("o", 4), || id("f", 4), || id("p", 7), || id("u", 4));
    let c = || prop_oneof![id("c", 4), id("x", 4)];
    let name = || option::of(Just("a name"));
    let key = || (1..16_u8).prop_map(example::key);
    let until = || option::of((0..3_usize).prop_map(|at| UNTIL[at]));
    let on = || prop_oneof![p().prop_map(|id| json!({"plant": id})), f().prop_map(|id| json!({"portfolio": id}))];
    let role = || (0..4_usize).prop_map(|at| Role::ALL[at].to_string());
    let subnets = || subsequence(vec!["10.0.0.0/8", "192.168.1.0/24", "192.168.2.0/24"], 0..=3);
    let subnet = || option::of((0..3_usize).prop_map(|at| ["10.0.0.0/8", "192.168.1.0/24", "192.168.2.0/24"][at]));
    let plants = |most| subsequence((0..7).map(|at| format!("p{at}")).collect::<Vec<_>>(), 0..=most);
    let access = move || {
        let list = (vec(f(), 0..2), plants(2));
        let list = list.prop_map(|(portfolios, plants)| json!({"portfolios": portfolios, "plants": plants}));
        prop_oneof![Just(json!("all")), list]
    };
    let records = prop_oneof![
        (o(), name()).prop_map(|(id, name)| json!({"change": "put-organisation", "id": id, "name": name})),
        o().prop_map(|id| json!({"change": "remove-organisation", "id": id})),
        (f(), o()).prop_map(|(id, o)| json!({"change": "put-portfolio", "id": id, "organisation": o})),
        f().prop_map(|id| json!({"change": "remove-portfolio", "id": id})),
        (0..7_usize, o(), option::of(f()), subnets(), 98..110_u8).prop_map(|(at, o, f, subnets, key)| json!({
            // Mostly with the owner and the key that it has.
            "change": "put-plant", "id": format!("p{at}"),
            "organisation": if key % 4 == 0 { o } else { format!("o{}", at % 3) }, "portfolio": f, "subnets": subnets,
            "uplink": {"kind": "host", "public_key": example::key(if key % 3 == 0 { key } else { 100 + at as u8 })},
        })),
        p().prop_map(|id| json!({"change": "remove-plant", "id": id})),
        (u(), name()).prop_map(|(id, name)| json!({"change": "put-user", "id": id, "name": name})),
        u().prop_map(|id| json!({"change": "remove-user", "id": id})),
    ];
    let rights = prop_oneof![
        (u(), o(), any::<bool>(), access()).prop_map(|(u, o, member, access)| json!({
            "change": "put-membership", "user": u, "organisation": o,
            "kind": if member { "member" } else { "guest" }, "access": access,
        })),
        (u(), o()).prop_map(|(u, o)| json!({"change": "remove-membership", "user": u, "organisation": o})),
        (u(), role(), on()).prop_map(|(u, r, on)| json!({"change": "add-role", "user": u, "role": r, "on": on})),
        (u(), role(), on()).prop_map(|(u, r, on)| json!({"change": "remove-role", "user": u, "role": r, "on": on})),
        (o(), on(), until()).prop_map(|(o, on, until)| json!({
            "change": "put-cooperation", "partner": o, "on": on, "until": until,
        })),
        (o(), on()).prop_map(|(o, on)| json!({"change": "remove-cooperation", "partner": o, "on": on})),
    ];
    let certificates = prop_oneof![
        (c(), u(), key()).prop_map(|(c, u, key)| json!({
            "change": "issue-certificate", "id": c, "user": u, "public_key": key,
        })),
        (c(), o(), plants(3), key()).prop_map(|(c, o, plants, key)| json!({
            "change": "issue-certificate", "id": c, "organisation": o, "plants": plants, "public_key": key,
        })),
        (c(), key()).prop_map(|(c, key)| json!({"change": "rotate-certificate", "id": c, "public_key": key})),
        (c(), plants(3)).prop_map(|(c, plants)| json!({
            "change": "set-certificate-plants", "id": c, "plants": plants,
        })),
        c().prop_map(|c| json!({"change": "revoke-certificate", "id": c})),
    ];
    let wishes = prop_oneof![
        (u(), plants(3)).prop_map(|(u, plants)| json!({"change": "set-priority", "user": u, "plants": plants})),
        (u(), p(), subnet(), until()).prop_map(|(u, p, subnet, until)| json!({
            "change": "disable-route", "user": u, "plant": p, "subnet": subnet, "until": until,
        })),
        (u(), p(), subnet()).prop_map(|(u, p, subnet)| json!({
            "change": "enable-route", "user": u, "plant": p, "subnet": subnet,
        })),
    ];
    let peer = (c(), 0..5_u8, 0..4_u8, u(), o()).prop_map(|(c, id, address, u, o)| {
        // Mostly what its name says, so that it fits.
        let number = c.as_bytes()[1] - b'0';
        let (id, address) = if id == 4 { (id, address) } else { (number + 1, number) };
        let address = format!("100.64.0.{}", address + 2);
        match c.starts_with('x') {
            true => json!({"certificate": c, "id": id + 4, "address": format!("{address}0"), "organisation": o}),
            false => json!({"certificate": c, "id": id, "address": address, "user": u}),
        }
    });
    let twin = |at: usize, nth: usize| format!("10.{}.{nth}.0/24", 128 + at);
    let plant = (0..7_usize, subsequence(vec![1_usize, 2], 0..=2), 0..9_usize).prop_map(move |(at, subnets, odd)| {
        let shift = usize::from(odd == 0);
        json!({
            "plant": format!("p{at}"), "id": at + 1 + usize::from(odd == 1), "operator": format!("o{}", at % 3),
            "subnets": subnets.iter().map(|nth| json!({
                "real": format!("192.168.{nth}.0/24"), "id": 10 * at + nth + shift, "virtual": twin(at, *nth + shift),
            })).collect::<Vec<_>>(),
        })
    });
    let ledger = (vec(peer, 0..3), vec(plant, 0..3))
        .prop_map(|(peers, plants)| json!({"change": "put-allocations", "peers": peers, "plants": plants}));
    prop_oneof![records, rights, certificates, wishes, ledger]
}
