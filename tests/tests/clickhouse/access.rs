//! What the view `accesses` shows.

use std::net::Ipv6Addr;

use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;
use vpn_collector::row::{DenialRow, FlowRow};

/// A row of the view `accesses`.
#[derive(Debug, PartialEq, Row, Deserialize)]
pub struct AccessRow {
    #[serde(with = "clickhouse::serde::uuid")]
    pub id: Uuid,
    pub operator: String,
    pub plant: String,
    pub user: String,
    pub certificate: String,
    pub organisations: Vec<String>,
    pub gateway: String,
    pub region: String,
    pub protocol: String,
    pub source: String,
    pub source_port: u16,
    pub addressed: String,
    pub destination: String,
    pub port: u16,
    pub opened: i64,
    pub last_seen: i64,
    pub packets_to_plant: u64,
    pub bytes_to_plant: u64,
    pub packets_to_user: u64,
    pub bytes_to_user: u64,
    pub packets_refused: u64,
    pub bytes_refused: u64,
    pub closed: u8,
    pub verdict: String,
}

impl From<&FlowRow> for AccessRow {
    fn from(row: &FlowRow) -> Self {
        let row = row.clone();
        Self {
            id: row.flow,
            operator: row.operator,
            plant: row.plant,
            user: row.user,
            certificate: row.certificate,
            organisations: row.organisations,
            gateway: row.gateway,
            region: row.region,
            protocol: protocol_name(row.protocol),
            source: address_text(row.source),
            source_port: row.source_port,
            addressed: address_text(row.addressed),
            destination: if row.verdict == "forwarded" { address_text(row.destination) } else { String::new() },
            port: row.port,
            opened: row.opened,
            last_seen: row.last_seen,
            packets_to_plant: row.packets_to_plant,
            bytes_to_plant: row.bytes_to_plant,
            packets_to_user: row.packets_to_user,
            bytes_to_user: row.bytes_to_user,
            packets_refused: 0,
            bytes_refused: 0,
            closed: row.closed,
            verdict: row.verdict,
        }
    }
}

impl From<&DenialRow> for AccessRow {
    fn from(row: &DenialRow) -> Self {
        let row = row.clone();
        Self {
            id: row.denial,
            operator: row.operator,
            plant: row.plant,
            user: row.user,
            certificate: row.certificate,
            organisations: row.organisations,
            gateway: row.gateway,
            region: row.region,
            protocol: protocol_name(row.protocol),
            source: address_text(row.source),
            source_port: 0,
            addressed: address_text(row.addressed),
            destination: String::new(),
            port: row.port,
            opened: row.first_seen,
            last_seen: row.last_seen,
            packets_to_plant: 0,
            bytes_to_plant: 0,
            packets_to_user: 0,
            bytes_to_user: 0,
            packets_refused: row.attempts,
            bytes_refused: row.bytes,
            closed: 0,
            verdict: row.verdict,
        }
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        0 => "any".into(),
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

fn address_text(address: Ipv6Addr) -> String {
    address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string())
}
