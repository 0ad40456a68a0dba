//! Reconciliation: while nothing else is to do, the kernel is compared with what it shall be, and what something else has
//! changed is repaired and reported.
//!
//! What shall be is what the last complete [`Host::apply`] has made. What an interface or a map has beyond that is a foreign
//! change in something of ours: the users' interface, plants' interfaces, and the pinned maps. An unknown peer of a
//! WireGuard interface reaches nothing, since its address has no word in PEERS, but it may have taken the allowed IPs of
//! a known one, so it is removed. Interfaces with other names, and their peers, are never touched.
//!
//! A round looks at the users' interface, at the plants' and at the maps, one piece after the other with a pause behind
//! each, so that a change never waits for more than a piece, and a host with a million routes spends a small part of
//! one processor on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, warn};
use vpn_ebpf_common::{gateway::Gateway, names, peer::Peer, route::Route};

use super::{
    Error, Host,
    audit::{self, Entries, Finding, Seen, Tunnel},
    removal::Removal,
    round::Part,
    uplinks::Kind,
};
use crate::{
    content,
    datapath::{
        self,
        fill::Content,
        read::Maps as _,
        repair::{Place, Progress, RouteId},
    },
    forwarding,
    id::PlantId,
    key::PublicKey,
    moment::whole_seconds,
    repairs::Repair,
    wireguard::{AllowedIps, Device, Link},
};

/// Plants in a piece. A tunnel takes about five questions to the kernel.
const PLANTS_IN_PIECE: usize = 32;
/// Routes in a piece.
const ROUTES_IN_PIECE: usize = 512;
/// Tunnel addresses in a piece.
const ADDRESSES_IN_PIECE: u32 = 4_096;

/// What was read for a piece; what is read at once where it is compared is not here.
pub(crate) enum Observed {
    Users(Option<Observation>, Vec<Ipv4Net>),
    Plants(Vec<(PlantId, Option<Observation>)>),
    Maps,
}

/// An interface of ours as it is.
pub(crate) struct Observation {
    seen: Seen,
    /// `None` for a borrowed one.
    device: Option<Device>,
}

impl Host {
    /// When the next piece of the kernel is to be read; none while the last change is not complete: the next try looks at
    /// everything anyway.
    pub(super) fn observation_due(&self) -> Option<Instant> {
        let is_possible = self.round.pause.is_some() && self.content.is_some() && self.users.is_some();
        is_possible.then_some(self.round.from)
    }

    /// Reads the next piece of the kernel. Changes nothing, so it may be cancelled.
    pub(super) async fn observe(&self) -> Result<Observed, Error> {
        match &self.round.part {
            Part::Users => {
                let Some(users) = &self.users else { return Ok(Observed::Maps) };
                let observation = self.observe_interface(users).await?;
                let addresses = match &observation {
                    Some(observation) => self.wireguard.addresses(&observation.seen.link).await?,
                    None => Vec::new(),
                };
                Ok(Observed::Users(observation, addresses))
            }
            Part::Plants { after } => {
                let mut observed = Vec::new();
                let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let rest = self.plants.range::<PlantId, _>((start, Bound::Unbounded));
                for (id, uplink) in rest.take(PLANTS_IN_PIECE) {
                    observed.push((id.clone(), self.observe_interface(&uplink.link).await?));
                }
                Ok(Observed::Plants(observed))
            }
            _ => Ok(Observed::Maps),
        }
    }

    async fn observe_interface(&self, shall: &Link) -> Result<Option<Observation>, Error> {
        let Some(link) = self.wireguard.link(&shall.name).await? else { return Ok(None) };
        let is_tunnel = shall.kind == Link::WIREGUARD;
        let closed = if is_tunnel { forwarding::is_closed } else { forwarding::is_borrowed_closed };
        let seen = Seen {
            guard: datapath::pinned_guard(&self.config.datapath.pin_dir, &link.name),
            closed: closed(&link.name),
            link,
        };
        let is_ours = is_tunnel && seen.link.kind == Link::WIREGUARD;
        let device = if is_ours { Some(self.wireguard.device(&seen.link).await?) } else { None };
        Ok(Some(Observation { seen, device }))
    }

