//! What the kernel's maps hold for a question.

use schemars::JsonSchema;
use serde::Serialize;
use vpn_ebpf_common::{Address, Verdict, route::Route};

use super::{About, Outcome, Question, Step};
use crate::{
    addressing::Allocations,
    config::Config,
    datapath::{self, Error, look::Entries, read::Pinned},
    id::{CertificateId, PlantId},
};

/// The kernel's maps, as far as there are any.
pub struct Kernel {
    maps: Option<Pinned>,
    detached: bool,
}

impl Kernel {
    /// Opens the maps below the configured folder.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn open(config: &Config) -> Result<Self, Error> {
        let pin_dir = &config.datapath.pin_dir;
        let maps = datapath::are_maps_pinned(pin_dir).then(|| Pinned::open(pin_dir)).transpose()?;
        Ok(Self { maps, detached: datapath::is_detached(pin_dir) })
    }
}

/// What the kernel does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// The label of the verdict that the first packet of a flow gets, if nothing but rights stops it; `None` if there
    /// are no programs.
    pub verdict: Option<&'static str>,
    /// Number of the peer at the certificate's tunnel IP.
    pub peer: Option<u32>,
    /// The route set of that peer.
    pub route_set: Option<u32>,
    /// The steps that were looked at; after one that denies there is none.
    pub steps: Vec<Step>,
    /// What becomes of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Found {
    pub(super) fn of(
        certificate: &CertificateId,
        question: &Question,
        config: &Config,
        given: &Allocations,
        kernel: &Kernel,
    ) -> Result<Self, Error> {
        let denied = |about, what: &str| {
            let steps = vec![Step::new(about, false, what.to_owned())];
            Self { verdict: None, peer: None, route_set: None, steps, outcome: Outcome::Denied }
        };
        let Some(maps) = &kernel.maps else {
            return Ok(denied(About::Programs, "there are no maps; `vpn-agent run` makes them"));
        };
        if kernel.detached {
            return Ok(denied(About::Programs, &Error::Detached.to_string()));
        }
        let Some(peer) = given.peers().get(certificate) else {
            return Ok(denied(About::Peer, "the certificate has no tunnel IP yet"));
        };
        let number = config.pools.host_number(peer.address);
        let entries = Entries::find(maps, number, &Address::from(question.address), &question.service_key())?;
        Ok(Self::from_entries(&entries, number, question, given))
    }

    fn from_entries(entries: &Entries, number: u32, question: &Question, given: &Allocations) -> Self {
        let verdict = entries.verdict();
        let outcome = match (verdict, &entries.route) {
            (Verdict::ToPlant, Some(route)) => Outcome::Plant {
                plant: plant_name(given, route.plant).cloned(),
                number: route.plant,
                device: route.real.translate(&question.address.into()).to_ip(),
            },
            (Verdict::ToGateway, _) => Outcome::Gateway,
            _ => Outcome::Denied,
        };
        Self {
            verdict: Some(verdict.label()),
            peer: entries.peer.map(|peer| peer.id),
            route_set: entries.peer.map(|peer| peer.route_set),
            steps: steps(entries, number, question, given),
            outcome,
        }
    }
}

fn steps(entries: &Entries, number: u32, question: &Question, given: &Allocations) -> Vec<Step> {
    if !entries.configured {
        return vec![Step::new(
            About::Programs,
            false,
            "GATEWAY is empty: no agent has configured the programs".into(),
        )];
    }
    let Some(peer) = entries.peer else {
        return vec![Step::new(About::Peer, false, format!("PEERS has nobody at {number}"))];
    };
    let mut steps =
        vec![Step::new(About::Peer, true, format!("PEERS {number}: peer {}, route set {}", peer.id, peer.route_set))];
    let Some(route) = &entries.route else {
        let found = match entries.service {
            Some(id) => Step::new(About::Service, true, format!("SERVICES {question}: service {id} of the gateway")),
            None => {
                let what = format!("ROUTES has nothing for {} in set {}", question.address, peer.route_set);
                Step::new(About::Route, false, what)
            }
        };
        steps.push(found);
        return steps;
    };
    let name = |number| {
        plant_name(given, number).map_or_else(|| format!("plant {number}"), |id| format!("plant {number}, {id}"))
    };
    let what = format!(
        "ROUTES {}: {}, route {}, interface {}",
        prefix(route, question),
        name(route.plant),
        route.id,
        route.egress
    );
    steps.push(Step::new(About::Route, true, what));
    let (allows, what) = match &entries.plant {
        Some(plant) if plant.id == route.plant => (true, format!("PLANTS {}: {}", route.egress, name(plant.id))),
        Some(plant) => (false, format!("PLANTS {}: {}, which is another one", route.egress, name(plant.id))),
        None if route.egress == 0 => (false, "the plant has no interface on this host".to_owned()),
        None => (false, format!("PLANTS has nothing for the interface {}", route.egress)),
    };
    steps.push(Step::new(About::Plant, allows, what));
    steps
}

/// The prefix that the programs have found: as long as the real one that it leads to.
fn prefix(route: &Route, question: &Question) -> String {
    let host_bits: u32 = route.real.host_mask.0.iter().map(|word| word.count_ones()).sum();
    let bits = if question.address.is_ipv4() { 32_u32.saturating_sub(host_bits) } else { 128 - host_bits };
    let [a, b, c, d] = Address::from(question.address).0;
    let [m, n, o, p] = route.real.host_mask.0;
    format!("{}/{bits}", Address([a & !m, b & !n, c & !o, d & !p]))
}

fn plant_name(given: &Allocations, number: u32) -> Option<&PlantId> {
    given.plants().iter().find(|(_, plant)| plant.id == number).map(|(id, _)| id)
}
