//! `vpn-agent site-config`: what a plant's router needs.

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use vpn_agent::{
    addressing::Allocations,
    cli::SiteConfig,
    config::Config,
    document,
    id::PlantId,
    key::{PrivateKey, PublicKey},
    site::{self, Error},
    source,
    state::{State, Uplink},
    tunnel_file::TunnelPeers,
};

use super::shown;

/// Does what the command line says.
pub fn site_config(command: &SiteConfig) -> anyhow::Result<()> {
    let config = Config::read(&command.config)?;
    let state = source::current(&config)?;
    let allocations = Allocations::read(&config.allocations_file())?;
    let id = &command.plant;
    // The agent uses the same file, and who needs the key first makes it.
    let gateway_key = || Ok(PrivateKey::read_or_create(&config.plant_key_file(id))?.public());
    let peer = site::peer(&config, &state, &allocations, id, gateway_key)?;
    let dials = peer.endpoint.is_none();
    if dials && (command.new_key || command.key.is_some()) {
        bail!("plant {id}: the gateway dials its endpoint, which has a key of its own; leave --key and --new-key out");
    }
    if command.peer_only {
        return put(command.out.as_deref(), &peer.to_string());
    }

    let mut peers = vec![peer];
    for path in &command.region_peers {
        let text = fs::read_to_string(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let not_peers = |source| Error::NotPeers { path: path.clone(), source };
        peers.extend(text.parse::<TunnelPeers>().map_err(not_peers)?.0);
    }
    if dials {
        // The endpoint is there already, and needs these sections and no more.
        site::check(&peers)?;
        return put(command.out.as_deref(), &TunnelPeers(peers).to_string());
    }
    let known = site_key(&state, id, &config.region)?;
    let private = match (&command.key, command.new_key) {
        (Some(path), _) => Some(PrivateKey::read(path)?),
        (None, true) => Some(PrivateKey::generate()?),
        (None, false) => None,
    };
    let public = private.as_ref().map_or(known, PrivateKey::public);
    if let Some(path) = &command.key
        && public != known
    {
        bail!(
            "{}: this key's public half is {public}, the desired state has {known} for plant {id}; change one of them",
            path.display()
        );
    }
    let text = site::file(&config, id, public, private.as_ref(), peers)?.text();
    put(command.out.as_deref(), &text)?;
    if let Some(path) = &command.key {
        PrivateKey::destroy(path)?;
    }
    if command.new_key {
        let change = format!("{}\n", change(&state, id, known, public)?);
        match command.out {
            Some(_) => crate::print(&change)?,
            None => eprint!("{change}"),
        }
    }
    Ok(())
}

fn put(file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match file {
        Some(file) => shown::write(file, text),
        None => shown::print(text),
    }
}

/// The public key of the plant's router in `region`, as the desired state has it.
fn site_key(state: &State, id: &PlantId, region: &str) -> anyhow::Result<PublicKey> {
    let uplink = state.plants.get(id).and_then(|plant| plant.uplink_in(region));
    let key = uplink.and_then(Uplink::public_key);
    key.copied().with_context(|| format!("plant {id} has no key of a router in the desired state"))
}

/// The change of the desired state that gives the plant's router the key `new` wherever it has `old`.
fn change(state: &State, id: &PlantId, old: PublicKey, new: PublicKey) -> anyhow::Result<Value> {
    let plant = state.plants.get(id).with_context(|| format!("plant {id} is not in the desired state"))?;
    let mut record = plant.to_record(id);
    let regional = record.uplinks.iter_mut().flatten().map(|of| &mut of.uplink);
    for uplink in record.uplink.iter_mut().chain(regional) {
        match uplink {
            document::Uplink::Host { public_key } | document::Uplink::Dial { public_key, .. } => {
                if public_key.0 == old.to_string() {
                    public_key.0 = new.to_string();
                }
            }
            document::Uplink::Interface { .. } => {}
        }
    }
    let mut change = json!({"change": "put-plant"});
    if let (Some(change), Value::Object(record)) = (change.as_object_mut(), serde_json::to_value(record)?) {
        change.extend(record);
    }
    Ok(change)
}
