//! Takes permissions away, ahead of everything that can fail or takes long (requirement B4).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tracing::warn;
use vpn_ebpf_common::{Address, peer::Peer, route::Route};

use super::{
    Datapath, Error,
    fill::{Content, Routes},
    read::Maps as _,
};

/// The id of the route set that never has a route. A peer with this set reaches nothing, but is still known, so that
/// its attempts are recorded under its name.
pub const NO_ROUTES: u32 = 0;

/// What [`Datapath::withdraw`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Peers that are no longer there.
    pub removed: usize,
    /// Peers that lost routes and now have the set they shall have.
    pub narrowed: usize,
    /// Ids of peers that lost routes and whose new set could not be written: they now have [`NO_ROUTES`].
    pub cut_off: Vec<u32>,
}

impl Datapath {
    /// Does those parts of `content` that take something away from a peer, and nothing else: peers that are not in it
    /// go, and peers whose new route set lacks a subnet of the present one get the new one. Nothing is added for
    /// anybody else, so an addition that fails cannot hold this back.
    ///
    /// A packet sees the whole present set or the whole new one (requirement C5). Where the new one cannot be
    /// written, or `save`, which puts its id on disk, fails, the peer gets [`NO_ROUTES`]: rather no route than one
    /// that was taken away. That is logged here, not returned.
    ///
    /// # Errors
    /// [`Error::Map`] if PEERS itself cannot be read or written.
    pub fn withdraw<E: fmt::Display>(
        &mut self,
        content: &Content,
        save: impl FnOnce() -> Result<(), E>,
    ) -> Result<Withdrawn, Error> {
        let mut withdrawn = Withdrawn::default();
        let mut changing = BTreeMap::new();
        let table = self.peer_table()?;
        for (number, has) in table.entries() {
            match content.peers.get(&number) {
                Some(shall) if shall.id == has.id => {
                    if shall.route_set != has.route_set {
                        changing.insert(number, has);
                    }
                }
                // An id of another certificate would put its packets under a wrong name.
                _ => withdrawn.removed += usize::from(table.set(number, Peer::NOBODY)),
            }
        }
        if changing.is_empty() {
            return Ok(withdrawn);
        }

        let losing = losing(&changing, content, &self.routes()?);
        if losing.is_empty() {
            return Ok(withdrawn);
        }
        let (routes, _) = self.remove_unused_routes(&losing.iter().map(|(set, _)| *set).collect())?;
        let mut failure = save().err().map(|error| error.to_string());
        let saved = failure.is_none();
        for (set, peers) in losing {
            let set = match saved.then(|| self.set_routes(&of_set(content, set), &routes)) {
                Some(Ok(_)) => set,
                Some(Err(error)) => {
                    failure.get_or_insert_with(|| error.to_string());
                    NO_ROUTES
                }
                None => NO_ROUTES,
            };
            for (number, peer) in peers {
                // The number was read from the table.
                let _ = table.set(number, Peer { route_set: set, ..peer });
                if set == NO_ROUTES {
                    withdrawn.cut_off.push(peer.id);
                } else {
                    withdrawn.narrowed += 1;
                }
            }
        }
        if let Some(error) = failure {
            let ids: Vec<_> = withdrawn.cut_off.iter().map(ToString::to_string).collect();
            warn!(
                "a permission was taken from the peers {}, whose other routes could not be written and wait with it: \
                 {error}",
                ids.join(", ")
            );
        }
        Ok(withdrawn)
    }
}

