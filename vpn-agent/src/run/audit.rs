//! What something else has changed: the kernel beside what it shall be. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    key::PublicKey,
    wireguard::{AllowedIps, Device, Link, Peer},
};

/// One thing that is not as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Which interface or map.
    pub what: String,
    /// How it is.
    pub found: String,
    /// What is done about it.
    pub made: String,
}

impl Finding {
    pub fn new(what: &str, found: impl Into<String>, made: impl Into<String>) -> Self {
        Self { what: what.to_owned(), found: found.into(), made: made.into() }
    }
}

/// A WireGuard interface as it shall be.
pub(super) struct Tunnel<'a> {
    /// As it was when it was made ready.
    pub link: &'a Link,
    /// Of its private key.
    pub public_key: PublicKey,
    /// `None` where the kernel chooses.
    pub listen_port: Option<u16>,
    /// With their allowed IPs.
    pub peers: &'a BTreeMap<PublicKey, AllowedIps>,
    /// Peers that wait to be removed, and may be there or not.
    pub leaving: &'a BTreeSet<PublicKey>,
    /// Seconds between keepalives to its peers; zero for none.
    pub keepalive: u16,
}

/// An interface as it is.
pub(super) struct Seen {
    pub link: Link,
    /// The id of the XDP program that may stand in front.
    pub guard: Option<u32>,
    /// Whether it is closed to the kernel's own forwarding.
    pub closed: bool,
}

/// What is wrong with an interface; `None` stands for one that is gone. Nothing of its program while `detached`.
pub(super) fn interface(shall: &Link, seen: Option<&Seen>, detached: bool) -> Vec<Finding> {
    let name = &shall.name;
    let Some(Seen { link, guard, closed }) = seen else {
        return vec![Finding::new(name, "there is no such interface", "made again")];
    };
    let mut findings = Vec::new();
    if (link.ifindex, &link.kind) != (shall.ifindex, &shall.kind) {
        let (kind, number) = (if link.kind.is_empty() { "hardware" } else { &link.kind }, link.ifindex);
        let found = format!("another interface of this name, of kind {kind}, with the number {number}");
        return vec![Finding::new(name, found, "taken anew")];
    }
    if link.mtu != shall.mtu {
        findings.push(Finding::new(name, format!("the MTU {}", link.mtu), format!("set to {}", shall.mtu)));
    }
    if !detached && (link.xdp, link.program) != (shall.xdp, shall.program) {
        let found = match (link.first_program(*guard), shall.first_program(*guard)) {
            (None, _) => "no program at its ingress hook".to_owned(),
            (first, ours) if first == ours => "without its guard".to_owned(),
            (Some(id), _) => format!("the program {id} comes first"),
        };
        findings.push(Finding::new(name, found, "program attached"));
    }
    if !closed {
        findings.push(Finding::new(name, "open to the kernel's own forwarding", "closed"));
    }
    // A borrowed interface is as its owner wants it, up or down.
    if shall.kind == Link::WIREGUARD && !link.up {
        findings.push(Finding::new(name, "down", "set up"));
    }
    findings
}

/// What is wrong with what WireGuard adds to an interface.
pub(super) fn device(shall: &Tunnel<'_>, device: &Device) -> Vec<Finding> {
    let name = &shall.link.name;
    let mut findings = Vec::new();
    if device.public_key != Some(shall.public_key) {
        let found = device.public_key.map_or_else(|| "no key".to_owned(), |key| format!("the key of {key}"));
        findings.push(Finding::new(name, found, format!("given the key of {}", shall.public_key)));
    }
    if let Some(port) = shall.listen_port.filter(|port| *port != device.listen_port) {
        findings.push(Finding::new(name, format!("the UDP port {}", device.listen_port), format!("set to {port}")));
    }
    if device.fwmark != 0 {
        findings.push(Finding::new(name, format!("the firewall mark {:#x}", device.fwmark), "taken away"));
    }
    for (key, wanted) in shall.peers.iter().filter(|(key, _)| !shall.leaving.contains(*key)) {
        match device.peers.get(key) {
            None => findings.push(Finding::new(name, format!("no peer {key}"), "added")),
            Some(has) => peer(&mut findings, shall, key, wanted, has),
        }
    }
    let strangers = device.peers.iter().filter(|(key, _)| !shall.peers.contains_key(*key));
    for (key, stranger) in strangers.filter(|(key, _)| !shall.leaving.contains(*key)) {
        let allowed_ips = Listed(&stranger.allowed_ips);
        findings.push(Finding::new(name, format!("a peer that is nobody's, {key} with {allowed_ips}"), "removed"));
    }
    findings
}

