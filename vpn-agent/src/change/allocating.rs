//! Entries of the ledger that come by a change.

use std::fmt::Display;

use super::making::Making;
use crate::{
    addressing::Tunnel6,
    document::{self, LedgerPeer, LedgerPlant},
    ledger::{self, Clash, Ledger, Next},
    state::Entry,
};

impl Making<'_> {
    pub(super) fn put_allocations(
        &mut self,
        path: &dyn Display,
        peers: &[LedgerPeer],
        plants: &[LedgerPlant],
        next: Option<document::Next>,
        tunnel6: Option<document::Tunnel6>,
    ) -> Option<()> {
        let found = self.problems.len();
        if self.state.ledger.is_none() {
            self.put(Entry::Ledger(Some(Default::default())));
        }
        for (at, record) in peers.iter().enumerate() {
            self.put_peer(&format_args!("{path}.peers[{at}]"), record);
        }
        for (at, record) in plants.iter().enumerate() {
            self.put_plant_entry(&format_args!("{path}.plants[{at}]"), record);
        }
        let tunnel6 = tunnel6.map(|document::Tunnel6 { tunnel, tunnel6 }| Tunnel6 { tunnel, tunnel6 });
        if let Some(tunnel6) = &tunnel6
            && let Err(clash) = self.ledger()?.check_tunnel6(tunnel6)
        {
            self.clash(path, clash);
        }
        let ledger = self.ledger()?;
        let least = ledger.next().max(ledger.least_next());
        let next = next.map_or(least, |document::Next { peer, plant, route }| least.max(Next { peer, plant, route }));
        let tunnel6 = tunnel6.or(ledger.tunnel6());
        self.put(Entry::Ledger(Some((next, tunnel6))));
        (self.problems.len() == found).then_some(())
    }

    fn put_peer(&mut self, path: &dyn Display, record: &LedgerPeer) -> Option<()> {
        let (id, peer) = self.records().ledger_peer(path, record)?;
        let certificate = self.state.certificates.get(&id);
        let owner = certificate.map_or(Ok(()), |of| ledger::check_owner(&peer, &of.owner.holder()));
        if let Err(clash) = owner.and_then(|()| self.ledger().map_or(Ok(()), |ledger| ledger.check_peer(&id, &peer))) {
            self.clash(path, clash);
            return None;
        }
        self.touch(id.clone());
        self.put(Entry::LedgerPeer(id, Some(peer)));
        Some(())
    }

    fn put_plant_entry(&mut self, path: &dyn Display, record: &LedgerPlant) -> Option<()> {
        let (id, mut entry, subnets) = self.records().ledger_plant(path, record)?;
        let plant = self.state.plants.get(&id);
        let operator = plant.map_or(Ok(()), |plant| ledger::check_operator(&entry, &plant.organisation));
        let checked = self.ledger().map_or(Ok(()), |ledger| ledger.check_plant(&id, &entry, &subnets));
        if let Err(clash) = operator.and(checked) {
            self.clash(path, clash);
            return None;
        }
        if let Some(before) = self.ledger()?.plants().get(&id) {
            entry.subnets.clone_from(&before.subnets);
        }
        entry.subnets.extend(subnets);
        self.touched = super::Touched::All;
        self.put(Entry::LedgerPlant(id, Some(entry)));
        Some(())
    }

    fn ledger(&self) -> Option<&Ledger> {
        self.state.ledger.as_ref()
    }

    fn clash(&mut self, path: &dyn Display, clash: Clash) {
        self.problem(&format_args!("{path}.{}", clash.field), clash.message);
    }
}
