//! Between our types and WireGuard's netlink attributes (`include/uapi/linux/wireguard.h`).

use std::{
    collections::btree_map::Entry,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags, WireguardTimeSpec,
};

use super::{
    changes::Put,
    device::{Device, Peer, Settings},
};
use crate::key::{LENGTH, PrivateKey, PublicKey};

/// Asks for everything about an interface. To be sent as a dump: the kernel has no other form of it.
pub fn get(ifindex: u32) -> WireguardMessage {
    WireguardMessage { cmd: WireguardCmd::GetDevice, attributes: vec![WireguardAttribute::IfIndex(ifindex)] }
}

/// Sets the key, the port, the firewall mark, or some of them.
pub fn set(
    ifindex: u32,
    private_key: Option<&PrivateKey>,
    listen_port: Option<u16>,
    fwmark: Option<u32>,
) -> WireguardMessage {
    let private_key = private_key.map(|key| WireguardAttribute::PrivateKey(*key.secret()));
    let listen_port = listen_port.map(WireguardAttribute::ListenPort);
    let fwmark = fwmark.map(WireguardAttribute::Fwmark);
    change(ifindex, private_key.into_iter().chain(listen_port).chain(fwmark))
}

/// Adds or changes peers. The caller keeps `puts` within [`MAX_BYTES`], by [`bytes`].
pub fn put(ifindex: u32, puts: &[Put]) -> WireguardMessage {
    let peers = puts.iter().map(|put| {
        let mut flags = WireguardPeerFlags::empty();
        flags.set(WireguardPeerFlags::ReplaceAllowedIps, put.replace);
        flags.set(WireguardPeerFlags::UpdateOnly, put.exists);
        let mut attributes = vec![WireguardPeerAttribute::PublicKey(*put.public_key.as_bytes())];
        if !flags.is_empty() {
            attributes.push(WireguardPeerAttribute::Flags(flags));
        }
        if !put.allowed_ips.is_empty() {
            let allowed_ips = put.allowed_ips.iter().copied().map(allowed_ip).collect();
            attributes.push(WireguardPeerAttribute::AllowedIps(allowed_ips));
        }
        WireguardPeer(attributes)
    });
    change(ifindex, [WireguardAttribute::Peers(peers.collect())])
}

/// Changes what a peer has besides its allowed IPs. The kernel says nothing if there is no such peer.
pub fn settle(ifindex: u32, public_key: PublicKey, settings: &Settings) -> WireguardMessage {
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(*public_key.as_bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
    ];
    if settings.without_preshared_key {
        attributes.push(WireguardPeerAttribute::PresharedKey([0; LENGTH]));
    }
    attributes.extend(settings.endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.extend(settings.keepalive.map(WireguardPeerAttribute::PersistentKeepalive));
    change(ifindex, [WireguardAttribute::Peers(vec![WireguardPeer(attributes)])])
}

/// Removes a peer. The kernel says nothing if there is no such peer.
pub fn remove(ifindex: u32, public_key: PublicKey) -> WireguardMessage {
    // UPDATE_ONLY as well, or the kernel would first make a peer that is not there.
    let flags = WireguardPeerFlags::RemoveMe | WireguardPeerFlags::UpdateOnly;
    let attributes =
        vec![WireguardPeerAttribute::PublicKey(*public_key.as_bytes()), WireguardPeerAttribute::Flags(flags)];
    change(ifindex, [WireguardAttribute::Peers(vec![WireguardPeer(attributes)])])
}

/// The device is named by its number, so that one of the same name made in the meantime is not touched.
fn change(ifindex: u32, attributes: impl IntoIterator<Item = WireguardAttribute>) -> WireguardMessage {
    // Without WGDEVICE_A_FLAGS: its only flag would replace all peers.
    let attributes = [WireguardAttribute::IfIndex(ifindex)].into_iter().chain(attributes).collect();
    WireguardMessage { cmd: WireguardCmd::SetDevice, attributes }
}

fn allowed_ip(net: IpNet) -> WireguardAllowedIp {
    let family = match net {
        IpNet::V4(_) => WireguardAddressFamily::Ipv4,
        IpNet::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.network()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ])
}

/// The most bytes of peers in a message; the length field of the attribute around them has 16 bits.
pub const MAX_BYTES: usize = 48 * 1024;

/// At least what a peer takes in a message.
pub fn bytes(put: &Put) -> usize {
    // Attributes have a header of 4 bytes and are padded to 4. Peer: itself, key, flags, list. Allowed IP: itself,
    // family, address (up to 16 bytes), prefix length.
    (4 + 36 + 8 + 4) + put.allowed_ips.len() * (4 + 8 + 20 + 8)
}

