//! Devices: what WireGuard adds to a link, that is a key, a port and peers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use genetlink::GenetlinkError;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::WireguardMessage;

use super::{AllowedIps, Changes, Error, Put, WireGuard, link::Link, wire};
use crate::key::{PrivateKey, PublicKey};

/// A WireGuard device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its own public key; `None` before it was given a private key.
    pub public_key: Option<PublicKey>,
    /// UDP port; zero if the kernel shall choose one.
    pub listen_port: u16,
    /// The firewall mark of its own packets; zero for none.
    pub fwmark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// The other end of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Source addresses it may use, and destinations that lead to it.
    pub allowed_ips: AllowedIps,
    /// Where its packets came from last.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between the keepalives that it is sent; zero for none.
    pub keepalive: u16,
    /// Whether it has a preshared key besides its own. Nothing of ours gives it one.
    pub has_preshared_key: bool,
    /// When the last handshake was completed.
    pub latest_handshake: Option<SystemTime>,
    /// Bytes received from it, with WireGuard's overhead.
    pub rx_bytes: u64,
    /// Bytes sent to it, with WireGuard's overhead.
    pub tx_bytes: u64,
}

impl Peer {
    /// How long ago the last handshake was completed. One in the future, by a clock that was set back, was just now.
    #[must_use]
    pub fn handshake_age(&self) -> Option<Duration> {
        self.latest_handshake.map(|time| SystemTime::now().duration_since(time).unwrap_or_default())
    }
}

impl Device {
    /// Its peers with their allowed IPs alone.
    #[must_use]
    pub fn allowed_ips(&self) -> BTreeMap<PublicKey, AllowedIps> {
        self.peers.iter().map(|(key, peer)| (*key, peer.allowed_ips.clone())).collect()
    }
}

/// What to change about a peer besides its allowed IPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where to send its packets from now on.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between the keepalives that it is sent; zero for none.
    pub keepalive: Option<u16>,
    /// Whether to take its preshared key away.
    pub without_preshared_key: bool,
}

