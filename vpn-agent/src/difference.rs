//! What a change of the desired state means, told so that it stays small however large the states are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::CertificateId,
    portrait::{self, Portrait},
};

/// How many names are told of each kind.
const NAMES_MAX: usize = 20;

/// How many groups of certificates are told.
const GROUPS_MAX: usize = 50;

/// The difference between two states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The revision before; none if there was no state.
    pub from: Option<u64>,
    /// The revision after.
    pub to: u64,
    /// Certificates: issued, revoked, and rotated.
    pub certificates: Changes,
    /// Plants: `changed` are those with another operator, portfolio or subnets.
    pub plants: Changes,
    /// Uplinks: those of new plants, of plants that are gone, and those that are reached in another way.
    pub uplinks: Changes,
    /// What certificates reach now and did not reach before, and the other way round.
    pub routes: Routes,
}

/// What was added, removed and changed of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Not there before.
    pub added: Names,
    /// No longer there.
    pub removed: Names,
    /// There before and after, and not the same.
    pub changed: Names,
}

/// Some names, of which the first are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// How many there are.
    pub total: usize,
    /// The first 20, sorted.
    pub first: Vec<String>,
}

/// What certificates gain and lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// How many certificates reach something else than before.
    pub certificates: usize,
    /// How many groups there are.
    pub groups_total: usize,
    /// Certificates that gain and lose the same. The largest 50 groups.
    pub groups: Vec<Group>,
}

/// Certificates that gain and lose the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Which.
    pub certificates: Names,
    /// Plants that they reach now; `plant subnet` where it is only a subnet that was switched on.
    pub gained: Names,
    /// Plants that they no longer reach; `plant subnet` where it is only a subnet that was switched off.
    pub lost: Names,
    /// Real subnets that lead to another plant than before: `subnet: before -> now`.
    pub moved: Names,
}

impl Names {
    fn add(&mut self, name: impl Display) {
        self.total += 1;
        if self.first.len() < NAMES_MAX {
            self.first.push(name.to_string());
        }
    }
}

impl Changes {
    fn between<K: Ord + Display, V>(
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
        differ: impl Fn(&V, &V) -> bool,
    ) -> Self {
        let mut changes = Self::default();
        for (id, old) in before {
            match after.get(id) {
                None => changes.removed.add(id),
                Some(new) if differ(old, new) => changes.changed.add(id),
                Some(_) => {}
            }
        }
        for id in after.keys().filter(|id| !before.contains_key(id)) {
            changes.added.add(id);
        }
        changes
    }
}

impl Difference {
    /// From one state to another.
    #[must_use]
    pub fn between(before: &Portrait, after: &Portrait) -> Self {
        Self {
            from: before.revision,
            to: after.revision.unwrap_or_default(),
            certificates: Changes::between(&before.certificates, &after.certificates, |old, new| old != new),
            plants: Changes::between(&before.plants, &after.plants, |old, new| {
                (&old.organisation, &old.portfolio, &old.subnets) != (&new.organisation, &new.portfolio, &new.subnets)
            }),
            uplinks: Changes::between(&before.plants, &after.plants, |old, new| old.uplinks != new.uplinks),
            routes: Routes::between(before, after),
        }
    }
}

impl Routes {
    fn between(before: &Portrait, after: &Portrait) -> Self {
        // Most of a large number of certificates share what they reach, before and after.
        let mut pairs = HashMap::<_, Names>::new();
        let all: BTreeSet<&CertificateId> = before.certificates.keys().chain(after.certificates.keys()).collect();
        for id in all {
            pairs.entry((before.reach_of(id), after.reach_of(id))).or_default().add(id);
        }
        let mut groups: Vec<_> = pairs
            .into_iter()
            .filter(|((old, new), _)| before.names(*old) != after.names(*new))
            .map(|(pair, certificates)| (certificates, pair))
            .collect();
        groups.sort_by(|(a, _), (b, _)| b.total.cmp(&a.total).then_with(|| a.first.cmp(&b.first)));
        Self {
            certificates: groups.iter().map(|(certificates, _)| certificates.total).sum(),
            groups_total: groups.len(),
            groups: groups
                .into_iter()
                .take(GROUPS_MAX)
                .map(|(certificates, (old, new))| Group::between(certificates, &before.names(old), &after.names(new)))
                .collect(),
        }
    }
}

