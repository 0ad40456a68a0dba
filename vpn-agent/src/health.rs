//! What a gateway publishes of itself, so that clients can be led to the best one (requirement E4): whether it does
//! its work, how much it has to do, and how far it is from each plant.

mod observed;
pub mod probe;
mod processors;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{observed::Observed, processors::Processors};
use crate::{
    addressing::Allocations, config::Config, document, endpoint::Endpoint, id::PlantId, place::Place, source,
    state::State,
};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// How long the processors are watched.
const WATCH: Duration = Duration::from_millis(200);

/// Figures of one gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The version of the format, [`FORMAT`].
    pub format: u32,
    /// Name of the gateway host.
    pub gateway: String,
    /// Region that it serves.
    pub region: String,
    /// When this was so.
    #[schemars(with = "document::Moment")]
    pub at: Timestamp,
    /// Where users reach this very gateway; unknown unless `plants.endpoint` is set.
    #[schemars(with = "Option<document::Endpoint>")]
    pub endpoint: Option<Endpoint>,
    /// Where it stands; unknown unless `health.place` is set.
    pub place: Option<Place>,
    /// Whether packets pass as they should.
    pub healthy: bool,
    /// Why not, and what else is wrong, one entry each.
    pub problems: Vec<String>,
    /// Revision of the desired state.
    pub revision: Option<u64>,
    /// How much it has to do.
    pub load: Load,
    /// The plants that are linked to this gateway.
    pub plants: BTreeMap<PlantId, PlantHealth>,
}

/// How much a gateway has to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The share of the processors' time in use, 0 to 1.
    pub processors: f64,
    /// Live flows.
    pub flows: u64,
    /// How many there can be.
    pub flows_max: u64,
    /// Certificates with a live tunnel.
    pub connected: u64,
}

/// A plant as this gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlantHealth {
    /// Whether its tunnel is alive, or its interface up.
    pub up: bool,
    /// Time to the plant's probe address and back; unknown where there is none or it does not answer.
    pub latency_ms: Option<f64>,
}

/// What a gateway has to know of itself to say how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Revision of the desired state.
    pub revision: Option<u64>,
    /// The interfaces of the plants that are linked here.
    pub interfaces: BTreeMap<PlantId, String>,
}

impl Known {
    /// From the desired state and what was given for it, in a region.
    #[must_use]
    pub fn new(state: &State, allocations: &Allocations, region: &str) -> Self {
        let interface = |id: &PlantId| {
            let uplink = state.plants.get(id)?.uplink_in(region)?;
            let own = || allocations.plants().get(id).map(|given| Config::plant_interface(given.id));
            uplink.interface().map(str::to_owned).or_else(own)
        };
        let interfaces = state.plants.keys().filter_map(|id| Some((id.clone(), interface(id)?))).collect();
        Self { revision: Some(state.revision), interfaces }
    }

    /// From the files of this gateway.
    ///
    /// # Errors
    /// What is wrong with one of them, in one line or several.
    pub fn read(config: &Config) -> Result<Self, String> {
        let state = source::current(config).map_err(|error| error.to_string())?;
        let allocations = Allocations::read(&config.allocations_file()).map_err(|error| error.to_string())?;
        Ok(Self::new(&state, &allocations, &config.region))
    }
}

/// Looks at the kernel. Whatever cannot be read makes the gateway an unhealthy one; there is always an answer, after
/// some tenths of a second.
///
/// `latency_ms` is what was measured to plants, see [`probe`].
pub async fn collect(config: &Config, known: &Known, latency_ms: &BTreeMap<PlantId, f64>) -> Health {
    let before = Processors::read();
    let observed = Observed::read(config, known).await;
    tokio::time::sleep(WATCH).await;
    let busy = Processors::read().zip(before).and_then(|(now, before)| now.busy_since(before));
    Health::of(config, known, &observed, busy.unwrap_or_default(), latency_ms, Timestamp::now())
}

