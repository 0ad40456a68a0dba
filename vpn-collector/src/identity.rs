//! Ids that follow from what they name, so that a restart gives the same ones and nothing need be remembered.

use std::{fs, io, path::Path};

use uuid::Uuid;
use vpn_ebpf_common::{
    denial::DenialKey,
    flow::{ClosedKey, FlowKey},
};

/// Namespace of this product's name-based ids (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x7b0a_3c1e_5d42_5f8e_9a66_0d3b_91c7_e2f4);

/// The kernel's source of random ids.
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";

/// Names flows and denials of one host in one boot. Times count from the boot, so the boot belongs into the id;
/// addresses and ports repeat from host to host, so the host does, too.
#[derive(Clone, Debug)]
pub struct Identity {
    host: Vec<u8>,
}

impl Identity {
    /// For this host in a boot, by the kernel's id of it. The host's own id is drawn once and kept in `state_dir`: a
    /// name could be changed while flows live, and would double them.
    ///
    /// # Errors
    /// If the id cannot be read or kept.
    pub fn open(state_dir: &Path, boot: &str) -> io::Result<Self> {
        let file = state_dir.join("host-id");
        let host = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let drawn = fs::read_to_string(RANDOM_ID)?;
                vpn_directory::replace(&file, drawn.as_bytes())?;
                drawn
            }
            kept => kept?,
        };
        let host = host.trim().parse().map_err(|error| {
            io::Error::other(format!("{}: not an id ({error}); restore it from a backup", file.display()))
        })?;
        Ok(Self::new(host, boot))
    }

    fn new(host: Uuid, boot: &str) -> Self {
        Self { host: [host.as_bytes(), boot.as_bytes()].concat() }
    }

    /// Id of a flow: the same for every snapshot of it, and of no other flow.
    #[must_use]
    pub fn flow(&self, key: &ClosedKey) -> Uuid {
        let FlowKey { addressed, peer, user_port, device_port, protocol, reserved: _ } = key.flow;
        self.id(&[
            b"flow",
            &key.opened_ns.to_be_bytes(),
            &peer.to_be_bytes(),
            &addressed.to_ipv6().octets(),
            &u16::from_be(user_port).to_be_bytes(),
            &u16::from_be(device_port).to_be_bytes(),
            &[protocol],
        ])
    }

    /// Id of a refused destination that was first refused in its window at `first_ns`.
    #[must_use]
    pub fn denial(&self, key: &DenialKey, first_ns: u64) -> Uuid {
        let DenialKey { addressed, peer, window, port, protocol, verdict } = *key;
        self.id(&[
            b"denial",
            &first_ns.to_be_bytes(),
            &peer.to_be_bytes(),
            &window.to_be_bytes(),
            &addressed.to_ipv6().octets(),
            &u16::from_be(port).to_be_bytes(),
            &[protocol, verdict],
        ])
    }

    fn id(&self, parts: &[&[u8]]) -> Uuid {
        Uuid::new_v5(&NAMESPACE, &[parts.concat(), self.host.clone()].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use super::*;

    /// Requirements: F8.
    #[test]
    fn whatever_differs_makes_another_id() {
        let flow = FlowKey {
            addressed: Ipv4Addr::new(10, 128, 1, 20).into(),
            peer: 1,
            user_port: 3,
            device_port: 4,
            protocol: 6,
            reserved: [0; 3],
        };
        let key = ClosedKey::new(flow, 5);
        let here = Identity::new(Uuid::from_u128(1), "boot-1");
        let flow = |change: fn(&mut ClosedKey)| {
            let mut key = key;
            change(&mut key);
            here.flow(&key)
        };
        let ids = [
            flow(|_| ()),
            flow(|key| key.opened_ns += 1),
            flow(|key| key.flow.peer += 1),
            flow(|key| key.flow.user_port += 1),
            flow(|key| key.flow.device_port += 1),
            flow(|key| key.flow.protocol = 17),
            flow(|key| key.flow.addressed = Ipv4Addr::new(10, 128, 1, 21).into()),
            flow(|key| key.flow.addressed = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()),
            Identity::new(Uuid::from_u128(2), "boot-1").flow(&key),
            Identity::new(Uuid::from_u128(1), "boot-2").flow(&key),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert_eq!(ids[0], Identity::new(Uuid::from_u128(1), "boot-1").flow(&key), "and nothing else does");
    }

    #[test]
    fn whatever_differs_makes_another_id_of_a_refusal() {
        let key = DenialKey {
            addressed: Ipv4Addr::new(10, 128, 1, 20).into(),
            peer: 1,
            window: 2,
            port: 3,
            protocol: 6,
            verdict: 4,
        };
        let here = Identity::new(Uuid::from_u128(1), "boot-1");
        let denial = |change: fn(&mut DenialKey)| {
            let mut key = key;
            change(&mut key);
            here.denial(&key, 5)
        };
        let ids = [
            denial(|_| ()),
            here.denial(&key, 6),
            denial(|key| key.peer += 1),
            denial(|key| key.window += 1),
            denial(|key| key.port += 1),
            denial(|key| key.protocol = 17),
            denial(|key| key.verdict += 1),
            denial(|key| key.addressed = Ipv4Addr::new(10, 128, 1, 21).into()),
            denial(|key| *key = DenialKey::further(key.peer, key.window, key.verdict)),
            Identity::new(Uuid::from_u128(1), "boot-2").denial(&key, 5),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn a_host_keeps_its_id_and_another_has_its_own() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = |folder: &tempfile::TempDir| Identity::open(folder.path(), "boot-1").unwrap().host;
        assert_eq!(host(&here), host(&here));
        assert_ne!(host(&here), host(&there));
        fs::write(here.path().join("host-id"), "rubbish").unwrap();
        assert!(Identity::open(here.path(), "boot-1").is_err(), "a new id would double every live flow");
    }
}
