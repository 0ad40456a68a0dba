//! Who may reach which plant (requirements B1 to B4). Pure: from a state to sets of plants.
//!
//! A route needs an access, by membership (step 1) or, for a foreign plant, by cooperation (step 3), and a job role
//! that opens routes (step 2) in either case. Each step is one function of `Rules` and knows nothing of the others.
//!
//! A plant is foreign to a user who has no membership, of whatever kind, in the organisation that operates it. To
//! everybody else it is an own plant: what their organisation does not make accessible, a cooperation does not either.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::{
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    role::Role,
    state::{Access, MembershipKind, Plant, Scope, State},
};

/// What every certificate reaches. Certificates that reach the same share one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy<'s> {
    /// Different from each other; some may be of no plant at all.
    pub reaches: Vec<Reach<'s>>,
    /// Index into `reaches` for every certificate of the state.
    pub certificates: BTreeMap<CertificateId, usize>,
}

/// A set of plants that somebody may reach, and what their subnets mean together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach<'s> {
    /// Sorted by id, each once.
    pub plants: Vec<&'s PlantId>,
    /// The plant that a real subnet leads to. Of several plants with the same subnet it is the one whose id sorts
    /// first, byte by byte; the others are reached through their virtual subnets only. Of overlapping subnets that
    /// are not the same the longer one counts, as in every routing table.
    pub real: BTreeMap<IpNet, &'s PlantId>,
    /// The real subnets that several of the plants use, with all of these plants, sorted (requirement C2).
    pub conflicts: BTreeMap<IpNet, Vec<&'s PlantId>>,
}

impl<'s> Policy<'s> {
    /// Applies the rules of requirement B1, of which step 2 counts the roles in `opening`.
    #[must_use]
    pub fn compile(state: &'s State, opening: &BTreeSet<Role>) -> Self {
        let rules = Rules::new(state, opening);
        // Most users share their grants with many others, so plants are looked up once for each set of grants. Two
        // sets of grants can still come to the same plants.
        let mut by_grants = HashMap::<BTreeSet<Grant<'s>>, usize>::new();
        let mut by_plants = HashMap::<Vec<&'s PlantId>, usize>::new();
        let mut reaches = Vec::new();
        let mut certificates = BTreeMap::new();
        for (id, certificate) in &state.certificates {
            let grants = rules.grants(&certificate.user);
            let at = *by_grants.entry(grants).or_insert_with_key(|grants| {
                let plants = rules.plants(grants);
                *by_plants.entry(plants).or_insert_with_key(|plants| {
                    reaches.push(Reach::new(state, plants.clone()));
                    reaches.len() - 1
                })
            });
            certificates.insert(id.clone(), at);
        }
        Self { reaches, certificates }
    }

    /// What a certificate reaches, if the state has it.
    #[must_use]
    pub fn of(&self, certificate: &str) -> Option<&Reach<'s>> {
        self.certificates.get(certificate).and_then(|at| self.reaches.get(*at))
    }
}

impl<'s> Reach<'s> {
    /// `plants` are sorted by id.
    fn new(state: &'s State, plants: Vec<&'s PlantId>) -> Self {
        let mut conflicts = BTreeMap::<IpNet, Vec<&'s PlantId>>::new();
        for id in &plants {
            for subnet in state.plants.get(*id).into_iter().flat_map(|plant| &plant.subnets) {
                conflicts.entry(*subnet).or_default().push(id);
            }
        }
        let real = conflicts.iter().filter_map(|(subnet, plants)| Some((*subnet, *plants.first()?))).collect();
        conflicts.retain(|_, plants| plants.len() > 1);
        Self { plants, real, conflicts }
    }
}

