//! What a table should say of several snapshots of a row.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use vpn_collector::row::{DenialRow, FlowRow};

/// Adds a snapshot to what a table should say.
pub fn merge<R: Clone>(rows: &mut BTreeMap<Uuid, R>, id: Uuid, row: &R, greater: fn(R, R) -> R) {
    // With itself if it is the first, so that its organisations are sorted as those of all others.
    let before = rows.remove(&id).unwrap_or_else(|| row.clone());
    rows.insert(id, greater(before, row.clone()));
}

pub fn greater_flow(a: FlowRow, b: FlowRow) -> FlowRow {
    FlowRow {
        user: a.user.max(b.user),
        certificate: a.certificate.max(b.certificate),
        organisations: union(a.organisations, b.organisations),
        gateway: a.gateway.max(b.gateway),
        region: a.region.max(b.region),
        protocol: a.protocol.max(b.protocol),
        source: a.source.max(b.source),
        source_port: a.source_port.max(b.source_port),
        addressed: a.addressed.max(b.addressed),
        destination: a.destination.max(b.destination),
        port: a.port.max(b.port),
        last_seen: a.last_seen.max(b.last_seen),
        packets_to_plant: a.packets_to_plant.max(b.packets_to_plant),
        bytes_to_plant: a.bytes_to_plant.max(b.bytes_to_plant),
        packets_to_user: a.packets_to_user.max(b.packets_to_user),
        bytes_to_user: a.bytes_to_user.max(b.bytes_to_user),
        closed: a.closed.max(b.closed),
        verdict: a.verdict.max(b.verdict),
        // The sort key.
        flow: a.flow,
        operator: a.operator,
        plant: a.plant,
        opened: a.opened,
    }
}

pub fn greater_denial(a: DenialRow, b: DenialRow) -> DenialRow {
    DenialRow {
        operator: a.operator.max(b.operator),
        plant: a.plant.max(b.plant),
        user: a.user.max(b.user),
        certificate: a.certificate.max(b.certificate),
        organisations: union(a.organisations, b.organisations),
        gateway: a.gateway.max(b.gateway),
        region: a.region.max(b.region),
        protocol: a.protocol.max(b.protocol),
        source: a.source.max(b.source),
        addressed: a.addressed.max(b.addressed),
        port: a.port.max(b.port),
        verdict: a.verdict.max(b.verdict),
        last_seen: a.last_seen.max(b.last_seen),
        attempts: a.attempts.max(b.attempts),
        bytes: a.bytes.max(b.bytes),
        // The sort key.
        denial: a.denial,
        first_seen: a.first_seen,
    }
}

fn union(a: Vec<String>, b: Vec<String>) -> Vec<String> {
    a.into_iter().chain(b).collect::<BTreeSet<_>>().into_iter().collect()
}
