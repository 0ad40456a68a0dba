//! Services: what users may reach on the gateway host itself.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use vpn_ebpf_common::protocol;

use crate::{datapath::SERVICES_MAX, pools::Pools, problem::Check, special_ranges, state::State};

/// One of `[[services]]` as it stands in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of TCP or UDP.
    pub port: Option<u16>,
    /// The address that users write; the gateway's own tunnel IP unless there is one.
    pub address: Option<IpAddr>,
}

/// What users may reach on the gateway host itself: packets to it are for the host's own network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The address that users write.
    pub address: Ipv4Addr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of TCP or UDP; zero for ICMP echo.
    pub port: u16,
}

/// The protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo, that is `ping`.
    IcmpEcho,
}

impl Protocol {
    /// The number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
            Self::IcmpEcho => protocol::ICMP,
        }
    }
}

impl ServiceConfig {
    /// None for an IPv6 one, which [`check`] refuses.
    pub(crate) fn service(&self, pools: &Pools) -> Option<Service> {
        let address = match self.address {
            None => pools.gateway(),
            Some(IpAddr::V4(address)) => address,
            Some(IpAddr::V6(_)) => return None,
        };
        Some(Service { address, protocol: self.protocol, port: self.port.unwrap_or_default() })
    }
}

/// What is wrong with services by themselves.
pub(crate) fn check(services: &[ServiceConfig], pools: &Pools, users_interface: &str, check: &mut Check) {
    check.that(services.len() <= SERVICES_MAX as usize, "services", || {
        format!("{} services; at most {SERVICES_MAX} are possible", services.len())
    });
    for (at, service) in services.iter().enumerate() {
        check_port(service, &format!("services[{at}].port"), check);
        check_address(service, pools, users_interface, &format!("services[{at}].address"), check);
        let same = |before: &ServiceConfig| before.service(pools) == service.service(pools);
        if service.service(pools).is_some()
            && let Some(before) = services[..at].iter().position(same)
        {
            let message = || format!("is the same as services[{before}]; list each service once");
            check.that(false, &format!("services[{at}]"), message);
        }
    }
}

fn check_port(service: &ServiceConfig, path: &str, check: &mut Check) {
    match (service.protocol, service.port) {
        (Protocol::IcmpEcho, port) => check.that(port.is_none(), path, || "ICMP echo has no port; leave it out".into()),
        (_, None) => check.that(false, path, || "is missing; TCP and UDP need a port, 1 to 65535".into()),
        (_, Some(port)) => check.range(path, port.into(), 1..=65_535),
    }
}

/// An address in a pool could be, or become, a certificate's or a device's.
fn check_address(service: &ServiceConfig, pools: &Pools, users_interface: &str, path: &str, check: &mut Check) {
    let address = match service.address {
        Some(IpAddr::V4(address)) if address != pools.gateway() => address,
        Some(IpAddr::V6(address)) => {
            return check.that(false, path, || {
                format!(
                    "{address} is IPv6, which this host's own network stack does not have on {users_interface}: it is \
                     switched off there to keep the kernel's forwarding away; use an IPv4 address"
                )
            });
        }
        _ => return,
    };
    for (pool, range) in pools.named() {
        check.that(!range.contains(&IpAddr::V4(address)), path, || {
            format!(
                "{address} is in {pool}, which is {range}; use the gateway's own address {}, or one outside every pool",
                pools.gateway()
            )
        });
    }
    if let Some(purpose) = special_ranges::purpose(&IpAddr::V4(address).into()) {
        check.that(false, path, || {
            format!("{address} is a {purpose} address; use one that this host has on an interface")
        });
    }
}

