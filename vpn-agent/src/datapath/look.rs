//! What the programs find for one packet from a user, looked up entry by entry as they do
//! (`vpn-ebpf/src/users.rs`, `vpn-ebpf/src/admission.rs`). Flows and limits are left out: they say when, not whether.

use aya::maps::{
    HashMap,
    lpm_trie::{Key, LpmTrie},
};
use vpn_ebpf_common::{
    Address, Verdict, names,
    peer::Peer,
    plant::Plant,
    route::{KEY_BITS, Route, RouteKey},
    service::ServiceKey,
};

use super::{Error, read::Maps};

/// The entries that one packet meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Whether an agent has written the settings of the host.
    pub configured: bool,
    /// Who sends.
    pub peer: Option<Peer>,
    /// Where the address leads in the peer's route set.
    pub route: Option<Route>,
    /// The plant behind the route's uplink.
    pub plant: Option<Plant>,
    /// The route id of a service of the gateway itself; looked up where there is no route.
    pub service: Option<u32>,
}

impl Entries {
    /// Those for a packet from the tunnel address with this host number to an address, of a protocol and port.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn find(maps: &impl Maps, number: u32, to: &Address, service: &ServiceKey) -> Result<Self, Error> {
        let mut entries = Self { configured: maps.gateway()?.is_some(), ..Self::default() };
        entries.peer = maps.peer(number)?;
        let Some(peer) = entries.peer else { return Ok(entries) };
        let key = Key::new(KEY_BITS, RouteKey { set: peer.route_set, destination: *to });
        let failed = |source| Error::Map { map: names::ROUTES, source };
        let routes = LpmTrie::<_, RouteKey, Route>::try_from(maps.map(names::ROUTES)).map_err(failed)?;
        entries.route = found(routes.get(&key, 0)).map_err(failed)?;
        match &entries.route {
            Some(route) => {
                let failed = |source| Error::Map { map: names::PLANTS, source };
                let plants = HashMap::<_, u32, Plant>::try_from(maps.map(names::PLANTS)).map_err(failed)?;
                entries.plant = found(plants.get(&route.egress, 0)).map_err(failed)?;
            }
            None => {
                let failed = |source| Error::Map { map: names::SERVICES, source };
                let services = HashMap::<_, ServiceKey, u32>::try_from(maps.map(names::SERVICES)).map_err(failed)?;
                entries.service = found(services.get(service, 0)).map_err(failed)?;
            }
        }
        Ok(entries)
    }

    /// What becomes of the first packet of a flow, if nothing but rights stops it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self { configured: false, .. } => Verdict::NotConfigured,
            Self { peer: None, .. } => Verdict::NoPeer,
            Self { route: Some(route), plant: Some(plant), .. } if route.plant == plant.id => Verdict::ToPlant,
            Self { route: Some(_), .. } => Verdict::NoPlant,
            Self { service: Some(_), .. } => Verdict::ToGateway,
            Self { service: None, .. } => Verdict::NoRoute,
        }
    }
}

/// That there is no such entry is an answer.
fn found<T>(result: Result<T, aya::maps::MapError>) -> Result<Option<T>, aya::maps::MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
