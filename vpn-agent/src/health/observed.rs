//! What the kernel says about the gateway's health. Nothing that grows with routes is read.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use super::Known;
use crate::{
    config::Config,
    datapath::{
        self,
        read::{Maps as _, Pinned},
    },
    id::PlantId,
    wireguard::{Link, Peer, WireGuard},
};

/// A tunnel whose last handshake is older carries nothing: WireGuard's own limit (REJECT_AFTER_TIME). While there is
/// traffic or a keepalive, it repeats the handshake every two minutes.
const ALIVE: Duration = Duration::from_secs(180);

/// The kernel's side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Live flows.
    pub flows: u64,
    /// Certificates with a live tunnel.
    pub connected: u64,
    /// Plants whose uplink is up.
    pub up: BTreeSet<PlantId>,
    /// What keeps packets from passing, one entry each.
    pub problems: Vec<String>,
}

impl Observed {
    /// What cannot be read is a problem.
    pub async fn read(config: &Config, known: &Known) -> Self {
        let mut observed = Self::default();
        if let Err(error) = observed.read_maps(config) {
            observed.problems.push(error.to_string());
        }
        if let Err(error) = observed.read_interfaces(config, known).await {
            observed.problems.push(error.to_string());
        }
        observed
    }

    fn read_maps(&mut self, config: &Config) -> Result<(), datapath::Error> {
        let pin_dir = &config.datapath.pin_dir;
        if !datapath::are_maps_pinned(pin_dir) {
            self.problems.push("there are no maps; `vpn-agent run` makes them".to_owned());
            return Ok(());
        }
        if datapath::is_detached(pin_dir) {
            self.problems.push(datapath::Error::Detached.to_string());
        }
        let pinned = Pinned::open(pin_dir)?;
        // The programs count what they add, the collector what it removes; so the table itself need not be counted.
        let opened: u64 = pinned.usage()?.values().map(|usage| usage.opened).sum();
        let released: u64 = pinned.released()?.values().sum();
        self.flows = opened.saturating_sub(released);
        Ok(())
    }

    async fn read_interfaces(&mut self, config: &Config, known: &Known) -> Result<(), crate::wireguard::Error> {
        let wireguard = WireGuard::open()?;
        let name = &config.users.interface;
        match wireguard.link(name).await? {
            None => self.problems.push(format!("{name} is missing; `vpn-agent run` makes it")),
            Some(link) => {
                if !link.up {
                    self.problems.push(format!("{name} is down"));
                }
                match datapath::pinned_program(&config.datapath.pin_dir, name) {
                    Ok(pinned) if pinned.is_some() && link.first_program(None) == pinned => {}
                    Ok(_) => self.problems.push(format!("the program of {name} is not attached, or not the first one")),
                    Err(error) => self.problems.push(error.to_string()),
                }
                let now = SystemTime::now();
                let peers = wireguard.device(&link).await?.peers;
                self.connected = peers.values().filter(|peer| is_alive(peer, now)).count() as u64;
            }
        }
        for (plant, name) in &known.interfaces {
            let Some(link) = wireguard.link(name).await?.filter(|link| link.up) else { continue };
            let is_up = link.kind != Link::WIREGUARD || {
                let now = SystemTime::now();
                wireguard.device(&link).await?.peers.values().any(|peer| is_alive(peer, now))
            };
            if is_up {
                self.up.insert(plant.clone());
            }
        }
        Ok(())
    }
}

/// A handshake in the future, which a clock that was set back leaves, is a fresh one.
fn is_alive(peer: &Peer, now: SystemTime) -> bool {
    peer.latest_handshake.is_some_and(|at| now.duration_since(at).unwrap_or_default() < ALIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_lives_as_long_as_its_keys() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let alive = |latest_handshake| is_alive(&Peer { latest_handshake, ..Peer::default() }, now);
        assert!(!alive(None));
        assert!(alive(Some(now)) && alive(Some(now - Duration::from_secs(179))));
        assert!(!alive(Some(now - ALIVE)));
        assert!(alive(Some(now + Duration::from_secs(5))), "the clock was set back");
    }
}