/// What somebody may reach, before it is known which plants are in a portfolio.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Grant<'s> {
    Plant(&'s PlantId),
    Portfolio(&'s PortfolioId),
}

/// A state and the configuration it is judged by.
struct Rules<'s, 'o> {
    state: &'s State,
    opening: &'o BTreeSet<Role>,
    /// Sorted by id.
    plants_in: HashMap<&'s PortfolioId, Vec<(&'s PlantId, &'s Plant)>>,
}

impl<'s, 'o> Rules<'s, 'o> {
    fn new(state: &'s State, opening: &'o BTreeSet<Role>) -> Self {
        let mut plants_in = HashMap::<_, Vec<_>>::new();
        for (id, plant) in &state.plants {
            if let Some(portfolio) = &plant.portfolio {
                plants_in.entry(portfolio).or_default().push((id, plant));
            }
        }
        Self { state, opening, plants_in }
    }

    /// What `user` may reach. Starts from step 2, because a user has few roles but may have access to many plants.
    fn grants(&self, user: &UserId) -> BTreeSet<Grant<'s>> {
        let mut grants = BTreeSet::new();
        for (scope, roles) in self.state.roles.get(user).into_iter().flatten() {
            if !roles.iter().any(|role| self.opens(*role)) {
                continue;
            }
            match scope {
                Scope::Plant(id) => {
                    if let Some(plant) = self.state.plants.get(id)
                        && self.has_access(user, id, plant)
                    {
                        grants.insert(Grant::Plant(id));
                    }
                }
                Scope::Portfolio(id) => {
                    if self.has_access_to_all_of(user, id) {
                        grants.insert(Grant::Portfolio(id));
                    } else {
                        let plants = self.plants_in.get(id).into_iter().flatten();
                        let accessible = plants.filter(|(id, plant)| self.has_access(user, id, plant));
                        grants.extend(accessible.map(|(id, _)| Grant::Plant(id)));
                    }
                }
            }
        }
        grants
    }

    /// Steps 1 and 3, of which the second takes the place of the first for a foreign plant.
    fn has_access(&self, user: &UserId, id: &PlantId, plant: &Plant) -> bool {
        match self.own_access(user, &plant.organisation) {
            Some(access) => membership_opens(access, id, plant.portfolio.as_ref()),
            None => self.cooperation_opens(user, id, plant.portfolio.as_ref()),
        }
    }

    /// Whether access to every plant in a portfolio follows without looking at the plants one by one.
    fn has_access_to_all_of(&self, user: &UserId, portfolio: &PortfolioId) -> bool {
        let Some(owner) = self.state.portfolios.get(portfolio) else { return false };
        match self.own_access(user, owner) {
            Some(Access::All) => true,
            Some(Access::Some { portfolios, .. }) => portfolios.contains(portfolio),
            None => {
                let scope = Scope::Portfolio(portfolio.clone());
                self.is_shared_with(user, &scope) && self.is_operator_level(user, &scope)
            }
        }
    }

    /// The access of `user` to the plants of an own organisation; `None` where the organisation is a foreign one.
    fn own_access(&self, user: &UserId, organisation: &OrganisationId) -> Option<&'s Access> {
        Some(&self.state.memberships.get(user)?.get(organisation)?.access)
    }

    /// Step 2 of requirement B1: whether a job role opens routes.
    fn opens(&self, role: Role) -> bool {
        self.opening.contains(&role)
    }

    /// Step 3 of requirement B1: whether a foreign plant is shared with an organisation of this user, who works on
    /// that plant at operator level.
    fn cooperation_opens(&self, user: &UserId, plant: &PlantId, portfolio: Option<&PortfolioId>) -> bool {
        let scopes =
            [Some(Scope::Plant(plant.clone())), portfolio.map(|portfolio| Scope::Portfolio(portfolio.clone()))];
        let mut scopes = scopes.iter().flatten();
        scopes.clone().any(|scope| self.is_shared_with(user, scope))
            && scopes.any(|scope| self.is_operator_level(user, scope))
    }

    /// Whether `user` is a member, and not only a guest, of an organisation that `scope` is shared with.
    fn is_shared_with(&self, user: &UserId, scope: &Scope) -> bool {
        let memberships = self.state.memberships.get(user);
        let is_member = |partner: &OrganisationId| {
            memberships
                .and_then(|memberships| memberships.get(partner))
                .is_some_and(|membership| membership.kind == MembershipKind::Member)
        };
        self.state.cooperations.get(scope).is_some_and(|partners| partners.iter().any(is_member))
    }

    fn is_operator_level(&self, user: &UserId, scope: &Scope) -> bool {
        let roles = self.state.roles.get(user).and_then(|roles| roles.get(scope));
        roles.is_some_and(|roles| roles.iter().any(|role| role.is_operator_level()))
    }

    /// Sorted, each once.
    fn plants(&self, grants: &BTreeSet<Grant<'s>>) -> Vec<&'s PlantId> {
        let mut plants = Vec::new();
        for grant in grants {
            match grant {
                Grant::Plant(id) => plants.push(*id),
                Grant::Portfolio(id) => plants.extend(self.plants_in.get(id).into_iter().flatten().map(|(id, _)| *id)),
            }
        }
        plants.sort_unstable();
        plants.dedup();
        plants
    }
}

