//! What ends by itself, for the control events: nobody asks for it at that moment.

use jiff::{SignedDuration, Timestamp};
use serde_json::value::to_raw_value;

use super::{Control, Desired, Kernel, accept::portrait};
use crate::{
    actor::{Actor, Origin, Way},
    change::Changed,
    difference::Difference,
    terms::Terms,
};

impl<K: Kernel> Control<K> {
    /// Records what has ended by itself and is not recorded yet, an event for each moment.
    pub(super) fn record_ended(&mut self) {
        if self.desired.is_none() {
            return;
        }
        let now = Timestamp::now();
        let mut recorded = self.recorded_until;
        self.recorded_until = recorded.max(now);
        loop {
            let Some(Desired { state, version, .. }) = &mut self.desired else { return };
            let Some(moment) = state.next_change(recorded).filter(|moment| *moment <= now) else { return };
            recorded = moment;
            let changes = state.ended_at(moment);
            // To make and undo them tells what they touch. All of it is there, so nothing can be wrong with them.
            let Ok(Changed { touched, undo }) = state.change(&changes) else { continue };
            state.undo(undo);
            let at = |now| portrait(state, &Terms { now, ..self.config.terms(now) }, &touched);
            let just_before = moment.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(moment);
            let difference = Difference::between(&at(just_before), &at(moment));
            let origin = Origin { time: moment, actor: Actor::of_time(), way: Way::Time };
            let (version, raw) = (version.clone(), changes.iter().filter_map(|change| to_raw_value(change).ok()));
            let raw = raw.collect();
            self.record(origin, Some(version.revision), version, raw, difference);
        }
    }
}
