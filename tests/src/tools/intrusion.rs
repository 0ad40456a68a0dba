//! No plant can open a connection to a user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use vpn_agent::config::Pools;

use crate::{device::HTTP_PORT, steps::equal};

use super::{attempts, scene::Scene, servers::authority};

/// From every plant, under both families, to the address that a user has there.
/// Requirements: D4.
pub fn attempt(scene: &Scene) -> Result<Vec<String>> {
    let seen = scene.tunnel_addresses("user-a")?.map(source);
    let verdicts = || Ok::<_, anyhow::Error>([scene.verdict("no-flow")?, scene.verdict("icmp-type")?]);
    let (before, to_user) = (verdicts()?, scene.verdict("to-user")?);
    let mut all = Vec::new();
    for plant in ["north", "south", "store"] {
        for user in seen {
            let host = &scene.lan(plant).host;
            all.push((host, attempts::curl(&authority(user, HTTP_PORT))));
            all.push((host, attempts::ping(&user.to_string())));
        }
    }
    attempts::must_fail(&all)?;
    equal("packets that reached users", scene.verdict("to-user")?, to_user)?;
    let arrived = verdicts()?;
    ensure!((0..2).all(|at| arrived[at] >= before[at] + 6), "some were stopped elsewhere: {before:?}, {arrived:?}");
    Ok(vec![format!("{} and {}: no answer to curl and ping from any of three plants", seen[0], seen[1])])
}

/// A tunnel address as plants see it.
fn source(tunnel: IpAddr) -> IpAddr {
    let pools = Pools::default();
    match tunnel {
        IpAddr::V4(user) => {
            let host = user.to_bits() & pools.tunnel.hostmask().to_bits();
            Ipv4Addr::from_bits(pools.source.network().to_bits() | host).into()
        }
        IpAddr::V6(user) => {
            let host = user.to_bits() & pools.tunnel6.hostmask().to_bits();
            Ipv6Addr::from_bits(pools.source6.network().to_bits() | host).into()
        }
    }
}