    /// Compares what was read with what shall be, and repairs what differs. True if the state has to be applied, since
    /// an interface has another number now, or could not be repaired. `busy` is how long the reading took.
    pub(super) async fn reconcile(&mut self, observed: Result<Observed, Error>, busy: Duration) -> bool {
        let started = Instant::now();
        let mut needs_apply = false;
        let part = match observed {
            Err(error) => {
                warn!("the kernel cannot be compared with the desired state: {error}");
                self.next_part(0)
            }
            Ok(Observed::Users(observation, addresses)) => {
                self.reconcile_users(observation, &addresses).await;
                Some(Part::Plants { after: None })
            }
            Ok(Observed::Plants(plants)) => {
                let (count, last) = (plants.len(), plants.last().map(|(id, _)| id.clone()));
                for (id, observation) in plants {
                    needs_apply |= self.reconcile_plant(&id, observation).await;
                }
                if count < PLANTS_IN_PIECE { Some(Part::Settings) } else { Some(Part::Plants { after: last }) }
            }
            // The content is taken out for as long as the maps are worked on.
            Ok(Observed::Maps) => match self.content.take() {
                Some(content) => {
                    let next = self.reconcile_maps(&content);
                    self.content = Some(content);
                    next.unwrap_or_else(|error| {
                        error!("a map cannot be repaired: {error}");
                        needs_apply = true;
                        None
                    })
                }
                None => None,
            },
        };
        self.round.go_on(part, busy + started.elapsed());
        needs_apply
    }

    /// A whole round without a pause. True as for [`Self::reconcile`].
    pub(super) async fn reconcile_at_once(&mut self) -> bool {
        let mut needs_apply = false;
        // Else the last change is not complete, and there is nothing to compare with.
        if self.content.is_some() && self.users.is_some() {
            self.round.part = Part::Users;
            loop {
                let started = Instant::now();
                let observed = self.observe().await;
                needs_apply |= self.reconcile(observed, started.elapsed()).await;
                if matches!(self.round.part, Part::Users) {
                    break;
                }
            }
        }
        needs_apply
    }

    /// The part behind the present one, of which `count` interfaces could be read.
    fn next_part(&self, count: usize) -> Option<Part> {
        match &self.round.part {
            Part::Users => Some(Part::Plants { after: None }),
            Part::Plants { .. } if count < PLANTS_IN_PIECE => Some(Part::Settings),
            _ => None,
        }
    }

    async fn reconcile_users(&mut self, observation: Option<Observation>, addresses: &[Ipv4Net]) {
        let (Some(users), Some(public_key), Some(peers)) = (&self.users, self.users_public, &self.user_peers) else {
            return;
        };
        let leaving = self.leaving(users);
        let mut findings = audit::interface(users, observation.as_ref().map(|of| &of.seen), self.is_detached());
        if let Some(device) = observation.as_ref().and_then(|of| of.device.as_ref()) {
            let listen_port = Some(self.config.users.listen_port);
            let shall = Tunnel { link: users, public_key, listen_port, peers, leaving: &leaving, keepalive: 0 };
            findings.extend(audit::device(&shall, device));
            findings.extend(self.address_missing(users, addresses));
        }
        if findings.is_empty() {
            return;
        }
        let mut desired = peers.clone();
        desired.retain(|key, _| !leaving.contains(key));
        let repaired = self.repair_users(&desired).await;
        self.report(findings, repaired);
    }

    /// The gateway's own address, without which no service of it answers.
    fn address_missing(&self, users: &Link, addresses: &[Ipv4Net]) -> Option<Finding> {
        let (address, length) = (self.config.pools.gateway(), self.config.pools.tunnel.prefix_len());
        let is_there = addresses.iter().any(|has| has.addr() == address && has.prefix_len() == length);
        let is_missing = !self.config.services.is_empty() && !is_there;
        is_missing.then(|| Finding::new(&users.name, format!("no address {address}/{length}"), "given the address"))
    }

    /// By the steps that made the interface, which write differences alone.
    async fn repair_users(&mut self, desired: &BTreeMap<PublicKey, AllowedIps>) -> Result<(), Error> {
        // The kernel is asked anew, here or by the next change.
        self.users = None;
        self.user_peers = None;
        self.raise_users().await?;
        self.put_user_peers(desired).await?;
        if let Some(users) = &self.users {
            let device = self.wireguard.device(users).await?;
            self.wireguard.settle_peers(users, &device, desired.keys(), 0).await?;
        }
        Ok(())
    }