/// Adds what a message of a dump says. A peer whose allowed IPs do not fit goes on in the next message.
pub fn read(device: &mut Device, attributes: Vec<WireguardAttribute>) {
    for attribute in attributes {
        match attribute {
            WireguardAttribute::PublicKey(key) => device.public_key = Some(PublicKey::from_bytes(key)),
            WireguardAttribute::ListenPort(port) => device.listen_port = port,
            WireguardAttribute::Fwmark(mark) => device.fwmark = mark,
            WireguardAttribute::Peers(peers) => {
                for peer in peers {
                    read_peer(device, peer);
                }
            }
            _ => {}
        }
    }
}

fn read_peer(device: &mut Device, WireguardPeer(attributes): WireguardPeer) {
    let key = attributes.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(PublicKey::from_bytes(*key)),
        _ => None,
    });
    let Some(key) = key else { return };
    let peer = match device.peers.entry(key) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Peer::default()),
    };
    for attribute in attributes {
        match attribute {
            WireguardPeerAttribute::Endpoint(endpoint) => peer.endpoint = Some(endpoint),
            WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = seconds,
            // Zeros stand for none.
            WireguardPeerAttribute::PresharedKey(key) => {
                peer.has_preshared_key = key != [0; LENGTH];
            }
            WireguardPeerAttribute::LastHandshake(time) => peer.latest_handshake = time_of(time),
            WireguardPeerAttribute::RxBytes(bytes) => peer.rx_bytes = bytes,
            WireguardPeerAttribute::TxBytes(bytes) => peer.tx_bytes = bytes,
            WireguardPeerAttribute::AllowedIps(allowed_ips) => {
                peer.allowed_ips.extend(allowed_ips.iter().filter_map(net_of));
            }
            _ => {}
        }
    }
}

/// Zero stands for never.
fn time_of(time: WireguardTimeSpec) -> Option<SystemTime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanoseconds = u32::try_from(time.nano_seconds).ok()?;
    let since_epoch = Duration::new(seconds, nanoseconds);
    (!since_epoch.is_zero()).then(|| SystemTime::UNIX_EPOCH + since_epoch)
}

