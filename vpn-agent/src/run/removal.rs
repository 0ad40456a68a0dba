//! What goes when nothing else is to do, one by one: each removal of a peer or a tunnel waits for the packets in flight
//! in the kernel.

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Error, Host};
use crate::{control::RETRY, key::PublicKey, wireguard::Link};

/// So many routes are removed in one go, which takes about a millisecond.
const ROUTES_AT_ONCE: usize = 1_024;

/// What carries no traffic any more and is in nobody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// A peer of a tunnel.
    Peer(Link, PublicKey),
    /// A tunnel.
    Link(Link),
    /// The program on an interface of the host's, by the interface's name, and what was changed on that.
    Borrowed(String),
}

impl Removal {
    /// The name of the interface concerned.
    pub fn interface(&self) -> &str {
        match self {
            Self::Peer(link, _) | Self::Link(link) => &link.name,
            Self::Borrowed(name) => name,
        }
    }
}

impl Host {
    /// Whether [`Self::remove_next`] has something to do.
    #[must_use]
    pub fn has_removals(&self) -> bool {
        !self.removals.is_empty() || self.datapath.resting_routes() > 0
    }

    /// Removes one peer or interface that carries no traffic any more, or some routes of sets that nobody has. May be
    /// cancelled: it is then removed by a later call.
    pub async fn remove_next(&mut self) {
        sleep_until(self.removals_from).await;
        if self.datapath.resting_routes() > 0 {
            if let Err(error) = self.datapath.remove_resting_routes(ROUTES_AT_ONCE) {
                warn!("will be tried again: {error}");
                self.removals_from = Instant::now() + RETRY;
            }
            return;
        }
        let Some(removal) = self.removals.front().cloned() else { return };
        let result = match &removal {
            Removal::Peer(link, key) => self.remove_peer(link, *key).await,
            Removal::Link(link) => match self.wireguard.delete_link(link).await {
                // Only then: an interface that is up has its program.
                Ok(()) => self.datapath.detach_interface(&link.name).map_err(Error::from),
                Err(error) => Err(error.into()),
            },
            Removal::Borrowed(name) => match self.wireguard.link(name).await {
                Ok(link) => self.give_back(name, link.map(|link| link.ifindex)),
                Err(error) => Err(error.into()),
            },
        };
        self.removals.pop_front();
        if let Err(error) = result {
            warn!("will be tried again: {error}");
            self.removals.push_back(removal);
            self.removals_from = Instant::now() + RETRY;
        }
    }

    async fn remove_peer(&mut self, link: &Link, key: PublicKey) -> Result<(), Error> {
        // Whoever cancels this cannot know whether the kernel has done it. What is not noted as a peer is put as a new one
        // where it is wanted again, which is right in either case.
        if let Some(peers) = &mut self.user_peers
            && self.users.as_ref().is_some_and(|users| users.ifindex == link.ifindex)
        {
            peers.remove(&key);
        }
        Ok(self.wireguard.remove_peer(link, key).await?)
    }
}
