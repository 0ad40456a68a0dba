//! What the collector is told about the numbers in the kernel.

use std::net::IpAddr;

use vpn_directory::{Directory, FORMAT, Peer, Plant, Subnet};

use crate::{
    addressing::{self, Allocations},
    config::Config,
    id::CertificateId,
    state::{Holder, State},
};

/// Everything that was ever given, marked as active where `state` has it.
#[must_use]
pub fn directory(state: &State, allocations: &Allocations, config: &Config) -> Directory {
    let mut peers: Vec<_> = allocations.peers().iter().map(|(id, given)| peer(id, given, state, config)).collect();
    peers.sort_unstable_by_key(|peer| peer.id);
    let mut plants: Vec<_> = allocations
        .plants()
        .iter()
        .map(|(id, given)| {
            let now = state.plants.get(id);
            let mut subnets: Vec<_> = given
                .subnets
                .iter()
                .map(|(real, subnet)| Subnet {
                    id: subnet.id,
                    real: *real,
                    virtual_: subnet.virtual_,
                    active: now.is_some_and(|plant| plant.subnets.contains(real)),
                })
                .collect();
            subnets.sort_unstable_by_key(|subnet| subnet.id);
            let (plant, operator) = (id.to_string(), given.operator.to_string());
            Plant { id: given.id, plant, operator, subnets, active: now.is_some() }
        })
        .collect();
    plants.sort_unstable_by_key(|plant| plant.id);
    Directory {
        format: FORMAT,
        revision: state.revision,
        gateway: config.gateway.clone(),
        region: config.region.clone(),
        peers,
        plants,
    }
}

/// The entry of a certificate.
#[must_use]
pub fn peer(id: &CertificateId, given: &addressing::Peer, state: &State, config: &Config) -> Peer {
    Peer {
        id: given.id,
        certificate: id.to_string(),
        user: user(&given.owner),
        organisations: given.organisations.iter().map(ToString::to_string).collect(),
        address: IpAddr::V4(given.address),
        address6: config.pools.tunnel6_of(given.address),
        active: state.certificates.contains_key(id),
    }
}

/// Whom the audit names as the user. The brackets, which no id has, keep organisations apart from users.
fn user(owner: &Holder) -> String {
    match owner {
        Holder::User(user) => user.to_string(),
        Holder::Organisation(organisation) => format!("(organisation {organisation})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::example;

    #[test]
    fn what_is_gone_stays_as_inactive() {
        let config = example::config("");
        let before = Allocations::default().extended(&example::state(), &config).unwrap();
        let first = directory(&example::state(), &before, &config);
        assert_eq!((first.gateway.as_str(), first.region.as_str(), first.revision), ("gateway-1", "eu", 7));
        assert!(first.peers.iter().all(|peer| peer.active) && first.plants.iter().all(|plant| plant.active));
        assert_eq!(first.peer(1).unwrap().organisations, ["alpha"]);
        let addresses = (first.peer(1).unwrap().address.to_string(), first.peer(1).unwrap().address6.to_string());
        assert_eq!(addresses, ("100.64.0.2".to_owned(), "fd76:706e:6777::2".to_owned()));

        let mut document = example::json();
        document["revision"] = json!(8);
        document["certificates"].as_array_mut().unwrap().remove(0);
        document["plants"][0]["subnets"] = json!(["192.168.7.0/24", "2001:db8:1::/64"]);
        document["roles"].as_array_mut().unwrap().remove(1);
        document["plants"].as_array_mut().unwrap().remove(1);
        let state = example::parse(&document);
        let second = directory(&state, &before.extended(&state, &config).unwrap(), &config);
        assert_eq!(second.revision, 8);
        let peer = second.peer(1).unwrap();
        assert_eq!((peer.user.as_str(), peer.active), ("user-a", false));
        assert_eq!(second.plant(2).map(|plant| plant.active), Some(false));
        let subnets: Vec<_> = second.plant(1).unwrap().subnets.iter().map(|s| (s.real.to_string(), s.active)).collect();
        let expected = [("192.168.1.0/24", false), ("192.168.7.0/24", true), ("2001:db8:1::/64", true)];
        assert_eq!(subnets, expected.map(|(real, active)| (real.to_owned(), active)));
    }

    /// Requirements: D3, F1.
    #[test]
    fn a_certificate_of_an_organisation_has_the_organisation_in_place_of_a_user() {
        let config = example::config("");
        let mut document = example::json();
        document["certificates"][1] =
            json!({"id": "tunnel", "organisation": "beta", "plants": ["north"], "public_key": example::key(2)});
        let state = example::parse(&document);
        let directory = directory(&state, &Allocations::default().extended(&state, &config).unwrap(), &config);
        let peer = directory.peer(2).unwrap();
        assert_eq!((peer.certificate.as_str(), peer.user.as_str()), ("tunnel", "(organisation beta)"));
        assert_eq!(peer.organisations, ["beta"]);
    }
}
