//! From numbers to names: who, which plant, whose plant.

use std::path::Path;

use tracing::{debug, warn};
use vpn_directory::{Directory, Error, Follower};
use vpn_ebpf_common::Verdict;

use crate::{
    clock::Clock,
    identity::Identity,
    row::{DenialRow, FlowRow, mapped},
    sweep::{Refusal, Snapshot},
};

/// The directory file, read again whenever the agent has changed it.
#[derive(Debug)]
pub struct Names(Follower);

impl Names {
    /// For the file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Follower::new(path))
    }

    /// The directory as it is now. If the file cannot be read, the last one that could; ids are never reused, so
    /// an old directory may lack an entry but never has a wrong one.
    pub fn current(&mut self) -> Option<&Directory> {
        match self.0.refresh() {
            Ok(changed) => {
                if let Some(directory) = self.0.directory().filter(|_| changed) {
                    debug!(revision = directory.revision, "directory read");
                }
            }
            Err(error @ (Error::Io { .. } | Error::Json { .. } | Error::Format { .. })) => warn!("{error}"),
        }
        self.0.directory()
    }
}

/// What a row is made with.
#[derive(Clone, Copy, Debug)]
pub struct Attribution<'a> {
    /// Names of the ids.
    pub directory: &'a Directory,
    /// Calendar times.
    pub clock: &'a Clock,
    /// Ids of rows.
    pub identity: &'a Identity,
}

impl Attribution<'_> {
    /// The row of a flow; none if the directory does not know the peer or the plant (yet). A flow to a service of the
    /// gateway itself is at [`GATEWAY`], and nobody is its operator.
    #[must_use]
    pub fn flow(&self, snapshot: &Snapshot) -> Option<FlowRow> {
        let Snapshot { key, flow, closed } = snapshot;
        let peer = self.directory.peer(key.flow.peer)?;
        let (operator, plant) = match flow.plant {
            0 => ("", GATEWAY),
            id => self.directory.plant(id).map(|plant| (plant.operator.as_str(), plant.plant.as_str()))?,
        };
        Some(FlowRow {
            flow: self.identity.flow(key),
            operator: operator.into(),
            plant: plant.into(),
            user: peer.user.clone(),
            certificate: peer.certificate.clone(),
            organisations: peer.organisations.clone(),
            gateway: self.directory.gateway.clone(),
            region: self.directory.region.clone(),
            protocol: key.flow.protocol,
            source: mapped(peer.address_towards(flow.device.to_ip())),
            source_port: u16::from_be(key.flow.user_port),
            addressed: key.flow.addressed.to_ipv6(),
            destination: flow.device.to_ipv6(),
            port: u16::from_be(key.flow.device_port),
            opened: self.micros(flow.opened_ns),
            last_seen: self.micros(flow.last_ns),
            packets_to_plant: flow.to_plant.packets,
            bytes_to_plant: flow.to_plant.bytes,
            packets_to_user: flow.to_user.packets,
            bytes_to_user: flow.to_user.bytes,
            closed: u8::from(*closed),
            verdict: FORWARDED.into(),
        })
    }

    /// The row of a refused destination; none if the directory does not know the peer (yet). A virtual address
    /// names the plant that was meant; a real one names none, and neither do further destinations together.
    #[must_use]
    pub fn denial(&self, refusal: &Refusal) -> Option<DenialRow> {
        let Refusal { key, denial, .. } = refusal;
        let peer = self.directory.peer(key.peer)?;
        let plant = match key.is_further() {
            true => None,
            false => self.directory.plant_of_virtual(key.addressed.to_ip()),
        };
        Some(DenialRow {
            denial: self.identity.denial(key, denial.first_ns),
            operator: plant.map(|plant| plant.operator.clone()).unwrap_or_default(),
            plant: plant.map(|plant| plant.plant.clone()).unwrap_or_default(),
            user: peer.user.clone(),
            certificate: peer.certificate.clone(),
            organisations: peer.organisations.clone(),
            gateway: self.directory.gateway.clone(),
            region: self.directory.region.clone(),
            protocol: key.protocol,
            // Further destinations may be of both families; the tunnel IP stands for the certificate.
            source: mapped(if key.is_further() { peer.address } else { peer.address_towards(key.addressed.to_ip()) }),
            addressed: key.addressed.to_ipv6(),
            port: u16::from_be(key.port),
            verdict: Verdict::from_number(key.verdict).map_or("unknown", Verdict::label).into(),
            first_seen: self.micros(denial.first_ns),
            last_seen: self.micros(denial.last_ns),
            attempts: denial.attempts,
            bytes: denial.bytes,
        })
    }

    fn micros(&self, boot_ns: u64) -> i64 {
        i64::try_from(self.clock.real_ns(boot_ns) / 1_000).unwrap_or(i64::MAX)
    }
}

/// The verdict of every flow.
const FORWARDED: &str = "forwarded";

