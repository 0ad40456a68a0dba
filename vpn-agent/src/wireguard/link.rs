//! Links: an interface as the network stack sees it, without what WireGuard adds.

use futures_util::TryStreamExt as _;
use rtnetlink::{
    LinkUnspec, LinkWireguard,
    packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp},
};

use super::{Error, WireGuard};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its number, never used again while the host is up.
    pub ifindex: u32,
    /// Its kind as the kernel names it, such as `wireguard`; empty for hardware.
    pub kind: String,
    /// Whether its packets have an Ethernet header.
    pub ethernet: bool,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether packets can leave by it: what is at the other end of its cable is there.
    pub carrier: bool,
    /// The id of the XDP program in front of it.
    pub xdp: Option<u32>,
    /// The id of the first program at its ingress hook.
    pub program: Option<u32>,
}

impl WireGuard {
    /// The interface of this name, of whatever kind; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        let answer = self.links.link().get().match_name(name).execute().try_next().await;
        match answer {
            Ok(Some(message)) => self.complete(Link::from(&message)).await.map(Some),
            Ok(None) => Ok(None),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            Err(error) => Err(refused(format!("look up {name}"), error)),
        }
    }

    /// With the program that is not in the answer about the link.
    async fn complete(&self, link: Link) -> Result<Link, Error> {
        Ok(Link { program: self.first_at_ingress(&link).await?, ..link })
    }

    /// Every WireGuard interface of this network namespace.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn wireguard_links(&self) -> Result<Vec<Link>, Error> {
        let answer = self.links.link().get().execute().try_collect::<Vec<_>>().await;
        let messages = answer.map_err(|error| refused("list interfaces".to_owned(), error))?;
        let mut links = Vec::new();
        for link in messages.iter().map(Link::from).filter(|link| link.kind == Link::WIREGUARD) {
            links.push(self.complete(link).await?);
        }
        Ok(links)
    }

    /// The WireGuard interface of this name, made (down, without key and peers) where there is none.
    ///
    /// # Errors
    /// [`Error::OtherKind`], [`Error::NoWireGuard`], [`Error::Kernel`], [`Error::Protocol`].
    pub async fn ensure_link(&self, name: &str) -> Result<Link, Error> {
        if self.link(name).await?.is_none() {
            self.add_link(name, LinkWireguard::new(name).build()).await?;
        }
        match self.link(name).await? {
            Some(link) if link.kind == Link::WIREGUARD => Ok(link),
            Some(link) => Err(Error::OtherKind { interface: link.name, kind: link.kind }),
            None => Err(Error::Gone { interface: name.to_owned() }),
        }
    }

    pub(crate) async fn add_link(&self, name: &str, message: LinkMessage) -> Result<(), Error> {
        match self.links.link().add(message).execute().await {
            Ok(()) => Ok(()),
            // Made in the meantime; the caller looks at its kind.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(()),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EOPNOTSUPP => {
                Err(Error::NoWireGuard)
            }
            Err(error) => Err(refused(format!("create {name}"), error)),
        }
    }

    /// Sets the MTU, bytes, unless it is that already.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), Error> {
        if link.mtu == mtu {
            return Ok(());
        }
        let message = LinkUnspec::new_with_index(link.ifindex).mtu(mtu).build();
        let answer = self.links.link().set(message).execute().await;
        answer.map_err(|error| refused(format!("set the MTU of {} to {mtu}", link.name), error))
    }

    /// Sets the interface up, which opens its UDP port, unless it is up already.
    ///
    /// # Errors
    /// [`Error::Kernel`], for example if the port is in use; [`Error::Protocol`].
    pub async fn set_up(&self, link: &Link) -> Result<(), Error> {
        if link.up {
            return Ok(());
        }
        let message = LinkUnspec::new_with_index(link.ifindex).up().build();
        let answer = self.links.link().set(message).execute().await;
        answer.map_err(|error| refused(format!("set {} up", link.name), error))
    }

    /// Deletes the interface; fine if it is gone already.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn delete_link(&self, link: &Link) -> Result<(), Error> {
        match self.links.link().del(link.ifindex).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(()),
            Err(error) => Err(refused(format!("delete {}", link.name), error)),
        }
    }
}