fn peer(findings: &mut Vec<Finding>, shall: &Tunnel<'_>, key: &PublicKey, wanted: &AllowedIps, has: &Peer) {
    let name = &shall.link.name;
    if has.allowed_ips != *wanted {
        let found = format!("peer {key} with {}", Listed(&has.allowed_ips));
        findings.push(Finding::new(name, found, format!("given {}", Listed(wanted))));
    }
    if has.has_preshared_key {
        findings.push(Finding::new(name, format!("peer {key} with a preshared key"), "taken away"));
    }
    if has.keepalive != shall.keepalive {
        let found = format!("peer {key} with a keepalive of {} s", has.keepalive);
        findings.push(Finding::new(name, found, format!("set to {} s", shall.keepalive)));
    }
}

/// What to write so that a map holds what it shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entries<K, V> {
    /// Missing ones and others.
    pub set: Vec<(K, V)>,
    /// What is nobody's.
    pub remove: Vec<K>,
}

impl<K: Copy + Ord, V: Copy + PartialEq> Entries<K, V> {
    /// From the entries that there are, or those of a range, to those that there shall be in it.
    pub fn between<'a>(
        shall: impl Iterator<Item = (&'a K, &'a V)>,
        has: &BTreeMap<K, V>,
        is_wanted: impl Fn(&K) -> bool,
    ) -> Self
    where
        K: 'a,
        V: 'a,
    {
        let set =
            shall.filter(|(key, value)| has.get(key) != Some(*value)).map(|(key, value)| (*key, *value)).collect();
        Self { set, remove: has.keys().filter(|key| !is_wanted(key)).copied().collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// As what it is reported: one finding for all that was missing or changed, and one for all that was added, each
    /// with the first few.
    pub fn findings(&self, map: &str, shown: impl Fn(&K) -> String) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut report = |count: usize, first: String, found: &str, made: &str| {
            if count > 0 {
                let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
                findings.push(Finding::new(map, format!("{found} {first}{more}"), made));
            }
        };
        let first = |keys: &mut dyn Iterator<Item = &K>| keys.take(SHOWN).map(&shown).collect::<Vec<_>>().join(", ");
        let set = first(&mut self.set.iter().map(|(key, _)| key));
        report(self.set.len(), set, "missing or changed:", "written again");
        let remove = first(&mut self.remove.iter());
        report(self.remove.len(), remove, "nobody's:", "removed");
        findings
    }
}

/// How many of many are named.
const SHOWN: usize = 5;

