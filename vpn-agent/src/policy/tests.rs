//! The rules row by row, and against a naive reading of the records.

use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::*;
use crate::{
    example::{
        self,
        random::{NOW, UNTIL, documents},
    },
    role::Role,
};

/// The world of the table: alpha has the portfolio `wind` with the plants `w1` and `w2`, and the plant `solo`;
/// beta is a partner to be, gamma a bystander. A row gives the user memberships, roles and what is shared.
/// Requirements: B1, B2, B3, B4.
#[test]
fn a_route_needs_access_and_a_role() {
    let member = |organisation: &str, access: Value| json!([[organisation, "member", access]]);
    let nothing = || json!({"portfolios": [], "plants": []});
    let on_w1 = |role: &str| json!([[role, {"plant": "w1"}]]);
    let on_wind = |role: &str| json!([[role, {"portfolio": "wind"}]]);
    let shared = |scope: Value| json!([["beta", scope]]);
    let rows: Vec<(&str, Value, Value, Value, &[&str])> = vec![
        ("B1: member and operator", member("alpha", json!("all")), on_w1("operator"), json!([]), &["w1"]),
        ("B2: member without a role", member("alpha", json!("all")), json!([]), json!([]), &[]),
        ("B2: outsider without a role", json!([]), json!([]), json!([]), &[]),
        ("B1 (1): a role without membership", json!([]), on_w1("operator"), json!([]), &[]),
        ("B1 (1): a role and a membership elsewhere", member("gamma", json!("all")), on_w1("operator"), json!([]), &[]),
        ("B1 (1): the membership covers nothing", member("alpha", nothing()), on_w1("operator"), json!([]), &[]),
        (
            "B1 (1): the membership covers another plant",
            member("alpha", json!({"portfolios": [], "plants": ["w2"]})),
            on_w1("operator"),
            json!([]),
            &[],
        ),
        (
            "B1 (1): the membership covers this plant",
            member("alpha", json!({"portfolios": [], "plants": ["w1"]})),
            on_w1("operator"),
            json!([]),
            &["w1"],
        ),
        ("B1 (2): viewer opens nothing", member("alpha", json!("all")), on_w1("viewer"), json!([]), &[]),
        ("B1 (2): technical manager", member("alpha", json!("all")), on_w1("technical-manager"), json!([]), &[]),
        ("B1 (2): asset manager", member("alpha", json!("all")), on_w1("asset-manager"), json!([]), &[]),
        ("B2: a guest without a role", json!([["alpha", "guest", "all"]]), json!([]), json!([]), &[]),
        ("B2: a guest with a role", json!([["alpha", "guest", "all"]]), on_w1("operator"), json!([]), &["w1"]),
        ("B3: a role on the portfolio", member("alpha", json!("all")), on_wind("operator"), json!([]), &["w1", "w2"]),
        (
            "B3: access by portfolio",
            member("alpha", json!({"portfolios": ["wind"], "plants": []})),
            on_wind("operator"),
            json!([]),
            &["w1", "w2"],
        ),
        (
            "B3: access by portfolio, role on a plant",
            member("alpha", json!({"portfolios": ["wind"], "plants": []})),
            on_w1("operator"),
            json!([]),
            &["w1"],
        ),
        (
            "B3: access to a plant, role on its portfolio",
            member("alpha", json!({"portfolios": [], "plants": ["w2", "solo"]})),
            on_wind("operator"),
            json!([]),
            &["w2"],
        ),
        (
            "B1 (3): partner and operator",
            member("beta", nothing()),
            on_w1("operator"),
            shared(json!({"plant": "w1"})),
            &["w1"],
        ),
        (
            "B1 (3): another plant is shared",
            member("beta", nothing()),
            on_w1("operator"),
            shared(json!({"plant": "w2"})),
            &[],
        ),
        (
            "B1 (3): the portfolio is shared",
            member("beta", nothing()),
            on_w1("operator"),
            shared(json!({"portfolio": "wind"})),
            &["w1"],
        ),
        (
            "B1 (3): the portfolio is shared, role on it",
            member("beta", nothing()),
            on_wind("operator"),
            shared(json!({"portfolio": "wind"})),
            &["w1", "w2"],
        ),
        (
            "B1 (3): a plant is shared, role on its portfolio",
            member("beta", nothing()),
            on_wind("operator"),
            shared(json!({"plant": "w2"})),
            &["w2"],
        ),
        (
            "B1 (3): a partner without a role",
            member("beta", json!("all")),
            json!([]),
            shared(json!({"plant": "w1"})),
            &[],
        ),
        (
            "B1 (3): a partner who looks only",
            member("beta", json!("all")),
            on_w1("viewer"),
            shared(json!({"plant": "w1"})),
            &[],
        ),
        (
            "B1 (3): operator of a third organisation",
            member("gamma", json!("all")),
            on_w1("operator"),
            shared(json!({"plant": "w1"})),
            &[],
        ),
        (
            "B1 (3): a guest of the partner",
            json!([["beta", "guest", "all"]]),
            on_w1("operator"),
            shared(json!({"plant": "w1"})),
            &[],
        ),
        (
            "B1 (3): no cooperation for an own plant",
            json!([["alpha", "member", nothing()], ["beta", "member", "all"]]),
            on_w1("operator"),
            shared(json!({"plant": "w1"})),
            &[],
        ),
        ("B4: the cooperation has ended", member("beta", nothing()), on_w1("operator"), json!([]), &[]),
    ];
    for (name, memberships, roles, cooperations, expected) in rows {
        let state = world(&memberships, &roles, &cooperations);
        assert_eq!(reached(&state, &[Role::Operator]), expected, "{name}");
    }
}

