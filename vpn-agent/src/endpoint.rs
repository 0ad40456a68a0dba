//! Where a WireGuard endpoint listens: a host, by name or address, and a UDP port.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The pattern of every endpoint, as a regular expression.
pub const PATTERN: &str = r"^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";

/// The longest name of a host, in bytes (RFC 1035).
const MAX_NAME: usize = 253;

/// The longest part of a name between two dots, in bytes.
const MAX_LABEL: usize = 63;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// A text that is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an endpoint; use a host and a port from 1 to 65535, such as \"site.example:51820\", \
     \"192.0.2.1:51820\" or \"[2001:db8::1]:51820\""
)]
pub struct NotAnEndpoint(String);

impl Endpoint {
    /// A name, or an address of either family without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
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
            Some(Self { host, port })
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

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
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
            &format!("a{long}"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("use a host and a port"), "{error}");
        }
    }
}
