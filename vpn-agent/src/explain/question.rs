//! What is asked about: an address, and for services of the gateway a protocol and a port.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};
use vpn_ebpf_common::service::ServiceKey;

use crate::service::Protocol;

/// An address as the user writes it. Rights do not depend on the port; services of the gateway do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// Protocol and port; port 0 for ICMP.
    pub service: Option<(Protocol, u16)>,
}

/// A text that is no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address to ask about; use an IP address, with a port and protocol if they matter: \"10.128.0.20\", \
     \"10.128.0.20:502/tcp\", \"[fd76:7600::20]:53/udp\" or \"100.64.0.1/icmp\""
)]
pub struct NotAQuestion(String);

impl Question {
    /// The key that the programs look for in SERVICES. Without a protocol it is that of none.
    #[must_use]
    pub fn service_key(&self) -> ServiceKey {
        let (protocol, port) = self.service.map_or((0, 0), |(protocol, port)| (protocol.number(), port));
        ServiceKey { address: self.address.into(), port: port.to_be(), protocol, reserved: 0 }
    }
}

impl FromStr for Question {
    type Err = NotAQuestion;

    fn from_str(text: &str) -> Result<Self, NotAQuestion> {
        let parsed = || {
            let Some((rest, protocol)) = text.rsplit_once('/') else {
                return Some(Self { address: text.parse().ok()?, service: None });
            };
            if protocol == "icmp" {
                return Some(Self { address: rest.parse().ok()?, service: Some((Protocol::IcmpEcho, 0)) });
            }
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let (address, port) = rest.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            let address = match address.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
                Some(address) => IpAddr::V6(address.parse().ok()?),
                None => IpAddr::V4(address.parse().ok()?),
            };
            Some(Self { address, service: Some((protocol, port)) })
        };
        parsed().ok_or_else(|| NotAQuestion(text.to_owned()))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, service } = self;
        let (name, port) = match service {
            None => return address.fmt(f),
            Some((Protocol::IcmpEcho, _)) => return write!(f, "{address}/icmp"),
            Some((Protocol::Tcp, port)) => ("tcp", port),
            Some((Protocol::Udp, port)) => ("udp", port),
        };
        match address {
            IpAddr::V4(address) => write!(f, "{address}:{port}/{name}"),
            IpAddr::V6(address) => write!(f, "[{address}]:{port}/{name}"),
        }
    }
}

impl Serialize for Question {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_it_was_read() {
        for text in [
            "10.128.0.20",
            "10.128.0.20:502/tcp",
            "10.128.0.20/icmp",
            "fd76:7600::20",
            "[fd76:7600::20]:53/udp",
            "fd76:7600::20/icmp",
        ] {
            assert_eq!(text.parse::<Question>().unwrap().to_string(), text);
        }
    }

    /// Requirements: G4.
    #[test]
    fn other_texts_are_refused_with_examples() {
        for text in
            ["", "a", "10.128.0.20:502", "10.128.0.20/24", "10.128.0.20:0/tcp", "fd76::20:53/udp", "1.2.3.4:5/icmp"]
        {
            let error = text.parse::<Question>().unwrap_err().to_string();
            assert!(error.contains("\"10.128.0.20:502/tcp\""), "{error}");
        }
    }
}
