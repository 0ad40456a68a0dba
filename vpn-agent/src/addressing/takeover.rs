//! What a gateway takes over from the ledger in the desired state, and makes a ledger of (requirement E3).

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::{Allocations, Error, Peer, Plant};
use crate::{
    config::{AllocationMode, Config},
    document::Document,
    id::CertificateId,
    ledger::{self, Clash, Ledger, Next},
    pools::Pools,
    state::{Holder, State},
};

impl Allocations {
    /// Whether `state` can be taken up as far as this is about what was given: certificates and plants belong to whom
    /// they have always belonged, and the ledger fits what was given here before. Where nothing is given here, whether
    /// the ledger has all that the state needs.
    ///
    /// # Errors
    /// [`Error::OtherOwner`], [`Error::OtherOperator`], [`Error::Ledger`], [`Error::NotInLedger`].
    pub fn check(&self, state: &State, config: &Config) -> Result<(), Error> {
        self.check_owners(state)?;
        if let Some(ledger) = &state.ledger {
            self.compare(ledger, &config.pools)?;
        }
        match config.allocations {
            AllocationMode::Local => Ok(()),
            AllocationMode::State => check_complete(state),
        }
    }

    /// The same for these certificates alone, at a cost that hardly depends on how many others there are.
    ///
    /// # Errors
    /// [`Error::OtherOwner`], [`Error::Ledger`], [`Error::NotInLedger`].
    pub fn check_of(
        &self,
        state: &State,
        config: &Config,
        certificates: &BTreeSet<CertificateId>,
    ) -> Result<(), Error> {
        self.check_owners_of(state, certificates)?;
        let ledger = state.ledger.as_ref();
        for id in certificates {
            match ledger.and_then(|ledger| ledger.peers().get(id)) {
                Some(peer) => self.compare_peer(id, peer, &config.pools)?,
                None if config.allocations == AllocationMode::State && state.certificates.contains_key(id) => {
                    return Err(Error::NotInLedger { what: format!("certificate {id}") });
                }
                None => {}
            }
        }
        ledger.map_or(Ok(()), |ledger| self.compare_tunnel6(ledger))
    }

    /// Takes over every entry of the ledger, if the state has one. Everything was checked.
    pub(super) fn take_over(&mut self, state: &State) {
        let Some(ledger) = &state.ledger else { return };
        for (id, peer) in ledger.peers() {
            self.peers.entry(id.clone()).or_insert_with(|| taken(peer));
        }
        for (id, plant) in ledger.plants() {
            let given = self.plants.entry(id.clone()).or_insert_with(|| Plant {
                id: plant.id,
                operator: plant.operator.clone(),
                subnets: BTreeMap::new(),
            });
            given.subnets.extend(plant.subnets.iter().map(|(real, subnet)| (*real, *subnet)));
        }
        self.tunnel6 = self.tunnel6.or(ledger.tunnel6());
        let next = ledger.next();
        self.next.peer = self.next.peer.max(next.peer);
        self.next.plant = self.next.plant.max(next.plant);
        self.next.route = self.next.route.max(next.route);
    }

