//! Rows at random.

use std::net::{Ipv4Addr, Ipv6Addr};

use uuid::Uuid;
use vpn_collector::row::{DenialRow, FlowRow, mapped};

use crate::sample::{DAY, today};

/// xorshift64
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.below(last as u64 + 1)).unwrap());
        }
    }

    /// A snapshot of one of the flows. All that merges is at random, each column on its own, though most columns of
    /// a real flow never change: what a column merges to shows only where it differs.
    pub fn flow(&mut self, id: u64) -> FlowRow {
        let opened = started(id);
        FlowRow {
            flow: Uuid::from_u128(id.into()),
            operator: format!("operator-{}", id % 2),
            plant: format!("plant-{}", id % 3),
            user: self.name("user"),
            certificate: self.name("certificate"),
            organisations: self.organisations(),
            gateway: self.name("gateway"),
            region: self.name("region"),
            protocol: self.protocol(id),
            source: self.address(id),
            source_port: self.port(),
            addressed: self.address(id),
            destination: self.address(id),
            port: self.port(),
            opened,
            last_seen: opened + self.below(1 << 40).cast_signed(),
            packets_to_plant: self.below(u64::MAX),
            bytes_to_plant: self.below(u64::MAX),
            packets_to_user: self.below(u64::MAX),
            bytes_to_user: self.below(u64::MAX),
            closed: u8::from(self.below(8) == 0),
            verdict: if self.below(2) == 0 { "forwarded".into() } else { String::new() },
        }
    }

    /// As [`Random::flow`].
    pub fn denial(&mut self, id: u64) -> DenialRow {
        let first_seen = started(id);
        // Known or not: two names would be two plants.
        let known = self.below(8) == 0;
        DenialRow {
            denial: Uuid::from_u128(id.into()),
            operator: if known { format!("operator-{}", id % 2) } else { String::new() },
            plant: if known { format!("plant-{}", id % 3) } else { String::new() },
            user: self.name("user"),
            certificate: self.name("certificate"),
            organisations: self.organisations(),
            gateway: self.name("gateway"),
            region: self.name("region"),
            protocol: self.protocol(id),
            source: self.address(id),
            addressed: self.address(id),
            port: self.port(),
            verdict: self.name("no-route"),
            first_seen,
            last_seen: first_seen + self.below(1 << 40).cast_signed(),
            attempts: self.below(u64::MAX),
            bytes: self.below(u64::MAX),
        }
    }

    fn name(&mut self, kind: &str) -> String {
        format!("{kind}-{}", self.below(1000))
    }

    fn organisations(&mut self) -> Vec<String> {
        (0..self.below(4)).map(|_| format!("organisation-{}", self.below(30))).collect()
    }

    /// Not every id has the greatest one.
    fn protocol(&mut self, id: u64) -> u8 {
        let known = [6, 1, 17, 47, 58, 132];
        known[usize::try_from(self.below(id % 7 + 1)).unwrap().min(5)]
    }

    /// Of one family for each id.
    fn address(&mut self, id: u64) -> Ipv6Addr {
        let host = u32::try_from(self.below(1 << 32)).unwrap();
        if id.is_multiple_of(2) {
            mapped(Ipv4Addr::from(host).into())
        } else {
            Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(host))
        }
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.below(1 << 16)).unwrap()
    }
}

/// When a flow or attempt began: the ids spread over the months, and so the partitions.
fn started(id: u64) -> i64 {
    today() - (id.cast_signed() % 10 * 20 + 13) * DAY
}
