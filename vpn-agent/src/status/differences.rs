//! Where the kernel is not as the desired state has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::Timestamp;
use vpn_ebpf_common::{Address, plant::Plant};

use super::{
    Certificate, Files, Interface, Program, Status, UplinkKind,
    kernel::{Kernel, Maps},
};
use crate::{
    catalogue::Catalogue,
    config::Config,
    content::content,
    datapath::{fill::Content, route_set::RouteSet, withdraw::NO_ROUTES},
    policy::Policy,
    tables::{Tables, Uplink},
};

/// One entry each, in the order of the text.
pub fn of(status: &Status, config: &Config, files: &Files, kernel: &Kernel) -> Vec<String> {
    let mut differences = Vec::new();
    if let (Some(applied), Some(file)) = (status.revision, status.file_revision)
        && applied != file
    {
        differences.push(format!("the file has revision {file}, the agent took up {applied}; see its log"));
    }
    interface(&mut differences, &status.users, UplinkKind::Host, None);
    gateway_address(&mut differences, status, config, kernel);
    for plant in &status.plants {
        interface(&mut differences, &plant.interface, plant.uplink, Some(&plant.plant));
        if plant.uplink != UplinkKind::Interface && plant.interface.ifindex.is_some() && plant.tunnel.is_none() {
            differences.push(format!("plant {}: WireGuard has no peer on {}", plant.plant, plant.interface.name));
        }
    }
    let users = kernel.devices.get(&status.users.name).and_then(|device| device.wireguard.as_ref());
    let peers = users.into_iter().flat_map(|users| users.peers.values());
    let allowed: BTreeSet<_> = peers.flat_map(|peer| &peer.allowed_ips).map(|allowed_ip| allowed_ip.addr()).collect();
    for Certificate { certificate, address, address6, .. } in &status.certificates {
        for address in [*address, IpAddr::V6(*address6)].iter().filter(|address| !allowed.contains(address)) {
            differences.push(format!("certificate {certificate}: WireGuard has no peer with {address}"));
        }
    }
    match &kernel.maps {
        Some(maps) => {
            in_peers(&mut differences, config, files, maps);
            in_plants(&mut differences, status, maps);
            // A file that the agent has not taken up says nothing about the kernel.
            if status.revision == status.file_revision {
                in_routes(&mut differences, config, files, maps);
            }
        }
        None => differences.push(
            "the maps are not pinned: no agent of this version has run since the host started, or `vpn-agent detach \
             --forget` removed them; nothing is forwarded until `vpn-agent run` is started"
                .into(),
        ),
    }
    differences
}

fn gateway_address(differences: &mut Vec<String>, status: &Status, config: &Config, kernel: &Kernel) {
    let (address, length) = (config.pools.gateway(), config.pools.tunnel.prefix_len());
    let mut addresses = kernel.users_addresses.iter();
    if !config.services.is_empty()
        && status.users.ifindex.is_some()
        && !addresses.any(|has| has.addr() == address && has.prefix_len() == length)
    {
        differences.push(format!(
            "{} does not have the address {address}/{length}, so no service answers; send the agent SIGHUP",
            status.users.name
        ));
    }
}

fn interface(differences: &mut Vec<String>, interface: &Interface, uplink: UplinkKind, plant: Option<&str>) {
    let name = match plant {
        Some(plant) => format!("{} of plant {plant}", interface.name),
        None => interface.name.clone(),
    };
    let remedy = match uplink {
        UplinkKind::Host | UplinkKind::Dial => "see the agent's log, or send it SIGHUP",
        UplinkKind::Interface => "it is an interface of the host's, which the agent does not make or set up",
    };
    if interface.ifindex.is_none() {
        differences.push(format!("{name}: there is no such interface; {remedy}"));
        return;
    }
    if !interface.up {
        differences.push(format!("{name} is down; {remedy}"));
    }
    match (interface.program, interface.program_id) {
        (Program::Missing, _) => {
            differences.push(format!("{name} has no program at its ingress hook, so it forwards nothing"));
        }
        (Program::Foreign, Some(id)) => {
            differences.push(format!(
                "the program {id} comes first on {name}, and is not ours; see `bpftool prog show id {id}`"
            ));
        }
        _ => {}
    }
    if !interface.closed_to_forwarding {
        differences.push(format!(
            "{name} is not closed to the kernel's own forwarding; a running agent closes it within a second, or says \
             in its log what prevents that"
        ));
    }
}

