//! How far it is to a plant. WireGuard measures no round trips, and the programs let no packet of the gateway's own
//! into a plant. So an address near the plant is asked, outside the tunnel: one that answers `ping`, or a TCP port.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use surge_ping::{Client, ICMP, PingIdentifier, PingSequence};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    endpoint::{Endpoint, Host},
    id::PlantId,
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often is asked; the quickest answer counts, as it waited least on the way.
const TRIES: u16 = 3;

/// How many are asked at the same time.
const AT_ONCE: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Probe {
    /// A host, by ICMP echo.
    Echo(Host),
    /// A TCP port of it. Whether it opens a connection or refuses it makes no difference.
    Connect(Endpoint),
}

/// A text that is no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a probe; use a name or an address, which is asked by ICMP echo, or one with a TCP port, such as \
     \"site.example:443\""
)]
pub struct NotAProbe(String);

impl FromStr for Probe {
    type Err = NotAProbe;

    fn from_str(text: &str) -> Result<Self, NotAProbe> {
        let connect = || text.parse().map(Self::Connect);
        text.parse().map(Self::Echo).or_else(|_| connect()).map_err(|_| NotAProbe(text.to_owned()))
    }
}

impl TryFrom<String> for Probe {
    type Error = NotAProbe;

    fn try_from(text: String) -> Result<Self, NotAProbe> {
        text.parse()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo(host) => host.fmt(f),
            Self::Connect(endpoint) => endpoint.fmt(f),
        }
    }
}

/// Measures the time to each and back, milliseconds. Who does not answer is left out.
pub async fn measure(probes: &BTreeMap<PlantId, Probe>) -> BTreeMap<PlantId, f64> {
    // Owned, so that the future can be sent to another thread.
    let answers = stream::iter(probes.clone())
        .map(|(plant, probe)| async move { (plant, least(&probe).await) })
        .buffer_unordered(AT_ONCE);
    answers.filter_map(|(plant, time)| async move { Some((plant, 1_000.0 * time?.as_secs_f64())) }).collect().await
}

/// The quickest of some answers.
async fn least(probe: &Probe) -> Option<Duration> {
    let mut least = None;
    for number in 0..TRIES {
        // Who has not answered once is not asked for longer.
        let time = match probe {
            Probe::Echo(host) => echo(host, number).await,
            Probe::Connect(endpoint) => connect(endpoint).await,
        };
        let Some(time) = time else { break };
        least = Some(least.map_or(time, |before: Duration| before.min(time)));
    }
    least
}

async fn connect(endpoint: &Endpoint) -> Option<Duration> {
    let address = resolve(endpoint.host(), endpoint.port()).await?;
    let begun = Instant::now();
    match timeout(PATIENCE, TcpStream::connect(address)).await.ok()? {
        Ok(_) => Some(begun.elapsed()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(begun.elapsed()),
        Err(_) => None,
    }
}

async fn echo(host: &Host, number: u16) -> Option<Duration> {
    let address = resolve(&host.to_string(), 0).await?.ip();
    let kind = if address.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
    let client = Client::new(&surge_ping::Config::builder().kind(kind).build()).ok()?;
    let mut pinger = client.pinger(address, PingIdentifier(number)).await;
    pinger.timeout(PATIENCE);
    let (_, time) = pinger.ping(PingSequence(number), &[0; 32]).await.ok()?;
    Some(time)
}

/// Looked up before the clock starts.
async fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    timeout(PATIENCE, lookup_host((host, port))).await.ok()?.ok()?.next()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_probe_is_a_host_or_a_port_of_it() {
        let probe = |text: &str| text.parse::<Probe>();
        assert!(matches!(probe("192.0.2.1"), Ok(Probe::Echo(_))));
        assert!(matches!(probe("2001:db8::1"), Ok(Probe::Echo(_))));
        assert!(matches!(probe("site.example"), Ok(Probe::Echo(_))));
        assert!(matches!(probe("site.example:443"), Ok(Probe::Connect(_))));
        assert!(matches!(probe("[2001:db8::1]:443"), Ok(Probe::Connect(_))));
        for text in ["192.0.2.1", "site.example:443"] {
            assert_eq!(probe(text).unwrap().to_string(), text);
        }
        for text in ["", "a b", "site.example:0", "https://site.example"] {
            assert!(probe(text).unwrap_err().to_string().contains("is not a probe; use"), "{text}");
        }
    }

    /// Requirements: E4.
    #[tokio::test]
    async fn who_answers_is_measured_and_who_does_not_is_left_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let probes = [
            ("open", listener.local_addr().unwrap().to_string()),
            ("refused", closed.to_string()),
            ("echo", "127.0.0.1".to_owned()),
            ("nowhere", "255.255.255.255:9".to_owned()),
            ("nameless", "nobody.invalid:9".to_owned()),
        ];
        let probes = probes.map(|(plant, probe)| (plant.parse().unwrap(), probe.parse().unwrap())).into();
        let begun = Instant::now();
        let measured = measure(&probes).await;
        assert!(begun.elapsed() < Duration::from_secs(10));
        let mut answered: Vec<_> = measured.keys().map(PlantId::as_str).collect();
        // Without the right to send pings there is no answer to them either.
        answered.retain(|plant| *plant != "echo");
        assert_eq!(answered, ["open", "refused"]);
        assert!(measured.values().all(|ms| (0.0..1_000.0).contains(ms)), "{measured:?}");
    }
}
