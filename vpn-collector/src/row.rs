//! The rows of the audit tables, field by field as in `schema/*.sql`.
//!
//! Every row is a snapshot: the totals of one flow or one denied attempt so far, under its id. ClickHouse merges
//! the rows of one id by taking the greatest value of each column, and all that is in any of its organisations, so a
//! snapshot that is sent twice, late or out of order changes nothing. This holds only if the columns of the sort key
//! are the same in every snapshot of an id: `operator`, `plant`, `opened` and `flow` of a flow, `first_seen` and
//! `denial` of a denied attempt.

use std::net::{IpAddr, Ipv6Addr};

use clickhouse::{Row, RowOwned, RowRead, RowWrite};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A row that belongs into one table.
pub trait Record: RowOwned + RowWrite + RowRead + Send + Sync {
    /// Name of the table, without its database.
    const TABLE: &'static str;
}

/// A snapshot of a flow, in table `flows`.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct FlowRow {
    /// The same in every snapshot of the flow, and of no other.
    #[serde(with = "clickhouse::serde::uuid")]
    pub flow: Uuid,
    /// Organisation that operates the plant; empty for a service of the gateway itself. The same in every snapshot of
    /// the flow.
    pub operator: String,
    /// Plant id of the desired state, or [`GATEWAY`](crate::attribution::GATEWAY). The same in every snapshot of the
    /// flow.
    pub plant: String,
    /// User id of the desired state.
    pub user: String,
    /// Certificate id of the desired state.
    pub certificate: String,
    /// Organisations the user was a member of. Read from the table they are in no order.
    pub organisations: Vec<String>,
    /// Name of the gateway host.
    pub gateway: String,
    /// Region of the gateway.
    pub region: String,
    /// IANA protocol number.
    pub protocol: u8,
    /// The user's address in the tunnel, see [`mapped`].
    pub source: Ipv6Addr,
    /// Source port; the identifier for ICMP echo.
    pub source_port: u16,
    /// Destination as the user addressed it, see [`mapped`].
    pub addressed: Ipv6Addr,
    /// Destination as the plant knows it, see [`mapped`].
    pub destination: Ipv6Addr,
    /// Destination port; 0 for ICMP.
    pub port: u16,
    /// Microseconds since the Unix epoch. The same in every snapshot of the flow.
    pub opened: i64,
    /// Last packet either way, microseconds since the Unix epoch.
    pub last_seen: i64,
    /// Packets from the user, so far.
    pub packets_to_plant: u64,
    /// Bytes of those packets, IP header included.
    pub bytes_to_plant: u64,
    /// Packets from the plant, so far.
    pub packets_to_user: u64,
    /// Bytes of those packets, IP header included.
    pub bytes_to_user: u64,
    /// 1 once the flow has ended and its totals are final, else 0.
    pub closed: u8,
    /// `forwarded`
    pub verdict: String,
}

impl Record for FlowRow {
    const TABLE: &'static str = "flows";
}

/// A snapshot of a denied attempt, in table `denials`: one user, destination, port and protocol in one minute, or all
/// further ones of that user in that minute.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct DenialRow {
    /// The same in every snapshot of the attempt, and of no other.
    #[serde(with = "clickhouse::serde::uuid")]
    pub denial: Uuid,
    /// Organisation that operates the plant; empty where the address belongs to no single plant, or to one that is
    /// not known yet. A later snapshot may name it, but none may name another.
    pub operator: String,
    /// Plant id of the desired state; empty as `operator` is.
    pub plant: String,
    /// User id of the desired state.
    pub user: String,
    /// Certificate id of the desired state.
    pub certificate: String,
    /// Organisations the user was a member of. Read from the table they are in no order.
    pub organisations: Vec<String>,
    /// Name of the gateway host.
    pub gateway: String,
    /// Region of the gateway.
    pub region: String,
    /// IANA protocol number; 0 for further destinations together.
    pub protocol: u8,
    /// The user's address in the tunnel, see [`mapped`].
    pub source: Ipv6Addr,
    /// Destination as the user addressed it, see [`mapped`]; `::` for further destinations together.
    pub addressed: Ipv6Addr,
    /// Destination port; 0 for ICMP, and for further destinations together.
    pub port: u16,
    /// Why, as the datapath's verdict names it, for instance `no-route`.
    pub verdict: String,
    /// Microseconds since the Unix epoch. The same in every snapshot of the attempt.
    pub first_seen: i64,
    /// Last refused packet, microseconds since the Unix epoch.
    pub last_seen: i64,
    /// Packets refused, so far.
    pub attempts: u64,
    /// Bytes of those packets, IP header included; 0 where the datapath does not count them.
    pub bytes: u64,
}

impl Record for DenialRow {
    const TABLE: &'static str = "denials";
}

/// An address as the tables hold it: IPv4 as `::ffff:a.b.c.d`.
#[must_use]
pub const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
