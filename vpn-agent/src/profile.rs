//! A user's profile: the whole WireGuard configuration, put together on the user's side (requirements A2 and A3).

use zeroize::Zeroizing;

use crate::{
    key::{PrivateKey, PublicKey},
    offer::{FORMAT, Offer},
    tunnel_file::{TunnelFile, TunnelPeer},
};

/// Keeps the way through the user's NAT open, so that replies find back after a pause.
const KEEPALIVE_SECONDS: u16 = 25;

/// Why there is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The offer is of another version.
    #[error(
        "the offer has format {0}, this program reads format {FORMAT}; use the version that goes with the gateway's"
    )]
    Format(u32),
    /// The offer is for another key.
    #[error(
        "the offer is for the public key {offered}, but this private key belongs to {own}; have the certificate rotated \
         to {own}, and ask for an offer again"
    )]
    OtherKey {
        /// The key in the offer.
        offered: PublicKey,
        /// The public key of the private one that is there.
        own: PublicKey,
    },
    /// The offer would make a tunnel for nothing, or for everything.
    #[error("{field}: {what}; ask for an offer again")]
    Content {
        /// The field of the offer.
        field: &'static str,
        /// What is wrong.
        what: String,
    },
}

/// How a profile is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people to read.
    File,
    /// For a camera: as short as it can be.
    Code,
}

/// The profile for a private key. The text is overwritten when dropped.
///
/// # Errors
/// See [`Error`].
pub fn text(key: &PrivateKey, offer: &Offer, form: Form) -> Result<Zeroizing<String>, Error> {
    check(key, offer)?;
    let comments = match form {
        Form::Code => Vec::new(),
        Form::File => vec![
            format!("VPN of the plants, certificate {}.", offer.certificate),
            "The private key below is nowhere else. Whoever has this file has your access: keep it to yourself.".into(),
        ],
    };
    let peer = TunnelPeer {
        comments: Vec::new(),
        public_key: offer.server_public_key,
        endpoint: Some(offer.endpoint.clone()),
        allowed_ips: offer.allowed_ips.clone(),
        keepalive_seconds: Some(KEEPALIVE_SECONDS),
    };
    let file =
        TunnelFile { comments, key: Some(key), addresses: offer.addresses.clone(), mtu: offer.mtu, peers: vec![peer] };
    Ok(file.text())
}

fn check(key: &PrivateKey, offer: &Offer) -> Result<(), Error> {
    if offer.format != FORMAT {
        return Err(Error::Format(offer.format));
    }
    let own = key.public();
    if own != offer.public_key {
        return Err(Error::OtherKey { offered: offer.public_key, own });
    }
    if offer.addresses.is_empty() {
        return Err(Error::Content { field: "addresses", what: "is empty; it must have a tunnel address".into() });
    }
    if let Some(all) = offer.allowed_ips.iter().find(|net| net.prefix_len() == 0) {
        let what = format!("{all} would send everything into the tunnel, and only plants belong there");
        return Err(Error::Content { field: "allowed_ips", what });
    }
    if offer.allowed_ips.is_empty() {
        return Err(Error::Content { field: "allowed_ips", what: "is empty; nothing would go into the tunnel".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// Requirements: A2, A3, A5.
    #[test]
    fn a_profile_is_whole_and_has_the_private_key_of_the_offers_public_one() {
        let key = PrivateKey::generate().unwrap();
        let secret = key.base64();
        let text_of = |form| text(&key, &offer(&key), form).unwrap();
        let code = format!(
            "[Interface]\nPrivateKey = {}\nAddress = 100.64.0.2/32, fd00::2/128\nMTU = 1420\n\n[Peer]\n\
             PublicKey = {}\nEndpoint = gateway.example:51820\nAllowedIPs = 10.128.0.0/9\nPersistentKeepalive = 25\n",
            &*secret,
            example::key(200)
        );
        assert_eq!(*text_of(Form::Code), code);
        let file = text_of(Form::File);
        assert!(file.starts_with("# VPN of the plants, certificate c.\n# ") && file.ends_with(&code), "{}", &**file);
        assert!(!serde_json::to_string(&offer(&key)).unwrap().contains(&*secret), "A2: the offer knows nothing of it");
    }

    #[test]
    fn an_offer_that_does_not_fit_is_refused() {
        let key = PrivateKey::generate().unwrap();
        type Change = fn(&mut Offer);
        let cases: [(Change, &str); 5] = [
            (|offer| offer.format = 2, "format 2"),
            (|offer| offer.public_key = example::key(9).parse().unwrap(), "have the certificate rotated"),
            (|offer| offer.addresses.clear(), "addresses: is empty"),
            (|offer| offer.allowed_ips.clear(), "allowed_ips: is empty"),
            (|offer| offer.allowed_ips.push("::/0".parse().unwrap()), "allowed_ips: ::/0 would send everything"),
        ];
        for (change, part) in cases {
            let mut offer = offer(&key);
            change(&mut offer);
            let error = text(&key, &offer, Form::File).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains(&**key.base64()), "{error}");
        }
    }

    fn offer(key: &PrivateKey) -> Offer {
        Offer {
            format: FORMAT,
            certificate: "c".parse().unwrap(),
            public_key: key.public(),
            addresses: ["100.64.0.2/32", "fd00::2/128"].map(|net| net.parse().unwrap()).to_vec(),
            server_public_key: example::key(200).parse().unwrap(),
            endpoint: "gateway.example:51820".parse().unwrap(),
            allowed_ips: vec!["10.128.0.0/9".parse().unwrap()],
            mtu: 1420,
        }
    }
}
