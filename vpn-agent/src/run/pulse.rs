//! Whether plants' uplinks are alive: each is looked at every few seconds, in pieces; what was seen goes into the file of
//! [`liveness`](crate::liveness), and an endpoint that does not answer is [dialled](super::dial) again.

use std::{
    collections::BTreeMap,
    ops::Bound,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Error, Host, uplinks::Kind};
use crate::{
    id::PlantId,
    liveness::{ALIVE, FORMAT, Liveness, Uplink, UplinkKind, UplinkState},
    moment::whole_seconds,
    state::State,
    wireguard::Peer,
};

/// Uplinks in a piece; each takes one question to the kernel, or two.
const IN_PIECE: usize = 32;
/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at an uplink, at least.
const PERIOD: Duration = Duration::from_secs(5);
/// So many times as long as the looking takes is the pause after it, at least.
const REST: u32 = 20;
/// A file in which only counters have changed is written after this.
const COUNTERS: Duration = Duration::from_secs(30);

/// Where the looking is, and what it has seen.
pub(super) struct Pulse {
    after: Option<PlantId>,
    /// The next piece not before this.
    from: Instant,
    /// Time spent on this round.
    busy: Duration,
    seen: BTreeMap<PlantId, Seen>,
    /// Whether an uplink has another state or endpoint than in the file.
    is_changed: bool,
    written: Option<Instant>,
}

/// An uplink, and when it was last heard of.
struct Seen {
    uplink: Uplink,
    received: Option<SystemTime>,
}

/// How an uplink was found.
pub(crate) enum Sign {
    /// The site's end of a tunnel.
    Peer(Peer),
    /// Whether an Ethernet interface has its carrier.
    Carrier(bool),
    /// Nothing of it is there.
    Nothing,
}

impl Pulse {
    pub fn new() -> Self {
        Self {
            after: None,
            from: Instant::now(),
            busy: Duration::ZERO,
            seen: BTreeMap::new(),
            is_changed: false,
            written: None,
        }
    }

    /// When the next piece is to be looked at.
    pub const fn due(&self) -> Instant {
        self.from
    }

    /// Has the next look come at once.
    pub fn hurry(&mut self) {
        self.from = Instant::now();
    }

    /// The plants of a state, of which those in `failed` have no uplink although they should.
    pub fn expect(&mut self, state: &State, region: &str, failed: &[(PlantId, Error)]) {
        let now = whole_seconds(Timestamp::now());
        self.seen.retain(|id, _| state.plants.contains_key(id));
        for (id, plant) in &state.plants {
            let kind = plant.uplink_in(region).map(UplinkKind::of);
            let problem = failed.iter().find(|(plant, _)| plant == id).map(|(_, error)| error.to_string());
            let state = match kind {
                None => UplinkState::NotLinked,
                Some(UplinkKind::Interface) => UplinkState::Down,
                Some(UplinkKind::Host | UplinkKind::Dial) => UplinkState::Never,
            };
            let new = || Seen { uplink: Uplink::new(kind, state, now), received: None };
            let seen = self.seen.entry(id.clone()).or_insert_with(new);
            if seen.uplink.kind != kind {
                *seen = new();
            }
            seen.uplink.problem = problem;
        }
        self.is_changed = true;
    }

    /// Notes how an uplink was found.
    fn note(&mut self, id: &PlantId, sign: &Sign, now: SystemTime) {
        let Some(seen) = self.seen.get_mut(id) else { return };
        let before = (seen.uplink.state, seen.uplink.endpoint);
        seen.note(sign, now);
        let after = (seen.uplink.state, seen.uplink.endpoint);
        if before != after {
            self.is_changed = true;
        }
        if before.0 != after.0 {
            seen.uplink.since = whole_seconds(Timestamp::try_from(now).unwrap_or_else(|_| Timestamp::now()));
            info!(plant = %id, "uplink {}", after.0.label());
        }
    }

    /// The content of the file, if it is to be written now.
    fn take_file(&mut self, now: Instant) -> Option<Liveness> {
        let is_due = self.written.is_none_or(|at| now.duration_since(at) >= COUNTERS);
        if !self.is_changed && !is_due {
            return None;
        }
        self.is_changed = false;
        self.written = Some(now);
        let plants = self.seen.iter().map(|(id, seen)| (id.clone(), seen.uplink.clone())).collect();
        Some(Liveness { format: FORMAT, at: whole_seconds(Timestamp::now()), plants })
    }
}

