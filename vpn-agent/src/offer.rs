//! What a user needs for a profile besides the own private key: an offer of the gateway. Not a secret.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    addressing::Allocations, config::Config, document, endpoint::Endpoint, id::CertificateId, key::PublicKey,
    state::State,
};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// Everything in a certificate's profile but the private key. Nothing in it is particular to a region, besides an
/// endpoint that is not the same name in all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// The certificate.
    pub certificate: CertificateId,
    /// Its public key, which belongs to the private key that the profile is for.
    #[schemars(with = "document::Key")]
    pub public_key: PublicKey,
    /// Its tunnel addresses.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// The gateways' key towards users.
    #[schemars(with = "document::Key")]
    pub server_public_key: PublicKey,
    /// Where the gateways are.
    #[schemars(with = "document::Endpoint")]
    pub endpoint: Endpoint,
    /// What goes into the tunnel.
    #[schemars(with = "Vec<String>")]
    pub allowed_ips: Vec<IpNet>,
    /// Largest packet inside the tunnel, bytes.
    pub mtu: u32,
}

/// Why there is no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration does not say where users find the gateway.
    #[error(
        "users.endpoint: is not set; give the name and the port by which users' devices reach the gateways, such as \
         \"gateway.example:51820\""
    )]
    NoEndpoint,
    /// The desired state has no such certificate.
    #[error("certificate {0} is not in the desired state; issue it with the public key of the user's device first")]
    Unknown(CertificateId),
    /// It has no address yet.
    #[error("certificate {0} has no tunnel IP yet; `vpn-agent run` gives it one when it takes up the desired state")]
    NoAddress(CertificateId),
}

impl Offer {
    /// The offer for a certificate of `state`. Its `AllowedIPs` are the virtual subnets of all plants, those that are
    /// and those to come, the gateway's own addresses, and `users.real_ranges`; beyond them the real subnets in `real`,
    /// which do not follow what the user may reach later.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        config: &Config,
        state: &State,
        allocations: &Allocations,
        server_public_key: PublicKey,
        certificate: &CertificateId,
        real: impl IntoIterator<Item = IpNet>,
    ) -> Result<Self, Error> {
        let endpoint = config.users.endpoint.clone().ok_or(Error::NoEndpoint)?;
        let known = state.certificates.get(certificate).ok_or_else(|| Error::Unknown(certificate.clone()))?;
        let given = allocations.peers().get(certificate).ok_or_else(|| Error::NoAddress(certificate.clone()))?;
        let pools = &config.pools;
        let own = [IpNet::from(std::net::IpAddr::V4(pools.gateway())), std::net::IpAddr::V6(pools.gateway6()).into()];
        let services = config.services().into_iter().map(|service| std::net::IpAddr::V4(service.address).into());
        let ranges = [pools.virtual_.into(), pools.virtual6.into()].into_iter().chain(own).chain(services);
        let mut allowed_ips = Vec::<IpNet>::new();
        for net in ranges.chain(config.users.real_ranges.iter().copied()).chain(real) {
            if !allowed_ips.iter().any(|before| before.contains(&net)) {
                allowed_ips.push(net);
            }
        }
        Ok(Self {
            format: FORMAT,
            certificate: certificate.clone(),
            public_key: known.public_key,
            addresses: vec![
                std::net::IpAddr::V4(given.address).into(),
                std::net::IpAddr::V6(pools.tunnel6_of(given.address)).into(),
            ],
            server_public_key,
            endpoint,
            allowed_ips,
            mtu: config.users.mtu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// Requirements: A5, E4.
    #[test]
    fn only_plants_and_the_gateway_itself_go_into_the_tunnel() {
        let offer = offer("endpoint = 'gateway.example:51820'\nreal_ranges = ['192.168.0.0/16']", "certificate-b");
        let offer = offer.unwrap();
        let shown = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(&offer.addresses), "100.64.0.3/32 fd76:706e:6777::3/128");
        // The service at the gateway's own address, and the real subnet that is asked for, are there already.
        let expected = "10.128.0.0/9 fd76:7600::/24 100.64.0.1/32 fd76:706e:6777::1/128 192.0.2.1/32 192.168.0.0/16 \
                        172.16.1.0/24";
        assert_eq!(shown(&offer.allowed_ips), expected);
        assert_eq!(offer.endpoint.to_string(), "gateway.example:51820", "E4: a name");
        assert_eq!((offer.public_key.to_string(), offer.mtu), (example::key(2), 1420));
        let json = serde_json::to_string(&offer).unwrap();
        assert_eq!(serde_json::from_str::<Offer>(&json).unwrap(), offer);
    }

    #[test]
    fn what_is_missing_is_named() {
        let endpoint = "endpoint = 'gateway.example:51820'";
        assert_eq!(offer("", "certificate-a").unwrap_err(), Error::NoEndpoint);
        let error = offer(endpoint, "certificate-z").unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{error}");
        let config = config(endpoint);
        let id = "certificate-a".parse().unwrap();
        let error = Offer::new(&config, &example::state(), &Allocations::default(), server(), &id, []).unwrap_err();
        assert!(matches!(error, Error::NoAddress(_)), "{error}");
    }

    fn offer(users: &str, certificate: &str) -> Result<Offer, Error> {
        let (config, state) = (config(users), example::state());
        let given = Allocations::default().extended(&state, &config).unwrap();
        let real = ["192.168.1.0/24", "172.16.1.0/24"].map(|net| net.parse().unwrap());
        Offer::new(&config, &state, &given, server(), &certificate.parse().unwrap(), real)
    }

    fn server() -> PublicKey {
        example::key(200).parse().unwrap()
    }

    fn config(users: &str) -> Config {
        let services = "[[services]]\nprotocol = 'udp'\nport = 53\n\
                        [[services]]\nprotocol = 'tcp'\nport = 443\naddress = '192.0.2.1'";
        example::config(&format!("{users}\n{services}"))
    }
}