/// Stands for the plant in flows to services of the gateway itself. No plant has this id: parentheses are in none.
pub const GATEWAY: &str = "(gateway)";

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use tempfile::TempDir;
    use vpn_directory::{FORMAT, Peer, Plant, Subnet};
    use vpn_ebpf_common::{
        Address,
        denial::{Denial, DenialKey},
        flow::{ClosedKey, Flow, FlowKey, Traffic},
        protocol,
    };

    use super::*;

    /// Requirements: F3.
    #[test]
    fn a_flow_is_its_plants_whatever_address_the_user_wrote() {
        let lab = Lab::new();
        for addressed in ["10.128.1.20", "192.168.1.20", "fd00:1::20"] {
            let row = lab.attribution().flow(&snapshot(addressed, "192.168.1.20", 7)).unwrap();
            assert_eq!((row.operator.as_str(), row.plant.as_str(), row.user.as_str()), ("alpha", "north", "user-a"));
            assert_eq!((row.addressed, row.destination), (ipv6(addressed), ipv6("192.168.1.20")));
            assert_eq!((row.source_port, row.port, row.packets_to_plant, row.bytes_to_user), (40_000, 502, 2, 100));
            assert_eq!((row.last_seen - row.opened, row.closed, row.verdict.as_str()), (3, 1, "forwarded"));
        }
    }

    #[test]
    fn a_flow_to_the_gateway_itself_is_nobodys() {
        let lab = Lab::new();
        let row = lab.attribution().flow(&snapshot("100.64.0.1", "100.64.0.1", 0)).unwrap();
        assert_eq!((row.operator.as_str(), row.plant.as_str()), ("", "(gateway)"));
        assert_eq!((row.gateway.as_str(), row.destination), ("gateway-1", ipv6("100.64.0.1")));
    }

    /// Requirements: F5.
    #[test]
    fn a_refusal_is_the_plants_whose_virtual_address_it_was() {
        let lab = Lab::new();
        let key = |addressed| DenialKey {
            addressed: address(addressed),
            peer: 5,
            window: 3,
            port: 22_u16.to_be(),
            protocol: protocol::TCP,
            verdict: Verdict::NoRoute as u8,
        };
        for (addressed, plant) in [("10.128.1.9", "north"), ("fd00:1::9", "north"), ("192.168.1.9", ""), ("::", "")] {
            let row = lab.attribution().denial(&refusal(key(addressed))).unwrap();
            assert_eq!((row.plant.as_str(), row.port, row.verdict.as_str()), (plant, 22, "no-route"), "{addressed}");
            assert_eq!(row.operator.is_empty(), plant.is_empty());
        }
    }

    #[test]
    fn further_refusals_are_no_plants_even_if_one_has_all_addresses() {
        let mut lab = Lab::new();
        lab.directory.plants[0].subnets[1].virtual_ = "::/0".parse().unwrap();
        let row = lab.attribution().denial(&refusal(DenialKey::further(5, 3, Verdict::NoRoute as u8))).unwrap();
        assert_eq!((row.operator.as_str(), row.plant.as_str(), row.user.as_str()), ("", "", "user-a"));
        assert_eq!((row.addressed, row.port, row.protocol), (Ipv6Addr::UNSPECIFIED, 0, 0));
        assert_eq!((row.attempts, row.bytes), (4, 400));
    }

    #[test]
    fn what_has_no_name_yet_has_no_row() {
        let mut lab = Lab::new();
        let key = DenialKey::further(5, 3, Verdict::NoRoute as u8);
        assert_eq!(lab.attribution().flow(&snapshot("10.128.1.20", "192.168.1.20", 8)), None);
        lab.directory.peers.clear();
        assert_eq!(lab.attribution().flow(&snapshot("10.128.1.20", "192.168.1.20", 7)), None);
        assert_eq!(lab.attribution().denial(&refusal(key)), None);
    }

    struct Lab {
        directory: Directory,
        clock: Clock,
        identity: Identity,
        _folder: TempDir,
    }

    impl Lab {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Clock::open(folder.path()).unwrap();
            let identity = Identity::open(folder.path(), clock.boot()).unwrap();
            Self { directory: directory(), clock, identity, _folder: folder }
        }

        fn attribution(&self) -> Attribution<'_> {
            Attribution { directory: &self.directory, clock: &self.clock, identity: &self.identity }
        }
    }

    fn directory() -> Directory {
        let subnet = |id, real: &str, virtual_: &str| Subnet {
            id,
            real: real.parse().unwrap(),
            virtual_: virtual_.parse().unwrap(),
            active: true,
        };
        Directory {
            format: FORMAT,
            revision: 1,
            gateway: "gateway-1".into(),
            region: "eu".into(),
            peers: vec![Peer {
                id: 5,
                certificate: "certificate-a".into(),
                user: "user-a".into(),
                organisations: vec!["beta".into()],
                address: "100.64.0.5".parse().unwrap(),
                address6: "fd64::5".parse().unwrap(),
                active: true,
            }],
            plants: vec![Plant {
                id: 7,
                plant: "north".into(),
                operator: "alpha".into(),
                subnets: vec![
                    subnet(11, "192.168.1.0/24", "10.128.1.0/24"),
                    subnet(12, "2001:db8::/64", "fd00:1::/64"),
                ],
                active: true,
            }],
        }
    }

    fn snapshot(addressed: &str, device: &str, plant: u32) -> Snapshot {
        let key = FlowKey {
            addressed: address(addressed),
            peer: 5,
            user_port: 40_000_u16.to_be(),
            device_port: 502_u16.to_be(),
            protocol: protocol::TCP,
            reserved: [0; 3],
        };
        let flow = Flow {
            tag: key.tag(),
            mtu: 1_420,
            tcp_user: 0,
            tcp_plant: 0,
            opened_ns: 1_000,
            last_ns: 4_000,
            expires_ns: 5_000,
            to_plant: Traffic { packets: 2, bytes: 200 },
            to_user: Traffic { packets: 1, bytes: 100 },
            device: address(device),
            plant,
            route: 11,
            route_set: 3,
            generation: 1,
            egress: 2,
            link_header: 0,
            reserved: 0,
        };
        Snapshot { key: ClosedKey::new(key, flow.opened_ns), flow, closed: true }
    }

    const fn refusal(key: DenialKey) -> Refusal {
        Refusal { key, denial: Denial { first_ns: 1_000, last_ns: 2_000, attempts: 4, bytes: 400 }, last: true }
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn ipv6(text: &str) -> Ipv6Addr {
        mapped(text.parse().unwrap())
    }
}
