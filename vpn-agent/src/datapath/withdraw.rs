//! Takes permissions away, ahead of everything that can fail or takes long (requirement B4).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use tracing::warn;
use vpn_ebpf_common::peer::Peer;

use super::{Datapath, Error, fill::Content, holders::Holders, route_set::RouteSet};

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
        let has = self.table.entries();
        // Something else may have written others than we have.
        self.holders = Holders::found(&has);
        self.take_away(has, &content.peers, &content.route_sets, save)
    }

    /// The same for the peers in `has` alone, which is what PEERS says of them.
    pub(super) fn take_away<E: fmt::Display>(
        &mut self,
        has: BTreeMap<u32, Peer>,
        shall: &BTreeMap<u32, Peer>,
        sets: &BTreeMap<u32, Arc<RouteSet>>,
        save: impl FnOnce() -> Result<(), E>,
    ) -> Result<Withdrawn, Error> {
        let mut withdrawn = Withdrawn::default();
        let mut changing = BTreeMap::new();
        for (number, has) in has {
            match shall.get(&number) {
                Some(shall) if shall.id == has.id => {
                    if shall.route_set != has.route_set {
                        changing.insert(number, has);
                    }
                }
                // An id of another certificate would put its packets under a wrong name.
                _ => {
                    withdrawn.removed += usize::from(self.set_peer(number, Peer::NOBODY));
                }
            }
        }
        if changing.is_empty() {
            return Ok(withdrawn);
        }

        let losing = losing(&changing, shall, sets, self.sets_mut()?.whole());
        if losing.is_empty() {
            return Ok(withdrawn);
        }
        let keep: BTreeSet<_> = losing.iter().map(|(set, _)| *set).collect();
        let mut failure = save().err().map(|error| error.to_string());
        let saved = failure.is_none();
        for (set, peers) in losing {
            let routes = sets.get(&set).cloned().unwrap_or_default();
            let set = match saved.then(|| self.write_set(set, &routes, || keep.clone())) {
                Some(Ok(_)) => set,
                Some(Err(error)) => {
                    failure.get_or_insert_with(|| error.to_string());
                    NO_ROUTES
                }
                None => NO_ROUTES,
            };
            for (number, peer) in peers {
                // The number was read from the table.
                let _ = self.set_peer(number, Peer { route_set: set, ..peer });
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
fn losing(
    changing: &BTreeMap<u32, Peer>,
    shall: &BTreeMap<u32, Peer>,
    wanted: &BTreeMap<u32, Arc<RouteSet>>,
    sets: &BTreeMap<u32, Arc<RouteSet>>,
) -> Vec<(u32, Vec<(u32, Peer)>)> {
    let none = RouteSet::default();
    // Many peers change from the same set to the same set.
    let mut loses = BTreeMap::new();
    let mut losing = BTreeMap::<u32, Vec<_>>::new();
    for (number, has) in changing {
        let Some(shall) = shall.get(number) else { continue };
        let lose = loses.entry((has.route_set, shall.route_set)).or_insert_with(|| {
            let shall = wanted.get(&shall.route_set).map_or(&none, Arc::as_ref);
            sets.get(&has.route_set).is_some_and(|has| has.has_more_than(shall))
        });
        if *lose {
            losing.entry(shall.route_set).or_default().push((*number, *has));
        }
    }
    let mut losing: Vec<_> = losing.into_iter().collect();
    losing.sort_by_key(|(set, _)| wanted.get(set).map_or(0, |routes| routes.len()));
    losing
}
