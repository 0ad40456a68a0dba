//! The difference between the peers that an interface has and those that it shall have. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::key::PublicKey;

/// Source addresses that a peer may use, and destinations that lead to it.
pub type AllowedIps = BTreeSet<IpNet>;

/// What to write so that an interface has the peers that it shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Peers to add or change. Before the removals: an allowed IP then moves from an old key to a new one at once.
    pub put: Vec<Put>,
    /// Peers to remove.
    pub remove: Vec<PublicKey>,
}

/// A peer to add or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which peer.
    pub public_key: PublicKey,
    /// Allowed IPs to add to those that the peer has, or to put in their place.
    pub allowed_ips: AllowedIps,
    /// Whether those that the peer has go. Packets may be lost for a moment, so this is set only where some must go.
    pub replace: bool,
    /// Whether the peer exists; it is not made again if somebody removed it in the meantime.
    pub exists: bool,
}

impl Changes {
    /// From the peers that there are to those that there shall be. Peers in both are left alone if they are equal.
    #[must_use]
    pub fn between(actual: &BTreeMap<PublicKey, AllowedIps>, desired: &BTreeMap<PublicKey, AllowedIps>) -> Self {
        let mut changes = Self::default();
        for (public_key, wanted) in desired {
            let put = match actual.get(public_key) {
                None => Put { public_key: *public_key, allowed_ips: wanted.clone(), replace: true, exists: false },
                Some(has) if has == wanted => continue,
                Some(has) if has.is_subset(wanted) => {
                    let allowed_ips = wanted.difference(has).copied().collect();
                    Put { public_key: *public_key, allowed_ips, replace: false, exists: true }
                }
                Some(_) => Put { public_key: *public_key, allowed_ips: wanted.clone(), replace: true, exists: true },
            };
            changes.put.push(put);
        }
        changes.remove.extend(actual.keys().filter(|public_key| !desired.contains_key(public_key)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_map, btree_set},
        prelude::*,
    };

    use super::*;

    #[test]
    fn what_is_equal_is_left_alone() {
        let actual = peers(&[(1, &["10.0.0.1/32"]), (2, &["10.0.0.2/32"]), (3, &["10.0.0.3/32"]), (5, &[])]);
        let desired = peers(&[
            (1, &["10.0.0.1/32"]),
            (2, &["10.0.0.2/32", "10.0.0.9/32"]),
            (3, &["10.0.0.4/32"]),
            (4, &["10.0.0.5/32"]),
        ]);
        let put = |number: u8, allowed_ips: &[&str], replace, exists| Put {
            public_key: key(number),
            allowed_ips: nets(allowed_ips),
            replace,
            exists,
        };
        let expected = Changes {
            put: vec![
                put(2, &["10.0.0.9/32"], false, true),
                put(3, &["10.0.0.4/32"], true, true),
                put(4, &["10.0.0.5/32"], true, false),
            ],
            remove: vec![key(5)],
        };
        assert_eq!(Changes::between(&actual, &desired), expected);
        assert_eq!(Changes::between(&actual, &actual), Changes::default());
    }

    proptest! {
        /// The kernel gives an allowed IP to one peer of an interface only, so a change may take it from another.
        /// Requirements: A3.
        #[test]
        fn the_kernel_ends_up_as_desired(actual in device(), desired in device()) {
            let mut kernel = actual.clone();
            let changes = Changes::between(&actual, &desired);
            for put in &changes.put {
                prop_assert_eq!(kernel.contains_key(&put.public_key), put.exists);
                for allowed_ips in kernel.values_mut() {
                    allowed_ips.retain(|allowed_ip| !put.allowed_ips.contains(allowed_ip));
                }
                let peer = kernel.entry(put.public_key).or_default();
                if put.replace {
                    peer.clear();
                }
                peer.extend(&put.allowed_ips);
            }
            for public_key in &changes.remove {
                prop_assert!(kernel.remove(public_key).is_some());
            }
            prop_assert_eq!(kernel, desired);
        }
    }

    /// Some keys with some of eight addresses, each address with one key.
    fn device() -> impl Strategy<Value = BTreeMap<PublicKey, AllowedIps>> {
        (btree_map(0..8_u8, 0..5_u8, 0..8), btree_set(0..5_u8, 0..5)).prop_map(|(owners, keys)| {
            let mut device: BTreeMap<_, AllowedIps> =
                keys.into_iter().map(|number| (key(number), BTreeSet::new())).collect();
            for (address, number) in owners {
                device.entry(key(number)).or_default().extend(nets(&[&format!("10.0.0.{address}/32")]));
            }
            device
        })
    }

    fn peers(peers: &[(u8, &[&str])]) -> BTreeMap<PublicKey, AllowedIps> {
        peers.iter().map(|(number, allowed_ips)| (key(*number), nets(allowed_ips))).collect()
    }

    fn nets(texts: &[&str]) -> AllowedIps {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }
}