/// Requirements: B1.
#[test]
fn which_roles_open_routes_is_configuration() {
    let partner = json!([["beta", "member", "all"]]);
    let shared = json!([["beta", {"plant": "w1"}]]);
    let own = json!([["alpha", "member", "all"]]);
    let viewer = json!([["viewer", {"plant": "w1"}]]);
    let both = json!([["viewer", {"plant": "w1"}], ["operator", {"portfolio": "wind"}]]);
    let none: [&str; 0] = [];

    let state = world(&own, &viewer, &json!([]));
    assert_eq!(reached(&state, &[Role::Viewer]), ["w1"], "B1 (2)");
    assert_eq!(reached(&state, &[]), none, "B1 (2): nothing opens routes");

    let state = world(&partner, &viewer, &shared);
    assert_eq!(reached(&state, &[Role::Viewer]), none, "B1 (3) wants an operator-level role whatever opens routes");
    let state = world(&partner, &both, &shared);
    assert_eq!(reached(&state, &[Role::Viewer]), ["w1"], "B1 (3) by one role, B1 (2) by another");
    assert_eq!(reached(&state, &[Role::AssetManager]), none, "B1 (2) holds for foreign plants too");
}

/// Requirements: C2.
#[test]
fn equal_real_subnets_lead_to_the_first_plant() {
    let mut document = world_json(&json!([["alpha", "member", "all"]]), &json!([]), &json!([]));
    document["roles"] = json!([
        {"user": "u", "role": "operator", "on": {"portfolio": "wind"}},
        {"user": "u", "role": "operator", "on": {"plant": "solo"}},
    ]);
    document["plants"][0]["subnets"] = json!(["10.0.0.0/8", "192.168.1.0/24"]);
    document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "10.1.0.0/16"]);
    document["plants"][2]["subnets"] = json!(["172.16.0.0/24"]);
    let state = example::parse(&document);
    let policy = Policy::compile(&state, &terms(&[Role::Operator], NOW));
    let reach = policy.of("c").unwrap();
    let leads_to = |subnet: &str| reach.real[&subnet.parse().unwrap()].as_str();
    assert_eq!(leads_to("192.168.1.0/24"), "w1", "C2");
    assert_eq!(leads_to("10.0.0.0/8"), "w1");
    assert_eq!(leads_to("10.1.0.0/16"), "w2", "a longer prefix is no conflict");
    assert_eq!(leads_to("172.16.0.0/24"), "solo");
    let conflicts: Vec<_> = reach.conflicts.iter().map(|(subnet, plants)| format!("{subnet} {plants:?}")).collect();
    assert_eq!(conflicts, ["192.168.1.0/24 [w1, w2]"]);
}

