//! From numbers to names: who, which plant, whose plant.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracing::{info, warn};
use vpn_directory::{Directory, Error};
use vpn_ebpf_common::{
    Verdict,
    denial::{Denial, DenialKey},
};

use crate::{
    clock::Clock,
    identity::Identity,
    row::{DenialRow, FlowRow, mapped},
    sweep::Snapshot,
};

/// The directory file, read again whenever the agent has replaced it.
#[derive(Debug)]
pub struct Names {
    path: PathBuf,
    /// What was read, and the inode it was read from: the agent replaces the file, so a new content has a new one.
    read: Option<(u64, Directory)>,
}

impl Names {
    /// For the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: None }
    }

    /// The directory as it is now. If the file cannot be read, the last one that could; ids are never reused, so
    /// an old directory may lack an entry but never has a wrong one.
    pub fn current(&mut self) -> Option<&Directory> {
        // Looked at before it is read: a file that is replaced in between is read again the next time.
        let inode = std::fs::metadata(&self.path).map(|file| file.ino()).ok();
        if let Some(inode) = inode
            && self.read.as_ref().is_none_or(|(read, _)| *read != inode)
        {
            match Directory::read(&self.path) {
                Ok(directory) => {
                    info!(revision = directory.revision, "directory read");
                    self.read = Some((inode, directory));
                }
                Err(error @ (Error::Io { .. } | Error::Json { .. } | Error::Format { .. })) => warn!("{error}"),
            }
        }
        self.read.as_ref().map(|(_, directory)| directory)
    }
}

/// What a row is made with.
#[derive(Clone, Copy, Debug)]
pub struct Attribution<'a> {
    /// Names of the ids.
    pub directory: &'a Directory,
    /// Calendar times.
    pub clock: &'a Clock,
    /// Ids of rows.
    pub identity: &'a Identity,
}

impl Attribution<'_> {
    /// The row of a flow; none if the directory does not know the peer or the plant (yet).
    #[must_use]
    pub fn flow(&self, snapshot: &Snapshot) -> Option<FlowRow> {
        let Snapshot { key, flow, closed } = snapshot;
        let peer = self.directory.peer(key.flow.peer)?;
        let plant = self.directory.plant(key.flow.plant)?;
        Some(FlowRow {
            flow: self.identity.flow(key),
            operator: plant.operator.clone(),
            plant: plant.plant.clone(),
            user: peer.user.clone(),
            certificate: peer.certificate.clone(),
            organisations: peer.organisations.clone(),
            gateway: self.directory.gateway.clone(),
            region: self.directory.region.clone(),
            protocol: key.flow.protocol,
            source: mapped(peer.address),
            source_port: u16::from_be(key.flow.user_port),
            addressed: flow.addressed.to_ipv6(),
            destination: key.flow.device.to_ipv6(),
            port: u16::from_be(key.flow.device_port),
            opened: self.micros(flow.opened_ns),
            last_seen: self.micros(flow.last_ns),
            packets_to_plant: flow.to_plant.packets,
            bytes_to_plant: flow.to_plant.bytes,
            packets_to_user: flow.to_user.packets,
            bytes_to_user: flow.to_user.bytes,
            closed: u8::from(*closed),
            verdict: FORWARDED.into(),
        })
    }

    /// The row of a refused destination; none if the directory does not know the peer (yet). A virtual address
    /// names the plant that was meant; a real one names none.
    #[must_use]
    pub fn denial(&self, key: &DenialKey, denial: &Denial) -> Option<DenialRow> {
        let peer = self.directory.peer(key.peer)?;
        let plant = self.directory.plant_of_virtual(key.addressed.to_ip());
        Some(DenialRow {
            denial: self.identity.denial(key, denial.first_ns),
            operator: plant.map(|plant| plant.operator.clone()).unwrap_or_default(),
            plant: plant.map(|plant| plant.plant.clone()).unwrap_or_default(),
            user: peer.user.clone(),
            certificate: peer.certificate.clone(),
            organisations: peer.organisations.clone(),
            gateway: self.directory.gateway.clone(),
            region: self.directory.region.clone(),
            protocol: key.protocol,
            source: mapped(peer.address),
            addressed: key.addressed.to_ipv6(),
            port: u16::from_be(key.port),
            verdict: Verdict::from_number(key.verdict).map_or("unknown", Verdict::label).into(),
            first_seen: self.micros(denial.first_ns),
            last_seen: self.micros(denial.last_ns),
            attempts: denial.attempts,
            bytes: denial.bytes,
        })
    }

    fn micros(&self, boot_ns: u64) -> i64 {
        i64::try_from(self.clock.real_ns(boot_ns) / 1_000).unwrap_or(i64::MAX)
    }
}

/// The verdict of every flow.
const FORWARDED: &str = "forwarded";
