//! Where something is reached over the Internet: a host by its name or address, and a port.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The longest name of a host, in bytes (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;

/// The longest part of one between dots.
const MAX_LABEL: usize = 63;

/// A host of the Internet: a DNS name, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A name, as it was written.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A host of the Internet and a port of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port; not zero.
    pub port: u16,
}

/// A text that is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host; use a DNS name such as \"gateway.example\", or an IP address")]
pub struct NotAHost(String);

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no endpoint; use a DNS name or an IP address, a colon and a port from 1 to 65535, such as \
     \"gateway.example:51820\" or \"[2001:db8::1]:51820\""
)]
pub struct NotAnEndpoint(String);

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(bare) = bare {
            let address = bare.parse::<Ipv6Addr>().map_err(|_| NotAHost(text.to_owned()))?;
            return Ok(Self::Address(address.into()));
        }
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) if is_name(text) => Ok(Self::Name(text.to_owned())),
            Err(_) => Err(NotAHost(text.to_owned())),
        }
    }
}

/// Letters, digits and inner hyphens between dots, as host names have them. The last part is not all digits, or a
/// mistyped address would be a name.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_NAME && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let not_one = || NotAnEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(not_one)?;
        // Without brackets, the last group of an IPv6 address would be taken for the port.
        if host.contains(':') && !host.starts_with('[') {
            return Err(not_one());
        }
        let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
        match (host.parse(), port.parse()) {
            (Ok(host), Ok(port)) if port != 0 && is_plain => Ok(Self { host, port }),
            _ => Err(not_one()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
            host => write!(f, "{host}:{port}"),
        }
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
        host.to_string()
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
    fn names_and_addresses_of_both_families_are_endpoints() {
        for text in ["gateway.example:51820", "a:1", "192.0.2.1:65535", "[2001:db8::1]:51820", "xn--9ca.example:7"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for (text, host) in [("[2001:db8::1]", "2001:db8::1"), ("2001:DB8::1", "2001:db8::1"), ("gw-1.eu", "gw-1.eu")] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), host);
        }
    }

    /// Requirements: G4.
    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        let long = format!("{}:1", "a.".repeat(126) + "ab");
        for text in [
            "",
            "gateway.example",
            "gateway.example:",
            "gateway.example:0",
            "gateway.example:65536",
            "a b:1",
            ":1",
            "gateway.example:+1",
            "2001:db8::1:51820",
            "[192.0.2.1]:1",
            "[::1:1",
            "-a:1",
            "a-:1",
            "a..b:1",
            "a.:1",
            "192.0.2.256:1",
            "a\n:1",
            "https://a:1",
            &long,
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("such as \"gateway.example:51820\""), "{error}");
        }
        let error = "a_b".parse::<Host>().unwrap_err().to_string();
        assert!(error.contains("use a DNS name such as"), "{error}");
    }
}