    /// The document of `state` with its ledger completed by what was given here, and by new numbers and addresses for what
    /// then still lacks some. Pure: the same from the same.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn allocated(&self, state: &State, config: &Config) -> Result<Document, Error> {
        let config = Config { allocations: AllocationMode::Local, ..config.clone() };
        let given = self.extended(state, &config)?;
        Ok(Document { allocations: Some(given.to_ledger().to_record()), ..state.to_document() })
    }

    /// Everything that was given here, as a ledger.
    #[must_use]
    pub fn to_ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for (id, peer) in &self.peers {
            ledger.set_peer(id.clone(), Some(entry(peer)));
        }
        for (id, plant) in &self.plants {
            ledger.set_plant(id.clone(), Some(plant.clone()));
        }
        let next = Next { peer: self.next.peer, plant: self.next.plant, route: self.next.route };
        ledger.set_next(next, self.tunnel6);
        ledger
    }

    /// Whether the ledger says nothing else than what was given here, and has nothing that somebody else has here.
    fn compare(&self, ledger: &Ledger, pools: &Pools) -> Result<(), Error> {
        // Needed only for what is new.
        let local = LazyCell::new(|| self.to_ledger());
        for (id, peer) in ledger.peers() {
            let clash = match self.peers.get(id) {
                Some(given) => ledger::same_peer(&entry(given), peer),
                None => local.check_peer(id, peer),
            };
            clash.map_err(|clash| peer_clash(id, clash))?;
            check_pool(id, peer, pools)?;
        }
        for (id, plant) in ledger.plants() {
            let path = |field: &str| format!("allocations.plants[{id}].{field}");
            let given = self.plants.get(id);
            if given == Some(plant) {
                continue;
            }
            let subnets: Vec<_> = plant.subnets.iter().map(|(real, subnet)| (*real, *subnet)).collect();
            local.check_plant(id, plant, &subnets).map_err(|clash| here(&path, clash))?;
            for (at, (_, subnet)) in subnets.iter().enumerate() {
                let (field, pool) = pools.virtual_for(&subnet.virtual_);
                if !pool.contains(&subnet.virtual_) {
                    let message = format!("{} is not in {field}, {pool}", subnet.virtual_);
                    return Err(Error::Ledger { path: path(&format!("subnets[{at}].virtual")), message });
                }
            }
        }
        self.compare_tunnel6(ledger)
    }

    /// The same for one entry, by a look at all that were given.
    fn compare_peer(&self, id: &CertificateId, peer: &ledger::Peer, pools: &Pools) -> Result<(), Error> {
        let mut alike = Ledger::default();
        for (other, given) in &self.peers {
            if other == id || given.id == peer.id || given.address == peer.address {
                alike.set_peer(other.clone(), Some(entry(given)));
            }
        }
        alike.check_peer(id, peer).map_err(|clash| peer_clash(id, clash))?;
        check_pool(id, peer, pools)
    }

    fn compare_tunnel6(&self, ledger: &Ledger) -> Result<(), Error> {
        let Some(tunnel6) = ledger.tunnel6() else { return Ok(()) };
        let path = |field: &str| format!("allocations.{field}");
        ledger::same_tunnel6(self.tunnel6.as_ref(), &tunnel6).map_err(|clash| here(&path, clash))
    }
}

fn peer_clash(id: &CertificateId, clash: Clash) -> Error {
    here(&|field| format!("allocations.peers[{id}].{field}"), clash)
}

fn check_pool(id: &CertificateId, peer: &ledger::Peer, pools: &Pools) -> Result<(), Error> {
    if pools.is_for_certificates(peer.address) {
        return Ok(());
    }
    let path = format!("allocations.peers[{id}].address");
    let message = format!("{} is not for certificates in pools.tunnel, {}", peer.address, pools.tunnel);
    Err(Error::Ledger { path, message })
}

/// A clash with what was given on this gateway.
fn here(path: &dyn Fn(&str) -> String, clash: Clash) -> Error {
    Error::Ledger { path: path(&clash.field), message: format!("{} on this gateway", clash.message) }
}

/// Whether the ledger has everything that the state needs.
fn check_complete(state: &State) -> Result<(), Error> {
    let lacks = |what: &dyn Display| Err(Error::NotInLedger { what: what.to_string() });
    let ledger = state.ledger.as_ref();
    for id in state.certificates.keys() {
        if !has_entry(ledger, id) {
            return lacks(&format_args!("certificate {id}"));
        }
    }
    for (id, plant) in &state.plants {
        let Some(entry) = ledger.and_then(|ledger| ledger.plants().get(id)) else {
            return lacks(&format_args!("plant {id}"));
        };
        if let Some(real) = plant.subnets.iter().find(|real| !entry.subnets.contains_key(*real)) {
            return lacks(&format_args!("subnet {real} of plant {id}"));
        }
    }
    Ok(())
}