impl Seen {
    fn note(&mut self, sign: &Sign, now: SystemTime) {
        let uplink = &mut self.uplink;
        match sign {
            Sign::Peer(peer) => {
                // The first look tells nothing about when; and a tunnel that was made anew counts from zero.
                if self.received.is_some() && peer.rx_bytes > uplink.rx_bytes {
                    self.received = Some(now);
                }
                self.received = self.received.or(Some(SystemTime::UNIX_EPOCH));
                let is_young = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age < ALIVE) || time > now;
                let is_alive = peer.latest_handshake.into_iter().chain(self.received).any(is_young);
                uplink.state = match peer.latest_handshake {
                    _ if is_alive => UplinkState::Up,
                    None => UplinkState::Never,
                    Some(_) => UplinkState::Down,
                };
                let handshake = peer.latest_handshake.and_then(|time| Timestamp::try_from(time).ok());
                uplink.latest_handshake = handshake.map(whole_seconds);
                (uplink.rx_bytes, uplink.tx_bytes, uplink.endpoint) = (peer.rx_bytes, peer.tx_bytes, peer.endpoint);
            }
            Sign::Carrier(carrier) => {
                uplink.state = if *carrier { UplinkState::Up } else { UplinkState::Down };
            }
            Sign::Nothing => uplink.state = UplinkState::Down,
        }
    }
}

impl Host {
    /// Looks at the next uplinks. Changes nothing, so it may be cancelled.
    pub(super) async fn feel_pulse(&self) -> Vec<(PlantId, Result<Sign, Error>)> {
        let mut signs = Vec::new();
        let start = self.pulse.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for (id, uplink) in self.plants.range::<PlantId, _>((start, Bound::Unbounded)).take(IN_PIECE) {
            let sign = match &uplink.kind {
                Kind::WireGuard { site, .. } => self.wireguard.device(&uplink.link).await.map(|device| {
                    device.peers.get(&site.public_key).map_or(Sign::Nothing, |peer| Sign::Peer(peer.clone()))
                }),
                Kind::Borrowed => {
                    let link = self.wireguard.link(&uplink.link.name).await;
                    link.map(|link| link.map_or(Sign::Nothing, |link| Sign::Carrier(link.carrier)))
                }
            };
            signs.push((id.clone(), sign.map_err(Error::from)));
        }
        signs
    }

    /// Takes up what was seen: for the file, and for endpoints that are dialled. `busy` is how long the look took.
    pub(super) fn take_pulse(&mut self, signs: Vec<(PlantId, Result<Sign, Error>)>, busy: Duration) {
        let now = SystemTime::now();
        let is_last = signs.len() < IN_PIECE;
        self.pulse.after = signs.last().filter(|_| !is_last).map(|(id, _)| id.clone());
        for (id, sign) in signs {
            let sign = sign.unwrap_or(Sign::Nothing);
            // A tunnel that is gone is for reconciliation to make again. Borrowed interfaces are looked at anyway.
            if matches!(sign, Sign::Nothing) {
                self.round.hurry();
            }
            self.pulse.note(&id, &sign, now);
            if let Sign::Peer(peer) = sign {
                self.consider_dial(&id, &peer, peer.handshake_age());
            }
        }
        self.pulse.busy += busy;
        self.pulse.from = Instant::now() + PAUSE;
        if is_last {
            self.pulse.from = Instant::now() + PERIOD.max(self.pulse.busy * REST);
            self.pulse.busy = Duration::ZERO;
            self.write_liveness();
        }
    }