impl Health {
    fn of(
        config: &Config,
        known: &Known,
        observed: &Observed,
        processors: f64,
        latency_ms: &BTreeMap<PlantId, f64>,
        now: Timestamp,
    ) -> Self {
        let host = config.plants.endpoint.clone();
        let plant =
            |id: &PlantId| PlantHealth { up: observed.up.contains(id), latency_ms: latency_ms.get(id).copied() };
        Self {
            format: FORMAT,
            gateway: config.gateway.clone(),
            region: config.region.clone(),
            at: whole_seconds(now),
            endpoint: host.map(|host| Endpoint::new(host, config.users.listen_port)),
            place: config.health.place,
            healthy: observed.problems.is_empty(),
            problems: observed.problems.clone(),
            revision: known.revision,
            load: Load {
                processors,
                flows: observed.flows,
                flows_max: config.datapath.flows_max.into(),
                connected: observed.connected,
            },
            plants: known.interfaces.keys().map(|id| (id.clone(), plant(id))).collect(),
        }
    }

    /// The plants that users reach through this gateway now.
    #[must_use]
    pub fn reached(&self) -> BTreeSet<&PlantId> {
        self.plants.iter().filter(|(_, plant)| plant.up).map(|(id, _)| id).collect()
    }
}

fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::example;

    /// Requirements: E4, G5.
    #[test]
    fn what_is_published_is_what_is_so() {
        let config = example::config("[plants]\nendpoint = 'gateway-1.example'\n[health]\nplace = [50.1, 8.7]");
        let north: PlantId = "north".parse().unwrap();
        let observed = Observed { flows: 5, connected: 1, up: BTreeSet::from([north.clone()]), problems: Vec::new() };
        let now = "2026-11-28T10:00:00.75Z".parse().unwrap();
        let latency = BTreeMap::from([(north, 12.5)]);
        let health = Health::of(&config, &known(&config), &observed, 0.25, &latency, now);
        let expected = json!({
            "format": 1,
            "gateway": "gateway-1",
            "region": "eu",
            "at": "2026-11-28T10:00:00Z",
            "endpoint": "gateway-1.example:51820",
            "place": [50.1, 8.7],
            "healthy": true,
            "problems": [],
            "revision": 7,
            "load": {"processors": 0.25, "flows": 5, "flows_max": 131_072, "connected": 1},
            "plants": {
                "north": {"up": true, "latency_ms": 12.5},
                "south": {"up": false, "latency_ms": null},
            },
        });
        assert_eq!(serde_json::to_value(&health).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Health>(expected).unwrap(), health);
        assert_eq!(health.reached().into_iter().map(PlantId::as_str).collect::<Vec<_>>(), ["north"]);
        let broken = Observed { problems: vec!["detached".to_owned()], ..observed };
        assert!(!Health::of(&config, &known(&config), &broken, 0.0, &latency, now).healthy);
    }

    #[test]
    fn every_plant_has_its_interface() {
        let config = example::config("");
        let mut document = example::json();
        let interfaces = |document: &serde_json::Value| {
            let state = example::parse(document);
            let known = Known::new(&state, &Allocations::default().extended(&state, &config).unwrap(), "eu");
            known.interfaces.iter().map(|(id, name)| format!("{id} {name}")).collect::<Vec<_>>()
        };
        assert_eq!(interfaces(&document), ["north wgp-1", "south wgp-2"]);
        document["plants"][0]["uplink"] = json!({"kind": "interface", "interface": "eth1"});
        let south = document["plants"][1].as_object_mut().unwrap();
        let uplink = south.remove("uplink").unwrap();
        south.insert("uplinks".to_owned(), json!([{"regions": ["us"], "uplink": uplink}]));
        assert_eq!(interfaces(&document), ["north eth1"], "south is not linked here");
    }

    /// Requirements: E4.
    #[tokio::test]
    async fn a_gateway_that_never_ran_says_that_it_is_not_healthy() {
        let folder = tempfile::tempdir().unwrap();
        let config = example::config(&format!("[datapath]\npin_dir = {:?}", folder.path()));
        let health = collect(&config, &Known::default(), &BTreeMap::new()).await;
        assert!(!health.healthy && health.problems.iter().any(|problem| problem.contains("no maps")), "{health:?}");
        assert!((0.0..=1.0).contains(&health.load.processors));
    }

    fn known(config: &Config) -> Known {
        let state = example::state();
        Known::new(&state, &Allocations::default().extended(&state, config).unwrap(), "eu")
    }
}
