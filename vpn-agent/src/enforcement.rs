//! The maps, and what has to be on disk before they say something: what was given, and the directory file. Interfaces
//! are none of this.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;
use vpn_directory::DirectoryFile;

use crate::{
    addressing::{self, Addition, Allocations, AllocationsFile},
    catalogue::Catalogue,
    config::Config,
    content::{content, part},
    datapath::{
        self, Datapath,
        fill::{Content, Written},
        part::{Part, PartWritten},
        read::Maps as _,
        withdraw::Withdrawn,
    },
    directory::{self, directory},
    id::{CertificateId, PlantId},
    policy::Policy,
    state::State,
    tables::{Tables, Uplink},
};

/// Files that the maps depend on, and the ids of route sets.
#[derive(Debug)]
pub struct Records {
    allocations: AllocationsFile,
    directory: DirectoryFile,
    /// `None` until ROUTES was read.
    catalogue: Option<Catalogue>,
}

impl Records {
    /// In the places that the configuration says. Nothing is read or written yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            allocations: AllocationsFile::new(&config.allocations_file()),
            directory: DirectoryFile::new(&config.directory_file()),
            catalogue: None,
        }
    }

    /// Has the sets that ROUTES holds be looked at again.
    pub fn forget_kernel(&mut self) {
        self.catalogue = None;
    }

    /// Writes new allocations to disk, where they must be before they are used.
    ///
    /// # Errors
    /// [`addressing::FileError`].
    pub fn remember(&mut self, given: &mut Allocations, next: Allocations) -> Result<(), addressing::FileError> {
        if next != *given || !self.allocations.is_settled() {
            self.allocations.write(&next)?;
            *given = next;
        }
        Ok(())
    }

    /// The same for what is given besides.
    fn add(&mut self, given: &mut Allocations, addition: Addition) -> Result<(), addressing::FileError> {
        if self.allocations.append(&addition)? {
            given.add(addition);
            return Ok(());
        }
        let mut next = given.clone();
        next.add(addition);
        self.remember(given, next)
    }
}

/// What brings a state into the maps; interfaces are there already, or are none.
pub struct Enforcement<'h> {
    /// The settings of this host.
    pub config: &'h Config,
    /// The maps.
    pub datapath: &'h mut Datapath,
    /// What was given so far, as on disk.
    pub allocations: &'h mut Allocations,
    /// Where it is noted.
    pub records: &'h mut Records,
}

