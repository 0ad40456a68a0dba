//! The configuration of the router on site (requirements D1 and D2): any standard WireGuard router, without software
//! of ours and without NAT.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::{
    addressing::Allocations,
    config::Config,
    endpoint::Endpoint,
    id::PlantId,
    key::{KeyFileError, PrivateKey, PublicKey},
    state::{State, Uplink},
    tunnel_file::{NotPeers, TunnelFile, TunnelPeer},
};

/// Keeps the way through the site's NAT open, so that users reach the plant at any time.
const KEEPALIVE_SECONDS: u16 = 25;

/// Why there is no configuration for a site.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not say where sites find the gateway.
    #[error(
        "plants.endpoint: is not set; give the name or address by which site routers reach this gateway, such as \
         \"gateway-1.example\""
    )]
    NoEndpoint,
    /// The desired state has no such plant.
    #[error("plant {0} is not in the desired state; put it there first, with the public key of its router")]
    Unknown(PlantId),
    /// It has no number yet, and so no port.
    #[error("plant {0} has no number and no port yet; `vpn-agent run` gives them when it takes up the desired state")]
    NoNumber(PlantId),
    /// The plant is reached without WireGuard.
    #[error(
        "plant {plant} is behind the interface {interface} of this host, so its site needs no WireGuard; its router \
         must send {sources} to this host"
    )]
    Interface {
        /// The plant.
        plant: PlantId,
        /// The interface.
        interface: String,
        /// Where users' packets come from.
        sources: String,
    },
    /// The plant has no uplink in this gateway's region.
    #[error(
        "plant {plant} has no uplink in region {region}; list the region in its `uplinks`, or ask a gateway of another \
         region"
    )]
    NotLinked {
        /// The plant.
        plant: PlantId,
        /// The region.
        region: String,
    },
    /// A file with peers of other regions has something else in it.
    #[error("{}: {source}", path.display())]
    NotPeers {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong.
        source: NotPeers,
    },
    /// The gateway's key towards the plant cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Replies of the plant would not find back to the region that they belong to.
    #[error(
        "AllowedIPs {net} of one peer and {other} of another overlap, so the site would send replies to one region \
         alone; give each region its own pools.source and pools.source6"
    )]
    Overlap {
        /// A range.
        net: IpNet,
        /// The range of another peer.
        other: IpNet,
    },
    /// Two gateways with one key.
    #[error("two peers have the public key {0}; a file is there twice, or it is this gateway's own")]
    Twice(PublicKey),
}

/// This gateway as the plant's router has to know it. `gateway_key` gives the gateway's key towards this plant, and is
/// asked only if there is something to say.
///
/// # Errors
/// See [`Error`].
pub fn peer(
    config: &Config,
    state: &State,
    allocations: &Allocations,
    id: &PlantId,
    gateway_key: impl FnOnce() -> Result<PublicKey, KeyFileError>,
) -> Result<TunnelPeer, Error> {
    let plant = state.plants.get(id).ok_or_else(|| Error::Unknown(id.clone()))?;
    let families = [
        (plant.subnets.iter().any(|net| net.addr().is_ipv4()), IpNet::V4(config.pools.source)),
        (plant.subnets.iter().any(|net| net.addr().is_ipv6()), IpNet::V6(config.pools.source6)),
    ];
    let allowed_ips: Vec<_> = families.into_iter().filter_map(|(has, source)| has.then_some(source)).collect();
    let comments = vec![format!("gateway {}, region {}", config.gateway, config.region)];
    let not_linked = || Error::NotLinked { plant: id.clone(), region: config.region.clone() };
    match plant.uplink_in(&config.region).ok_or_else(not_linked)? {
        Uplink::Host { .. } => {
            let host = config.plants.endpoint.clone().ok_or(Error::NoEndpoint)?;
            let given = allocations.plants().get(id).and_then(|given| config.plant_port(given.id));
            let port = given.ok_or_else(|| Error::NoNumber(id.clone()))?;
            Ok(TunnelPeer {
                comments,
                public_key: gateway_key()?,
                endpoint: Some(Endpoint::new(host, port)),
                allowed_ips,
                keepalive_seconds: Some(KEEPALIVE_SECONDS),
            })
        }
        // It is the gateway that dials.
        Uplink::Dial { .. } => Ok(TunnelPeer {
            comments,
            public_key: gateway_key()?,
            endpoint: None,
            allowed_ips,
            keepalive_seconds: None,
        }),
        Uplink::Interface { interface } => {
            let sources = allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            Err(Error::Interface { plant: id.clone(), interface: interface.clone(), sources })
        }
    }
}

