//! For tests: a gateway in a network namespace of its own, with bridges in place of the host's Ethernet interfaces and of the
//! users' interface, since not every kernel has WireGuard.

use std::{fs, path::Path};

use rtnetlink::LinkBridge;
use serde_json::{Value, json};
use vpn_ebpf_common::names;

use super::{Host, desired_users};
use crate::{
    addressing::Allocations, config::Config, content, example, forwarding, namespace::mount_bpf, state::State,
    wireguard::Link,
};

/// That of a gateway with its files and pins in `folder`.
pub fn config(folder: &Path) -> Config {
    let pins = folder.join("pins");
    if !pins.exists() {
        fs::create_dir(&pins).unwrap();
        mount_bpf(&pins).unwrap();
    }
    let datapath = "flows_max = 1024\nclosed_max = 64\ndenials_max = 64\nevents_bytes = 65536\n";
    let mut config = example::config(&format!("[datapath]\n{datapath}"));
    config.datapath.pin_dir = pins;
    config.state_dir = folder.join("state");
    config
}

/// With its files and pins in `folder`.
pub fn host(folder: &Path) -> Host {
    Host::open(config(folder)).unwrap()
}

/// Gives the host a bridge for the users' interface, with everything on it that does not need WireGuard. Its peers are
/// taken for those that `state` wants, once they have addresses.
pub async fn with_users(host: &mut Host, state: &State) {
    let name = host.config.users.interface.clone();
    let link = match look_up(host, &name).await {
        Some(link) => link,
        None => make(host, &name).await,
    };
    host.datapath.configure(&content::gateway(&host.config, link.ifindex)).unwrap();
    forwarding::close_borrowed(&link.name).unwrap();
    host.users = Some(host.attach(&link, names::USERS).await.unwrap());
    let given = host.allocations.extended(state, &host.config).unwrap();
    host.user_peers = Some(desired_users(state, &given, &host.config.pools));
}

/// The example with these plants alone, each behind an interface.
pub fn document(uplinks: &[(&str, &str)]) -> Value {
    let mut document = example::json();
    for list in ["roles", "cooperations"] {
        document[list] = json!([]);
    }
    document["memberships"][0]["access"] = json!("all");
    let plant = |(id, interface): &(&str, &str)| {
        let organisation = if *id == "north" { "alpha" } else { "beta" };
        let uplink = json!({"kind": "interface", "interface": interface});
        json!({"id": id, "organisation": organisation, "subnets": ["192.168.1.0/24"], "uplink": uplink})
    };
    document["plants"] = uplinks.iter().map(plant).collect::<Vec<Value>>().into();
    document
}

/// [`document`], and what its plants were given.
pub fn state(host: &mut Host, uplinks: &[(&str, &str)]) -> State {
    let state = example::parse(&document(uplinks));
    let given: Allocations = host.allocations.extended(&state, &host.config).unwrap();
    let Host { records, allocations, .. } = host;
    records.remember(allocations, given).unwrap();
    state
}

/// [`document`] with north and south, both of which user-b reaches, and user-a the first.
pub fn two_plants(north: &str, south: &str) -> Value {
    let mut document = document(&[("north", north), ("south", south)]);
    let whole = example::json();
    document["cooperations"] = whole["cooperations"].clone();
    document["roles"] = json!([
        {"user": "user-a", "role": "operator", "on": {"plant": "north"}},
        {"user": "user-b", "role": "operator", "on": {"plant": "south"}},
        {"user": "user-b", "role": "operator", "on": {"plant": "north"}},
    ]);
    document
}

pub async fn make(host: &Host, name: &str) -> Link {
    host.wireguard.add_link(name, LinkBridge::new(name).down().build()).await.unwrap();
    look_up(host, name).await.unwrap()
}

pub async fn look_up(host: &Host, name: &str) -> Option<Link> {
    host.wireguard.link(name).await.unwrap()
}

pub fn set(family: &str, interface: &str, setting: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{family}/conf/{interface}/{setting}"), value).unwrap();
}

pub fn get(family: &str, interface: &str, setting: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/net/{family}/conf/{interface}/{setting}")).unwrap();
    text.trim().to_owned()
}
