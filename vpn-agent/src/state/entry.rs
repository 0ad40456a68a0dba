//! Single places of a state: the only way to change one, which keeps the index and leaves nothing empty behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Certificate, Membership, Organisation, Plant, Routes, Scope, State, User};
use crate::{
    addressing::{self, Tunnel6},
    id::{CertificateId, OrganisationId, PlantId, PortfolioId, UserId},
    ledger::{Next, Peer},
    role::Role,
};

/// A place of a state and what is there; `None` for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Revision(u64),
    Organisation(OrganisationId, Option<Organisation>),
    Portfolio(PortfolioId, Option<OrganisationId>),
    Plant(PlantId, Option<Arc<Plant>>),
    User(UserId, Option<User>),
    Membership(UserId, OrganisationId, Option<Membership>),
    Role(UserId, Scope, Role, Option<()>),
    Cooperation(Scope, OrganisationId, Option<Option<Timestamp>>),
    Certificate(CertificateId, Option<Certificate>),
    Priority(UserId, Option<Vec<PlantId>>),
    Disabled(UserId, Routes, Option<Option<Timestamp>>),
    /// Whether there is a ledger, and what it gives next. The ledger that is gone had no entries.
    Ledger(Option<(Next, Option<Tunnel6>)>),
    LedgerPeer(CertificateId, Option<Peer>),
    LedgerPlant(PlantId, Option<addressing::Plant>),
}

impl State {
    /// Puts `entry` in its place, and gives what was there before. To put that back undoes it.
    ///
    /// Nothing is checked here: references must lead somewhere when all is done.
    pub(crate) fn replace(&mut self, entry: Entry) -> Entry {
        match entry {
            Entry::Revision(new) => Entry::Revision(std::mem::replace(&mut self.revision, new)),
            Entry::Organisation(id, new) => {
                let old = put(&mut self.organisations, id.clone(), new);
                Entry::Organisation(id, old)
            }
            Entry::Portfolio(id, new) => {
                let old = put(&mut self.portfolios, id.clone(), new);
                Entry::Portfolio(id, old)
            }
            Entry::Plant(id, new) => {
                if let Some(old) = self.plants.get(&id) {
                    self.index.remove_plant(&id, old);
                }
                if let Some(new) = &new {
                    self.index.add_plant(&id, new);
                }
                let old = put(&mut self.plants, id.clone(), new);
                Entry::Plant(id, old)
            }
            Entry::User(id, new) => {
                let old = put(&mut self.users, id.clone(), new);
                Entry::User(id, old)
            }
            Entry::Membership(user, organisation, new) => {
                match &new {
                    Some(_) => self.index.add_membership(&user, &organisation),
                    None => self.index.remove_membership(&user, &organisation),
                }
                let old = put_inner(&mut self.memberships, user.clone(), organisation.clone(), new);
                Entry::Membership(user, organisation, old)
            }
            Entry::Role(user, scope, role, new) => {
                let mut scopes = self.roles.remove(&user).unwrap_or_default();
                let mut roles = scopes.remove(&scope).unwrap_or_default();
                let was = match new {
                    Some(()) => !roles.insert(role),
                    None => roles.remove(&role),
                };
                keep(&mut scopes, scope.clone(), roles, BTreeSet::is_empty);
                keep(&mut self.roles, user.clone(), scopes, BTreeMap::is_empty);
                Entry::Role(user, scope, role, was.then_some(()))
            }
            Entry::Cooperation(scope, partner, new) => {
                let old = put_inner(&mut self.cooperations, scope.clone(), partner.clone(), new);
                Entry::Cooperation(scope, partner, old)
            }
            Entry::Certificate(id, new) => {
                if let Some(old) = self.certificates.get(&id) {
                    self.index.remove_certificate(&id, old);
                }
                if let Some(new) = &new {
                    self.index.add_certificate(&id, new);
                }
                let old = put(&mut self.certificates, id.clone(), new);
                Entry::Certificate(id, old)
            }
            Entry::Priority(user, new) => {
                let old = put(&mut self.priorities, user.clone(), new);
                Entry::Priority(user, old)
            }
            Entry::Disabled(user, routes, new) => {
                let old = put_inner(&mut self.disabled, user.clone(), routes.clone(), new);
                Entry::Disabled(user, routes, old)
            }
            Entry::Ledger(new) => {
                let old = self.ledger.as_ref().map(|ledger| (ledger.next(), ledger.tunnel6()));
                match new {
                    Some((next, tunnel6)) => drop(self.ledger.get_or_insert_default().set_next(next, tunnel6)),
                    None => self.ledger = None,
                }
                Entry::Ledger(old)
            }
            Entry::LedgerPeer(id, new) => {
                let old = self.ledger.as_mut().and_then(|ledger| ledger.set_peer(id.clone(), new));
                Entry::LedgerPeer(id, old)
            }
            Entry::LedgerPlant(id, new) => {
                let old = self.ledger.as_mut().and_then(|ledger| ledger.set_plant(id.clone(), new));
                Entry::LedgerPlant(id, old)
            }
        }
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, new: Option<V>) -> Option<V> {
    match new {
        Some(new) => map.insert(key, new),
        None => map.remove(&key),
    }
}

fn put_inner<K: Ord, L: Ord, V>(
    map: &mut BTreeMap<K, BTreeMap<L, V>>,
    outer: K,
    inner: L,
    new: Option<V>,
) -> Option<V> {
    let mut values = map.remove(&outer).unwrap_or_default();
    let old = put(&mut values, inner, new);
    keep(map, outer, values, BTreeMap::is_empty);
    old
}

/// Puts back what was taken out, unless nothing is left of it.
fn keep<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, is_empty: impl Fn(&V) -> bool) {
    if !is_empty(&value) {
        map.insert(key, value);
    }
}
