//! What is done when nothing else is to do: looking at uplinks and at the whole kernel, and removing what is gone.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Error, Host, dial::Found, pulse::Sign, reconcile::Observed};
use crate::id::PlantId;

/// What there was to do.
pub(crate) enum Idle {
    /// Something was removed.
    Removed,
    /// A piece of the kernel was read, to be compared with what it shall be, which took so long.
    Observed(Result<Observed, Error>, Duration),
    /// Some uplinks were looked at, which took so long.
    Pulse(Vec<(PlantId, Result<Sign, Error>)>, Duration),
    /// A name was looked up.
    Found(Found),
}

impl Host {
    /// Does the next thing when it is due. May be cancelled.
    pub(super) async fn idle(&mut self) -> Idle {
        let pulse_at = self.pulse.due();
        let observe_at = self.observation_due();
        let remove_at = self.has_removals().then_some(self.removals_from);
        let due = [observe_at, remove_at].into_iter().flatten().fold(pulse_at, Instant::min);
        loop {
            tokio::select! {
                biased;
                // One that panicked has nothing to tell.
                Some(found) = self.look_ups.join_next() => if let Ok(found) = found {
                    return Idle::Found(found);
                },
                () = sleep_until(due) => break,
            }
        }
        // Removals can be many, and have no pause between them.
        let now = Instant::now();
        if pulse_at <= now {
            return Idle::Pulse(self.feel_pulse().await, now.elapsed());
        }
        if observe_at.is_some_and(|at| at <= now) {
            return Idle::Observed(self.observe().await, now.elapsed());
        }
        self.remove_next().await;
        Idle::Removed
    }

    /// Takes up what was seen. True if the state has to be applied.
    pub(super) async fn attend(&mut self, idle: Idle) -> bool {
        match idle {
            Idle::Removed => {}
            Idle::Observed(observed, busy) => return self.reconcile(observed, busy).await,
            Idle::Pulse(signs, busy) => self.take_pulse(signs, busy),
            Idle::Found(found) => self.take_address(found).await,
        }
        false
    }
}
