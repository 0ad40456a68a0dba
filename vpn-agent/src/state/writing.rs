//! From a state back to its document.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Access, Certificate, Owner, Plant, Scope, State, Uplink, Uplinks};
use crate::{
    document::{self, Document, Endpoint, Id, Interface, Key, Moment, Region, Subnet},
    id::{CertificateId, PlantId},
    ledger::Ledger,
};

impl State {
    /// The document of this state, in which every list is sorted: equal states have equal documents.
    #[must_use]
    pub fn to_document(&self) -> Document {
        Document {
            revision: self.revision,
            organisations: self
                .organisations
                .iter()
                .map(|(id, organisation)| document::Organisation { id: text(id), name: organisation.name.clone() })
                .collect(),
            portfolios: self
                .portfolios
                .iter()
                .map(|(id, owner)| document::Portfolio { id: text(id), organisation: text(owner) })
                .collect(),
            plants: self.plants.iter().map(|(id, plant)| plant.to_record(id)).collect(),
            users: self
                .users
                .iter()
                .map(|(id, user)| document::User { id: text(id), name: user.name.clone() })
                .collect(),
            memberships: self.memberships(),
            roles: self.roles(),
            cooperations: self.cooperations(),
            certificates: self.certificates.iter().map(|(id, of)| certificate(id, of)).collect(),
            priorities: self
                .priorities
                .iter()
                .map(|(user, plants)| document::Priority { user: text(user), plants: texts(plants) })
                .collect(),
            disabled: self.disabled(),
            allocations: self.ledger.as_ref().map(Ledger::to_record),
        }
    }

    fn memberships(&self) -> Vec<document::Membership> {
        let of_user = |(user, memberships): (_, &BTreeMap<_, super::Membership>)| {
            let record = |(organisation, membership): (_, &super::Membership)| document::Membership {
                user: text(user),
                organisation: text(organisation),
                kind: membership.kind,
                access: access(&membership.access),
            };
            memberships.iter().map(record).collect::<Vec<_>>()
        };
        self.memberships.iter().flat_map(of_user).collect()
    }

    fn roles(&self) -> Vec<document::Job> {
        let mut jobs = Vec::new();
        for (user, scopes) in &self.roles {
            for (on, roles) in scopes {
                jobs.extend(roles.iter().map(|role| document::Job { user: text(user), role: *role, on: on.into() }));
            }
        }
        jobs
    }

    fn cooperations(&self) -> Vec<document::Cooperation> {
        let mut cooperations = Vec::new();
        for (on, partners) in &self.cooperations {
            cooperations.extend(partners.iter().map(|(partner, until)| document::Cooperation {
                partner: text(partner),
                on: on.into(),
                until: until.map(moment),
            }));
        }
        cooperations
    }

    fn disabled(&self) -> Vec<document::Disabled> {
        let mut disabled = Vec::new();
        for (user, routes) in &self.disabled {
            disabled.extend(routes.iter().map(|((plant, subnet), until)| document::Disabled {
                user: text(user),
                plant: text(plant),
                subnet: subnet.map(subnet_text),
                until: until.map(moment),
            }));
        }
        disabled
    }
}

impl Plant {
    /// The record of this plant in a document.
    #[must_use]
    pub fn to_record(&self, id: &PlantId) -> document::Plant {
        let (uplink, uplinks) = match &self.uplinks {
            Uplinks::Everywhere(uplink) => (Some(uplink_record(uplink)), None),
            Uplinks::Regions(uplinks) => (None, Some(regional(uplinks))),
        };
        document::Plant {
            id: text(id),
            organisation: text(&self.organisation),
            portfolio: self.portfolio.as_ref().map(text),
            subnets: self.subnets.iter().copied().map(subnet_text).collect(),
            uplink,
            uplinks,
        }
    }
}

/// Regions with the same uplink share a record.
fn regional(uplinks: &BTreeMap<String, Uplink>) -> Vec<document::RegionalUplink> {
    let mut records = Vec::<document::RegionalUplink>::new();
    for (region, of) in uplinks {
        let (region, uplink) = (Region(region.clone()), uplink_record(of));
        match records.iter_mut().find(|record| record.uplink == uplink) {
            Some(record) => record.regions.push(region),
            None => records.push(document::RegionalUplink { regions: vec![region], uplink }),
        }
    }
    records
}

