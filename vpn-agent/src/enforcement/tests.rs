use std::{cell::Cell, collections::BTreeMap, path::Path};

use jiff::Timestamp;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};
use vpn_directory::Directory;
use vpn_ebpf_common::route::Route;

use super::*;
use crate::{
    change::{Change, Touched},
    datapath::{Sizes, route_set::Destination},
    example,
    tables::NO_INTERFACE,
};

thread_local! {
    /// Of a case before, with what that has left in it. To load programs takes long.
    static DATAPATH: Cell<Option<Datapath>> = const { Cell::new(None) };
}

/// A gateway without interfaces.
struct Gateway {
    config: Config,
    datapath: Datapath,
    allocations: Allocations,
    records: Records,
    content: Content,
    uplinks: BTreeMap<PlantId, Uplink>,
}

impl Gateway {
    /// With its files in `folder`; none where the user may not load programs.
    fn new(folder: &Path) -> Option<Self> {
        let mut config = example::config("");
        config.state_dir = folder.to_owned();
        let sizes =
            Sizes { flows_max: 1024, closed_max: 64, denials_max: 64, events_bytes: 65_536, ..Sizes::default() };
        let datapath = DATAPATH.take().map_or_else(|| Datapath::for_test_runs(None, &sizes), Ok);
        let datapath = datapath.inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
        // The west is not linked here.
        let uplinks = [("north", 11), ("south", 12)];
        let uplink = |ifindex| Uplink { ifindex, mtu: 1420, link_header: 0 };
        Some(Self {
            allocations: Allocations::read(&config.allocations_file()).unwrap(),
            records: Records::new(&config),
            content: Content::default(),
            uplinks: uplinks.map(|(plant, ifindex)| (plant.parse().unwrap(), uplink(ifindex))).into(),
            config,
            datapath,
        })
    }

    fn enforcement(&mut self) -> (Enforcement<'_>, &BTreeMap<PlantId, Uplink>, &mut Content) {
        let Self { config, datapath, allocations, records, content, uplinks } = self;
        (Enforcement { config, datapath, allocations, records }, uplinks, content)
    }

    fn apply(&mut self, state: &State) {
        let policy = Policy::compile(state, &self.config.terms(Timestamp::UNIX_EPOCH));
        let (mut enforcement, uplinks, content) = self.enforcement();
        enforcement.withdraw(state, &policy).unwrap();
        enforcement.give(state).unwrap();
        *content = enforcement.fill(state, &policy, uplinks).unwrap();
    }

    fn hurry(&mut self, state: &State, certificates: &BTreeSet<CertificateId>) {
        let policy = Policy::compile_of(state, &self.config.terms(Timestamp::UNIX_EPOCH), certificates);
        let (mut enforcement, uplinks, content) = self.enforcement();
        let ifindex = |id: &PlantId| uplinks.get(id).map_or(NO_INTERFACE, |uplink| uplink.ifindex);
        let part = enforcement.withdraw_some(state, &policy, certificates, ifindex).unwrap();
        enforcement.fill_some(state, &policy, certificates, ifindex, part, content).unwrap();
    }

    /// What the maps say: id and routes of each certificate, by host number.
    fn found(&self) -> BTreeMap<u32, (u32, Vec<(Destination, Route)>)> {
        let (peers, routes) = (self.datapath.peers().unwrap(), self.datapath.routes().unwrap());
        let of_set = |set: u32| {
            let routes = routes.iter().filter(move |((of, ..), _)| *of == set);
            routes.map(|((_, destination, bits), route)| ((*destination, *bits), *route)).collect::<Vec<_>>()
        };
        peers.iter().map(|(number, peer)| (*number, (peer.id, of_set(peer.route_set)))).collect()
    }

    /// What they shall say.
    fn wanted(&self, state: &State) -> BTreeMap<u32, (u32, Vec<(Destination, Route)>)> {
        let policy = Policy::compile(state, &self.config.terms(Timestamp::UNIX_EPOCH));
        let catalogue = &mut Catalogue::new(&self.allocations);
        let pools = &self.config.pools;
        let tables = Tables::new(state, &self.allocations, catalogue, pools, &policy, &self.uplinks).unwrap();
        let routes = |set| tables.route_sets[set].iter().copied().collect();
        tables.peers.iter().map(|(number, peer)| (*number, (peer.peer_id, routes(&peer.route_set)))).collect()
    }

    /// Whether everything is as if the state had been applied as a whole.
    fn check(&self, state: &State) {
        assert_eq!(self.found(), self.wanted(state));
        assert_eq!(self.content.peers, self.datapath.peers().unwrap());
        let sets: BTreeSet<_> = self.content.peers.values().map(|peer| peer.route_set).collect();
        assert_eq!(self.content.route_sets.keys().copied().collect::<BTreeSet<_>>(), sets);
        let whole: usize = self.content.route_sets.values().map(|routes| routes.len()).sum();
        assert_eq!(self.datapath.routes().unwrap().len(), whole + self.datapath.resting_routes());

        assert_eq!(Allocations::read(&self.config.allocations_file()).unwrap(), self.allocations);
        let given = self.allocations.extended(state, &self.config).unwrap();
        assert_eq!(given, self.allocations, "nothing is left to be given");
        let published = Directory::read(&self.config.directory_file()).unwrap();
        assert_eq!(published, directory(state, &self.allocations, &self.config));
        let catalogue = self.records.catalogue.as_ref().unwrap();
        assert!(catalogue.is_reserved(&self.allocations));
    }
}

