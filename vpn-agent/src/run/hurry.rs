//! Single changes, of what some certificates reach or of the certificates themselves: in a time that does not depend on how
//! many others there are. The order is that of a whole state, see [`super`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Error, Host, removal::Removal, step::Step};
use crate::{
    addressing,
    datapath::fill::Written,
    enforcement::Enforcement,
    id::{CertificateId, PlantId},
    policy::Policy,
    pools::Pools,
    state::State,
    tables::NO_INTERFACE,
    wireguard::{AllowedIps, Changes},
};

impl Host {
    /// Makes the kernel do what `state` wants, of which nothing else is different since the last time than what these
    /// certificates reach, their keys, and which of them there are.
    ///
    /// # Errors
    /// See [`Error`]. After those of [`addressing::Allocations::check_some`] nothing was touched. After any other the state has to be
    /// applied as a whole, by [`Self::apply`], which completes what was begun; with [`Error::Unsettled`] nothing was.
    pub async fn hurry(&mut self, state: &State, touched: &BTreeSet<CertificateId>) -> Result<Written, Error> {
        self.allocations.check_some(state, &self.config, touched)?;
        if self.users.is_none() || self.user_peers.is_none() {
            return Err(Error::Unsettled);
        }
        let mut content = self.content.take().ok_or(Error::Unsettled)?;
        let policy = Policy::compile_of(state, &self.config.terms(Timestamp::now()), touched);

        Step::Withdraw.begins();
        let (mut enforcement, ifindex) = self.enforcement_and_interfaces();
        let part = enforcement.withdraw_some(state, &policy, touched, ifindex)?;
        Step::Users.begins();
        self.put_some_users(state, touched).await?;
        Step::Fill.begins();
        let (mut enforcement, ifindex) = self.enforcement_and_interfaces();
        let written = enforcement.fill_some(state, &policy, touched, ifindex, part, &mut content)?;
        Step::NewUsers.begins();
        self.put_some_users(state, touched).await?;
        self.content = Some(content);
        Ok(written)
    }

    fn enforcement_and_interfaces(&mut self) -> (Enforcement<'_>, impl Fn(&PlantId) -> u32) {
        let Self { config, datapath, allocations, records, plants, .. } = self;
        let ifindex = |id: &PlantId| plants.get(id).map_or(NO_INTERFACE, |uplink| uplink.link.ifindex);
        (Enforcement { config, datapath, allocations, records }, ifindex)
    }

    /// What [`Host::put_user_peers`] does, for the peers of these certificates.
    async fn put_some_users(&mut self, state: &State, touched: &BTreeSet<CertificateId>) -> Result<(), Error> {
        // Both are forgotten on failure, so that the next time the kernel is asked.
        let (Some(users), Some(mut peers)) = (self.users.take(), self.user_peers.take()) else { return Ok(()) };
        let (mut has, mut shall) = (BTreeMap::new(), BTreeMap::new());
        for id in touched {
            let Some(given) = self.allocations.peers().get(id) else { continue };
            let before = self.user_keys.get(&given.address).copied();
            let after = state.certificates.get(id).map(|certificate| certificate.public_key);
            has.extend([before, after].into_iter().flatten().filter_map(|key| Some((key, peers.get(&key)?.clone()))));
            shall.extend(after.map(|key| (key, allowed_ips(given, &self.config.pools))));
        }
        let changes = Changes::between(&has, &shall);
        if !changes.put.is_empty() {
            self.wireguard.put_peers(&users, &changes.put).await?;
        }
        let is_going = |removal: &Removal, gone: &dyn Fn(&_) -> bool| match removal {
            Removal::Peer(link, key) => link.name == users.name && gone(key),
            _ => false,
        };
        self.removals.retain(|removal| !is_going(removal, &|key| shall.contains_key(key)));
        for key in changes.remove {
            if !self.removals.iter().any(|removal| is_going(removal, &|going| *going == key)) {
                self.removals.push_back(Removal::Peer(users.clone(), key));
            }
        }
        // The kernel gives an allowed IP to one peer only, so the others have lost what was put.
        let moved: BTreeSet<_> = changes.put.iter().flat_map(|put| &put.allowed_ips).collect();
        for key in has.keys() {
            if let Some(allowed_ips) = peers.get_mut(key) {
                allowed_ips.retain(|allowed_ip| !moved.contains(allowed_ip));
            }
        }
        for id in touched {
            let Some(given) = self.allocations.peers().get(id) else { continue };
            match state.certificates.get(id) {
                Some(certificate) => self.user_keys.insert(given.address, certificate.public_key),
                None => self.user_keys.remove(&given.address),
            };
        }
        peers.extend(shall);
        self.user_peers = Some(peers);
        self.users = Some(users);
        Ok(())
    }
}

/// What a certificate may use: its address in either family.
pub(super) fn allowed_ips(given: &addressing::Peer, pools: &Pools) -> AllowedIps {
    let addresses = [given.address.into(), pools.tunnel6_of(given.address).into()];
    addresses.map(|address: IpAddr| IpNet::from(address)).into()
}