#[test]
fn equal_rights_share_one_entry() {
    let mut document = world_json(&json!([]), &json!([]), &json!([]));
    for number in 0..6_u8 {
        let (user, certificate) = (format!("u{number}"), format!("c{number}"));
        push(&mut document, "users", json!({"id": user}));
        push(
            &mut document,
            "certificates",
            json!({"id": certificate, "user": user, "public_key": example::key(number + 1)}),
        );
        let membership = json!({"user": user, "organisation": "alpha", "kind": "member", "access": "all"});
        push(&mut document, "memberships", membership);
        // By portfolio or plant by plant: the same plants in the end.
        let scopes = match number % 3 {
            0 => json!([{"portfolio": "wind"}]),
            1 => json!([{"plant": "w1"}, {"plant": "w2"}]),
            _ => json!([{"plant": "w1"}]),
        };
        for scope in scopes.as_array().unwrap() {
            push(&mut document, "roles", json!({"user": user, "role": "operator", "on": scope}));
        }
    }
    let state = example::parse(&document);
    let policy = Policy::compile(&state, &terms(&[Role::Operator], NOW));
    assert_eq!(policy.reaches.len(), 3, "of nothing, of one and of two plants");
    assert_eq!(policy.certificates["c0"], policy.certificates["c1"]);
    assert_eq!(policy.certificates["c2"], policy.certificates["c5"]);
    assert_ne!(policy.certificates["c0"], policy.certificates["c2"]);
}

/// Requirements: C2, C3.
#[test]
fn the_user_decides_which_plant_has_a_shared_subnet() {
    let mut document = world_json(
        &json!([["alpha", "member", "all"]]),
        &json!([["operator", {"portfolio": "wind"}], ["operator", {"plant": "solo"}]]),
        &json!([]),
    );
    document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "10.0.0.0/8"]);
    let leads_to = |priorities: Value, disabled: Value| {
        let mut document = document.clone();
        (document["priorities"], document["disabled"]) = (priorities, disabled);
        let state = example::parse(&document);
        let policy = Policy::compile(&state, &terms(&[Role::Operator], NOW));
        let reach = policy.of("c").unwrap();
        let real = reach.real.iter().map(|(subnet, plant)| format!("{subnet} {plant}"));
        let conflicts = reach.conflicts.values().flatten().map(|plant| plant.to_string()).collect::<Vec<_>>();
        let plants = reach.plants.iter().map(ToString::to_string).collect::<Vec<_>>();
        (real.collect::<Vec<_>>().join(", "), conflicts.join(" "), plants.join(" "))
    };
    let first = |plants: Value| json!([{"user": "u", "plants": plants}]);
    let off = |more: Value| {
        let mut record = json!({"user": "u", "plant": "w1"});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([record])
    };
    let (w1, w2, solo) = ["w1", "w2", "solo"].map(|plant| format!("10.0.0.0/8 w2, 192.168.1.0/24 {plant}")).into();
    let all = "solo w1 w2";
    for (name, priorities, disabled, real, conflicts, plants) in [
        ("C2: by id without a choice", json!([]), json!([]), &solo, all, all),
        ("C2: the first that is listed", first(json!(["w2", "w1"])), json!([]), &w2, all, all),
        ("C2: those not listed come after", first(json!(["w1"])), json!([]), &w1, all, all),
        ("C3: until enabled again", json!([]), off(json!({})), &solo, "solo w2", "solo w2"),
        ("C3: it was first", first(json!(["w1", "w2"])), off(json!({})), &w2, "solo w2", "solo w2"),
        ("C3: until later", first(json!(["w1", "w2"])), off(json!({"until": LATER})), &w2, "solo w2", "solo w2"),
        ("C3: until now", first(json!(["w1", "w2"])), off(json!({"until": NOW})), &w1, all, all),
        (
            "C3: the only subnet",
            first(json!(["w1"])),
            off(json!({"subnet": "192.168.1.0/24"})),
            &solo,
            "solo w2",
            "solo w2",
        ),
        (
            "C3: one of two subnets",
            first(json!(["w2"])),
            json!([{"user": "u", "plant": "w2", "subnet": "192.168.1.0/24"}]),
            &solo,
            "solo w1",
            all,
        ),
    ] {
        let found = leads_to(priorities, disabled);
        assert_eq!(found, (real.clone(), conflicts.to_owned(), plants.to_owned()), "{name}");
    }
}

