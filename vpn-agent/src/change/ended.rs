//! What ends by itself, as the changes that have the same effect.

use jiff::Timestamp;

use super::Change;
use crate::{
    document::{Id, Subnet},
    state::State,
};

impl State {
    /// What counts until this very moment and no longer: cooperations that end, and routes that are there again.
    #[must_use]
    pub fn ended_at(&self, moment: Timestamp) -> Vec<Change> {
        let is_over = |until: &Option<Timestamp>| *until == Some(moment);
        let mut changes = Vec::new();
        for (on, partners) in &self.cooperations {
            let over = partners.iter().filter(|(_, until)| is_over(until));
            changes.extend(
                over.map(|(partner, _)| Change::RemoveCooperation { partner: Id(partner.to_string()), on: on.into() }),
            );
        }
        for (user, disabled) in &self.disabled {
            let over = disabled.iter().filter(|(_, until)| is_over(until));
            changes.extend(over.map(|((plant, subnet), _)| Change::EnableRoute {
                user: Id(user.to_string()),
                plant: Id(plant.to_string()),
                subnet: subnet.map(|subnet| Subnet(subnet.to_string())),
            }));
        }
        changes
    }
}
