//! Where a WireGuard endpoint listens: a host, by name or address, and a UDP port.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The pattern of every endpoint, as a regular expression.
pub const PATTERN: &str = r"^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";

/// The longest name of a host, in bytes (RFC 1035).
const MAX_NAME: usize = 253;

/// The longest part of a name between two dots, in bytes.
const MAX_LABEL: usize = 63;

/// A name, or an address of either family without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: Host,
    port: u16,
}

/// A text that is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host; use a name such as \"gateway.example\", or an IP address, without a port")]
pub struct NotAHost(String);

/// A text that is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an endpoint; use a host and a port from 1 to 65535, such as \"site.example:51820\", \
     \"192.0.2.1:51820\" or \"[2001:db8::1]:51820\""
)]
pub struct NotAnEndpoint(String);

impl Endpoint {
    /// This port of `host`. Port 0 is none, and stands for whatever the kernel chooses.
    #[must_use]
    pub const fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// A name, or an address of either family without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host.0
    }

    /// The UDP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self(address.to_string()));
        }
        if is_host(text) { Ok(Self(text.to_owned())) } else { Err(NotAHost(text.to_owned())) }
    }
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let parsed = || {
            let (host, port) = text.rsplit_once(':')?;
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
            let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
                None if is_host(host) => host.to_owned(),
                None => return None,
            };
            Some(Self { host: Host(host), port })
        };
        parsed().ok_or_else(|| NotAnEndpoint(text.to_owned()))
    }
}

/// What has only digits and dots is meant to be an address.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= MAX_NAME && host.split('.').all(is_label)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.0.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl TryFrom<String> for Host {
    type Error = NotAHost;

    fn try_from(text: String) -> Result<Self, NotAHost> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NotAnEndpoint;

    fn try_from(text: String) -> Result<Self, NotAnEndpoint> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_written_as_it_was_read() {
        for text in ["site.example:51820", "192.0.2.1:1", "[2001:db8::1]:65535", "router_7:51820"] {
            let endpoint = text.parse::<Endpoint>().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        let endpoint = "[2001:DB8:0::1]:7".parse::<Endpoint>().unwrap();
        assert_eq!(
            (endpoint.host(), endpoint.port(), endpoint.to_string()),
            ("2001:db8::1", 7, "[2001:db8::1]:7".into())
        );
    }

    #[test]
    fn a_host_with_a_port_is_an_endpoint() {
        for (host, endpoint) in
            [("gateway.example", "gateway.example:7"), ("192.0.2.1", "192.0.2.1:7"), ("2001:DB8::1", "[2001:db8::1]:7")]
        {
            let endpoint = endpoint.parse::<Endpoint>().unwrap();
            assert_eq!(Endpoint::new(host.parse().unwrap(), 7), endpoint);
            assert_eq!(endpoint.host().parse::<Host>(), host.parse());
        }
        for text in ["", "a b", "a:7", "192.0.2", "[2001:db8::1]", "https://a", "a/b", "a\n"] {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains("use a name such as"), "{error}");
        }
    }

    /// Requirements: G4.
    #[test]
    fn other_texts_are_refused() {
        let long = format!("{}:1", "a.".repeat(126) + "a");
        assert!(long.parse::<Endpoint>().is_ok());
        for text in [
            "",
            "site.example",
            "site.example:",
            "site.example:0",
            "site.example:65536",
            "site.example:+7",
            ":51820",
            "2001:db8::1:51820",
            "[192.0.2.1]:51820",
            "192.0.2:51820",
            "192.0.2.256:51820",
            "site..example:51820",
            "site example:51820",
            "site\n:51820",
            "https://site:51820",
            &format!("a{long}"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("use a host and a port"), "{error}");
        }
    }
}