    async fn reconcile_plant(&mut self, id: &PlantId, observation: Option<Observation>) -> bool {
        let Some(uplink) = self.plants.get(id) else { return false };
        let mut findings = audit::interface(&uplink.link, observation.as_ref().map(|of| &of.seen), self.is_detached());
        let device = observation.as_ref().and_then(|of| of.device.as_ref());
        if let (Some(device), Kind::WireGuard { site, own, listen_port }) = (device, &uplink.kind) {
            let shall = Tunnel {
                link: &uplink.link,
                public_key: *own,
                listen_port: *listen_port,
                peers: &BTreeMap::from([(site.public_key, site.allowed_ips.clone())]),
                leaving: &self.leaving(&uplink.link),
                keepalive: site.keepalive(),
            };
            findings.extend(audit::device(&shall, device));
        }
        if findings.is_empty() {
            return false;
        }
        let before = (uplink.link.ifindex, uplink.link.mtu);
        let repaired = match &uplink.kind {
            Kind::WireGuard { site, .. } => {
                let site = site.clone();
                self.raise_tunnel(id, site).await
            }
            Kind::Borrowed => {
                let name = uplink.link.name.clone();
                self.borrow_interface(id, &name).await
            }
        };
        let (result, needs_apply) = match repaired {
            Ok(uplink) => {
                let after = (uplink.link.ifindex, uplink.link.mtu);
                self.plants.insert(id.clone(), uplink);
                (Ok(()), before != after)
            }
            Err(error) => {
                self.plants.remove(id);
                (Err(error), true)
            }
        };
        self.report(findings, result);
        needs_apply
    }

    /// The next piece of the maps, and which part comes after it.
    fn reconcile_maps(&mut self, content: &Content) -> Result<Option<Part>, datapath::Error> {
        match self.round.part.clone() {
            Part::Users | Part::Plants { .. } => Ok(None),
            Part::Settings => self.reconcile_settings(content).map(|()| Some(Part::Peers { from: 0 })),
            Part::Peers { from } => self.reconcile_peers(content, from),
            Part::Routes { from } => self.reconcile_routes(from),
            Part::Strangers { after } => self.reconcile_strangers(after.as_ref()),
        }
    }

    fn reconcile_settings(&mut self, content: &Content) -> Result<(), datapath::Error> {
        if let Some(users) = &self.users {
            let shall = content::gateway(&self.config, users.ifindex);
            let has = self.datapath.gateway()?;
            if has.map(|has| Gateway { generation: 0, ..has }) != Some(shall) {
                let result = self.datapath.configure(&shall);
                let found = if has.is_some() { "other settings" } else { "no settings" };
                self.report(vec![Finding::new(names::GATEWAY, found, "written again")], result);
            }
        }
        let has = self.datapath.plants()?;
        let plants = Entries::between(content.plants.iter(), &has, |ifindex| content.plants.contains_key(ifindex));
        if !plants.is_empty() {
            let result = self.datapath.repair_plants(&content.plants);
            self.report(plants.findings(names::PLANTS, |ifindex| format!("interface {ifindex}")), result);
        }
        let has = self.datapath.services()?;
        let services = Entries::between(content.services.iter(), &has, |key| content.services.contains_key(key));
        if !services.is_empty() {
            let result = self.datapath.repair_services(&content.services);
            let shown = |key: &vpn_ebpf_common::service::ServiceKey| {
                format!("{} port {} protocol {}", key.address.to_ip(), u16::from_be(key.port), key.protocol)
            };
            self.report(services.findings(names::SERVICES, shown), result);
        }
        Ok(())
    }

    fn reconcile_peers(&mut self, content: &Content, from: u32) -> Result<Option<Part>, datapath::Error> {
        let table = self.datapath.peer_table();
        let to = from.saturating_add(ADDRESSES_IN_PIECE).min(table.count());
        let has: BTreeMap<u32, Peer> = table.range(from..to);
        let is_last = to == table.count();
        let entries =
            Entries::between(content.peers.range(from..to), &has, |number| content.peers.contains_key(number));
        if !entries.is_empty() {
            let result = self.datapath.repair_peers(&entries.set, &entries.remove);
            let pools = self.config.pools;
            self.report(entries.findings(names::PEERS, |number| pools.tunnel_of(*number).to_string()), result);
        }
        Ok(Some(if is_last { Part::Routes { from: (0, 0) } } else { Part::Peers { from: to } }))
    }

