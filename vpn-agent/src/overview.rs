//! The routes of one certificate as its owner wants to see them: what the rights open, what the owner has switched off,
//! which plants share addresses, and what can be reached at the moment (requirements C2 to C4).
//!
//! Pure. What is in the kernel is for `status` and `explain` to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::IpNet;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    addressing, document,
    id::{CertificateId, OrganisationId, PlantId},
    liveness::{Liveness, UplinkState},
    policy::{self, Chain, Policy},
    state::{self, Owner, State, is_in_force},
    status::table::Table,
    terms::Terms,
};

/// Every route that the rights of a certificate open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Overview<'s> {
    /// Which certificate.
    pub certificate: &'s CertificateId,
    /// Sorted by plant and real subnet.
    pub routes: Vec<Route<'s>>,
}

/// A plant's subnet that the rights open, be it switched off or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Route<'s> {
    /// The plant.
    pub plant: &'s PlantId,
    /// Who operates it.
    pub operator: &'s OrganisationId,
    /// The subnet as the plant uses it.
    #[schemars(with = "document::Subnet")]
    pub real: IpNet,
    /// Its virtual twin; `None` if it was not given one yet.
    #[serde(rename = "virtual")]
    #[schemars(with = "Option<document::Subnet>")]
    pub virtual_: Option<IpNet>,
    /// What opens it.
    pub permission: Chain<'s>,
    /// Whether the owner has switched it off.
    pub disabled: Disabled,
    /// Other subnets that the rights open and that have addresses in common with this one, sorted. Not empty is a
    /// conflict.
    pub conflicts: Vec<Conflict<'s>>,
    /// Where the real subnet leads to at the moment; `None` if nowhere, because the owner has switched all of it off.
    pub real_leads_to: Option<&'s PlantId>,
    /// Whether the plant can be reached from this gateway.
    pub link: Link,
}

/// A subnet of another plant that has addresses in common with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Conflict<'s> {
    /// The plant.
    pub plant: &'s PlantId,
    /// The same subnet, a part of it, or one that it is a part of. Of those that are not the same, the longer one counts.
    #[schemars(with = "document::Subnet")]
    pub real: IpNet,
}

/// Whether a route is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "SwitchedOff")]
pub enum Disabled {
    /// It is not.
    No,
    /// Until this moment.
    Until(#[schemars(with = "document::Moment")] Timestamp),
    /// Until it is switched on again.
    UntilEnabled,
}

/// Whether a plant can be reached from a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Its uplink is up.
    Up,
    /// Its uplink is down.
    Down,
    /// Its uplink was never up.
    Never,
    /// It has no uplink in this gateway's region.
    NotLinked,
    /// Nobody has looked.
    Unknown,
}

impl Link {
    /// As the agent saw it last; `seen` is what it wrote, if that is of now.
    #[must_use]
    pub fn of(seen: Option<&Liveness>, plant: &PlantId) -> Self {
        match seen.and_then(|seen| seen.plants.get(plant)).map(|uplink| uplink.state) {
            None => Self::Unknown,
            Some(UplinkState::Up) => Self::Up,
            Some(UplinkState::Down) => Self::Down,
            Some(UplinkState::Never) => Self::Never,
            Some(UplinkState::NotLinked) => Self::NotLinked,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down, unreachable",
            Self::Never => "never up, unreachable",
            Self::NotLinked => "not linked here",
            Self::Unknown => "unknown",
        })
    }
}

/// What the state does not say.
pub struct Surroundings<'g, L> {
    /// The region of this gateway.
    pub region: &'g str,
    /// What plants were given.
    pub given: &'g BTreeMap<PlantId, addressing::Plant>,
    /// How the uplink of a plant is that has one in this region.
    pub link: L,
}

impl<'s> Overview<'s> {
    /// The overview of `certificate`, if the state has it.
    pub fn of<L: Fn(&PlantId) -> Link>(
        state: &'s State,
        terms: &Terms,
        certificate: &str,
        around: &Surroundings<'_, L>,
    ) -> Option<Self> {
        let (certificate, of) = state.certificates.get_key_value(certificate)?;
        let open = policy::rights(state, terms, &of.owner);
        let policy = Policy::compile_of(state, terms, [certificate]);
        let reach = policy.of(certificate.as_str())?;
        let conflicts = Conflicts::among(state, &open);
        let off = of.owner.user().and_then(|user| state.disabled.get(user));

        let mut routes = Vec::new();
        for id in &open {
            let (Some(plant), Some(permission)) =
                (state.plants.get(*id), Chain::of(state, terms, &of.owner, id.as_str()))
            else {
                continue;
            };
            let link = match plant.uplink_in(around.region) {
                Some(_) => (around.link)(id),
                None => Link::NotLinked,
            };
            for real in &plant.subnets {
                let given = around.given.get(*id).and_then(|given| given.subnets.get(real));
                routes.push(Route {
                    plant: id,
                    operator: &plant.organisation,
                    real: *real,
                    virtual_: given.map(|subnet| subnet.virtual_),
                    permission: permission.clone(),
                    disabled: Disabled::of(off, id, *real, terms.now),
                    conflicts: conflicts.of(id, real),
                    real_leads_to: reach.real.get(real).copied(),
                    link,
                });
            }
        }
        Some(Self { certificate, routes })
    }
}