impl WireGuard {
    /// Everything about the device of `link`, except its private key.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn device(&self, link: &Link) -> Result<Device, Error> {
        let mut device = Device::default();
        let action = || format!("read {}", link.name);
        self.request(&action, wire::get(link.ifindex), NLM_F_DUMP, |message| {
            wire::read(&mut device, message.attributes);
        })
        .await?;
        Ok(device)
    }

    /// Gives the device its private key, its UDP port (with `None` whichever the kernel chooses) and no firewall mark, as
    /// far as it is not so already.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn configure(
        &self,
        link: &Link,
        private_key: &PrivateKey,
        listen_port: Option<u16>,
    ) -> Result<(), Error> {
        let device = self.device(link).await?;
        let key = (device.public_key != Some(private_key.public())).then_some(private_key);
        let port = listen_port.filter(|port| device.listen_port != *port);
        let fwmark = (device.fwmark != 0).then_some(0);
        if key.is_none() && port.is_none() && fwmark.is_none() {
            return Ok(());
        }
        let action = || match port {
            Some(port) => format!("set key and port {port} of {}", link.name),
            None => format!("set the key of {}", link.name),
        };
        self.request(&action, wire::set(link.ifindex, key, port, fwmark), NLM_F_ACK, |_| {}).await
    }

    /// The peers of the device with their allowed IPs.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn peers(&self, link: &Link) -> Result<BTreeMap<PublicKey, AllowedIps>, Error> {
        Ok(self.device(link).await?.allowed_ips())
    }

    /// Adds and changes peers so that the device has all that are desired, with this keepalive. Those that it has besides
    /// are returned, for [`Self::remove_peer`] when there is time; an allowed IP that went to another peer they have lost
    /// already.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`]; some peers may have been written.
    pub async fn reconcile_peers(
        &self,
        link: &Link,
        desired: &BTreeMap<PublicKey, AllowedIps>,
        keepalive: u16,
    ) -> Result<Vec<PublicKey>, Error> {
        let device = self.device(link).await?;
        let changes = Changes::between(&device.allowed_ips(), desired);
        self.put_peers(link, &changes.put).await?;
        self.settle_peers(link, &device, desired.keys(), keepalive).await?;
        Ok(changes.remove)
    }

    /// Gives peers this keepalive and no preshared key, as far as it is not so already; `device` is how they were.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`]; some peers may have been written.
    pub async fn settle_peers(
        &self,
        link: &Link,
        device: &Device,
        peers: impl Iterator<Item = &PublicKey>,
        keepalive: u16,
    ) -> Result<(), Error> {
        let new = Peer::default();
        for key in peers {
            let has = device.peers.get(key).unwrap_or(&new);
            let settings = Settings {
                endpoint: None,
                keepalive: (has.keepalive != keepalive).then_some(keepalive),
                without_preshared_key: has.has_preshared_key,
            };
            if settings != Settings::default() {
                self.set_peer(link, *key, &settings).await?;
            }
        }
        Ok(())
    }

    /// Changes what a peer has besides its allowed IPs; fine if there is no such peer.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn set_peer(&self, link: &Link, public_key: PublicKey, settings: &Settings) -> Result<(), Error> {
        let action = || format!("change peer {public_key} of {}", link.name);
        self.request(&action, wire::settle(link.ifindex, public_key, settings), NLM_F_ACK, |_| {}).await
    }

    /// Adds and changes peers, as few messages as it takes.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`]; some peers may have been written.
    pub async fn put_peers(&self, link: &Link, puts: &[Put]) -> Result<(), Error> {
        for batch in batches(puts) {
            self.put_batch(link, batch).await?;
        }
        Ok(())
    }

    /// Adds or changes one peer: it then has these allowed IPs and no others.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn put_peer(&self, link: &Link, public_key: PublicKey, allowed_ips: AllowedIps) -> Result<(), Error> {
        self.put_batch(link, &[Put { public_key, allowed_ips, replace: true, exists: false }]).await
    }

    async fn put_batch(&self, link: &Link, puts: &[Put]) -> Result<(), Error> {
        let action = || match puts {
            [put] => format!("set peer {} of {}", put.public_key, link.name),
            puts => format!("set {} peers of {}", puts.len(), link.name),
        };
        self.request(&action, wire::put(link.ifindex, puts), NLM_F_ACK, |_| {}).await
    }

    /// Removes a peer; fine if it is gone already. Takes about 66 ms in the kernel.
    ///
    /// # Errors
    /// [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn remove_peer(&self, link: &Link, public_key: PublicKey) -> Result<(), Error> {
        let action = || format!("remove peer {public_key} of {}", link.name);
        self.request(&action, wire::remove(link.ifindex, public_key), NLM_F_ACK, |_| {}).await
    }

    /// Sends a message and reads all answers to it.
    async fn request(
        &self,
        action: &(dyn Fn() -> String + Sync),
        message: WireguardMessage,
        flags: u16,
        mut answer: impl FnMut(WireguardMessage),
    ) -> Result<(), Error> {
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(message));
        message.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.devices.clone();
        // The first request asks the kernel for the number of WireGuard's family; there is none without the driver.
        let mut answers = handle.request(message).await.map_err(|error| match error {
            GenetlinkError::NetlinkError(error) if error.raw_os_error() == Some(libc::ENOENT) => Error::NoWireGuard,
            GenetlinkError::NetlinkError(source) => Error::Kernel { action: action(), source },
            other => Error::Protocol { action: action(), what: other.to_string() },
        })?;
        while let Some(message) = answers.next().await {
            let message = message.map_err(|error| Error::Protocol { action: action(), what: error.to_string() })?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => answer(message.payload),
                // An error without a code is an acknowledgement.
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Error::Kernel { action: action(), source: error.to_io() });
                }
                NetlinkPayload::Overrun(_) => {
                    return Err(Error::Protocol { action: action(), what: "the kernel lost its answer".to_owned() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Cuts a list of changes so that each part fits into a message.
fn batches(puts: &[Put]) -> impl Iterator<Item = &[Put]> {
    let mut rest = puts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|put| {
            bytes += wire::bytes(put);
            bytes <= wire::MAX_BYTES
        });
        // A peer that is too large for any message is for the kernel to refuse.
        let (batch, after) = rest.split_at(fitting.count().max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_and_lose_nothing() {
        let put = |number: u16| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            let allowed_ips = [format!("10.0.{}.{}/32", number >> 8, number & 255).parse().unwrap()].into();
            Put { public_key: PublicKey::from_bytes(key), allowed_ips, replace: true, exists: false }
        };
        let puts: Vec<_> = (0..2000).map(put).collect();
        let parts: Vec<_> = batches(&puts).collect();
        assert!(parts.len() > 1);
        assert!(parts.iter().all(|part| part.iter().map(wire::bytes).sum::<usize>() <= wire::MAX_BYTES));
        assert_eq!(parts.concat(), puts);
        assert_eq!(batches(&[]).count(), 0);
    }
}
