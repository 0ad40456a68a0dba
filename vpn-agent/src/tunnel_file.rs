//! WireGuard configuration files, as `wg-quick`, routers and every WireGuard app read them.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::{
    endpoint::Endpoint,
    key::{PrivateKey, PublicKey},
};

/// More than such a file has, so that its text never moves and leaves a copy of the key behind.
const ROOM: usize = 64 * 1024;

/// What stands in place of a private key that is not known here.
pub const KEY_PLACEHOLDER: &str = "REPLACE-THIS-WITH-THE-PRIVATE-KEY-OF-THE-SITE";

/// A configuration file. Only [`TunnelFile::text`] shows the private key in it.
#[derive(Debug)]
pub struct TunnelFile<'k> {
    /// Lines in front, without the `#`.
    pub comments: Vec<String>,
    /// The key of this end; without one there is a placeholder that no WireGuard takes for a key.
    pub key: Option<&'k PrivateKey>,
    /// Its addresses inside the tunnel.
    pub addresses: Vec<IpNet>,
    /// Largest packet inside the tunnel, bytes.
    pub mtu: u32,
    /// The other ends.
    pub peers: Vec<TunnelPeer>,
}

/// A `[Peer]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Lines in front, without the `#`.
    pub comments: Vec<String>,
    /// Key of the other end.
    pub public_key: PublicKey,
    /// Where to find it; without one it comes by itself.
    pub endpoint: Option<Endpoint>,
    /// What it may send, and what is sent to it.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds after which an idle tunnel is used, so that ways through NAT stay open.
    pub keepalive_seconds: Option<u16>,
}

impl TunnelFile<'_> {
    /// The whole file. It is overwritten when dropped.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        for comment in &self.comments {
            push(&mut text, &["# ", comment]);
        }
        push(&mut text, &["[Interface]"]);
        match self.key {
            Some(key) => push(&mut text, &["PrivateKey = ", &key.base64()]),
            None => push(&mut text, &["PrivateKey = ", KEY_PLACEHOLDER]),
        }
        if !self.addresses.is_empty() {
            push(&mut text, &["Address = ", &list(&self.addresses)]);
        }
        push(&mut text, &["MTU = ", &self.mtu.to_string()]);
        for peer in &self.peers {
            push(&mut text, &["\n", peer.to_string().trim_end()]);
        }
        text
    }
}

/// Without a temporary that would hold the key.
fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
    text.push('\n');
}

fn list(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for TunnelPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[Peer]\n")?;
        for comment in &self.comments {
            writeln!(f, "# {comment}")?;
        }
        writeln!(f, "PublicKey = {}", self.public_key)?;
        if let Some(endpoint) = &self.endpoint {
            writeln!(f, "Endpoint = {endpoint}")?;
        }
        writeln!(f, "AllowedIPs = {}", list(&self.allowed_ips))?;
        if let Some(seconds) = self.keepalive_seconds {
            writeln!(f, "PersistentKeepalive = {seconds}")?;
        }
        Ok(())
    }
}

/// A text that has something else than `[Peer]` sections.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}; use what `vpn-agent site-config --peer-only` prints")]
pub struct NotPeers {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// `[Peer]` sections by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPeers(pub Vec<TunnelPeer>);

impl FromStr for TunnelPeers {
    type Err = NotPeers;

    fn from_str(text: &str) -> Result<Self, NotPeers> {
        let mut peers = Vec::new();
        let mut open: Option<Section> = None;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let wrong = |what: String| NotPeers { line: number, what };
            if line.is_empty() {
                continue;
            }
            if line == "[Peer]" {
                peers.extend(
                    open.replace(Section { line: number, ..Section::default() }).map(Section::end).transpose()?,
                );
                continue;
            }
            let Some(section) = &mut open else {
                if line.starts_with('#') {
                    continue;
                }
                return Err(wrong(format!("{} is not in a [Peer] section", name_of(line))));
            };
            section.take(line).map_err(wrong)?;
        }
        peers.extend(open.map(Section::end).transpose()?);
        if peers.is_empty() {
            return Err(NotPeers { line: 1, what: "there is no [Peer] section".to_owned() });
        }
        Ok(Self(peers))
    }
}

/// What a line is about, without its value, which may be a secret.
fn name_of(line: &str) -> String {
    format!("{:?}", line.split('=').next().unwrap_or_default().trim())
}

/// A `[Peer]` section that is being read.
#[derive(Default)]
struct Section {
    line: usize,
    comments: Vec<String>,
    public_key: Option<PublicKey>,
    endpoint: Option<Endpoint>,
    allowed_ips: Vec<IpNet>,
    keepalive_seconds: Option<u16>,
}

impl Section {
    fn take(&mut self, line: &str) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix('#') {
            self.comments.push(comment.trim().to_owned());
            return Ok(());
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{} has no value", name_of(line)))?;
        let (name, value) = (name.trim(), value.trim());
        match name {
            "PublicKey" => self.public_key = Some(value.parse().map_err(|error| format!("{name}: {error}"))?),
            "Endpoint" => self.endpoint = Some(value.parse().map_err(|error| format!("{name}: {error}"))?),
            "AllowedIPs" => {
                for net in value.split(',').map(str::trim) {
                    let net: IpNet = net.parse().map_err(|_| format!("{name}: {net:?} is no subnet"))?;
                    self.allowed_ips.push(net.trunc());
                }
            }
            "PersistentKeepalive" => {
                let seconds = value.parse().map_err(|_| format!("{name}: {value:?} is no number of seconds"))?;
                self.keepalive_seconds = Some(seconds);
            }
            _ => return Err(format!("{} does not belong into a [Peer] section of a site", name_of(line))),
        }
        Ok(())
    }

