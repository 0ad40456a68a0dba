//! Uplinks that the gateway dials (requirement D2): where the plant's endpoint is now. WireGuard takes addresses alone, so a
//! name is looked up by the agent: at first, and again while no handshake comes.
//!
//! An interface waits for its name: it is there, with its program, and routes lead to it, while the name does not resolve.
//! That is what it would be if nobody answered.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{Error, Host, uplinks::Kind};
use crate::{
    endpoint::Endpoint,
    id::PlantId,
    key::PublicKey,
    wireguard::{Link, Peer, Settings},
};

/// From a handshake to the next look-up of the name, unless there is another handshake before. WireGuard makes one every two
/// minutes, and tries for some seconds.
const STALE: Duration = Duration::from_secs(135);
/// Between two look-ups of a name that resolves, while nobody answers there.
const AGAIN: Duration = Duration::from_secs(30);
/// After the first look-up that failed; doubled with each one.
const FAILED: Duration = Duration::from_secs(5);
/// As long as it gets.
const FAILED_MOST: Duration = Duration::from_secs(60);
/// A look-up ends after this.
const LIMIT: Duration = Duration::from_secs(10);
/// So many look-ups run at a time: each takes a thread.
const AT_ONCE: usize = 16;

/// What is known of an endpoint that is dialled.
pub(super) struct Dial {
    endpoint: Endpoint,
    /// No look-up before this.
    from: Instant,
    /// Whether the name was never looked up since the interface was made ready.
    is_new: bool,
    is_looking_up: bool,
    /// Look-ups that failed one after the other.
    failures: u32,
    /// Bytes sent before the last look-up.
    sent: u64,
}

/// What came of a look-up.
pub(crate) struct Found {
    plant: PlantId,
    endpoint: Endpoint,
    addresses: io::Result<Vec<SocketAddr>>,
}

impl Dial {
    pub fn new(endpoint: Endpoint) -> Self {
        let from = Instant::now();
        Self { endpoint, from, is_new: true, is_looking_up: false, failures: 0, sent: 0 }
    }

    /// Whether the name should be looked up now: at first; and while there is no endpoint, or no handshake for some time
    /// although something is sent.
    fn wants_look_up(&self, peer: &Peer, keepalive: u16, handshake: Option<Duration>, now: Instant) -> bool {
        if self.is_looking_up || now < self.from {
            return false;
        }
        let is_used = keepalive > 0 || peer.tx_bytes != self.sent;
        self.is_new || peer.endpoint.is_none() || is_stale(handshake) && is_used
    }

    /// The address that is to be the peer's from now on, if another than the present one.
    fn choose(&self, addresses: &[SocketAddr], present: Option<SocketAddr>, is_stale: bool) -> Option<SocketAddr> {
        let at = addresses.iter().position(|address| Some(*address) == present);
        let chosen = match at {
            // It is one of them, and nobody answers there: the next one.
            Some(at) if is_stale && !self.is_new => addresses.get((at + 1) % addresses.len()),
            Some(_) => None,
            // Where the plant is now may be another address than that of its name, as long as it answers.
            None if present.is_some() && !is_stale && !self.is_new => None,
            None => addresses.first(),
        };
        chosen.copied().filter(|chosen| Some(*chosen) != present)
    }

    /// Notes that a look-up has ended, and when the next one may begin.
    fn ended(&mut self, has_failed: bool, now: Instant) {
        self.is_looking_up = false;
        let pause = if has_failed {
            self.failures = self.failures.saturating_add(1);
            FAILED.saturating_mul(1 << (self.failures - 1).min(8)).min(FAILED_MOST)
        } else {
            self.failures = 0;
            self.is_new = false;
            AGAIN
        };
        self.from = now + pause;
    }
}

/// None stands for never.
fn is_stale(handshake: Option<Duration>) -> bool {
    handshake.is_none_or(|age| age > STALE)
}

