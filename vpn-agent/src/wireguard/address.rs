//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::{
    Error, WireGuard,
    link::{Link, refused},
};

impl WireGuard {
    /// The IPv4 addresses of the interface, each with its prefix length.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn addresses(&self, link: &Link) -> Result<Vec<Ipv4Net>, Error> {
        Ok(self.address_messages(link).await?.iter().filter_map(address).collect())
    }

    /// Gives the interface `address` with this prefix length, or takes it away with `None`; as far as it is not so
    /// already. With the address comes a route to its prefix. Other addresses are left alone.
    ///
    /// # Errors
    /// [`Error::Kernel`], [`Error::Protocol`].
    pub async fn set_address(&self, link: &Link, address: Ipv4Addr, length: Option<u8>) -> Result<(), Error> {
        let mut there = false;
        for message in self.address_messages(link).await? {
            match self::address(&message) {
                Some(found) if found.addr() == address && Some(found.prefix_len()) == length => there = true,
                Some(found) if found.addr() == address => {
                    let answer = self.links.address().del(message).execute().await;
                    answer.map_err(|error| refused(format!("take {found} from {}", link.name), error))?;
                }
                _ => {}
            }
        }
        match length {
            Some(length) if !there => {
                let answer = self.links.address().add(link.ifindex, IpAddr::V4(address), length).execute().await;
                answer.map_err(|error| refused(format!("give {} the address {address}/{length}", link.name), error))
            }
            _ => Ok(()),
        }
    }

    async fn address_messages(&self, link: &Link) -> Result<Vec<AddressMessage>, Error> {
        let answer = self.links.address().get().set_link_index_filter(link.ifindex).execute().try_collect().await;
        answer.map_err(|error| refused(format!("list the addresses of {}", link.name), error))
    }
}

/// The interface's own address; the other one of a message may be that of the far end.
fn address(message: &AddressMessage) -> Option<Ipv4Net> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Ipv4Net::new(*address, message.header.prefix_len).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::LinkBridge;

    use super::*;
    use crate::namespace::in_new_namespace;

    #[test]
    fn an_address_comes_once_and_goes_alone() {
        in_new_namespace(async {
            let wireguard = WireGuard::open().unwrap();
            wireguard.add_link("vpn-test0", LinkBridge::new("vpn-test0").down().build()).await.unwrap();
            let link = wireguard.link("vpn-test0").await.unwrap().unwrap();
            let addresses = async || -> Vec<String> {
                wireguard.addresses(&link).await.unwrap().iter().map(ToString::to_string).collect()
            };
            let other = Ipv4Addr::new(192, 0, 2, 1);
            let gateway = Ipv4Addr::new(100, 64, 0, 1);
            wireguard.set_address(&link, gateway, None).await.unwrap();
            wireguard.set_address(&link, other, Some(24)).await.unwrap();
            for _ in 0..2 {
                wireguard.set_address(&link, gateway, Some(16)).await.unwrap();
                assert_eq!(addresses().await, ["192.0.2.1/24", "100.64.0.1/16"]);
            }
            wireguard.set_address(&link, gateway, Some(15)).await.unwrap();
            assert_eq!(addresses().await, ["192.0.2.1/24", "100.64.0.1/15"], "a pool that has grown");
            for _ in 0..2 {
                wireguard.set_address(&link, gateway, None).await.unwrap();
                assert_eq!(addresses().await, ["192.0.2.1/24"]);
            }

            wireguard.delete_link(&link).await.unwrap();
            let error = wireguard.set_address(&link, gateway, Some(16)).await.unwrap_err().to_string();
            assert!(error.starts_with("give vpn-test0 the address 100.64.0.1/16: "), "{error}");
        });
    }
}