impl Disabled {
    /// Of an entry for the subnet and one for the whole plant, the one that lasts longer.
    pub(crate) fn of(entries: Option<&state::Disabled>, plant: &PlantId, real: IpNet, now: Timestamp) -> Self {
        let find = |subnet| entries.and_then(|entries| entries.get(&(plant.clone(), subnet)));
        let in_force = [find(None), find(Some(real))].into_iter().flatten().filter(|until| is_in_force(**until, now));
        in_force.fold(Self::No, |before, until| match (before, until) {
            (Self::UntilEnabled, _) | (_, None) => Self::UntilEnabled,
            (Self::Until(before), Some(until)) => Self::Until(before.max(*until)),
            (Self::No, Some(until)) => Self::Until(*until),
        })
    }
}

/// Which subnets of some plants have addresses in common.
struct Conflicts<'s> {
    with: BTreeMap<IpNet, BTreeSet<Conflict<'s>>>,
}

impl<'s> Conflicts<'s> {
    fn among(state: &'s State, plants: &[&'s PlantId]) -> Self {
        let mut by_subnet = BTreeMap::<IpNet, Vec<&'s PlantId>>::new();
        for id in plants {
            for subnet in state.plants.get(*id).into_iter().flat_map(|plant| &plant.subnets) {
                by_subnet.entry(*subnet).or_default().push(id);
            }
        }
        let mut with = BTreeMap::<IpNet, BTreeSet<Conflict<'s>>>::new();
        for (subnet, here) in &by_subnet {
            let mut outer = Some(*subnet);
            while let Some(net) = outer {
                if let Some(there) = by_subnet.get(&net) {
                    with.entry(*subnet).or_default().extend(there.iter().map(|plant| Conflict { plant, real: net }));
                    with.entry(net).or_default().extend(here.iter().map(|plant| Conflict { plant, real: *subnet }));
                }
                outer = net.supernet();
            }
        }
        Self { with }
    }

    /// Those of a subnet of `plant`, whose own subnets have nothing in common.
    fn of(&self, plant: &PlantId, subnet: &IpNet) -> Vec<Conflict<'s>> {
        let all = self.with.get(subnet).into_iter().flatten();
        all.filter(|conflict| conflict.plant != plant).copied().collect()
    }
}

impl fmt::Display for Overview<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(["PLANT", "OPERATOR", "REAL", "VIRTUAL", "ROUTE", "UPLINK", "REAL LEADS TO", "CONFLICT"]);
        table.extend(self.routes.iter().map(|route| {
            let conflicts = route.conflicts.iter().map(|other| match other.real == route.real {
                true => other.plant.to_string(),
                false => format!("{} ({})", other.plant, other.real),
            });
            [
                route.plant.to_string(),
                route.operator.to_string(),
                route.real.to_string(),
                route.virtual_.map(|net| net.to_string()).unwrap_or_default(),
                match route.disabled {
                    Disabled::No => "on".to_owned(),
                    Disabled::Until(until) => format!("off until {until}"),
                    Disabled::UntilEnabled => "off".to_owned(),
                },
                route.link.to_string(),
                route.real_leads_to.map(ToString::to_string).unwrap_or_default(),
                conflicts.collect::<Vec<_>>().join(", "),
            ]
        }));
        table.fmt(f)
    }
}