/// Requirements: B1, B4.
#[test]
fn a_cooperation_ends_by_itself() {
    let shared = |until: &str| {
        let mut document =
            world_json(&json!([["beta", "member", "all"]]), &json!([["operator", {"plant": "w1"}]]), &json!([]));
        document["cooperations"] = json!([{"partner": "beta", "on": {"portfolio": "wind"}, "until": until}]);
        document["certificates"] = json!([
            {"id": "c", "user": "u", "public_key": example::key(50)},
            {"id": "x", "organisation": "beta", "plants": ["w1"], "public_key": example::key(51)},
        ]);
        example::parse(&document)
    };
    for (until, expected) in [(LATER, 1), (NOW, 0), (EARLIER, 0)] {
        let state = shared(until);
        let policy = Policy::compile(&state, &terms(&[Role::Operator], NOW));
        for certificate in ["c", "x"] {
            assert_eq!(policy.of(certificate).unwrap().plants.len(), expected, "{certificate} until {until}");
        }
        assert_eq!(state.next_change(NOW.parse().unwrap()).is_some(), expected == 1);
    }
}

/// Requirements: D3.
#[test]
fn an_organisation_reaches_what_it_operates_or_shares_of_what_is_listed() {
    let mut document = world_json(&json!([]), &json!([]), &json!([]));
    document["cooperations"] = json!([{"partner": "beta", "on": {"plant": "w1"}}]);
    for (organisation, plants, expected) in [
        ("alpha", json!(["w1", "solo"]), vec!["solo", "w1"]),
        ("alpha", json!([]), vec![]),
        ("beta", json!(["w1", "w2"]), vec!["w1"]),
        ("gamma", json!(["w1", "w2", "solo"]), vec![]),
    ] {
        document["certificates"] =
            json!([{"id": "x", "organisation": organisation, "plants": plants, "public_key": example::key(50)}]);
        let state = example::parse(&document);
        // It needs no role, so which roles open routes is no matter.
        let policy = Policy::compile(&state, &terms(&[], NOW));
        let reached: Vec<_> = policy.of("x").unwrap().plants.iter().map(|plant| plant.as_str()).collect();
        assert_eq!(reached, expected, "{organisation} {plants}");
    }
}