/// The peers that lose a subnet, by the set they shall have, the smallest sets first: they are the likeliest to fit.
fn losing(changing: &BTreeMap<u32, Peer>, content: &Content, routes: &Routes) -> Vec<(u32, Vec<(u32, Peer)>)> {
    // Many peers change from the same set to the same set.
    let mut loses = BTreeMap::new();
    let mut losing = BTreeMap::<u32, Vec<_>>::new();
    for (number, has) in changing {
        let Some(shall) = content.peers.get(number) else { continue };
        let lose = loses.entry((has.route_set, shall.route_set)).or_insert_with(|| {
            let kept: BTreeSet<_> = content
                .route_sets
                .get(&shall.route_set)
                .into_iter()
                .flatten()
                .map(|(_, route)| subnet(route))
                .collect();
            routes
                .range((has.route_set, Address([0; 4]), 0)..=(has.route_set, Address([u32::MAX; 4]), u32::MAX))
                .any(|(_, route)| !kept.contains(&subnet(route)))
        });
        if *lose {
            losing.entry(shall.route_set).or_default().push((*number, *has));
        }
    }
    let mut losing: Vec<_> = losing.into_iter().collect();
    losing.sort_by_key(|(set, _)| content.route_sets.get(set).map_or(0, BTreeMap::len));
    losing
}

/// What a permission is about. Not the destination: that a real address leads to another plant takes nothing away.
fn subnet(route: &Route) -> (u32, u32) {
    (route.plant, route.id)
}

fn of_set(content: &Content, set: u32) -> Routes {
    let routes = content.route_sets.get(&set).into_iter().flatten();
    routes.map(|((destination, bits), route)| ((set, *destination, *bits), *route)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use vpn_ebpf_common::Prefix;

    use super::*;

    /// Requirements: B4.
    #[test]
    fn who_loses_a_subnet_is_told_from_who_only_changes() {
        // Set 1 has subnets 1 and 2 in the kernel.
        let kernel: Routes = [(1, 1), (1, 2)].into_iter().flat_map(|(set, subnet)| routes_of(set, subnet)).collect();
        for (name, shall, loses) in [
            ("one of two", vec![1], true),
            ("everything", vec![], true),
            ("one for another", vec![1, 3], true),
            ("one more", vec![1, 2, 3], false),
            ("the same under a new id", vec![1, 2], false),
        ] {
            let content = Content {
                peers: BTreeMap::from([(9, Peer { id: 9, route_set: 7 })]),
                route_sets: BTreeMap::from([(
                    7,
                    shall
                        .into_iter()
                        .flat_map(|subnet| routes_of(7, subnet))
                        .map(|((_, a, b), r)| ((a, b), r))
                        .collect(),
                )]),
                ..Content::default()
            };
            let changing = BTreeMap::from([(9, Peer { id: 9, route_set: 1 })]);
            let found = losing(&changing, &content, &kernel);
            assert_eq!(found.iter().any(|(set, peers)| *set == 7 && peers.len() == 1), loses, "{name}");
        }
    }

    #[test]
    fn a_real_address_that_leads_elsewhere_is_no_loss() {
        let kernel: Routes = routes_of(1, 1).chain(routes_of(1, 2)).collect();
        // Without the real route of subnet 2, which has its virtual one.
        let set = routes_of(7, 1).chain(routes_of(7, 2).take(1)).map(|((_, a, b), r)| ((a, b), r)).collect();
        let content = Content {
            peers: BTreeMap::from([(9, Peer { id: 9, route_set: 7 })]),
            route_sets: BTreeMap::from([(7, set)]),
            ..Content::default()
        };
        assert!(losing(&BTreeMap::from([(9, Peer { id: 9, route_set: 1 })]), &content, &kernel).is_empty());
    }

    /// The virtual and the real route of a subnet.
    fn routes_of(set: u32, subnet: u32) -> impl Iterator<Item = ((u32, Address, u32), Route)> {
        let route =
            Route { plant: subnet, id: subnet, egress: subnet, real: Prefix::new(address(0), 128), twin: address(0) };
        [100, 200].into_iter().map(move |base| ((set, address(base + subnet as u8), 128), route))
    }

    fn address(last: u8) -> Address {
        Ipv4Addr::new(10, 0, 0, last).into()
    }
}