impl Link {
    /// The kind of every interface that we make.
    pub const WIREGUARD: &str = "wireguard";

    /// The id of the program that its packets meet first, `guard` not counted: the id of an XDP program that may be in
    /// front.
    #[must_use]
    pub fn first_program(&self, guard: Option<u32>) -> Option<u32> {
        if self.xdp.is_none() || self.xdp == guard { self.program } else { self.xdp }
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            name: String::new(),
            ifindex: message.header.index,
            kind: String::new(),
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            xdp: None,
            program: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::LinkInfo(infos) => {
                    let kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.kind = kind.unwrap_or_default();
                }
                LinkAttribute::Xdp(attributes) => {
                    link.xdp = attributes.iter().find_map(|attribute| match attribute {
                        LinkXdp::ProgId(id) => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

pub(super) fn refused(action: String, error: rtnetlink::Error) -> Error {
    match error {
        rtnetlink::Error::NetlinkError(error) => Error::Kernel { action, source: error.to_io() },
        other => Error::Protocol { action, what: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::LinkBridge;

    use super::*;
    use crate::namespace::in_new_namespace;

    /// In a network namespace of its own, with a bridge, since not every kernel has WireGuard.
    #[test]
    fn a_link_is_made_changed_and_deleted() {
        in_new_namespace(async {
            let wireguard = WireGuard::open().unwrap();
            assert_eq!(wireguard.link("vpn-test0").await.unwrap(), None);
            wireguard.add_link("vpn-test0", LinkBridge::new("vpn-test0").down().build()).await.unwrap();
            let link = wireguard.link("vpn-test0").await.unwrap().unwrap();
            assert_eq!((link.name.as_str(), link.kind.as_str(), link.up), ("vpn-test0", "bridge", false));
            assert_eq!((link.program, link.ethernet), (None, true));
            assert!(link.ifindex > 0);

            wireguard.set_mtu(&link, 1380).await.unwrap();
            wireguard.set_up(&link).await.unwrap();
            let changed = wireguard.link("vpn-test0").await.unwrap().unwrap();
            assert_eq!(changed, Link { mtu: 1380, up: true, carrier: changed.carrier, ..link });

            let error = wireguard.ensure_link("vpn-test0").await.unwrap_err();
            assert!(matches!(&error, Error::OtherKind { kind, .. } if kind == "bridge"), "{error}");
            assert_eq!(wireguard.wireguard_links().await.unwrap(), []);
            let error = wireguard.set_mtu(&changed, 1).await.unwrap_err();
            assert!(error.to_string().starts_with("set the MTU of vpn-test0 to 1: "), "{error}");

            wireguard.delete_link(&changed).await.unwrap();
            wireguard.delete_link(&changed).await.unwrap();
            assert_eq!(wireguard.link("vpn-test0").await.unwrap(), None);
        });
    }

    /// Where the kernel has no WireGuard this tests the error, elsewhere the interface.
    #[test]
    fn a_wireguard_link_is_made_once() {
        in_new_namespace(async {
            let wireguard = WireGuard::open().unwrap();
            match wireguard.ensure_link("wg-test0").await {
                Ok(link) => {
                    assert_eq!((link.kind.as_str(), link.up, link.ethernet), ("wireguard", false, false));
                    assert_eq!(wireguard.ensure_link("wg-test0").await.unwrap(), link, "kept");
                    assert_eq!(wireguard.wireguard_links().await.unwrap(), [link]);
                }
                Err(error) => assert!(matches!(error, Error::NoWireGuard), "{error}"),
            }
        });
    }
}