/// What is wrong with services beside the plants of a state.
pub(crate) fn check_state(services: &[Service], pools: &Pools, state: &State, check: &mut Check) {
    for (at, Service { address, .. }) in services.iter().enumerate() {
        for (id, plant) in &state.plants {
            for subnet in plant.subnets.iter().filter(|subnet| subnet.contains(&IpAddr::V4(*address))) {
                check.that(false, &format!("services[{at}].address"), || {
                    format!(
                        "{address} is in subnet {subnet} of plant {id}, so users would reach this host in place of a \
                         device; use the gateway's own address {}, or one that no plant uses",
                        pools.gateway()
                    )
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, example};

    #[test]
    fn there_are_as_many_as_the_map_has_places() {
        let services = |count: u16| {
            let list: String =
                (1..=count).map(|port| format!("[[services]]\nprotocol = 'tcp'\nport = {port}\n")).collect();
            Config::parse(&example::config_text(&list)).map_err(|problems| problems.to_string())
        };
        assert!(services(256).is_ok());
        assert!(services(257).unwrap_err().contains("services: 257 services; at most 256"));
    }

    #[test]
    fn a_service_is_at_the_gateway_unless_it_says_where() {
        let config = example::config(
            "[[services]]\nprotocol = \"udp\"\nport = 53\n\
             [[services]]\nprotocol = \"icmp-echo\"\n\
             [[services]]\nprotocol = \"tcp\"\nport = 443\naddress = \"192.0.2.1\"",
        );
        let gateway = Ipv4Addr::new(100, 64, 0, 1);
        let expected = [
            Service { address: gateway, protocol: Protocol::Udp, port: 53 },
            Service { address: gateway, protocol: Protocol::IcmpEcho, port: 0 },
            Service { address: Ipv4Addr::new(192, 0, 2, 1), protocol: Protocol::Tcp, port: 443 },
        ];
        assert_eq!(config.services(), expected);
        assert_eq!(expected.map(|service| service.protocol.number()), [17, 1, 6]);
        assert!(example::config("").services().is_empty());
    }

    /// Requirements: G4.
    #[test]
    fn every_rule_names_the_field_and_what_is_allowed() {
        for (service, path, part) in [
            ("protocol = \"sctp\"\nport = 1", "services[1].protocol", "expected one of `tcp`, `udp`, `icmp-echo`"),
            ("protocol = \"tcp\"", "services[1].port", "is missing"),
            ("protocol = \"udp\"\nport = 0", "services[1].port", "0 is out of range; use 1 to 65535"),
            ("protocol = \"icmp-echo\"\nport = 7", "services[1].port", "leave it out"),
            ("protocol = \"tcp\"\nport = 1\naddress = \"fd00::1\"", "services[1].address", "switched off"),
            ("protocol = \"tcp\"\nport = 1\naddress = \"100.64.0.2\"", "services[1].address", "in pools.tunnel"),
            ("protocol = \"tcp\"\nport = 1\naddress = \"10.128.0.1\"", "services[1].address", "in pools.virtual"),
            ("protocol = \"tcp\"\nport = 1\naddress = \"127.0.0.1\"", "services[1].address", "is a loopback address"),
            ("protocol = \"tcp\"\nport = 53", "services[1]", "the same as services[0]"),
            ("protocol = \"tcp\"\nport = 53\naddress = \"100.64.0.1\"", "services[1]", "the same as services[0]"),
            ("protocol = \"tcp\"\nports = [1]", "services[1].ports", "unknown field"),
        ] {
            let text =
                example::config_text(&format!("[[services]]\nprotocol = \"tcp\"\nport = 53\n[[services]]\n{service}"));
            let problems = Config::parse(&text).unwrap_err();
            let found = problems.list().iter().any(|problem| problem.path == path && problem.message.contains(part));
            assert!(found && problems.list().len() == 1, "{service}: {problems}");
        }
        example::config(
            "[[services]]\nprotocol = \"tcp\"\nport = 53\n[[services]]\nprotocol = \"udp\"\nport = 53\n\
             [[services]]\nprotocol = \"tcp\"\nport = 53\naddress = \"192.0.2.1\"",
        );
    }

    #[test]
    fn an_address_that_a_plant_uses_is_no_service() {
        let service = "[[services]]\nprotocol = \"tcp\"\nport = 1\naddress = \"192.168.1.20\"";
        let problems = example::config(service).check_state(&example::state()).unwrap_err();
        assert_eq!(problems.list().len(), 2, "one for each plant: {problems}");
        assert!(
            problems.to_string().starts_with("services[0].address: 192.168.1.20 is in subnet 192.168.1.0/24 of plant"),
            "{problems}"
        );
        let elsewhere = service.replace("192.168.1.20", "192.168.2.20");
        assert_eq!(example::config(&elsewhere).check_state(&example::state()), Ok(()));
    }
}