/// Requirements: A3, B4, C5.
#[test]
fn a_revoked_certificate_is_nobody_and_an_issued_one_somebody_new() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut gateway) = Gateway::new(folder.path()) else { return };
    let mut state = example::parse(&document());
    gateway.apply(&state);
    gateway.check(&state);
    let files = || ["allocations.json", "directory.json"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    let before = files();

    change(&mut gateway, &mut state, &json!({"change": "revoke-certificate", "id": "c0"}));
    assert_eq!(gateway.datapath.peers().unwrap().keys().copied().collect::<Vec<_>>(), [3, 4]);
    let again = json!({"change": "issue-certificate", "id": "c9", "user": "u0", "public_key": example::key(99)});
    change(&mut gateway, &mut state, &again);
    let peer = gateway.datapath.peers().unwrap()[&5];
    assert_eq!((peer.id, gateway.allocations.peers()["c9"].id), (4, 4));
    let published = Directory::read(&gateway.config.directory_file()).unwrap();
    assert!(!published.peer(1).unwrap().active && published.peer(4).unwrap().active);
    assert_eq!(files(), before, "no file was written as a whole");

    // A crash of the agent: what was given is there, and nothing in the maps changes.
    let Gateway { datapath, .. } = gateway;
    let mut gateway = Gateway { datapath, ..Gateway::new(folder.path()).unwrap() };
    let found = (gateway.datapath.peers().unwrap(), gateway.found());
    gateway.apply(&state);
    gateway.check(&state);
    assert_eq!((gateway.datapath.peers().unwrap(), gateway.found()), found);
}