/// The address, where the endpoint has one in place of a name.
fn literal(endpoint: &Endpoint) -> Option<SocketAddr> {
    endpoint.host().parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, endpoint.port()))
}

async fn look_up(plant: PlantId, endpoint: Endpoint) -> Found {
    let answer = match timeout(LIMIT, lookup_host((endpoint.host(), endpoint.port()))).await {
        Ok(answer) => answer.map(Iterator::collect::<Vec<_>>),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let addresses = answer.and_then(|addresses| match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(addresses),
    });
    Found { plant, endpoint, addresses }
}

impl Host {
    /// Sends the packets of a plant's new interface to its endpoint if that needs no look-up.
    pub(super) async fn dial_literal(
        &self,
        link: &Link,
        public_key: PublicKey,
        endpoint: &Endpoint,
    ) -> Result<(), Error> {
        let Some(address) = literal(endpoint) else { return Ok(()) };
        let settings = Settings { endpoint: Some(address), ..Settings::default() };
        Ok(self.wireguard.set_peer(link, public_key, &settings).await?)
    }

    /// Begins a look-up of a plant's endpoint if it is time for it; `peer` is how it was seen just now.
    pub(super) fn consider_dial(&mut self, id: &PlantId, peer: &Peer, handshake: Option<Duration>) {
        let Some(uplink) = self.plants.get_mut(id) else { return };
        let (Some(dial), Kind::WireGuard { site, .. }) = (&mut uplink.dial, &uplink.kind) else { return };
        let now = Instant::now();
        if self.look_ups.len() < AT_ONCE && dial.wants_look_up(peer, site.keepalive(), handshake, now) {
            dial.is_looking_up = true;
            dial.sent = peer.tx_bytes;
            self.look_ups.spawn(look_up(id.clone(), dial.endpoint.clone()));
        }
    }