    fn reconcile_routes(&mut self, from: Progress) -> Result<Option<Part>, datapath::Error> {
        let (amiss, next) = self.datapath.routes_amiss(from, ROUTES_IN_PIECE)?;
        if !amiss.is_empty() {
            let result = self.datapath.repair_routes(&amiss, &BTreeSet::new());
            let entries = Entries { set: amiss.into_iter().collect(), remove: Vec::new() };
            self.report(entries.findings(names::ROUTES, shown_route), result);
        }
        Ok(Some(next.map_or(Part::Strangers { after: None }, |from| Part::Routes { from })))
    }

    fn reconcile_strangers(&mut self, after: Option<&Place>) -> Result<Option<Part>, datapath::Error> {
        let (strange, place) = self.datapath.strange_routes(after, ROUTES_IN_PIECE)?;
        if !strange.is_empty() {
            let remove: BTreeSet<_> = strange.into_keys().collect();
            let result = self.datapath.repair_routes(&BTreeMap::new(), &remove);
            let entries = Entries::<_, Route> { set: Vec::new(), remove: remove.into_iter().collect() };
            self.report(entries.findings(names::ROUTES, shown_route), result);
        }
        Ok(place.map(|place| Part::Strangers { after: Some(place) }))
    }

    /// Peers of the interface that wait to be removed.
    fn leaving(&self, link: &Link) -> BTreeSet<PublicKey> {
        let of_link = self.removals.iter().filter_map(|removal| match removal {
            Removal::Peer(on, key) if on.name == link.name => Some(*key),
            _ => None,
        });
        of_link.collect()
    }

    /// Logs and notes what was repaired, or could not be.
    fn report(&mut self, findings: Vec<Finding>, result: Result<(), impl Into<Error>>) {
        let failure = result.map_err(|error| error.into().to_string()).err();
        for Finding { what, found, made } in findings {
            let made = match &failure {
                None => made,
                Some(error) => format!("not repaired: {error}"),
            };
            warn!("{what}: something else has changed it: {found}; {made}");
            self.repairs.push(Repair { at: whole_seconds(Timestamp::now()), what, found, made });
        }
        if let Err(error) = self.repairs.write(&self.config.repairs_file()) {
            warn!("{error}");
        }
    }
}