/// Step 1 of requirement B1: whether the access of a membership covers an own plant.
fn membership_opens(access: &Access, plant: &PlantId, portfolio: Option<&PortfolioId>) -> bool {
    match access {
        Access::All => true,
        Access::Some { portfolios, plants } => {
            plants.contains(plant) || portfolio.is_some_and(|portfolio| portfolios.contains(portfolio))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::subsequence};
    use serde_json::{Value, json};

    use super::*;
    use crate::example;

    /// The world of the table: alpha has the portfolio `wind` with the plants `w1` and `w2`, and the plant `solo`;
    /// beta is a partner to be, gamma a bystander. A row gives the user memberships, roles and what is shared.
    /// Requirements: B1, B2, B3.
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
            (
                "B1 (1): a role and a membership elsewhere",
                member("gamma", json!("all")),
                on_w1("operator"),
                json!([]),
                &[],
            ),
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
            (
                "B3: a role on the portfolio",
                member("alpha", json!("all")),
                on_wind("operator"),
                json!([]),
                &["w1", "w2"],
            ),
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
        let policy = Policy::compile(&state, &BTreeSet::from([Role::Operator]));
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
        let policy = Policy::compile(&state, &BTreeSet::from([Role::Operator]));
        assert_eq!(policy.reaches.len(), 3, "of nothing, of one and of two plants");
        assert_eq!(policy.certificates["c0"], policy.certificates["c1"]);
        assert_eq!(policy.certificates["c2"], policy.certificates["c5"]);
        assert_ne!(policy.certificates["c0"], policy.certificates["c2"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Requirements: B1, B2, B3, B4.
        #[test]
        fn the_naive_reading_of_the_rules_agrees(
            document in documents(),
            opening in subsequence(Role::ALL.to_vec(), 0..=4),
        ) {
            let state = example::parse(&document);
            let policy = Policy::compile(&state, &opening.iter().copied().collect());
            for certificate in document["certificates"].as_array().unwrap() {
                let reach = policy.of(certificate["id"].as_str().unwrap()).unwrap();
                let plants: Vec<_> = reach.plants.iter().map(|plant| plant.as_str().to_owned()).collect();
                prop_assert_eq!(plants, naive(&document, &certificate["user"], &opening));
            }
        }
    }

    /// Requirement B1 word by word on the JSON records, every plant against every record.
    fn naive(document: &Value, user: &Value, opening: &[Role]) -> Vec<String> {
        let records = |list: &str| document[list].as_array().unwrap().clone();
        let mut reached = Vec::new();
        for plant in records("plants") {
            let covers = |on: &Value| {
                on["plant"] == plant["id"] || (!on["portfolio"].is_null() && on["portfolio"] == plant["portfolio"])
            };
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
                && records("cooperations").iter().any(|c| {
                    covers(&c["on"])
                        && memberships.iter().any(|m| m["organisation"] == c["partner"] && m["kind"] == "member")
                })
                && roles.iter().any(|job| job["role"] == "operator");
            let role_opens = roles.iter().any(|job| opening.iter().any(|role| job["role"] == role.to_string()));
            if (membership_opens || cooperation_opens) && role_opens {
                reached.push(plant["id"].as_str().unwrap().to_owned());
            }
        }
        reached.sort();
        reached
    }

    /// Three organisations with a portfolio each, six plants, three users; everything else at random.
    fn documents() -> impl Strategy<Value = Value> {
        let scope = || {
            (any::<bool>(), 0..6_usize).prop_map(|(plant, at)| match plant {
                true => json!({"plant": format!("p{at}")}),
                false => json!({"portfolio": format!("f{}", at % 3)}),
            })
        };
        let membership = (0..3_usize, 0..3_usize, any::<bool>(), 0..8_u8);
        let job = (0..3_usize, 0..4_usize, scope());
        (vec(membership, 0..6), vec(job, 0..10), vec((0..3_usize, scope()), 0..6), vec(any::<bool>(), 6)).prop_map(
            |(memberships, jobs, cooperations, in_portfolio)| {
                let numbered = |number: usize, prefix: &str| format!("{prefix}{number}");
                let owner = |on: &Value| {
                    let id = on["plant"].as_str().or(on["portfolio"].as_str()).unwrap();
                    id[1..].parse::<usize>().unwrap() % 3
                };
                let memberships: BTreeMap<_, _> =
                    memberships.into_iter().map(|(u, o, member, access)| ((u, o), (member, access))).collect();
                let access = |organisation: usize, bits: u8| match bits {
                    7 => json!("all"),
                    _ => json!({
                        "portfolios": if bits & 1 != 0 { vec![numbered(organisation, "f")] } else { vec![] },
                        "plants": (0..2).filter(|at| bits & 2 << at != 0)
                            .map(|at| numbered(organisation + 3 * at, "p")).collect::<Vec<_>>(),
                    }),
                };
                let jobs: BTreeMap<_, _> =
                    jobs.into_iter().map(|(u, r, on)| ((u, r, on.to_string()), on)).collect();
                let cooperations: BTreeMap<_, _> = cooperations
                    .into_iter()
                    .filter(|(partner, on)| owner(on) != *partner)
                    .map(|(partner, on)| ((partner, on.to_string()), on))
                    .collect();
                json!({
                    "revision": 1,
                    "organisations": (0..3).map(|o| json!({"id": numbered(o, "o")})).collect::<Vec<_>>(),
                    "portfolios": (0..3).map(|o| json!({"id": numbered(o, "f"), "organisation": numbered(o, "o")}))
                        .collect::<Vec<_>>(),
                    "plants": in_portfolio.iter().enumerate().map(|(at, inside)| json!({
                        "id": numbered(at, "p"), "organisation": numbered(at % 3, "o"),
                        "portfolio": inside.then(|| numbered(at % 3, "f")), "subnets": ["192.168.1.0/24"],
                        "uplink": {"kind": "host", "public_key": example::key(100 + at as u8)},
                    })).collect::<Vec<_>>(),
                    "users": (0..3).map(|u| json!({"id": numbered(u, "u")})).collect::<Vec<_>>(),
                    "memberships": memberships.iter().map(|((u, o), (member, bits))| json!({
                        "user": numbered(*u, "u"), "organisation": numbered(*o, "o"),
                        "kind": if *member { "member" } else { "guest" }, "access": access(*o, *bits),
                    })).collect::<Vec<_>>(),
                    "roles": jobs.iter().map(|((u, r, _), on)| json!({
                        "user": numbered(*u, "u"), "role": Role::ALL[*r].to_string(), "on": on,
                    })).collect::<Vec<_>>(),
                    "cooperations": cooperations.iter().map(|((partner, _), on)| json!({
                        "partner": numbered(*partner, "o"), "on": on,
                    })).collect::<Vec<_>>(),
                    "certificates": (0..3_u8).map(|u| json!({
                        "id": numbered(u.into(), "c"), "user": numbered(u.into(), "u"), "public_key": example::key(u + 1),
                    })).collect::<Vec<_>>(),
                })
            },
        )
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
        let policy = Policy::compile(state, &opening.iter().copied().collect());
        policy.of("c").unwrap().plants.iter().map(|plant| plant.as_str()).collect()
    }

    fn push(document: &mut Value, list: &str, record: Value) {
        document[list].as_array_mut().unwrap().push(record);
    }
}