    fn end(self) -> Result<TunnelPeer, NotPeers> {
        let missing = |what: &str| NotPeers { line: self.line, what: format!("this [Peer] has no {what}") };
        let public_key = self.public_key.ok_or_else(|| missing("PublicKey"))?;
        if self.allowed_ips.is_empty() {
            return Err(missing("AllowedIPs"));
        }
        let Self { comments, endpoint, allowed_ips, keepalive_seconds, .. } = self;
        Ok(TunnelPeer { comments, public_key, endpoint, allowed_ips, keepalive_seconds })
    }
}

impl fmt::Display for TunnelPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, peer) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char('\n')?;
            }
            peer.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    #[test]
    fn a_file_is_what_wg_quick_reads() {
        let key = PrivateKey::generate().unwrap();
        let file = |key| TunnelFile {
            comments: vec!["A file.".to_owned()],
            key,
            addresses: vec!["100.64.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()],
            mtu: 1420,
            peers: vec![peer(7)],
        };
        let rest = "Address = 100.64.0.2/32, fd00::2/128\nMTU = 1420\n\n[Peer]\n# region eu\n\
                    PublicKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nEndpoint = gateway.example:51820\n\
                    AllowedIPs = 10.128.0.0/9, fd76:7600::/24\nPersistentKeepalive = 25\n";
        let secret = key.base64();
        let expected = format!("# A file.\n[Interface]\nPrivateKey = {}\n{rest}", &*secret);
        assert_eq!(*file(Some(&key)).text(), expected);
        assert!(!format!("{:?}", file(Some(&key))).contains(&*secret), "only the text shows it");
        let expected = format!("# A file.\n[Interface]\nPrivateKey = {KEY_PLACEHOLDER}\n{rest}");
        assert_eq!(*file(None).text(), expected);
    }

    #[test]
    fn what_is_no_peer_is_named_without_its_value() {
        for (text, line, part) in [
            ("", 1, "there is no [Peer]"),
            ("# only a comment\n", 1, "there is no [Peer]"),
            ("[Interface]\nPrivateKey = sEcReT=\n", 1, "\"[Interface]\" is not in a [Peer] section"),
            ("[Peer]\nPrivateKey = sEcReT=\n", 2, "\"PrivateKey\" does not belong"),
            ("[Peer]\nPresharedKey = sEcReT=\n", 2, "\"PresharedKey\" does not belong"),
            ("[Peer]\nsEcReT\n", 2, "has no value"),
            ("[Peer]\nPublicKey = 7\n", 2, "PublicKey: \"7\" is not a WireGuard public key"),
            ("[Peer]\nEndpoint = a\n", 2, "Endpoint: \"a\" is not an endpoint"),
            ("[Peer]\nAllowedIPs = 10.0.0.0/8, all\n", 2, "\"all\" is no subnet"),
            ("[Peer]\nPersistentKeepalive = off\n", 2, "is no number"),
            ("\n[Peer]\nAllowedIPs = 10.0.0.0/8\n", 2, "has no PublicKey"),
            ("[Peer]\nPublicKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n[Peer]\n", 1, "has no AllowedIPs"),
        ] {
            let error = text.parse::<TunnelPeers>().unwrap_err();
            assert!(error.line == line && error.what.contains(part), "{text}: {error}");
            assert!(error.to_string().ends_with("use what `vpn-agent site-config --peer-only` prints"));
            assert!(!text.contains('=') || !error.to_string().contains("sEcReT"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn peers_are_read_as_they_were_written(peers in vec(peers(), 1..4)) {
            let peers = TunnelPeers(peers);
            prop_assert_eq!(peers.to_string().parse::<TunnelPeers>(), Ok(peers));
        }
    }

    fn peers() -> impl Strategy<Value = TunnelPeer> {
        let comments = vec("[a-z][a-z ]{0,10}[a-z]", 0..2);
        let nets = vec((any::<u32>(), 0..=32_u8), 1..4);
        (comments, 1..=255_u8, any::<bool>(), nets, option::of(any::<u16>())).prop_map(
            |(comments, key, has_endpoint, nets, keepalive_seconds)| {
                let net =
                    |(bits, length): (u32, u8)| IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap();
                let nets: BTreeSet<_> = nets.into_iter().map(|row| net(row).trunc()).collect();
                TunnelPeer {
                    comments,
                    endpoint: has_endpoint.then(|| "[2001:db8::1]:51821".parse().unwrap()),
                    allowed_ips: nets.into_iter().collect(),
                    keepalive_seconds,
                    ..peer(key)
                }
            },
        )
    }

    fn peer(key: u8) -> TunnelPeer {
        TunnelPeer {
            comments: vec!["region eu".to_owned()],
            public_key: PublicKey::from_bytes([key; 32]),
            endpoint: Some("gateway.example:51820".parse().unwrap()),
            allowed_ips: vec!["10.128.0.0/9".parse().unwrap(), "fd76:7600::/24".parse().unwrap()],
            keepalive_seconds: Some(25),
        }
    }
}