/// Requirements: B1, B5, D3.
#[test]
fn every_step_says_what_it_rests_on() {
    let mut document = world_json(&json!([]), &json!([]), &json!([]));
    let chain = |document: &Value, plant: &str| {
        let state = example::parse(document);
        let terms = terms(&[Role::Operator], NOW);
        let owner = state.certificates.values().next().unwrap().owner.clone();
        let chain = Chain::of(&state, &terms, &owner, plant).unwrap();
        (chain.to_string(), serde_json::to_value(&chain).unwrap())
    };
    let member = |organisation: &str, kind: &str, access: Value| json!([{"user": "u", "organisation": organisation, "kind": kind, "access": access}]);
    let shared = |until: Option<&str>| json!([{"partner": "beta", "on": {"portfolio": "wind"}, "until": until}]);
    let job = |role: &str| json!([{"user": "u", "role": role, "on": {"portfolio": "wind"}}]);
    for (memberships, cooperations, roles, expected) in [
        (
            member("alpha", "member", json!("all")),
            json!([]),
            job("operator"),
            "allows  membership of user u: covers all plants of the organisation
allows  job roles of user u: operator on portfolio wind
",
        ),
        (
            member("alpha", "guest", json!({"portfolios": ["wind"], "plants": []})),
            json!([]),
            job("viewer"),
            "allows  membership of user u: covers portfolio wind
denies  job roles of user u: viewer on portfolio wind, which opens no routes
",
        ),
        (
            member("alpha", "member", json!({"portfolios": [], "plants": ["w2"]})),
            shared(None),
            json!([]),
            "denies  membership of user u: does not cover this plant
denies  job roles of user u: there is none on the plant or its portfolio
",
        ),
        (
            member("beta", "member", json!("all")),
            shared(Some(LATER)),
            job("operator"),
            "allows  cooperation, since user u has no membership there: portfolio wind is shared with beta until \
             2027-01-01T00:00:01Z
allows  job roles of user u: operator on portfolio wind
",
        ),
        (
            member("beta", "member", json!("all")),
            shared(Some(NOW)),
            job("operator"),
            "denies  cooperation, since user u has no membership there: portfolio wind is shared with beta until \
             2027-01-01T00:00:00Z, which is over
allows  job roles of user u: operator on portfolio wind
",
        ),
        (
            member("beta", "guest", json!("all")),
            shared(None),
            job("operator"),
            "denies  cooperation, since user u has no membership there: portfolio wind is shared with beta, of which \
             the user is only a guest
allows  job roles of user u: operator on portfolio wind
",
        ),
        (
            member("beta", "member", json!("all")),
            shared(None),
            job("viewer"),
            "denies  cooperation, since user u has no membership there: portfolio wind is shared with beta, but the \
             user has no job role of operator level there
denies  job roles of user u: viewer on portfolio wind, which opens no routes
",
        ),
        (
            member("gamma", "member", json!("all")),
            shared(None),
            job("operator"),
            "denies  cooperation, since user u has no membership there: there is none that counts here
allows  job roles of user u: operator on portfolio wind
",
        ),
    ] {
        document["memberships"] = memberships;
        document["cooperations"] = cooperations;
        document["roles"] = roles;
        assert_eq!(chain(&document, "w1").0, expected);
    }
    document["cooperations"] = shared(Some(LATER));
    document["memberships"] = member("beta", "member", json!("all"));
    let (_, as_json) = chain(&document, "w1");
    assert_eq!(
        as_json,
        json!({
            "owner": "user", "user": "u", "membership": "foreign",
            "cooperation": {"in-force": {"on": {"portfolio": "wind"}, "partner": "beta", "until": LATER}},
            "jobs": {"opening": [{"role": "operator", "on": {"portfolio": "wind"}}], "others": []},
        })
    );

    document["certificates"] =
        json!([{"id": "x", "organisation": "beta", "plants": ["w2"], "public_key": example::key(50)}]);
    let (text, _) = chain(&document, "w1");
    let expected = "denies  the certificate does not list the plant
allows  cooperation, since organisation beta does not operate the plant: portfolio wind is shared with beta until \
                    2027-01-01T00:00:01Z
";
    assert_eq!(text, expected);
    document["certificates"][0]["organisation"] = json!("alpha");
    let expected = "allows  the certificate lists the plant\nallows  organisation alpha operates the plant\n";
    assert_eq!(chain(&document, "w2").0, expected);
}