fn uplink_record(uplink: &Uplink) -> document::Uplink {
    match uplink {
        Uplink::Host { public_key } => document::Uplink::Host { public_key: Key(public_key.to_string()) },
        Uplink::Interface { interface } => document::Uplink::Interface { interface: Interface(interface.clone()) },
        Uplink::Dial { public_key, endpoint, keepalive_seconds } => document::Uplink::Dial {
            public_key: Key(public_key.to_string()),
            endpoint: Endpoint(endpoint.to_string()),
            keepalive_seconds: Some(*keepalive_seconds),
        },
    }
}

fn access(access: &Access) -> document::Access {
    match access {
        Access::All => document::Access::All,
        Access::Some { portfolios, plants } => {
            document::Access::Some(document::AccessList { portfolios: texts(portfolios), plants: texts(plants) })
        }
    }
}

fn certificate(id: &CertificateId, certificate: &Certificate) -> document::Certificate {
    let (user, organisation, plants) = match &certificate.owner {
        Owner::User(user) => (Some(text(user)), None, None),
        Owner::Organisation { organisation, plants } => (None, Some(text(organisation)), Some(texts(plants))),
    };
    document::Certificate {
        id: text(id),
        user,
        organisation,
        plants,
        public_key: Key(certificate.public_key.to_string()),
    }
}

impl From<&Scope> for document::Scope {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Plant(id) => Self::Plant(text(id)),
            Scope::Portfolio(id) => Self::Portfolio(text(id)),
        }
    }
}

fn moment(moment: Timestamp) -> Moment {
    Moment(moment.to_string())
}

fn subnet_text(subnet: IpNet) -> Subnet {
    Subnet(subnet.to_string())
}

fn text(id: &impl ToString) -> Id {
    Id(id.to_string())
}

fn texts<'i, T: ToString + 'i>(ids: impl IntoIterator<Item = &'i T>) -> Vec<Id> {
    ids.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::example::{self, random::documents};

    #[test]
    fn nothing_is_lost_of_a_document() {
        let mut document = example::json();
        document["plants"][0]["uplinks"] = json!([
            {"regions": ["us", "ap"], "uplink": {"kind": "interface", "interface": "eth1.10"}},
            {"regions": ["eu"], "uplink": {
                "kind": "dial", "public_key": example::key(100), "endpoint": "site.example:51820", "keepalive_seconds": 7,
            }},
        ]);
        document["plants"][0].as_object_mut().unwrap().remove("uplink");
        document["certificates"][1] = json!({"id": "tunnel", "organisation": "beta", "plants": ["south", "north"], "public_key": example::key(2)});
        document["cooperations"][0]["until"] = json!("2027-01-01T01:00:00+01:00");
        document["priorities"] = json!([{"user": "user-b", "plants": ["south", "north"]}]);
        document["disabled"] = json!([
            {"user": "user-b", "plant": "south", "until": "2027-01-01T00:00:00Z"},
            {"user": "user-b", "plant": "north", "subnet": "192.168.1.0/24"},
        ]);
        let state = example::parse(&document);
        let written = serde_json::to_value(state.to_document()).unwrap();

        // As it was, but for the order of what has none, and the offset.
        let mut expected = document;
        expected["plants"][0]["uplinks"].as_array_mut().unwrap().reverse();
        let uplinks = &mut expected["plants"][0]["uplinks"];
        uplinks[1]["regions"] = json!(["ap", "us"]);
        uplinks.as_array_mut().unwrap().reverse();
        expected["certificates"][1]["plants"] = json!(["north", "south"]);
        expected["cooperations"][0]["until"] = json!("2027-01-01T00:00:00Z");
        expected["disabled"].as_array_mut().unwrap().reverse();
        // By user, then by plant.
        expected["roles"].as_array_mut().unwrap().swap(1, 2);
        assert_eq!(written, expected);
        assert_eq!(example::parse(&written), state);
    }

    proptest! {
        /// Whatever the order of the lists, one state has one document, and it is a document of that state.
        #[test]
        fn equal_states_have_equal_documents(document in documents(), seed in any::<u64>()) {
            let state = example::parse(&document);
            let written = serde_json::to_value(state.to_document()).unwrap();
            prop_assert_eq!(&example::parse(&written), &state);

            let mut shuffled = document;
            for list in shuffled.as_object_mut().unwrap().values_mut().filter_map(Value::as_array_mut) {
                let length = list.len().max(1);
                list.rotate_left((seed % length as u64) as usize);
            }
            let again = example::parse(&shuffled);
            prop_assert_eq!(&again, &state);
            prop_assert_eq!(serde_json::to_value(again.to_document()).unwrap(), written);
        }
    }
}
