//! Why numbers and addresses cannot be given, or what was given cannot be read.

use std::{io, net::IpAddr, path::PathBuf};

use ipnet::{IpNet, Ipv4Net};

use super::FORMAT;
use crate::{
    id::{CertificateId, OrganisationId, PlantId},
    state::Holder,
};

/// Why something cannot be given. Nothing was given then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The tunnel pool has no address left.
    #[error(
        "pools.tunnel: no address of {pool} is left for certificate {certificate}; all {size} are in use by \
         certificates of now or before, which keep theirs; widen pools.tunnel (and pools.source with it), which must \
         still begin at {}", pool.network()
    )]
    TunnelPool {
        /// The pool.
        pool: Ipv4Net,
        /// How many certificates it is for.
        size: u64,
        /// The first certificate that got none.
        certificate: CertificateId,
    },
    /// The virtual pool has no room left.
    #[error(
        "{field}: no room for a /{length} in {pool}, which is as large as {holds} of them, for subnet {subnet} of \
         plant {plant}; subnets of plants of now or before keep their place; widen {field} so that it contains {pool}",
        length = subnet.prefix_len()
    )]
    VirtualPool {
        /// The configuration field.
        field: &'static str,
        /// The pool.
        pool: IpNet,
        /// How many subnets of this length it has room for, all in all.
        holds: u128,
        /// The plant.
        plant: PlantId,
        /// The first subnet that got none.
        subnet: IpNet,
    },
    /// There is no UDP port for another plant.
    #[error(
        "plants.listen_port_base: no UDP port up to 65535 is left for plant {plant}, which has the number {id}; \
         lower plants.listen_port_base, which is {base}, and tell every site its new port"
    )]
    Ports {
        /// The plant.
        plant: PlantId,
        /// Its number.
        id: u32,
        /// The port of the plant with the number 1.
        base: u16,
    },
    /// Every id of a kind was given.
    #[error("all ids of {kind} are given; start over on a new state_dir, and with a new audit database")]
    Ids {
        /// What the ids are for.
        kind: &'static str,
    },
    /// The pool was changed to one without something that is in use.
    #[error("{field}: {given} of {owner} is not in {pool}; choose a pool that contains all that was given before")]
    OutsidePool {
        /// The configuration field.
        field: &'static str,
        /// The address or subnet.
        given: String,
        /// Whose it is.
        owner: String,
        /// The pool.
        pool: IpNet,
    },
    /// The IPv6 tunnel addresses would change, which are in users' profiles.
    #[error(
        "{field}: begins at {now}, but began at {before} when certificates got their IPv6 tunnel addresses, which \
         would change in every profile; a pool may only become wider, and begin where it does"
    )]
    Moved {
        /// The configuration field.
        field: &'static str,
        /// Where the pool began.
        before: IpAddr,
        /// Where it shall begin.
        now: IpAddr,
    },
    /// The ledger of the state contradicts what was given here before, or the configuration.
    #[error("{path}: {message}")]
    Ledger {
        /// The field, such as `allocations.peers[certificate-a].address`.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing is given here, and the ledger of the state lacks something.
    #[error(
        "allocations: {what} has no entry; run `vpn-agent allocate` where the ledger is kept, or set allocations to \
         \"local\" in the configuration of a gateway that is the only one"
    )]
    NotInLedger {
        /// What lacks an entry.
        what: String,
    },
    /// A certificate changed hands.
    #[error(
        "certificates: {certificate} is now of {now}, it was of {before}; its audit trail belongs to {before}, so give \
         {now} a certificate with a new id"
    )]
    OtherOwner {
        /// The certificate.
        certificate: CertificateId,
        /// Whose it was.
        before: Holder,
        /// Whose it shall be.
        now: Holder,
    },
    /// A plant changed hands.
    #[error(
        "plants: {plant} is now operated by {now}, it was by {before}; its audit trail belongs to {before}, so remove \
         it and give {now} a plant with a new id"
    )]
    OtherOperator {
        /// The plant.
        plant: PlantId,
        /// Who operated it.
        before: OrganisationId,
        /// Who shall operate it.
        now: OrganisationId,
    },
}

/// Why the file of the allocations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a file of allocations.
    #[error(
        "{}: damaged: {source}; restore it from a backup, do not delete it: the ids in it are in the audit",
        path.display()
    )]
    Json {
        /// The file concerned.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something was given twice, or would be.
    #[error(
        "{}: damaged: {what}; restore it from a backup, do not delete it: the ids in it are in the audit",
        path.display()
    )]
    Twice {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Written by another version of the agent.
    #[error(
        "{}: format {found}, this program reads formats up to {FORMAT}; install the version that wrote it, or a later \
         one",
        path.display()
    )]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What the file says.
        found: u32,
    },
}