/// Requirements: C2.
#[test]
fn wishes_without_an_effect_make_no_reach_of_their_own() {
    let mut document = world_json(&json!([]), &json!([]), &json!([]));
    document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "192.168.2.0/24"]);
    for number in 0..4_u8 {
        let (user, certificate) = (format!("u{number}"), format!("c{number}"));
        push(&mut document, "users", json!({"id": user}));
        let key = example::key(number + 1);
        push(&mut document, "certificates", json!({"id": certificate, "user": user, "public_key": key}));
        push(
            &mut document,
            "memberships",
            json!({"user": user, "organisation": "alpha", "kind": "member", "access": "all"}),
        );
        push(&mut document, "roles", json!({"user": user, "role": "operator", "on": {"portfolio": "wind"}}));
    }
    document["priorities"] = json!([
        {"user": "u1", "plants": ["solo", "w1"]},
        {"user": "u2", "plants": ["w2"]},
        {"user": "u3", "plants": ["w2", "w1"]},
    ]);
    document["disabled"] = json!([
        {"user": "u0", "plant": "solo"},
        {"user": "u1", "plant": "w1", "until": EARLIER},
    ]);
    let state = example::parse(&document);
    let policy = Policy::compile(&state, &terms(&[Role::Operator], NOW));
    let of = |certificate: &str| policy.certificates[certificate];
    assert_eq!((of("c0"), of("c2")), (of("c1"), of("c3")));
    assert_ne!(of("c0"), of("c2"));
    assert_eq!(policy.reaches.len(), 3, "one of nothing, too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Requirements: B1, B2, B3, B4, C2, C3, D3.
    #[test]
    fn the_naive_reading_of_the_rules_agrees(
        document in documents(),
        opening in subsequence(Role::ALL.to_vec(), 0..=4),
    ) {
        let state = example::parse(&document);
        let terms = terms(&opening, NOW);
        let policy = Policy::compile(&state, &terms);
        for certificate in document["certificates"].as_array().unwrap() {
            let id = certificate["id"].as_str().unwrap();
            let reach = policy.of(id).unwrap();
            let open = reach.plants.iter().flat_map(|id| {
                let subnets = state.plants[*id].subnets.iter().filter(|subnet| reach.is_open(id, subnet));
                subnets.map(|subnet| (id.to_string(), subnet.to_string()))
            });
            let real = reach.real.iter().map(|(subnet, plant)| (subnet.to_string(), plant.to_string()));
            let naive = naive(&document, certificate, &opening);
            prop_assert_eq!(open.collect::<BTreeSet<_>>(), naive.open);
            prop_assert_eq!(real.collect::<BTreeMap<_, _>>(), naive.real);

            for plant in state.plants.keys() {
                let chain = Chain::of(&state, &terms, &state.certificates[id].owner, plant.as_str()).unwrap();
                prop_assert_eq!(chain.opens(), naive.plants.contains(plant.as_str()), "{}", chain);
                let denies = chain.to_string().lines().any(|line| line.starts_with("denies"));
                prop_assert_eq!(chain.opens(), !denies, "{}", chain);
            }

            let alone = Policy::compile_of(&state, &terms, [&id.parse().unwrap()]);
            prop_assert_eq!(alone.certificates.len(), 1);
            prop_assert_eq!(alone.of(id).unwrap(), reach);
        }
        for (at, reach) in policy.reaches.iter().enumerate() {
            prop_assert!(!policy.reaches[..at].contains(reach), "what is equal is shared");
        }
    }
}

struct Naive {
    /// Plants that the rights open, whatever is switched off.
    plants: BTreeSet<String>,
    /// Plants and subnets to which there is a route.
    open: BTreeSet<(String, String)>,
    /// Subnets and the plants that they lead to.
    real: BTreeMap<String, String>,
}