fn in_peers(differences: &mut Vec<String>, config: &Config, files: &Files, maps: &Maps) {
    let mut strangers: BTreeSet<_> = maps.peers.keys().copied().collect();
    let active = files.directory.iter().flat_map(|directory| &directory.peers).filter(|peer| peer.active);
    for peer in active {
        let IpAddr::V4(address) = peer.address else { continue };
        let number = config.pools.host_number(address);
        strangers.remove(&number);
        let difference = match maps.peers.get(&number) {
            None => format!("{address} is not in PEERS, so it reaches nothing; see the agent's log"),
            Some(found) if found.id != peer.id => {
                format!("PEERS has the peer id {} instead of {}", found.id, peer.id)
            }
            Some(found) if found.route_set == NO_ROUTES => {
                "cut off: a permission was taken away and the other routes could not be written; see the agent's log"
                    .to_owned()
            }
            Some(_) => continue,
        };
        differences.push(format!("certificate {}: {difference}", peer.certificate));
    }
    let strangers = strangers.into_iter().map(|number| config.pools.tunnel_of(number));
    differences.extend(strangers.map(|address| format!("PEERS has {address}, which is of no active certificate")));
}

fn in_plants(differences: &mut Vec<String>, status: &Status, maps: &Maps) {
    match &maps.gateway {
        None => differences.push("GATEWAY is not set, so every packet is dropped; start `vpn-agent run`".into()),
        Some(gateway) if Some(gateway.users) != status.users.ifindex => differences.push(format!(
            "GATEWAY has the users' interface number {}, {} has another; send the agent SIGHUP",
            gateway.users, status.users.name
        )),
        Some(_) => {}
    }
    for plant in &status.plants {
        if let Some(ifindex) = plant.interface.ifindex
            && !maps.plants.contains_key(&ifindex)
        {
            let (plant, name) = (&plant.plant, &plant.interface.name);
            differences.push(format!("plant {plant}: {name} is not in PLANTS, so no route leads to it"));
        }
    }
}

/// Compares routes, not ids of sets: those of a state that was never written are not known.
fn in_routes(differences: &mut Vec<String>, config: &Config, files: &Files, maps: &Maps) {
    let (Some(state), Some(allocations)) = (&files.state, &files.allocations) else { return };
    let uplink = |(ifindex, plant): (&u32, &Plant)| (plant.id, Uplink::of_entry(*ifindex, plant));
    let by_number = maps.plants.iter().map(uplink);
    let uplinks = Uplink::by_plant(allocations, &by_number.collect());
    let policy = Policy::compile(state, &config.terms(Timestamp::now()));
    let Ok(tables) =
        Tables::new(state, allocations, &mut Catalogue::new(allocations), &config.pools, &policy, &uplinks)
    else {
        return;
    };
    let wanted = content(tables, config);
    let mut equal = BTreeMap::new();
    for id in state.certificates.keys() {
        let Some(address) = allocations.peers().get(id).map(|given| given.address) else { continue };
        let number = config.pools.host_number(address);
        let (Some(has), Some(shall)) = (maps.peers.get(&number), wanted.peers.get(&number)) else { continue };
        let (has, shall) = (has.route_set, shall.route_set);
        let equal = *equal.entry((has, shall)).or_insert_with(|| routes_of(maps, has) == *routes_in(&wanted, shall));
        if !equal && has != NO_ROUTES {
            differences.push(format!(
                "certificate {id}: its routes in the kernel are not those of the state; see the agent's log"
            ));
        }
    }
}

fn routes_of(maps: &Maps, set: u32) -> RouteSet {
    let range = (set, Address([0; 4]), 0)..=(set, Address([u32::MAX; 4]), u32::MAX);
    maps.routes.range(range).map(|((_, destination, bits), route)| ((*destination, *bits), *route)).collect()
}

fn routes_in(content: &Content, set: u32) -> Arc<RouteSet> {
    content.route_sets.get(&set).cloned().unwrap_or_default()
}
