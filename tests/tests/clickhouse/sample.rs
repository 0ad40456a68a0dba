//! Rows, and when they are of.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;
use vpn_collector::row::{DenialRow, FlowRow, mapped};

/// Microseconds.
pub const SECOND: i64 = 1_000_000;
/// Microseconds.
pub const DAY: i64 = 86_400 * SECOND;

pub fn flow(id: u128) -> FlowRow {
    let opened = today();
    FlowRow {
        flow: Uuid::from_u128(id),
        operator: "alpha".into(),
        plant: "north".into(),
        user: "user-a".into(),
        certificate: "certificate-a".into(),
        organisations: vec!["alpha".into(), "beta".into()],
        gateway: "gateway-1".into(),
        region: "eu".into(),
        protocol: 6,
        source: mapped("100.64.0.1".parse().unwrap()),
        source_port: 40_000,
        addressed: mapped("10.128.0.77".parse().unwrap()),
        destination: mapped("192.168.1.77".parse().unwrap()),
        port: 502,
        opened,
        last_seen: opened + SECOND + 1,
        packets_to_plant: 4,
        bytes_to_plant: 400,
        packets_to_user: 3,
        bytes_to_user: 300,
        closed: 0,
        verdict: "forwarded".into(),
    }
}

pub fn denial(id: u128) -> DenialRow {
    let flow = flow(id);
    DenialRow {
        denial: flow.flow,
        operator: flow.operator,
        plant: flow.plant,
        user: flow.user,
        certificate: flow.certificate,
        organisations: flow.organisations,
        gateway: flow.gateway,
        region: flow.region,
        protocol: 17,
        source: flow.source,
        addressed: mapped("10.128.0.99".parse().unwrap()),
        port: 161,
        verdict: "no-route".into(),
        first_seen: flow.opened,
        last_seen: flow.last_seen,
        attempts: 2,
        bytes: 128,
    }
}

/// Microseconds since the Unix epoch, an hour ago when the first test asked.
pub fn today() -> i64 {
    static TODAY: OnceLock<i64> = OnceLock::new();
    *TODAY.get_or_init(|| now() - 3600 * SECOND)
}

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}