/// Whether the gateways in one configuration can be told apart.
///
/// # Errors
/// [`Error::Overlap`], [`Error::Twice`].
pub fn check(peers: &[TunnelPeer]) -> Result<(), Error> {
    for (at, peer) in peers.iter().enumerate() {
        for before in &peers[..at] {
            if peer.public_key == before.public_key {
                return Err(Error::Twice(peer.public_key));
            }
            let pairs =
                peer.allowed_ips.iter().flat_map(|net| before.allowed_ips.iter().map(move |other| (*net, *other)));
            if let Some((net, other)) = pairs.into_iter().find(|(a, b)| a.contains(b) || b.contains(a)) {
                return Err(Error::Overlap { net, other });
            }
        }
    }
    Ok(())
}

/// The whole configuration of a plant's router, with its private key or a place for it. Every peer is a gateway.
///
/// # Errors
/// [`Error::Overlap`], [`Error::Twice`].
pub fn file<'k>(
    config: &Config,
    id: &PlantId,
    site_key: PublicKey,
    private_key: Option<&'k PrivateKey>,
    peers: Vec<TunnelPeer>,
) -> Result<TunnelFile<'k>, Error> {
    check(&peers)?;
    let mut comments = vec![
        format!("Router of plant {id}. Its public key is {site_key}."),
        "It forwards between this tunnel and the plant's network. There is no NAT between them.".to_owned(),
    ];
    if private_key.is_none() {
        comments.push("Put the private key that belongs to this public key in its place below.".to_owned());
    }
    Ok(TunnelFile { comments, key: private_key, addresses: Vec::new(), mtu: config.plants.mtu, peers })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{example, tunnel_file::KEY_PLACEHOLDER};

    /// Requirements: D1.
    #[test]
    fn a_site_gets_everything_that_a_standard_router_needs() {
        let peer = peer_of(&example::json(), "south", ENDPOINT).unwrap();
        let shown = format!(
            "[Peer]\n# gateway gateway-1, region eu\nPublicKey = {}\nEndpoint = gateway-1.example:51822\n\
             AllowedIPs = 100.80.0.0/16\nPersistentKeepalive = 25\n",
            example::key(200)
        );
        assert_eq!(peer.to_string(), shown);

        let site = PrivateKey::generate().unwrap();
        let south = "south".parse().unwrap();
        let text = |key| file(&example::config(""), &south, site.public(), key, vec![peer.clone()]).unwrap().text();
        let (whole, open) = (text(Some(&site)), text(None));
        let secret = site.base64();
        assert!(
            whole.contains(&format!("[Interface]\nPrivateKey = {}\nMTU = 1420\n\n{shown}", &**secret)),
            "{}",
            &**whole
        );
        assert!(open.contains(&format!("[Interface]\nPrivateKey = {KEY_PLACEHOLDER}\n")), "{}", &**open);
        assert!(open.contains(&site.public().to_string()) && !open.contains(&**secret));
        for absent in ["ListenPort", "Address", "PostUp"] {
            assert!(!whole.contains(absent), "{absent}");
        }
    }

    #[test]
    fn a_site_is_told_of_the_families_that_it_has() {
        let mut document = example::json();
        let ranges = |document: &serde_json::Value| {
            let peer = peer_of(document, "south", ENDPOINT).unwrap();
            peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        document["plants"][1]["subnets"] = json!(["192.168.1.0/24", "2001:db8::/64"]);
        assert_eq!(ranges(&document), ["100.80.0.0/16", "fd76:706e:6777:1::/64"]);
        document["plants"][1]["subnets"] = json!(["2001:db8::/64"]);
        assert_eq!(ranges(&document), ["fd76:706e:6777:1::/64"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |document: &serde_json::Value, plant: &str, plants: &str| {
            peer_of(document, plant, plants).unwrap_err().to_string()
        };
        let document = example::json();
        assert!(error(&document, "south", "").starts_with("plants.endpoint: is not set"));
        assert!(error(&document, "west", ENDPOINT).starts_with("plant west is not in the desired state"));
        let mut wired = example::json();
        wired["plants"][1]["uplink"] = json!({"kind": "interface", "interface": "eth1"});
        assert!(error(&wired, "south", ENDPOINT).contains("must send 100.80.0.0/16 to this host"));
        let mut elsewhere = example::json();
        let south = elsewhere["plants"][1].as_object_mut().unwrap();
        let uplink = south.remove("uplink").unwrap();
        south.insert("uplinks".into(), json!([{"regions": ["us"], "uplink": uplink}]));
        assert!(error(&elsewhere, "south", ENDPOINT).starts_with("plant south has no uplink in region eu"));
        let (config, state) = (example::config(ENDPOINT), example::state());
        let south = "south".parse().unwrap();
        let none = peer(&config, &state, &Allocations::default(), &south, || Ok(key(200))).unwrap_err();
        assert!(matches!(none, Error::NoNumber(_)), "{none}");
    }

    /// Requirements: D2.
    #[test]
    fn a_site_that_is_dialled_is_told_no_endpoint() {
        let mut document = example::json();
        document["plants"][1]["uplink"] =
            json!({"kind": "dial", "public_key": example::key(101), "endpoint": "south.example:51820"});
        let shown = format!(
            "[Peer]\n# gateway gateway-1, region eu\nPublicKey = {}\nAllowedIPs = 100.80.0.0/16\n",
            example::key(200)
        );
        assert_eq!(peer_of(&document, "south", "").unwrap().to_string(), shown);
    }

    /// Requirements: E2.
    #[test]
    fn gateways_of_several_regions_do_not_share_what_leads_to_them() {
        let own = peer_of(&example::json(), "south", ENDPOINT).unwrap();
        let other = |key_number: u8, net: &str| TunnelPeer {
            public_key: key(key_number),
            allowed_ips: vec![net.parse().unwrap()],
            ..own.clone()
        };
        let merged = |peers: &[TunnelPeer]| {
            let peers = [std::slice::from_ref(&own), peers].concat();
            file(&example::config(""), &"south".parse().unwrap(), key(101), None, peers).map(|file| file.peers.len())
        };
        assert_eq!(merged(&[other(201, "100.81.0.0/16"), other(202, "100.82.0.0/16")]).unwrap(), 3);
        let error = merged(&[other(201, "100.81.0.0/16"), other(202, "100.81.7.0/24")]).unwrap_err();
        assert!(matches!(error, Error::Overlap { .. }), "{error}");
        let error = merged(&[other(200, "100.81.0.0/16")]).unwrap_err();
        assert!(matches!(error, Error::Twice(_)), "{error}");
    }

    const ENDPOINT: &str = "[plants]\nendpoint = 'gateway-1.example'";

    fn peer_of(document: &serde_json::Value, plant: &str, plants: &str) -> Result<TunnelPeer, Error> {
        let (config, state) = (example::config(plants), example::parse(document));
        let given = Allocations::default().extended(&state, &config).unwrap();
        peer(&config, &state, &given, &plant.parse().unwrap(), || Ok(key(200)))
    }

    fn key(number: u8) -> PublicKey {
        example::key(number).parse().unwrap()
    }
}