/// The certificate that is meant by `name`: the certificate of this id, or that of the user of this id.
#[must_use]
pub fn certificate<'s>(state: &'s State, name: &str) -> Option<(&'s CertificateId, &'s Owner)> {
    let id = state.certificates.get_key_value(name).map(|(id, _)| id).or_else(|| state.certificate_of(name))?;
    Some((id, &state.certificates.get(id)?.owner))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        addressing::Allocations,
        example::{
            self,
            random::{NOW, documents},
        },
        role::Role,
    };

    /// Requirements: C2, C3, C4.
    #[test]
    fn the_overview_has_every_route_with_what_is_particular_about_it() {
        let mut document = example::json();
        document["plants"][1]["subnets"] = json!(["192.168.0.0/16", "10.20.0.0/16"]);
        let west = json!({"id": "west", "organisation": "beta", "subnets": ["192.168.1.0/24"],
                          "uplinks": [{"regions": ["us"],
                                       "uplink": {"kind": "host", "public_key": example::key(102)}}]});
        document["plants"].as_array_mut().unwrap().push(west);
        let role = json!({"user": "user-b", "role": "operator", "on": {"plant": "west"}});
        document["roles"].as_array_mut().unwrap().push(role);
        document["disabled"] = json!([
            {"user": "user-b", "plant": "north", "until": "2027-02-01T00:00:00Z"},
            {"user": "user-b", "plant": "south", "subnet": "10.20.0.0/16"},
        ]);
        let state = example::parse(&document);
        let given = Allocations::default().extended(&state, &example::config("")).unwrap();
        let link = |plant: &PlantId| if plant.as_str() == "south" { Link::Down } else { Link::Up };
        let around = Surroundings { region: "eu", given: given.plants(), link };
        let overview = Overview::of(&state, &terms(), "certificate-b", &around).unwrap();
        let expected = "  PLANT  OPERATOR  REAL            VIRTUAL        ROUTE                           UPLINK             REAL LEADS TO  CONFLICT
  north  alpha     192.168.1.0/24  10.128.0.0/24  off until 2027-02-01T00:00:00Z  up                 west           south (192.168.0.0/16), west
  south  beta      10.20.0.0/16    10.129.0.0/16  off                             down, unreachable  -              -
  south  beta      192.168.0.0/16  10.130.0.0/16  on                              down, unreachable  south          north (192.168.1.0/24), west (192.168.1.0/24)
  west   beta      192.168.1.0/24  10.128.1.0/24  on                              not linked here    west           north, south (192.168.0.0/16)
";
        assert_eq!(overview.to_string(), expected);

        let as_json = serde_json::to_value(&overview).unwrap();
        let route = &as_json["routes"][0];
        assert_eq!(route["disabled"], json!({"until": "2027-02-01T00:00:00Z"}));
        assert_eq!(route["conflicts"][1], json!({"plant": "west", "real": "192.168.1.0/24"}));
        assert_eq!(route["permission"]["cooperation"]["in-force"]["partner"], "beta");
        assert_eq!((&route["virtual"], &route["link"]), (&json!("10.128.0.0/24"), &json!("up")));
        assert_eq!(
            (&as_json["routes"][1]["disabled"], &as_json["routes"][1]["real_leads_to"]),
            (&json!("until-enabled"), &Value::Null)
        );

        assert_eq!(certificate(&state, "user-b").unwrap().0.as_str(), "certificate-b");
        assert_eq!(certificate(&state, "certificate-b").unwrap().0.as_str(), "certificate-b");
        assert_eq!(certificate(&state, "user-c"), None);
    }

    proptest! {
        /// Requirements: C2, C3.
        #[test]
        fn the_overview_and_the_policy_agree(document in documents()) {
            let state = example::parse(&document);
            let (terms, given) = (terms(), BTreeMap::new());
            let policy = Policy::compile(&state, &terms);
            let around = Surroundings { region: "eu", given: &given, link: |_: &PlantId| Link::Unknown };
            for id in state.certificates.keys() {
                let overview = Overview::of(&state, &terms, id.as_str(), &around).unwrap();
                let reach = policy.of(id.as_str()).unwrap();
                let on: Vec<_> = overview.routes.iter().filter(|route| route.disabled == Disabled::No).collect();
                let shown: BTreeSet<_> = on.iter().map(|route| (route.plant, route.real)).collect();
                let all = reach.plants.iter().flat_map(|plant| {
                    state.plants[*plant].subnets.iter().map(move |real| (*plant, *real))
                });
                let open = all.filter(|(plant, real)| reach.is_open(plant, real));
                prop_assert_eq!(shown, open.collect::<BTreeSet<_>>());
                for route in &overview.routes {
                    prop_assert!(route.permission.opens());
                    prop_assert_eq!(route.real_leads_to, reach.real.get(&route.real).copied());
                    let others = overview.routes.iter().filter(|other| other.plant != route.plant);
                    let meets = |other: &&Route<'_>| other.real.contains(&route.real) || route.real.contains(&other.real);
                    let conflicts: BTreeSet<_> =
                        others.filter(meets).map(|other| Conflict { plant: other.plant, real: other.real }).collect();
                    prop_assert_eq!(route.conflicts.iter().copied().collect::<BTreeSet<_>>(), conflicts);
                }
            }
        }
    }

    fn terms() -> Terms {
        Terms { opening: BTreeSet::from([Role::Operator]), now: NOW.parse().unwrap() }
    }
}
