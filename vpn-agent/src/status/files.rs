//! What the agent has on disk, as `vpn-agent status` reads it.

use jiff::Timestamp;
use vpn_directory::Directory;

use crate::{
    addressing::Allocations,
    borrowed::Borrowed,
    config::Config,
    liveness::{self, Liveness, UplinkKind},
    repairs::Repairs,
    source,
    state::State,
};

/// What the agent was told and has remembered, as far as it can be read.
#[derive(Default)]
pub(super) struct Files {
    pub directory: Option<Directory>,
    pub state: Option<State>,
    pub allocations: Option<Allocations>,
    pub borrowed: Borrowed,
    /// Of an agent that runs.
    pub liveness: Option<Liveness>,
    pub repairs: Repairs,
    pub problems: Vec<String>,
}

impl Files {
    pub fn read(config: &Config) -> Self {
        let mut files = Self::default();
        match Directory::read(&config.directory_file()) {
            Ok(directory) => files.directory = Some(directory),
            Err(error) => files.problems.push(format!("{error}; `vpn-agent run` makes this file")),
        }
        match Allocations::read(&config.allocations_file()) {
            Ok(allocations) => files.allocations = Some(allocations),
            Err(error) => files.problems.push(error.to_string()),
        }
        match Borrowed::read(&config.borrowed_file()) {
            Ok(borrowed) => files.borrowed = borrowed,
            Err(error) => files.problems.push(error.to_string()),
        }
        match Liveness::read(&config.uplinks_file()) {
            Ok(liveness) => files.liveness = liveness.filter(|liveness| liveness.is_fresh(Timestamp::now())),
            Err(error) => files.problems.push(error.to_string()),
        }
        match Repairs::read(&config.repairs_file()) {
            Ok(repairs) => files.repairs = repairs,
            Err(error) => files.problems.push(error.to_string()),
        }
        match source::current(config) {
            Ok(state) => files.state = Some(state),
            Err(source::Error::Content { path, problems }) => {
                let name = path.display();
                files.problems.extend(problems.list().iter().map(|problem| format!("{name}: {problem}")));
            }
            Err(error) => files.problems.push(error.to_string()),
        }
        files
    }

    /// The plants that the agent took up last, without those that are not linked to `region`.
    pub fn active_plants(&self, region: &str) -> impl Iterator<Item = &vpn_directory::Plant> {
        let is_linked = move |plant: &&vpn_directory::Plant| {
            let in_state = self.state.as_ref().and_then(|state| state.plants.get(plant.plant.as_str()));
            in_state.is_none_or(|plant| plant.uplink_in(region).is_some())
        };
        self.directory.iter().flat_map(|directory| &directory.plants).filter(|plant| plant.active).filter(is_linked)
    }

    /// The interface of a plant: as the desired state has it, or if that cannot be used, as the agent has noted.
    pub fn interface(&self, plant: &vpn_directory::Plant, region: &str) -> (UplinkKind, String) {
        let own = || Config::plant_interface(plant.id);
        let in_state = self.state.as_ref().and_then(|state| state.plants.get(plant.plant.as_str()));
        if let Some(uplink) = in_state.and_then(|in_state| in_state.uplink_in(region)) {
            let kind = UplinkKind::of(uplink);
            return (kind, uplink.interface().map_or_else(own, str::to_owned));
        }
        match (self.borrowed.of(&plant.plant), self.seen(&plant.plant)) {
            (Some(name), _) => (UplinkKind::Interface, name.to_owned()),
            (None, Some(liveness::Uplink { kind: Some(UplinkKind::Dial), .. })) => (UplinkKind::Dial, own()),
            (None, _) => (UplinkKind::Host, own()),
        }
    }

    /// What the agent has seen last.
    pub fn seen(&self, plant: &str) -> Option<&liveness::Uplink> {
        self.liveness.as_ref()?.plants.get(plant)
    }
}