/// The requirements word by word on the JSON records, every plant against every record.
fn naive(document: &Value, certificate: &Value, opening: &[Role]) -> Naive {
    let records = |list: &str| document[list].as_array().unwrap().clone();
    let user = &certificate["user"];
    let (mut plants, mut open) = (BTreeSet::new(), BTreeSet::new());
    for plant in records("plants") {
        let covers = |on: &Value| {
            on["plant"] == plant["id"] || (!on["portfolio"].is_null() && on["portfolio"] == plant["portfolio"])
        };
        let shared: Vec<_> =
            records("cooperations").into_iter().filter(|c| covers(&c["on"]) && !is_over(&c["until"])).collect();
        let roles: Vec<_> =
            records("roles").into_iter().filter(|job| &job["user"] == user && covers(&job["on"])).collect();
        let memberships: Vec<_> = records("memberships").into_iter().filter(|m| &m["user"] == user).collect();
        let own = memberships.iter().find(|m| m["organisation"] == plant["organisation"]);

        let membership_opens = own.is_some_and(|m| {
            m["access"] == "all"
                || m["access"]["plants"].as_array().unwrap().contains(&plant["id"])
                || m["access"]["portfolios"].as_array().unwrap().contains(&plant["portfolio"])
        });
        let cooperation_opens = own.is_none()
            && shared
                .iter()
                .any(|c| memberships.iter().any(|m| m["organisation"] == c["partner"] && m["kind"] == "member"))
            && roles.iter().any(|job| job["role"] == "operator");
        let role_opens = roles.iter().any(|job| opening.iter().any(|role| job["role"] == role.to_string()));

        let organisation = &certificate["organisation"];
        let organisation_opens = certificate["plants"].as_array().is_some_and(|plants| plants.contains(&plant["id"]))
            && (&plant["organisation"] == organisation || shared.iter().any(|c| &c["partner"] == organisation));

        if (membership_opens || cooperation_opens) && role_opens || organisation_opens {
            plants.insert(text(&plant["id"]));
            for subnet in plant["subnets"].as_array().unwrap() {
                let is_off = records("disabled").iter().any(|disabled| {
                    &disabled["user"] == user
                        && disabled["plant"] == plant["id"]
                        && (disabled["subnet"].is_null() || &disabled["subnet"] == subnet)
                        && !is_over(&disabled["until"])
                });
                if !is_off {
                    open.insert((text(&plant["id"]), text(subnet)));
                }
            }
        }
    }
    let priorities = records("priorities").into_iter().find(|record| &record["user"] == user);
    let order: Vec<String> =
        priorities.iter().flat_map(|record| record["plants"].as_array().unwrap()).map(text).collect();
    let mut real = BTreeMap::<String, String>::new();
    for (plant, subnet) in &open {
        let rank = |plant: &String| (order.iter().position(|listed| listed == plant).unwrap_or(99), plant.clone());
        if real.get(subnet).is_none_or(|before| rank(plant) < rank(before)) {
            real.insert(subnet.clone(), plant.clone());
        }
    }
    Naive { plants, open, real }
}

/// Whether something ended before or at [`NOW`]. All moments of the test are written alike, so their text compares.
fn is_over(until: &Value) -> bool {
    until.as_str().is_some_and(|until| until <= NOW)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A second before and after [`NOW`].
const EARLIER: &str = UNTIL[0];
const LATER: &str = UNTIL[2];

fn terms(opening: &[Role], now: &str) -> Terms {
    Terms { opening: opening.iter().copied().collect(), now: now.parse().unwrap() }
}

fn world(memberships: &Value, roles: &Value, cooperations: &Value) -> State {
    example::parse(&world_json(memberships, roles, cooperations))
}

fn world_json(memberships: &Value, roles: &Value, cooperations: &Value) -> Value {
    let plant = |id: &str, portfolio: Option<&str>, key: u8| {
        json!({"id": id, "organisation": "alpha", "portfolio": portfolio, "subnets": ["192.168.1.0/24"],
               "uplink": {"kind": "host", "public_key": example::key(key)}})
    };
    let rows =
        |rows: &Value, record: fn(&Value) -> Value| rows.as_array().unwrap().iter().map(record).collect::<Vec<_>>();
    json!({
        "revision": 1,
        "organisations": [{"id": "alpha"}, {"id": "beta"}, {"id": "gamma"}],
        "portfolios": [{"id": "wind", "organisation": "alpha"}],
        "plants": [plant("w1", Some("wind"), 100), plant("w2", Some("wind"), 101), plant("solo", None, 102)],
        "users": [{"id": "u"}],
        "memberships": rows(memberships, |row| {
            json!({"user": "u", "organisation": row[0], "kind": row[1], "access": row[2]})
        }),
        "roles": rows(roles, |row| json!({"user": "u", "role": row[0], "on": row[1]})),
        "cooperations": rows(cooperations, |row| json!({"partner": row[0], "on": row[1]})),
        "certificates": [{"id": "c", "user": "u", "public_key": example::key(50)}],
    })
}

fn reached<'s>(state: &'s State, opening: &[Role]) -> Vec<&'s str> {
    let policy = Policy::compile(state, &terms(opening, NOW));
    policy.of("c").unwrap().plants.iter().map(|plant| plant.as_str()).collect()
}

fn push(document: &mut Value, list: &str, record: Value) {
    document[list].as_array_mut().unwrap().push(record);
}