fn shown_route((set, destination, bits): &RouteId) -> String {
    let (address, length) = match destination.to_ip() {
        address @ IpAddr::V4(_) => (address, bits.saturating_sub(96)),
        address @ IpAddr::V6(_) => (address, *bits),
    };
    format!("{address}/{length} of route set {set}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vpn_ebpf_common::{
        Address, Prefix,
        names::{GATEWAY, PEERS, PLANTS, ROUTES, SERVICES},
    };

    use super::*;
    use crate::{
        change::Touched,
        config::Config,
        control::Kernel,
        datapath::repair::RouteId,
        enforcement::Records,
        example,
        namespace::in_new_namespace,
        repairs::Repairs,
        run::{
            round::Round,
            scene::{get, host, look_up, make, set, two_plants, with_users},
        },
        state::State,
    };

    /// Requirements: G3.
    #[test]
    fn what_something_else_changes_in_the_maps_is_repaired_and_told() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, state) = gateway(folder.path()).await;
            assert!(!host.reconcile_at_once().await);
            assert_eq!(host.repairs, Repairs::default(), "what was just applied is as it shall be");

            type Change = fn(&mut Host);
            let rows: [(&str, Change, &str); 10] = [
                (PEERS, |host| set_peer(host, 2, Peer { id: 1, route_set: 3 }), "missing or changed: 100.64.0.2"),
                (PEERS, |host| set_peer(host, 2, Peer::NOBODY), "missing or changed: 100.64.0.2"),
                (PEERS, |host| set_peer(host, 40_000, Peer { id: 9, route_set: 2 }), "nobody's: 100.64.156.64"),
                (ROUTES, |host| remove_routes(host, |_| true), "missing or changed: 10.128.0.0/24 of route set 2, 192"),
                (
                    ROUTES,
                    |host| put_route(host, |mut route| (route.egress = 77, route).1),
                    "missing or changed: 10.128.0.0/24 of route set 2",
                ),
                (ROUTES, add_route, "nobody's: 10.128.1.0/24 of route set 2"),
                (
                    PLANTS,
                    |host| host.datapath.repair_plants(&BTreeMap::new()).unwrap(),
                    "missing or changed: interface ",
                ),
                (PLANTS, add_plant, "nobody's: interface 4000"),
                (
                    SERVICES,
                    |host| {
                        let service = vpn_ebpf_common::service::ServiceKey {
                            address: host.config.pools.gateway().into(),
                            port: 22_u16.to_be(),
                            protocol: 6,
                            reserved: 0,
                        };
                        host.datapath.repair_services(&BTreeMap::from([(service, 1)])).unwrap();
                    },
                    "nobody's: 100.64.0.1 port 22 protocol 6",
                ),
                (
                    GATEWAY,
                    |host| {
                        let gateway = host.datapath.gateway().unwrap().unwrap();
                        host.datapath.configure(&Gateway { options: 0, ..gateway }).unwrap();
                    },
                    "other settings",
                ),
            ];
            for (map, change, expected) in rows {
                let before = content(&host);
                change(&mut host);
                assert_ne!(content(&host), before, "{expected}");
                let generation = host.datapath.gateway().unwrap().unwrap().generation;
                assert!(!host.reconcile_at_once().await, "{expected}: the state need not be applied");
                assert_eq!(content(&host), before, "{expected}");
                let repair = host.repairs.iter().next_back().unwrap();
                assert_eq!(repair.what, map, "{expected}");
                assert!(repair.found.starts_with(expected), "{expected}: {repair:?}");
                if map != PEERS {
                    let now = host.datapath.gateway().unwrap().unwrap().generation;
                    assert_ne!(now, generation, "{expected}: flows that were admitted meanwhile are looked at again");
                }
            }
            assert_eq!(host.repairs.total(), 10, "each once");
            assert_eq!(Repairs::read(&host.config.repairs_file()).unwrap(), host.repairs, "on disk");
            let before = content(&host);
            host.apply(&state).await.unwrap();
            assert_eq!(content(&host), before);
        });
    }

    /// Requirements: D1, G3.
    #[test]
    fn what_something_else_changes_on_an_interface_is_repaired_and_told() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, state) = gateway(folder.path()).await;
            set("ipv4", "eth1.10", "forwarding", "1");
            host.datapath.detach_interface("eth2").unwrap();
            let foreign = make(&host, "wgp-77").await;
            assert!(!host.reconcile_at_once().await);
            assert_eq!(get("ipv4", "eth1.10", "forwarding"), "0");
            assert!(look_up(&host, "eth2").await.unwrap().program.is_some());
            assert_eq!(look_up(&host, "wgp-77").await, Some(foreign), "another kind of interface is not ours");
            let told: Vec<_> = host.repairs.iter().map(|repair| format!("{}: {}", repair.what, repair.found)).collect();
            let expected = ["eth1.10: open to the kernel's own forwarding", "eth2: no program at its ingress hook"];
            assert_eq!(told, expected);

            let gone = look_up(&host, "eth2").await.unwrap();
            host.wireguard.delete_link(&gone).await.unwrap();
            assert!(host.reconcile_at_once().await, "nothing may lead to a plant without an interface");
            let failed = host.apply(&state).await.unwrap();
            assert_eq!(failed.len(), 1);
            make(&host, "eth2").await;
            assert!(host.apply(&state).await.unwrap().is_empty());
            assert!(!host.reconcile_at_once().await);
            let last = host.repairs.iter().next_back().unwrap();
            assert!(last.made.starts_with("not repaired: this host has no interface eth2"), "{last:?}");
        });
    }

    /// Requirements: G3.
    #[test]
    fn what_sighup_repairs_is_told_as_well() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, state) = gateway(folder.path()).await;
            // Never by itself.
            host.round = Round::new(0);
            let before = content(&host);
            add_plant(&mut host);
            remove_routes(&mut host, |_| true);
            host.datapath.detach_interface("eth2").unwrap();
            Kernel::forget(&mut host).await.unwrap();
            let told: Vec<_> = host.repairs.iter().map(|repair| &*repair.what).collect();
            assert_eq!(told, ["eth2", PLANTS, ROUTES]);
            with_users(&mut host, &state).await;
            host.apply(&state).await.unwrap();
            assert_eq!(content(&host), before);
            assert!(look_up(&host, "eth2").await.unwrap().program.is_some());
        });
    }

    #[test]
    fn a_gateway_that_is_detached_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, _) = gateway(folder.path()).await;
            datapath::detach(&host.config.datapath.pin_dir, false).unwrap();
            assert!(!host.reconcile_at_once().await);
            assert_eq!(host.repairs, Repairs::default());
            assert_eq!(look_up(&host, "eth2").await.unwrap().program, None);
        });
    }

    #[test]
    fn a_change_that_failed_is_not_taken_for_what_shall_be() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, state) = gateway(folder.path()).await;
            let config = Config { state_dir: host.config.state_dir.join("gone"), ..host.config.clone() };
            let records = std::mem::replace(&mut host.records, Records::new(&config));
            // What was taken away is gone then; the rest cannot be noted.
            let mut less = two_plants("eth1.10", "eth2");
            less["roles"] = serde_json::json!([]);
            assert!(host.apply(&example::parse(&less)).await.is_err());
            assert_eq!(host.observation_due(), None, "there is nothing to compare with");
            host.records = records;
            host.apply(&state).await.unwrap();
            assert!(!host.reconcile_at_once().await);
        });
    }

    /// Requirements: B4, G2.
    #[test]
    fn what_a_single_change_writes_is_what_shall_be() {
        let folder = tempfile::tempdir().unwrap();
        in_new_namespace(async {
            let (mut host, mut state) = gateway(folder.path()).await;
            let routes = |host: &Host| {
                let peer = host.datapath.peers().unwrap()[&3];
                host.datapath.routes().unwrap().keys().filter(|(set, ..)| *set == peer.route_set).count()
            };
            assert_eq!(routes(&host), 3);
            for (change, left) in [("remove-role", 2), ("add-role", 3)] {
                let change = json!({"change": change, "user": "user-b", "role": "operator", "on": {"plant": "south"}});
                let changed = state.change(&[serde_json::from_value(change).unwrap()]).unwrap();
                let Touched::Certificates(certificates) = changed.touched else { panic!("{changed:?}") };
                host.hurry(&state, &certificates).await.unwrap();
                assert_eq!(routes(&host), left);
                assert!(!host.reconcile_at_once().await);
                assert_eq!(host.repairs, Repairs::default());
            }
            let before = content(&host);
            host.apply(&state).await.unwrap();
            assert_eq!(content(&host).0, before.0);

            host.forget_kernel().unwrap();
            assert!(matches!(host.hurry(&state, &BTreeSet::new()).await, Err(Error::Unsettled)));
        });
    }

    /// With two plants behind bridges, applied.
    async fn gateway(folder: &std::path::Path) -> (Host, State) {
        let mut host = host(folder);
        host.round = Round::new(1);
        make(&host, "eth1.10").await;
        make(&host, "eth2").await;
        let state = example::parse(&two_plants("eth1.10", "eth2"));
        with_users(&mut host, &state).await;
        assert!(host.apply(&state).await.unwrap().is_empty());
        (host, state)
    }

    /// Everything that the agent writes into the maps, but for the generation.
    fn content(host: &Host) -> (Content, BTreeMap<RouteId, Route>, Gateway) {
        let content = Content {
            peers: host.datapath.peers().unwrap(),
            plants: host.datapath.plants().unwrap(),
            services: host.datapath.services().unwrap(),
            ..Content::default()
        };
        let gateway = Gateway { generation: 0, ..host.datapath.gateway().unwrap().unwrap() };
        (content, host.datapath.routes().unwrap(), gateway)
    }

    fn set_peer(host: &mut Host, number: u32, peer: Peer) {
        assert!(host.datapath.peer_table().set(number, peer));
    }

    fn remove_routes(host: &mut Host, which: fn(&RouteId) -> bool) {
        let routes = host.datapath.routes().unwrap();
        let remove = routes.into_keys().filter(which).collect();
        host.datapath.repair_routes(&BTreeMap::new(), &remove).unwrap();
    }

    fn put_route(host: &mut Host, change: fn(Route) -> Route) {
        let (id, route) = host.datapath.routes().unwrap().pop_first().unwrap();
        host.datapath.repair_routes(&BTreeMap::from([(id, change(route))]), &BTreeSet::new()).unwrap();
    }

    /// In the set of user-a, who may not reach south, whose virtual subnet this is.
    fn add_route(host: &mut Host) {
        let twin = Address::from(std::net::Ipv4Addr::new(10, 128, 1, 0));
        let real = Prefix::new(Address::from(std::net::Ipv4Addr::new(192, 168, 1, 0)), 120);
        let route = Route { plant: 2, id: 2, egress: host.plants["south"].link.ifindex, real, twin };
        host.datapath.repair_routes(&BTreeMap::from([((2, twin, 120), route)]), &BTreeSet::new()).unwrap();
    }

    fn add_plant(host: &mut Host) {
        let mut plants = host.datapath.plants().unwrap();
        let plant = *plants.values().next().unwrap();
        plants.insert(4000, plant);
        host.datapath.repair_plants(&plants).unwrap();
    }
}