/// Allowed IPs for a report.
struct Listed<'a>(&'a AllowedIps);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no allowed IPs");
        }
        let first: Vec<_> = self.0.iter().take(SHOWN).map(ToString::to_string).collect();
        write!(f, "allowed IPs {}", first.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    #[test]
    fn an_interface_that_is_as_it_shall_be_has_no_findings() {
        let link = link();
        assert_eq!(interface(&link, Some(&seen(|_| {})), false), []);
        assert_eq!(device(&tunnel(&link, &peers(), &BTreeSet::new()), &device_as_it_shall_be()), []);
    }

    #[test]
    fn every_change_of_an_interface_is_found() {
        type Change = fn(&mut Seen);
        let rows: [(Change, &str); 8] = [
            (|seen| seen.link.ifindex = 9, "another interface of this name, of kind wireguard, with the number 9"),
            (|seen| seen.link.kind = "dummy".into(), "another interface of this name, of kind dummy"),
            (|seen| seen.link.mtu = 1400, "the MTU 1400: set to 1420"),
            (|seen| seen.link.program = None, "no program at its ingress hook"),
            (|seen| seen.link.xdp = Some(31), "the program 31 comes first"),
            (|seen| seen.link.program = Some(32), "the program 32 comes first"),
            (|seen| seen.closed = false, "open to the kernel's own forwarding: closed"),
            (|seen| seen.link.up = false, "down: set up"),
        ];
        for (change, expected) in rows {
            let findings = texts(&interface(&link(), Some(&seen(change)), false));
            assert!(findings.len() == 1 && findings[0].contains(expected), "{expected}: {findings:?}");
        }
        assert_eq!(texts(&interface(&link(), None, false)), ["wgp-1: there is no such interface: made again"]);
        let detached = seen(|seen| seen.link.program = None);
        assert_eq!(interface(&link(), Some(&detached), true), [], "`vpn-agent detach` is no foreign change");
        let borrowed = Link { kind: "vlan".into(), ..link() };
        let guarded = Link { xdp: Some(40), ..borrowed.clone() };
        let unguarded = seen(|seen| (seen.guard, seen.link.kind) = (Some(40), "vlan".into()));
        let findings = texts(&interface(&guarded, Some(&unguarded), false));
        assert_eq!(findings, ["wgp-1: without its guard: program attached"]);
        let down = seen(|seen| (seen.link.up, seen.link.kind) = (false, "vlan".into()));
        assert_eq!(interface(&borrowed, Some(&down), false), [], "its owner's affair");
    }

    #[test]
    fn every_change_of_a_tunnel_is_found() {
        type Change = fn(&mut Device);
        let rows: [(Change, &str); 10] = [
            (|device| device.public_key = None, "no key: given the key of AQEB"),
            (|device| device.public_key = Some(key(9)), "the key of CQkJ"),
            (|device| device.listen_port = 7, "the UDP port 7: set to 51821"),
            (|device| device.fwmark = 16, "the firewall mark 0x10: taken away"),
            (|device| drop(device.peers.remove(&key(2))), "no peer AgIC"),
            (|device| device.peers.get_mut(&key(2)).unwrap().allowed_ips.clear(), "with no allowed IPs: given allowed"),
            (
                |device| {
                    device.peers.get_mut(&key(2)).unwrap().allowed_ips.insert("10.0.0.0/8".parse().unwrap());
                },
                "with allowed IPs 10.0.0.0/8, 192.168.1.0/24: given allowed IPs 192.168.1.0/24",
            ),
            (|device| device.peers.get_mut(&key(2)).unwrap().has_preshared_key = true, "with a preshared key"),
            (|device| device.peers.get_mut(&key(2)).unwrap().keepalive = 5, "with a keepalive of 5 s: set to 0 s"),
            (|device| drop(device.peers.insert(key(8), Peer::default())), "a peer that is nobody's, CAgI"),
        ];
        for (change, expected) in rows {
            let mut device = device_as_it_shall_be();
            change(&mut device);
            let findings = texts(&super::device(&tunnel(&link(), &peers(), &BTreeSet::new()), &device));
            assert!(findings.len() == 1 && findings[0].contains(expected), "{expected}: {findings:?}");
        }
    }

    #[test]
    fn who_waits_to_be_removed_may_be_there_or_not() {
        let leaving = BTreeSet::from([key(2), key(8)]);
        let (link, peers) = (link(), peers());
        let shall = tunnel(&link, &peers, &leaving);
        let mut device = device_as_it_shall_be();
        device.peers.insert(key(8), Peer::default());
        assert_eq!(super::device(&shall, &device), []);
        device.peers.clear();
        assert_eq!(super::device(&shall, &device), []);
    }

    #[test]
    fn many_findings_are_told_in_two_lines() {
        let shall: BTreeMap<u32, u32> = (0..7).map(|key| (key, 0)).collect();
        let has = BTreeMap::from([(0, 0), (1, 1), (9, 9)]);
        let entries = Entries::between(shall.iter(), &has, |key| shall.contains_key(key));
        let findings = texts(&entries.findings("PEERS", |key| format!("#{key}")));
        assert_eq!(
            findings,
            ["PEERS: missing or changed: #1, #2, #3, #4, #5 and 1 more: written again", "PEERS: nobody's: #9: removed"]
        );
    }

    proptest! {
        #[test]
        fn a_map_ends_up_as_it_shall_be(
            shall in btree_map(0..20_u8, 0..3_u8, 0..20),
            mut has in btree_map(0..20_u8, 0..3_u8, 0..20),
        ) {
            let entries = Entries::between(shall.iter(), &has, |key| shall.contains_key(key));
            prop_assert_eq!(entries.is_empty(), shall == has);
            for key in &entries.remove {
                prop_assert!(has.remove(key).is_some());
            }
            for (key, value) in &entries.set {
                prop_assert_ne!(has.insert(*key, *value), Some(*value), "only differences are written");
            }
            prop_assert_eq!(has, shall);
        }
    }

    fn texts(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|Finding { what, found, made }| format!("{what}: {found}: {made}")).collect()
    }

    fn link() -> Link {
        Link {
            name: "wgp-1".into(),
            ifindex: 11,
            kind: "wireguard".into(),
            ethernet: false,
            mtu: 1420,
            up: true,
            carrier: true,
            xdp: None,
            program: Some(30),
        }
    }

    fn seen(change: fn(&mut Seen)) -> Seen {
        let mut seen = Seen { link: link(), guard: None, closed: true };
        change(&mut seen);
        seen
    }

    fn peers() -> BTreeMap<PublicKey, AllowedIps> {
        BTreeMap::from([(key(2), AllowedIps::from(["192.168.1.0/24".parse().unwrap()]))])
    }

    fn tunnel<'a>(
        link: &'a Link,
        peers: &'a BTreeMap<PublicKey, AllowedIps>,
        leaving: &'a BTreeSet<PublicKey>,
    ) -> Tunnel<'a> {
        Tunnel { link, public_key: key(1), listen_port: Some(51821), peers, leaving, keepalive: 0 }
    }

    fn device_as_it_shall_be() -> Device {
        let peers = peers().into_iter().map(|(key, allowed_ips)| (key, Peer { allowed_ips, ..Peer::default() }));
        Device { public_key: Some(key(1)), listen_port: 51821, fwmark: 0, peers: peers.collect() }
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }
}