fn has_entry(ledger: Option<&Ledger>, id: &CertificateId) -> bool {
    ledger.is_some_and(|ledger| ledger.peers().contains_key(id))
}

/// The entry of the ledger for a certificate.
fn entry(peer: &Peer) -> ledger::Peer {
    ledger::Peer { id: peer.id, address: peer.address, owner: peer.owner.clone() }
}

/// What a certificate is given by its entry. A state that has the certificate says which organisations are behind it.
fn taken(entry: &ledger::Peer) -> Peer {
    let ledger::Peer { id, address, owner } = entry;
    let organisations = match owner {
        Holder::User(_) => Default::default(),
        Holder::Organisation(organisation) => [organisation.clone()].into(),
    };
    Peer { id: *id, address: *address, owner: owner.clone(), organisations }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;
    use crate::example;

    /// Requirements: C1, E3.
    #[test]
    fn entries_are_taken_over_as_they_are() {
        let mut document = example::json();
        document["allocations"] = json!({
            "peers": [
                {"certificate": "certificate-b", "id": 7, "address": "100.64.0.77", "user": "user-b"},
                {"certificate": "gone", "id": 5, "address": "100.64.0.2", "organisation": "gamma"},
            ],
            "plants": [{"plant": "north", "id": 3, "operator": "alpha",
                        "subnets": [{"real": "192.168.1.0/24", "id": 9, "virtual": "10.128.7.0/24"},
                                    {"real": "10.0.0.0/16", "id": 2, "virtual": "10.128.0.0/16"}]}],
            "next": {"peer": 20, "plant": 4, "route": 10},
            "tunnel6": {"tunnel": "100.64.0.0", "tunnel6": "fd76:706e:6777::"},
        });
        // Not disjoint, since 10.128.7.0/24 lies in 10.128.0.0/16.
        let problems = State::parse(document.to_string().as_bytes()).unwrap_err().to_string();
        assert!(problems.starts_with("allocations.plants[0].subnets[1].virtual: 10.128.0.0/16 overlaps"), "{problems}");
        document["allocations"]["plants"][0]["subnets"][1]["virtual"] = json!("10.129.0.0/16");

        let state = example::parse(&document);
        let config = example::config("");
        let given = Allocations::default().extended(&state, &config).unwrap();
        let peer = |id: &str| (given.peers()[id].id, given.peers()[id].address.to_string());
        assert_eq!(peer("certificate-b"), (7, "100.64.0.77".into()));
        assert_eq!(given.peers()["certificate-b"].organisations, ["beta".parse().unwrap()].into());
        assert_eq!(peer("gone"), (5, "100.64.0.2".into()));
        assert_eq!(peer("certificate-a"), (20, "100.64.0.3".into()), "what the ledger lacks is given here");
        let subnet = |plant: &str| given.plants()[plant].subnets[&"192.168.1.0/24".parse().unwrap()];
        assert_eq!((given.plants()["north"].id, subnet("north").id), (3, 9));
        assert_eq!(subnet("north").virtual_.to_string(), "10.128.7.0/24");
        assert_eq!((given.plants()["south"].id, subnet("south").id), (4, 10));
        assert_eq!(subnet("south").virtual_.to_string(), "10.128.6.0/24", "where the least room is");
        assert_eq!(given.extended(&state, &config).unwrap(), given);

        let document: Document = serde_json::from_value(document).unwrap();
        let mut allocations = document.allocations.unwrap();
        allocations.plants[0].subnets.reverse();
        assert_eq!(state.to_document().allocations, Some(allocations), "sorted");
    }

    /// Requirements: C1, E3, G4.
    #[test]
    fn what_contradicts_is_named() {
        let config = example::config("");
        let before = Allocations::default().extended(&example::state(), &config).unwrap();
        let complete = allocated(&example::json());
        assert_eq!(before.extended(&example::parse(&complete), &config).unwrap(), before);
        for (pointer, value, path, part) in [
            ("/peers/0/id", json!(9), "allocations.peers[certificate-a].id", "was 1 before"),
            ("/peers/0/address", json!("100.64.0.9"), "allocations.peers[certificate-a].address", "was 100.64.0.2"),
            ("/peers/0/certificate", json!("c"), "allocations.peers[c].id", "1 is the id of another certificate on"),
            ("/plants/0/id", json!(9), "allocations.plants[north].id", "was 1 before; what was given stays on this"),
            ("/plants/0/plant", json!("west"), "allocations.plants[west].id", "1 is the id of another plant on this"),
            ("/plants/0/subnets/0/id", json!(9), "allocations.plants[north].subnets[0].id", "was 1 before"),
            (
                "/plants/0/subnets/0/virtual",
                json!("10.128.9.0/24"),
                "allocations.plants[north].subnets[0].virtual",
                "was 10.128.0.0/24 before",
            ),
            ("/tunnel6/tunnel6", json!("fd00::"), "allocations.tunnel6.tunnel6", "was fd76:706e:6777:: before"),
        ] {
            let mut document = complete.clone();
            document["allocations"]["next"] = json!({"peer": 10, "plant": 10, "route": 10});
            *document["allocations"].pointer_mut(pointer).unwrap() = value;
            let error = before.extended(&example::parse(&document), &config).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{path}: ")) && error.contains(part), "{pointer}: {error}");
        }
        for (pointer, value, path, part) in [
            (
                "/peers/0/address",
                json!("100.65.0.1"),
                "allocations.peers[certificate-a].address",
                "pools.tunnel, 100.64",
            ),
            (
                "/peers/0/address",
                json!("100.64.0.1"),
                "allocations.peers[certificate-a].address",
                "not for certificates",
            ),
            (
                "/plants/0/subnets/0/virtual",
                json!("10.0.0.0/24"),
                "allocations.plants[north].subnets[0].virtual",
                "is not in pools.virtual, 10.128.0.0/9",
            ),
        ] {
            let mut document = complete.clone();
            *document["allocations"].pointer_mut(pointer).unwrap() = value;
            let error = Allocations::default().extended(&example::parse(&document), &config).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{path}: ")) && error.contains(part), "{pointer}: {error}");
        }
    }

    /// Requirements: E3, G4.
    #[test]
    fn single_certificates_are_checked_as_all_of_them_are() {
        let config = example::config_with("allocations = \"state\"\n");
        let complete = allocated(&example::json());
        let before = Allocations::default().extended(&example::parse(&complete), &config).unwrap();
        let ids: BTreeSet<CertificateId> = ["certificate-a", "certificate-b", "c"].map(|id| id.parse().unwrap()).into();
        let entry = |certificate: &str, id: u32, address: &str| json!({"certificate": certificate, "id": id, "address": address, "user": "user-c"});
        for (change, part) in [
            (None, ""),
            (Some(("/peers/2", entry("c", 3, "100.64.0.9"))), ""),
            (Some(("/peers/0/id", json!(9))), "allocations.peers[certificate-a].id: was 1 before"),
            (
                Some(("/peers/0/address", json!("100.64.0.9"))),
                "allocations.peers[certificate-a].address: was 100.64.0.2",
            ),
            (
                Some(("/peers/0", entry("c", 1, "100.64.0.9"))),
                "allocations.peers[c].id: 1 is the id of another certificate",
            ),
            (Some(("/peers", json!([]))), "certificate certificate-a has no entry"),
            (Some(("/peers/2", entry("c", 3, "100.64.0.1"))), "allocations.peers[c].address: 100.64.0.1 is not for"),
            (Some(("/tunnel6/tunnel", json!("100.65.0.0"))), "allocations.tunnel6.tunnel: was 100.64.0.0 before"),
        ] {
            let mut document = complete.clone();
            document["allocations"]["next"] = json!({"peer": 10, "plant": 10, "route": 10});
            match change {
                Some(("/peers/2", entry)) => document["allocations"]["peers"].as_array_mut().unwrap().push(entry),
                Some((pointer, value)) => *document["allocations"].pointer_mut(pointer).unwrap() = value,
                None => {}
            }
            let state = example::parse(&document);
            let said = |checked: Result<(), Error>| checked.err().map(|error| error.to_string()).unwrap_or_default();
            let (alone, all) = (said(before.check_of(&state, &config, &ids)), said(before.check(&state, &config)));
            assert!(alone.contains(part) && alone.is_empty() == part.is_empty(), "{part}: {alone}");
            assert_eq!(alone.is_empty(), all.is_empty(), "{part}: {all}");
        }
        // What another certificate has here.
        let mut document = complete;
        document["allocations"]["peers"] = json!([entry("c", 3, "100.64.0.3")]);
        document["allocations"]["next"] = json!({"peer": 10, "plant": 10, "route": 10});
        let state = example::parse(&document);
        let local = example::config("");
        let error = before.check_of(&state, &local, &ids).unwrap_err().to_string();
        assert!(error.starts_with("allocations.peers[c].address: 100.64.0.3 is the address of another"), "{error}");
    }

    /// Requirements: C1, E3.
    #[test]
    fn where_the_state_allocates_nothing_is_given_here() {
        let config = example::config_with("allocations = \"state\"\n");
        let error = |document: &Value| {
            let given = Allocations::default().extended(&example::parse(document), &config);
            given.map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        let complete = allocated(&example::json());
        assert_eq!(error(&complete), "");
        assert!(error(&example::json()).starts_with("allocations: certificate certificate-a has no entry; run"));
        let mut document = complete.clone();
        document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "10.0.0.0/24"]);
        assert!(error(&document).contains("subnet 10.0.0.0/24 of plant south has no entry"), "{}", error(&document));
        let mut document = complete;
        document["allocations"]["plants"].as_array_mut().unwrap().pop();
        assert!(error(&document).contains("plant south has no entry"), "{}", error(&document));
    }

    proptest! {
        /// One place allocates, change by change. Gateways see some of the states, in any order; one sees the last alone.
        ///
        /// Requirements: C1, E3.
        #[test]
        fn whatever_the_order_of_changes_all_gateways_agree(
            states in vec(super::super::tests::documents(), 1..6),
            orders in vec(vec(any::<prop::sample::Index>(), 0..8), 3),
        ) {
            let mut history = Vec::<Value>::new();
            for mut document in states {
                document["allocations"] = history.last().map_or(Value::Null, |last| last["allocations"].clone());
                history.push(allocated(&document));
            }
            let last = example::parse(history.last().unwrap());
            let config = example::config_with("allocations = \"state\"\n");
            let fresh = Allocations::default().extended(&last, &config).unwrap();
            for order in orders {
                let mut gateway = Allocations::default();
                let seen = order.iter().map(|at| at.get(&history)).chain(history.last());
                for document in seen {
                    gateway = gateway.extended(&example::parse(document), &config).unwrap();
                }
                prop_assert_eq!(numbers(&gateway), numbers(&fresh));
            }
        }
    }

    /// Everything but the organisations behind certificates that are gone, of which a ledger says nothing.
    fn numbers(given: &Allocations) -> Ledger {
        given.to_ledger()
    }

    /// The document with its ledger completed, as `vpn-agent allocate` does.
    fn allocated(document: &Value) -> Value {
        let (state, config) = (example::parse(document), example::config_with("allocations = \"state\"\n"));
        serde_json::to_value(Allocations::default().allocated(&state, &config).unwrap()).unwrap()
    }
}
