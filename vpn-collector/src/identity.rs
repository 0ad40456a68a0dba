//! Ids that follow from what they name, so that a restart gives the same ones and nothing need be remembered.

use uuid::Uuid;
use vpn_ebpf_common::{
    denial::DenialKey,
    flow::{ClosedKey, FlowKey},
};

/// Namespace of this product's name-based ids (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x7b0a_3c1e_5d42_5f8e_9a66_0d3b_91c7_e2f4);

/// Names flows and denials of one gateway host in one boot. Times count from the boot, so the boot belongs into
/// the id; addresses and ports repeat from host to host, so the host does, too.
#[derive(Clone, Debug)]
pub struct Identity {
    host: Vec<u8>,
}

impl Identity {
    /// For a gateway by its name in the fleet, and a boot by the kernel's id of it.
    #[must_use]
    pub fn new(gateway: &str, boot: &str) -> Self {
        // The boot id has a fixed length, so no two pairs give the same bytes.
        Self { host: [boot.as_bytes(), b" ", gateway.as_bytes()].concat() }
    }

    /// Id of a flow: the same for every snapshot of it, and of no other flow.
    #[must_use]
    pub fn flow(&self, key: &ClosedKey) -> Uuid {
        let FlowKey { device, peer, plant, user_port, device_port, protocol, reserved: _ } = key.flow;
        self.id(&[
            b"flow",
            &key.opened_ns.to_be_bytes(),
            &peer.to_be_bytes(),
            &plant.to_be_bytes(),
            &device.to_ipv6().octets(),
            &u16::from_be(user_port).to_be_bytes(),
            &u16::from_be(device_port).to_be_bytes(),
            &[protocol],
        ])
    }

    /// Id of a refused destination that was first refused at `first_ns`.
    #[must_use]
    pub fn denial(&self, key: &DenialKey, first_ns: u64) -> Uuid {
        let DenialKey { addressed, peer, port, protocol, verdict } = *key;
        self.id(&[
            b"denial",
            &first_ns.to_be_bytes(),
            &peer.to_be_bytes(),
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
    use std::{collections::HashSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn whatever_differs_makes_another_id() {
        let key = ClosedKey {
            flow: FlowKey {
                device: Ipv4Addr::new(192, 168, 1, 20).into(),
                peer: 1,
                plant: 2,
                user_port: 3,
                device_port: 4,
                protocol: 6,
                reserved: [0; 3],
            },
            opened_ns: 5,
        };
        let here = Identity::new("gateway-1", "boot-1");
        let flow = |change: fn(&mut ClosedKey)| {
            let mut key = key;
            change(&mut key);
            here.flow(&key)
        };
        let ids = [
            flow(|_| ()),
            flow(|key| key.opened_ns += 1),
            flow(|key| key.flow.peer += 1),
            flow(|key| key.flow.plant += 1),
            flow(|key| key.flow.user_port += 1),
            flow(|key| key.flow.device_port += 1),
            flow(|key| key.flow.protocol = 17),
            flow(|key| key.flow.device = Ipv4Addr::new(192, 168, 1, 21).into()),
            Identity::new("gateway-2", "boot-1").flow(&key),
            Identity::new("gateway-1", "boot-2").flow(&key),
        ];
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert_eq!(ids[0], Identity::new("gateway-1", "boot-1").flow(&key), "and nothing else does");
    }
}
