//! What the kernel has counted.

use std::{net::IpAddr, ops::AddAssign};

use anyhow::{Context as _, Result};
use vpn_agent::datapath::read::Maps as _;
use vpn_ebpf_common::flow::Traffic;

use super::scene::Scene;

/// Packets and their bytes each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From users.
    pub to_plant: Traffic,
    /// From plants.
    pub to_user: Traffic,
}

impl Moved {
    /// What has come since `before`.
    pub const fn since(&self, before: &Self) -> Self {
        Self { to_plant: since(self.to_plant, before.to_plant), to_user: since(self.to_user, before.to_user) }
    }
}

impl AddAssign for Moved {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in [(&mut self.to_plant, other.to_plant), (&mut self.to_user, other.to_user)] {
            sum.packets += more.packets;
            sum.bytes += more.bytes;
        }
    }
}

const fn since(now: Traffic, before: Traffic) -> Traffic {
    Traffic { packets: now.packets - before.packets, bytes: now.bytes - before.bytes }
}

impl Scene {
    /// What all flows of a user under one address and protocol have moved.
    pub fn moved(&self, user: &str, addressed: IpAddr, protocol: u8) -> Result<Moved> {
        let peer = self.peer(user)?.id;
        let mut sum = Moved::default();
        for (key, flow) in self.gateway.maps()?.flows()? {
            if (key.peer, key.addressed.to_ip(), key.protocol) == (peer, addressed, protocol) {
                sum += Moved { to_plant: flow.to_plant, to_user: flow.to_user };
            }
        }
        Ok(sum)
    }

    /// What the programs have counted under a verdict.
    pub fn verdict(&self, label: &str) -> Result<u64> {
        let stats = self.gateway.maps()?.stats()?;
        let (_, traffic) = stats.iter().find(|(verdict, _)| verdict.label() == label).context("no such verdict")?;
        Ok(traffic.packets)
    }

    /// Packets of a user that are on record as refused, be it under their own destination or together with others.
    pub fn refused(&self, user: &str) -> Result<u64> {
        let peer = self.peer(user)?.id;
        let denials = self.gateway.maps()?.denials()?;
        Ok(denials.iter().filter(|(key, _)| key.peer == peer).map(|(_, denial)| denial.attempts).sum())
    }
}