impl Group {
    fn between(certificates: Names, before: &portrait::Names<'_>, after: &portrait::Names<'_>) -> Self {
        let mut group = Self { certificates, ..Self::default() };
        for plant in after.plants.difference(&before.plants) {
            group.gained.add(plant);
        }
        for plant in before.plants.difference(&after.plants) {
            group.lost.add(plant);
        }
        for (plant, subnet) in before.disabled.difference(&after.disabled) {
            if after.plants.contains(plant) {
                group.gained.add(format_args!("{plant} {subnet}"));
            }
        }
        for (plant, subnet) in after.disabled.difference(&before.disabled) {
            if before.plants.contains(plant) {
                group.lost.add(format_args!("{plant} {subnet}"));
            }
        }
        for (subnet, now) in &after.real {
            match before.real.get(subnet) {
                Some(old) if old != now => group.moved.add(format_args!("{subnet}: {old} -> {now}")),
                _ => {}
            }
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        example::{self, random},
        policy::Policy,
        state::State,
        terms::Terms,
    };

    fn terms() -> Terms {
        example::config("").terms(random::NOW.parse().unwrap())
    }

    fn between(before: &State, after: &State) -> Difference {
        Difference::between(&Portrait::of(before, &terms()), &Portrait::of(after, &terms()))
    }

    fn names(names: &[&str]) -> Names {
        Names { total: names.len(), first: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn each_kind_of_change_is_told_in_its_place() {
        let mut document = example::json();
        let before = example::parse(&document);
        document["revision"] = json!(8);
        document["certificates"][0]["public_key"] = json!(example::key(9));
        document["certificates"].as_array_mut().unwrap().remove(1);
        document["users"].as_array_mut().unwrap().push(json!({"id": "user-c"}));
        document["certificates"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": "certificate-c", "user": "user-c", "public_key": example::key(3)}));
        document["plants"][0]["subnets"] = json!(["192.168.1.0/24", "10.0.0.0/8"]);
        document["plants"][1]["uplink"]["public_key"] = json!(example::key(77));
        let difference = between(&before, &example::parse(&document));
        assert_eq!((difference.from, difference.to), (Some(7), 8));
        let certificates = Changes {
            added: names(&["certificate-c"]),
            removed: names(&["certificate-b"]),
            changed: names(&["certificate-a"]),
        };
        assert_eq!(difference.certificates, certificates);
        assert_eq!(difference.plants, Changes { changed: names(&["north"]), ..Changes::default() });
        assert_eq!(difference.uplinks, Changes { changed: names(&["south"]), ..Changes::default() });
        let lost = &difference.routes.groups.iter().find(|group| group.lost.total > 0).unwrap();
        assert_eq!((&lost.certificates, &lost.lost), (&names(&["certificate-b"]), &names(&["north", "south"])));
    }

    /// Requirements: C2, C3.
    #[test]
    fn what_a_user_decides_is_told_by_subnet() {
        let mut document = example::json();
        let before = example::parse(&document);
        document["priorities"] = json!([{"user": "user-b", "plants": ["south"]}]);
        let group = Group {
            certificates: names(&["certificate-b"]),
            moved: names(&["192.168.1.0/24: north -> south"]),
            ..Group::default()
        };
        assert_eq!(between(&before, &example::parse(&document)).routes.groups, [group]);

        document["priorities"] = json!([]);
        document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "10.0.0.0/8"]);
        let before = example::parse(&document);
        document["disabled"] = json!([{"user": "user-b", "plant": "south", "subnet": "10.0.0.0/8"}]);
        let after = example::parse(&document);
        let off = &between(&before, &after).routes.groups[0];
        assert_eq!((&off.gained, &off.lost), (&names(&[]), &names(&["south 10.0.0.0/8"])));
        let on = &between(&after, &before).routes.groups[0];
        assert_eq!((&on.gained, &on.lost), (&names(&["south 10.0.0.0/8"]), &names(&[])));
    }

    #[test]
    fn a_first_state_is_all_new() {
        let state = example::state();
        let difference = Difference::between(&Portrait::default(), &Portrait::of(&state, &terms()));
        assert_eq!((difference.from, difference.to), (None, 7));
        assert_eq!(difference.certificates.added, names(&["certificate-a", "certificate-b"]));
        assert_eq!((difference.plants.added.total, difference.uplinks.added.total), (2, 2));
        assert_eq!(difference.routes.certificates, 2);
    }

    /// However many there are, the answer has few names.
    #[test]
    fn many_certificates_are_a_few_groups() {
        let mut document = example::json();
        let ids = || 0..3_000;
        document["users"] = ids().map(|at| json!({"id": format!("user-{at:05}")})).collect();
        document["memberships"] = ids()
            .map(|at| {
                json!({"user": format!("user-{at:05}"), "organisation": "alpha", "kind": "member", "access": "all"})
            })
            .collect();
        let key = |at: u32| {
            use base64::Engine as _;
            let mut bytes = [7; 32];
            bytes[..4].copy_from_slice(&at.to_be_bytes());
            base64::prelude::BASE64_STANDARD.encode(bytes)
        };
        document["certificates"] = ids()
            .map(|at| json!({"id": format!("c{at:05}"), "user": format!("user-{at:05}"), "public_key": key(at)}))
            .collect();
        document["roles"] = json!([]);
        document["cooperations"] = json!([]);
        let before = example::parse(&document);
        document["roles"] = ids()
            .map(|at| json!({"user": format!("user-{at:05}"), "role": "operator", "on": {"plant": "north"}}))
            .collect();
        let routes = between(&before, &example::parse(&document)).routes;
        assert_eq!((routes.certificates, routes.groups_total), (3_000, 1));
        let certificates = &routes.groups[0].certificates;
        assert_eq!((certificates.total, certificates.first.len()), (3_000, NAMES_MAX));
        assert_eq!(certificates.first[19], "c00019");
        assert_eq!(routes.groups[0].gained, names(&["north"]));
    }

    proptest! {
        /// Against a look at each certificate on its own.
        #[test]
        fn a_naive_comparison_agrees(before in random::documents(), after in random::documents()) {
            let (before, after) = (example::parse(&before), example::parse(&after));
            let (old, new) = (Policy::compile(&before, &terms()), Policy::compile(&after, &terms()));
            let routes = between(&before, &after).routes;
            let mut affected = 0;
            for id in before.certificates.keys().chain(after.certificates.keys()).collect::<BTreeSet<_>>() {
                let plants = |policy: &Policy<'_>| -> BTreeSet<String> {
                    let reach = policy.of(id.as_str());
                    reach.iter().flat_map(|reach| &reach.plants).map(ToString::to_string).collect()
                };
                let told = routes.groups.iter().find(|group| group.certificates.first.contains(&id.to_string()));
                let (was, is) = (plants(&old), plants(&new));
                let whole = |names: &Names| -> BTreeSet<String> {
                    names.first.iter().filter(|name| !name.contains(' ')).cloned().collect()
                };
                let (gained, lost) = told.map(|told| (whole(&told.gained), whole(&told.lost))).unwrap_or_default();
                prop_assert_eq!(gained, is.difference(&was).cloned().collect::<BTreeSet<_>>(), "{}", id);
                prop_assert_eq!(lost, was.difference(&is).cloned().collect::<BTreeSet<_>>(), "{}", id);
                if told.is_none() {
                    let real = |policy: &Policy<'_>| {
                        let reach = policy.of(id.as_str());
                        reach.iter().flat_map(|reach| &reach.real).map(|(net, id)| (*net, id.to_string())).collect::<Vec<_>>()
                    };
                    prop_assert_eq!(real(&old), real(&new), "{}", id);
                }
                affected += usize::from(told.is_some());
            }
            prop_assert_eq!(affected, routes.certificates);
            prop_assert_eq!(between(&before, &before).routes, Routes::default());
        }
    }
}