fn net_of(WireguardAllowedIp(attributes): &WireguardAllowedIp) -> Option<IpNet> {
    let mut address: Option<IpAddr> = None;
    let mut length: Option<u8> = None;
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(found) => address = Some(*found),
            WireguardAllowedIpAttr::Cidr(found) => length = Some(*found),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use netlink_packet_core::{Emitable as _, ParseableParametrized as _};
    use netlink_packet_generic::GenlHeader;

    use super::*;

    /// Byte for byte what the kernel's header asks for; the numbers are those of `linux/wireguard.h`.
    #[test]
    fn a_change_of_a_peer_is_laid_out_as_the_kernel_reads_it() {
        let put = Put {
            public_key: PublicKey::from_bytes([7; 32]),
            allowed_ips: BTreeSet::from(["192.168.1.0/24".parse().unwrap()]),
            replace: true,
            exists: true,
        };
        let allowed_ip =
            nested(0, &[attribute(1, &2_u16.to_ne_bytes()), attribute(2, &[192, 168, 1, 0]), attribute(3, &[24])]);
        let peer =
            nested(0, &[attribute(1, &[7; 32]), attribute(3, &(2_u32 | 4).to_ne_bytes()), nested(9, &[allowed_ip])]);
        let expected = [attribute(1, &5_u32.to_ne_bytes()), nested(8, &[peer])].concat();
        assert_eq!(emitted(&super::put(5, &[put])), expected);
    }

    /// Requirements: G3.
    #[test]
    fn nothing_is_ever_replaced_as_a_whole() {
        let key = PrivateKey::generate().unwrap();
        let public_key = key.public();
        let new = Put { public_key, allowed_ips: BTreeSet::new(), replace: false, exists: false };
        for message in [
            set(5, Some(&key), Some(51820), Some(0)),
            put(5, &[new]),
            settle(5, public_key, &Settings::default()),
            remove(5, public_key),
        ] {
            let flags = message.attributes.iter().any(|attribute| matches!(attribute, WireguardAttribute::Flags(_)));
            assert!(!flags, "WGDEVICE_A_FLAGS is not set");
        }
        let removal = nested(0, &[attribute(1, public_key.as_bytes()), attribute(3, &(1_u32 | 4).to_ne_bytes())]);
        let expected = [attribute(1, &5_u32.to_ne_bytes()), nested(8, &[removal])].concat();
        assert_eq!(emitted(&remove(5, public_key)), expected);
        let expected =
            [attribute(1, &5_u32.to_ne_bytes()), attribute(3, key.secret()), attribute(6, &51820_u16.to_ne_bytes())];
        assert_eq!(emitted(&set(5, Some(&key), Some(51820), None)), expected.concat());
    }

    #[test]
    fn settings_of_a_peer_are_laid_out_as_the_kernel_reads_them() {
        let settings = Settings {
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            keepalive: Some(25),
            without_preshared_key: true,
        };
        // `struct sockaddr_in`: family in the host's order, port and address in that of the network, and padding.
        let endpoint = [&2_u16.to_ne_bytes()[..], &51820_u16.to_be_bytes(), &[192, 0, 2, 1], &[0; 8]].concat();
        let peer = nested(
            0,
            &[
                attribute(1, &[7; 32]),
                attribute(3, &4_u32.to_ne_bytes()),
                attribute(2, &[0; 32]),
                attribute(4, &endpoint),
                attribute(5, &25_u16.to_ne_bytes()),
            ],
        );
        let expected = [attribute(1, &5_u32.to_ne_bytes()), nested(8, &[peer])].concat();
        assert_eq!(emitted(&settle(5, PublicKey::from_bytes([7; 32]), &settings)), expected);
        let fwmark = [attribute(1, &5_u32.to_ne_bytes()), attribute(7, &0_u32.to_ne_bytes())].concat();
        assert_eq!(emitted(&set(5, None, None, Some(0))), fwmark);
    }

    #[test]
    fn the_largest_peer_fits_its_length_field() {
        let allowed_ips: BTreeSet<IpNet> = (0..crate::validate::MAX_SUBNETS as u32)
            .map(|at| IpNet::new(IpAddr::V6(u128::from(at).into()), 128).unwrap())
            .collect();
        let put = Put { public_key: PublicKey::from_bytes([7; 32]), allowed_ips, replace: true, exists: true };
        let length = emitted(&super::put(5, std::slice::from_ref(&put))).len();
        assert!(bytes(&put) + 12 >= length, "{} is no upper bound of {length}", bytes(&put));
        assert!(bytes(&put) <= MAX_BYTES);
    }

    #[test]
    fn a_peer_that_goes_on_in_the_next_message_is_one_peer() {
        let key = [7; 32];
        let allowed_ip = |last: u8| {
            WireguardAllowedIp(vec![
                WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
                WireguardAllowedIpAttr::IpAddr(IpAddr::from([10, 0, 0, last])),
                WireguardAllowedIpAttr::Cidr(32),
            ])
        };
        let first = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![
                WireguardAttribute::PublicKey([9; 32]),
                WireguardAttribute::ListenPort(51820),
                WireguardAttribute::Fwmark(3),
                WireguardAttribute::Peers(vec![WireguardPeer(vec![
                    WireguardPeerAttribute::PublicKey(key),
                    WireguardPeerAttribute::Endpoint("192.0.2.1:1234".parse().unwrap()),
                    WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 5, nano_seconds: 0 }),
                    WireguardPeerAttribute::PersistentKeepalive(25),
                    WireguardPeerAttribute::PresharedKey([1; 32]),
                    WireguardPeerAttribute::RxBytes(11),
                    WireguardPeerAttribute::TxBytes(22),
                    WireguardPeerAttribute::AllowedIps(vec![allowed_ip(1)]),
                ])]),
            ],
        };
        let rest = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(key),
            WireguardPeerAttribute::AllowedIps(vec![allowed_ip(2)]),
        ]);
        let never = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey([8; 32]),
            WireguardPeerAttribute::LastHandshake(WireguardTimeSpec::default()),
            WireguardPeerAttribute::PresharedKey([0; 32]),
        ]);
        let second = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![WireguardAttribute::Peers(vec![rest, never])],
        };
        let mut device = Device::default();
        for message in [first, second] {
            let header = GenlHeader { cmd: 0, version: 1 };
            let parsed = WireguardMessage::parse_with_param(&emitted(&message), header).unwrap();
            read(&mut device, parsed.attributes);
        }
        assert_eq!((device.public_key, device.listen_port), (Some(PublicKey::from_bytes([9; 32])), 51820));
        let peer = &device.peers[&PublicKey::from_bytes(key)];
        assert_eq!(
            peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1/32", "10.0.0.2/32"]
        );
        assert_eq!((peer.rx_bytes, peer.tx_bytes), (11, 22));
        assert_eq!((device.fwmark, peer.keepalive, peer.has_preshared_key), (3, 25, true));
        assert_eq!(peer.latest_handshake, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5)));
        assert_eq!(device.peers[&PublicKey::from_bytes([8; 32])], Peer::default());
    }

    fn emitted(message: &WireguardMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// `struct nlattr`, its payload, and padding to four bytes.
    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = 4 + payload.len() as u16;
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        /// `NLA_F_NESTED`.
        const NESTED: u16 = 1 << 15;
        attribute(kind | NESTED, &attributes.concat())
    }
}