    fn write_liveness(&mut self) {
        if let Some(liveness) = self.pulse.take_file(Instant::now())
            && let Err(error) = liveness.write(&self.config.uplinks_file())
        {
            warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        example,
        namespace::in_new_namespace,
        run::{
            round::Round,
            scene::{host, make, two_plants, with_users},
        },
    };

    /// Requirements: C4.
    #[test]
    fn a_tunnel_is_up_while_its_handshake_is_young_or_something_comes() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let peer = |handshake: Option<u64>, rx_bytes| Peer {
            latest_handshake: handshake.map(at),
            rx_bytes,
            ..Peer::default()
        };
        use UplinkState::{Down, Never, Up};
        for (name, looks) in [
            ("a site that never came", vec![(0, peer(None, 0), Never), (500, peer(None, 0), Never)]),
            ("the limit", vec![(179, peer(Some(0), 9), Up), (180, peer(Some(0), 9), Down)]),
            ("it comes back", vec![(400, peer(Some(0), 9), Down), (410, peer(Some(405), 9), Up)]),
            (
                "something is received",
                vec![(200, peer(Some(0), 9), Down), (205, peer(Some(0), 10), Up), (386, peer(Some(0), 10), Down)],
            ),
            ("what came before the first look is old", vec![(200, peer(Some(0), 1000), Down)]),
            ("a clock that was set back", vec![(0, peer(Some(50), 9), Up)]),
        ] {
            let since = Timestamp::try_from(start).unwrap();
            let mut seen = Seen { uplink: Uplink::new(Some(UplinkKind::Host), Never, since), received: None };
            for (seconds, peer, expected) in looks {
                seen.note(&Sign::Peer(peer), at(seconds));
                assert_eq!(seen.uplink.state, expected, "{name}: after {seconds} s");
            }
        }
    }

    #[test]
    fn the_file_is_written_when_a_state_changes_and_for_counters_now_and_then() {
        let mut pulse = Pulse::new();
        let north: PlantId = "north".parse().unwrap();
        pulse.expect(&example::state(), "eu", &[]);
        let now = Instant::now();
        assert_eq!(pulse.take_file(now).unwrap().plants.len(), 2);
        assert_eq!(pulse.take_file(now), None);
        let received = |rx_bytes| Peer { rx_bytes, latest_handshake: Some(SystemTime::now()), ..Peer::default() };
        pulse.note(&north, &Sign::Peer(received(1)), SystemTime::now());
        assert_eq!(pulse.take_file(now).unwrap().plants["north"].state, UplinkState::Up);
        pulse.note(&north, &Sign::Peer(received(2)), SystemTime::now());
        assert_eq!(pulse.take_file(now + COUNTERS - Duration::from_secs(1)), None);
        assert_eq!(pulse.take_file(now + COUNTERS).unwrap().plants["north"].rx_bytes, 2);
    }

    /// Requirements: D1, D2.
    #[test]
    fn a_tunnel_that_is_gone_is_for_the_next_moment() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            for name in ["eth1.10", "eth2"] {
                make(&host, name).await;
            }
            let state = example::parse(&two_plants("eth1.10", "eth2"));
            with_users(&mut host, &state).await;
            assert!(host.apply(&state).await.unwrap().is_empty());
            host.round = Round::new(3600);
            let is_due = |host: &Host| host.observation_due().unwrap() <= Instant::now();
            for (sign, expected) in [(Sign::Peer(Peer::default()), false), (Sign::Nothing, true)] {
                host.take_pulse(vec![("north".parse().unwrap(), Ok(sign))], Duration::ZERO);
                assert_eq!(is_due(&host), expected);
            }
        });
    }

    /// Requirements: C4, D2.
    #[test]
    fn every_plant_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let mut host = host(folder.path());
            make(&host, "eth1.10").await;
            let mut document = two_plants("eth1.10", "eth2");
            document["plants"].as_array_mut().unwrap().push(serde_json::json!({
                "id": "west", "organisation": "alpha", "subnets": ["192.168.7.0/24"],
                "uplinks": [{"regions": ["us"], "uplink": {"kind": "host", "public_key": example::key(102)}}]
            }));
            let state = example::parse(&document);
            with_users(&mut host, &state).await;
            assert_eq!(host.apply(&state).await.unwrap().len(), 1);
            let signs = host.feel_pulse().await;
            host.take_pulse(signs, Duration::ZERO);
            let file = Liveness::read(&host.config.uplinks_file()).unwrap().unwrap();
            let shown = |id: &str| (file.plants[id].kind, file.plants[id].state, file.plants[id].problem.clone());
            assert_eq!(shown("north"), (Some(UplinkKind::Interface), UplinkState::Down, None), "no carrier");
            let (kind, state, problem) = shown("south");
            assert_eq!((kind, state), (Some(UplinkKind::Interface), UplinkState::Down));
            assert!(problem.unwrap().contains("no interface eth2"));
            assert_eq!(shown("west"), (None, UplinkState::NotLinked, None));
        });
    }
}