    /// Takes up what came of a look-up.
    pub(super) async fn take_address(&mut self, found: Found) {
        let Found { plant: id, endpoint, addresses } = found;
        let Some(uplink) = self.plants.get_mut(&id) else { return };
        let Some(dial) = uplink.dial.as_mut().filter(|dial| dial.endpoint == endpoint) else { return };
        let is_first_failure = dial.failures == 0;
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                dial.ended(true, Instant::now());
                if is_first_failure {
                    warn!(plant = %id, "{endpoint} cannot be looked up, which is tried again: {error}");
                }
                return;
            }
        };
        if !is_first_failure {
            info!(plant = %id, "{endpoint} was looked up");
        }
        let dialled = self.dial(&id, &addresses).await;
        if let Err(error) = &dialled {
            warn!(plant = %id, "{endpoint} cannot be dialled, which is tried again: {error}");
        }
        let dial = self.plants.get_mut(&id).and_then(|uplink| uplink.dial.as_mut());
        if let Some(dial) = dial {
            dial.ended(dialled.is_err(), Instant::now());
        }
    }

    async fn dial(&self, id: &PlantId, addresses: &[SocketAddr]) -> Result<(), Error> {
        let Some(uplink) = self.plants.get(id) else { return Ok(()) };
        let (Some(dial), Kind::WireGuard { site, .. }) = (&uplink.dial, &uplink.kind) else { return Ok(()) };
        // As it is now: the look-up took its time.
        let device = self.wireguard.device(&uplink.link).await?;
        let Some(peer) = device.peers.get(&site.public_key) else { return Ok(()) };
        let is_stale = is_stale(peer.handshake_age());
        let Some(address) = dial.choose(addresses, peer.endpoint, is_stale) else { return Ok(()) };
        info!(plant = %id, "{} is dialled at {address}", dial.endpoint);
        // That keepalives begin makes WireGuard send one at once, and with it a handshake.
        let settings = Settings { endpoint: Some(address), keepalive: Some(0), ..Settings::default() };
        self.wireguard.set_peer(&uplink.link, site.public_key, &settings).await?;
        let settings = Settings { keepalive: Some(site.keepalive()), ..Settings::default() };
        Ok(self.wireguard.set_peer(&uplink.link, site.public_key, &settings).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: D2.
    #[test]
    fn a_name_is_looked_up_at_first_and_while_nobody_answers() {
        let mut dial = Dial::new("site.example:51820".parse().unwrap());
        let now = Instant::now();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let silent = Peer { endpoint: Some("192.0.2.1:51820".parse().unwrap()), ..Peer::default() };
        assert!(dial.wants_look_up(&silent, 25, seconds(1), now), "at first, whatever is there");
        dial.is_looking_up = true;
        assert!(!dial.wants_look_up(&silent, 25, None, now), "one at a time");
        dial.ended(false, now);
        assert!(!dial.wants_look_up(&silent, 25, None, now + AGAIN - Duration::from_secs(1)));
        let later = now + AGAIN;
        for (handshake, expected) in [(seconds(0), false), (seconds(135), false), (seconds(136), true), (None, true)] {
            assert_eq!(dial.wants_look_up(&silent, 25, handshake, later), expected, "{handshake:?}");
        }
        assert!(!dial.wants_look_up(&silent, 0, None, later), "nobody has sent anything");
        let sent = Peer { tx_bytes: 148, ..silent.clone() };
        assert!(dial.wants_look_up(&sent, 0, None, later), "somebody has, and there was no handshake");
        assert!(dial.wants_look_up(&Peer::default(), 0, None, later), "there is no endpoint yet");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_looked_up_less_and_less_often() {
        let now = Instant::now();
        let mut dial = Dial::new("site.example:51820".parse().unwrap());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            dial.ended(true, now);
            pauses.push((dial.from - now).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert!(dial.is_new, "it was never looked up");
        dial.ended(false, now);
        dial.ended(true, now);
        assert_eq!((dial.from - now).as_secs(), 5);
    }

    /// Requirements: D2.
    #[test]
    fn of_several_addresses_the_next_one_is_tried_where_nobody_answers() {
        let [a, b, c]: [SocketAddr; 3] =
            ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::3]:1"].map(|text| text.parse().unwrap());
        let mut dial = Dial::new("site.example:1".parse().unwrap());
        type Row<'a> = (&'a [SocketAddr], Option<SocketAddr>, bool, Option<SocketAddr>);
        let choices = |dial: &Dial, rows: &[Row<'_>]| {
            for (addresses, present, is_stale, expected) in rows {
                assert_eq!(dial.choose(addresses, *present, *is_stale), *expected, "{present:?} of {addresses:?}");
            }
        };
        // At first, the name counts. What it says already is left alone, so that a restart disturbs nothing.
        choices(
            &dial,
            &[
                (&[a, b], None, true, Some(a)),
                (&[a, b], Some(b), false, None),
                (&[a, b], Some(c), false, Some(a)),
                (&[a], Some(a), true, None),
            ],
        );
        dial.ended(false, Instant::now());
        choices(
            &dial,
            &[
                (&[a, b], Some(a), true, Some(b)),
                (&[a, b], Some(b), true, Some(a)),
                (&[a], Some(a), true, None),
                (&[a, b], Some(c), true, Some(a)),
                (&[a, b], Some(c), false, None),
                (&[a, b], None, true, Some(a)),
            ],
        );
    }

    #[tokio::test]
    async fn addresses_need_no_resolver() {
        let endpoint: Endpoint = "[2001:db8::1]:7".parse().unwrap();
        assert_eq!(literal(&endpoint), Some("[2001:db8::1]:7".parse().unwrap()));
        assert_eq!(literal(&"site.example:7".parse().unwrap()), None);
        let found = look_up("north".parse().unwrap(), "192.0.2.1:7".parse().unwrap()).await;
        assert_eq!(found.addresses.unwrap(), ["192.0.2.1:7".parse().unwrap()]);
        let found = look_up("north".parse().unwrap(), "localhost:7".parse().unwrap()).await;
        assert!(found.addresses.unwrap().iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }
}