/// Why the maps could not be brought to what they shall be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something cannot be given.
    #[error(transparent)]
    Addressing(#[from] addressing::Error),
    /// The file of the allocations cannot be written.
    #[error(transparent)]
    Allocations(#[from] addressing::FileError),
    /// The directory file cannot be written.
    #[error(transparent)]
    Directory(#[from] vpn_directory::Error),
    /// The datapath refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

impl Enforcement<'_> {
    /// Takes away what the state does not give any more. That needs no number, address or interface that is not there.
    ///
    /// # Errors
    /// [`Error::Datapath`], [`Error::Addressing`] if there is no id left.
    pub fn withdraw(&mut self, state: &State, policy: &Policy<'_>) -> Result<(), Error> {
        // What leads to a plant now may go on to do so; interfaces that are yet to be made are none of this step's.
        let in_kernel = self.datapath.plants()?;
        let by_number = in_kernel.iter().map(|(ifindex, plant)| (plant.id, Uplink::of_entry(*ifindex, plant)));
        let uplinks = Uplink::by_plant(self.allocations, &by_number.collect());
        let content = self.content(state, policy, &uplinks)?;
        let Self { datapath, allocations, records, .. } = self;
        let withdrawn = datapath.withdraw(&content, || reserve(records, allocations))?;
        if withdrawn != Withdrawn::default() {
            let Withdrawn { removed, narrowed, cut_off } = &withdrawn;
            info!(removed, narrowed, cut_off = cut_off.len(), "permissions taken away");
        }
        Ok(())
    }

    /// Gives what the state needs besides. It is on disk when this returns, and the collector knows it.
    ///
    /// # Errors
    /// [`Error::Addressing`], [`Error::Allocations`], [`Error::Directory`].
    pub fn give(&mut self, state: &State) -> Result<(), Error> {
        let next = self.allocations.extended(state, self.config)?;
        self.records.remember(self.allocations, next)?;
        self.records.directory.publish(&directory(state, self.allocations, self.config))?;
        Ok(())
    }

    /// Makes the maps hold what the state wants, where `uplinks` are the interfaces of plants that are ready to carry
    /// packets. Gives what they hold.
    ///
    /// # Errors
    /// [`Error::Addressing`], [`Error::Allocations`], [`Error::Datapath`].
    pub fn fill(
        &mut self,
        state: &State,
        policy: &Policy<'_>,
        uplinks: &BTreeMap<PlantId, Uplink>,
    ) -> Result<Content, Error> {
        let content = self.content(state, policy, uplinks)?;
        reserve(self.records, self.allocations)?;
        self.datapath.fill(&content)?;
        if let Some(catalogue) = &mut self.records.catalogue {
            catalogue.forget_all_but(&content.route_sets.keys().copied().collect());
        }
        Ok(content)
    }

    /// [`Self::withdraw`] for some certificates, of which `policy` is; in a time that does not depend on how many others
    /// there are. Gives what they shall be, as far as they have numbers.
    ///
    /// # Errors
    /// [`Error::Datapath`], [`Error::Addressing`] if there is no id left.
    pub fn withdraw_some(
        &mut self,
        state: &State,
        policy: &Policy<'_>,
        certificates: &BTreeSet<CertificateId>,
        ifindex: impl Fn(&PlantId) -> u32,
    ) -> Result<Part, Error> {
        let part = self.part(state, policy, certificates, ifindex)?;
        let Self { datapath, allocations, records, .. } = self;
        datapath.withdraw_part(&part, || reserve(records, allocations))?;
        Ok(part)
    }

    /// [`Self::give`] and [`Self::fill`] for these certificates, after [`Self::withdraw_some`], which gave `part`. `content`
    /// is what the maps hold, and is changed with them; after an error they may hold less.
    ///
    /// # Errors
    /// As of these.
    pub fn fill_some(
        &mut self,
        state: &State,
        policy: &Policy<'_>,
        certificates: &BTreeSet<CertificateId>,
        ifindex: impl Fn(&PlantId) -> u32,
        mut part: Part,
        content: &mut Content,
    ) -> Result<Written, Error> {
        let addition = self.allocations.addition(state, self.config, certificates)?;
        let is_new = addition.peers().keys().any(|id| !self.allocations.peers().contains_key(id));
        if !addition.peers().is_empty() {
            self.records.add(self.allocations, addition)?;
        }
        if is_new {
            part = self.part(state, policy, certificates, ifindex)?;
        }
        reserve(self.records, self.allocations)?;
        self.publish(state, certificates)?;

        let PartWritten { written, retired } = self.datapath.put_part(&part)?;
        for number in &part.gone {
            content.peers.remove(number);
        }
        content.peers.extend(part.peers);
        content.route_sets.extend(part.route_sets);
        for (set, routes) in retired {
            content.route_sets.remove(&set);
            if let Some(catalogue) = &mut self.records.catalogue {
                catalogue.forget(&routes);
            }
        }
        self.settle(state)?;
        Ok(written)
    }

    /// Tells the collector that the state has another revision, and what is true of these certificates now.
    fn publish(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) -> Result<(), Error> {
        let peer = |id| Some(directory::peer(id, self.allocations.peers().get(id)?, state, self.config));
        let addition =
            vpn_directory::Addition { revision: state.revision, peers: certificates.iter().filter_map(peer).collect() };
        if !self.records.directory.append(&addition)? {
            self.records.directory.publish(&directory(state, self.allocations, self.config))?;
        }
        Ok(())
    }

    /// Writes the files as a whole that have much added to them. Nothing waits for it any more.
    fn settle(&mut self, state: &State) -> Result<(), Error> {
        let Self { config, allocations, records, .. } = self;
        if !records.allocations.is_settled() {
            records.allocations.write(allocations)?;
        }
        if !records.directory.is_settled() {
            records.directory.publish(&directory(state, allocations, config))?;
        }
        Ok(())
    }

    fn part(
        &mut self,
        state: &State,
        policy: &Policy<'_>,
        certificates: &BTreeSet<CertificateId>,
        ifindex: impl Fn(&PlantId) -> u32,
    ) -> Result<Part, Error> {
        let catalogue = catalogue(&mut self.records.catalogue, self.datapath, self.allocations)?;
        let pools = &self.config.pools;
        let tables = Tables::of_peers(state, self.allocations, catalogue, pools, policy, ifindex)?;
        let gone = certificates.iter().filter(|id| !state.certificates.contains_key(*id));
        let given = gone.filter_map(|id| self.allocations.peers().get(id));
        Ok(part(tables, given.map(|given| pools.host_number(given.address)).collect()))
    }

    fn content(
        &mut self,
        state: &State,
        policy: &Policy<'_>,
        uplinks: &BTreeMap<PlantId, Uplink>,
    ) -> Result<Content, Error> {
        let catalogue = catalogue(&mut self.records.catalogue, self.datapath, self.allocations)?;
        let tables = Tables::new(state, self.allocations, catalogue, &self.config.pools, policy, uplinks)?;
        Ok(content(tables, self.config))
    }
}

/// Has the ids that were given to route sets be on disk.
fn reserve(records: &mut Records, given: &mut Allocations) -> Result<(), Error> {
    let Some(catalogue) = records.catalogue.as_ref().filter(|catalogue| !catalogue.is_reserved(given)) else {
        return Ok(());
    };
    let reservation = given.reservation(catalogue.reservation()?);
    Ok(records.add(given, reservation)?)
}

fn catalogue<'c>(
    known: &'c mut Option<Catalogue>,
    datapath: &mut Datapath,
    given: &Allocations,
) -> Result<&'c mut Catalogue, datapath::Error> {
    let catalogue = match known.take() {
        Some(catalogue) => catalogue,
        None => {
            let mut catalogue = Catalogue::new(given);
            for (id, routes) in datapath.route_sets()? {
                catalogue.adopt(*id, routes);
            }
            catalogue
        }
    };
    Ok(known.insert(catalogue))
}

#[cfg(test)]
mod tests;