/// Requirements: C5, G3.
#[test]
fn sets_of_a_run_that_ended_keep_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut gateway) = Gateway::new(folder.path()) else { return };
    let mut state = example::parse(&document());
    gateway.apply(&state);
    change(&mut gateway, &mut state, &json!({"change": "set-priority", "user": "u0", "plants": ["south"]}));
    let before = gateway.datapath.peers().unwrap();
    gateway.datapath.forget_routes();
    gateway.records = Records::new(&gateway.config);
    gateway.allocations = Allocations::read(&gateway.config.allocations_file()).unwrap();
    gateway.apply(&state);
    assert_eq!(gateway.datapath.peers().unwrap(), before, "nobody's flows have to be looked at again");
    gateway.check(&state);
    change(&mut gateway, &mut state, &json!({"change": "disable-route", "user": "u1", "plant": "south"}));
    let highest = before.values().map(|peer| peer.route_set).max().unwrap();
    let sets: Vec<_> = gateway.datapath.peers().unwrap().values().map(|peer| peer.route_set).collect();
    assert!(sets.iter().any(|set| *set > highest), "{sets:?} has a new id after {highest}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Single changes lead to what the whole state leads to, whatever came before.
    ///
    /// Requirements: A3, B4, C2, C3, C5, D3.
    #[test]
    fn single_changes_and_the_whole_state_agree(changes in vec(changes(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut gateway) = Gateway::new(folder.path()) else { return Ok(()) };
        let mut state = example::parse(&document());
        gateway.apply(&state);
        for next in changes {
            change(&mut gateway, &mut state, &next);
            gateway.check(&state);
        }
        gateway.datapath.remove_resting_routes(usize::MAX).unwrap();
        gateway.check(&state);
        let before = gateway.datapath.peers().unwrap();
        gateway.apply(&state);
        gateway.check(&state);
        prop_assert_eq!(gateway.datapath.peers().unwrap(), before, "there was nothing left to do");
        DATAPATH.set(Some(gateway.datapath));
    }
}

/// One that is not possible changes nothing.
fn change(gateway: &mut Gateway, state: &mut State, change: &Value) {
    let change: Change = serde_json::from_value(change.clone()).unwrap();
    // An owner is for ever, which the state alone does not know.
    let before = state.clone();
    let Ok(changed) = state.change(&[change]) else { return };
    if gateway.allocations.check(state, &gateway.config).is_err() {
        *state = before;
        return;
    }
    match changed.touched {
        Touched::Certificates(certificates) => gateway.hurry(state, &certificates),
        Touched::All => gateway.apply(state),
    }
}

fn changes() -> impl Strategy<Value = Value> {
    let user = || select(&["u0", "u1", "u2", "u3"][..]);
    let plant = || select(&["north", "south", "west"][..]);
    let scope = || {
        prop_oneof![
            plant().prop_map(|plant| json!({"plant": plant})),
            select(&["inland", "coast"][..]).prop_map(|portfolio| json!({"portfolio": portfolio})),
        ]
    };
    let roles = || (user(), select(&["operator", "viewer"][..]), scope());
    let role = |change: &'static str| {
        roles().prop_map(move |(user, role, scope)| json!({"change": change, "user": user, "role": role, "on": scope}))
    };
    let organisation = || select(&["alpha", "beta"][..]);
    let subnet = || select(&[None, Some("192.168.1.0/24"), Some("192.168.0.0/16")][..]);
    prop_oneof![
        4 => role("add-role"),
        3 => role("remove-role"),
        2 => (user(), organisation(), select(&["member", "guest"][..])).prop_map(|(user, organisation, kind)| json!({
            "change": "put-membership", "user": user, "organisation": organisation, "kind": kind, "access": "all"
        })),
        1 => (user(), organisation()).prop_map(|(user, organisation)| json!({
            "change": "remove-membership", "user": user, "organisation": organisation
        })),
        2 => (user(), vec(plant(), 0..3)).prop_filter_map("each once", |(user, plants)| {
            let once: BTreeSet<_> = plants.iter().collect();
            (once.len() == plants.len()).then(|| json!({"change": "set-priority", "user": user, "plants": plants}))
        }),
        2 => (user(), plant(), subnet()).prop_map(|(user, plant, subnet)| json!({
            "change": "disable-route", "user": user, "plant": plant, "subnet": subnet
        })),
        1 => (user(), plant(), subnet()).prop_map(|(user, plant, subnet)| json!({
            "change": "enable-route", "user": user, "plant": plant, "subnet": subnet
        })),
        2 => (0..6_u8, user(), 10..40_u8).prop_map(|(id, user, key)| json!({
            "change": "issue-certificate", "id": format!("c{id}"), "user": user, "public_key": example::key(key)
        })),
        1 => (0..2_u8, organisation(), vec(plant(), 0..2), 40..50_u8).prop_map(|(id, organisation, plants, key)| json!({
            "change": "issue-certificate", "id": format!("d{id}"), "organisation": organisation, "plants": plants,
            "public_key": example::key(key)
        })),
        2 => (select(&["c0", "d0", "d1"][..]), subsequence(vec!["north", "south", "west"], 0..=3)).prop_map(
            |(id, plants)| json!({"change": "set-certificate-plants", "id": id, "plants": plants})
        ),
        2 => select(&["c0", "c1", "c2", "c3", "c4", "c5", "d0", "d1"][..])
            .prop_map(|id| json!({"change": "revoke-certificate", "id": id})),
        1 => (select(&["c0", "c1", "c2"][..]), 50..60_u8).prop_map(|(id, key)| json!({
            "change": "rotate-certificate", "id": id, "public_key": example::key(key)
        })),
        1 => (0..6_u8, user(), 1..12_u8, 2..14_u8).prop_map(|(id, user, number, address)| json!({
            "change": "put-allocations",
            "peers": [{"certificate": format!("c{id}"), "id": number, "address": format!("100.64.0.{address}"), "user": user}],
        })),
        1 => user().prop_map(|user| json!({"change": "put-user", "id": user})),
        1 => user().prop_map(|user| json!({"change": "remove-user", "id": user})),
        1 => (organisation(), scope()).prop_map(|(partner, on)| json!({
            "change": "put-cooperation", "partner": partner, "on": on
        })),
    ]
}

/// Three plants with overlapping subnets in two portfolios, and three users with certificates.
fn document() -> Value {
    let plant = |id: &str, organisation: &str, portfolio: &str, subnets: &[&str], key: u8| {
        json!({
            "id": id, "organisation": organisation, "portfolio": portfolio, "subnets": subnets,
            "uplink": {"kind": "host", "public_key": example::key(key)},
        })
    };
    json!({
        "revision": 1,
        "organisations": [{"id": "alpha"}, {"id": "beta"}],
        "portfolios": [{"id": "inland", "organisation": "alpha"}, {"id": "coast", "organisation": "beta"}],
        "plants": [
            plant("north", "alpha", "inland", &["192.168.1.0/24", "fd00:1::/64"], 201),
            plant("south", "alpha", "inland", &["192.168.1.0/24"], 202),
            plant("west", "beta", "coast", &["192.168.0.0/16"], 203),
        ],
        "users": (0..4).map(|at| json!({"id": format!("u{at}")})).collect::<Vec<_>>(),
        "memberships": (0..3).map(|at| json!({
            "user": format!("u{at}"), "organisation": "alpha", "kind": "member", "access": "all",
        })).collect::<Vec<_>>(),
        "roles": (0..3).map(|at| json!({
            "user": format!("u{at}"), "role": "operator", "on": {"portfolio": "inland"},
        })).collect::<Vec<_>>(),
        "cooperations": [{"partner": "alpha", "on": {"plant": "west"}}],
        "certificates": (0..3).map(|at| json!({
            "id": format!("c{at}"), "user": format!("u{at}"), "public_key": example::key(1 + at),
        })).collect::<Vec<_>>(),
    })
}
