//! When reconciliation goes on, and with what.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    datapath::repair::{Place, Progress},
    id::PlantId,
};

/// Between two pieces, at least.
const PAUSE: Duration = Duration::from_millis(20);
/// So many times as long as a piece takes is the pause behind it, at least.
const REST: u32 = 9;

/// Where reconciliation is.
pub(super) struct Round {
    /// What comes next.
    pub part: Part,
    /// Not before this.
    pub from: Instant,
    /// From the end of a round to the next one; `None` for never.
    pub pause: Option<Duration>,
}

/// A part of the kernel, and where in it.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Users,
    Plants {
        after: Option<PlantId>,
    },
    /// The small maps: GATEWAY, PLANTS, SERVICES.
    Settings,
    Peers {
        from: u32,
    },
    /// Whether the wanted routes are there.
    Routes {
        from: Progress,
    },
    /// Whether the routes that are there are wanted.
    Strangers {
        after: Option<Place>,
    },
}

impl Round {
    pub fn new(pause_seconds: u32) -> Self {
        let pause = (pause_seconds > 0).then(|| Duration::from_secs(pause_seconds.into()));
        Self { part: Part::Users, from: Instant::now() + pause.unwrap_or_default(), pause }
    }

    /// Has a round that waits for its turn begin at once.
    pub fn hurry(&mut self) {
        if matches!(self.part, Part::Users) {
            self.from = self.from.min(Instant::now());
        }
    }

    /// Goes on with this part after a pause, or waits for the next round. `busy` is how long the last piece took.
    pub fn go_on(&mut self, part: Option<Part>, busy: Duration) {
        let rest = PAUSE.max(busy.saturating_mul(REST));
        let pause = if part.is_some() { rest } else { rest.max(self.pause.unwrap_or_default()) };
        self.part = part.unwrap_or(Part::Users);
        self.from = Instant::now() + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_takes_a_tenth_of_a_processor_at_most() {
        for (part, seconds, busy, expected) in [
            (Some(Part::Settings), 30, 0, 20),
            (Some(Part::Settings), 30, 100, 900),
            (None, 30, 100, 30_000),
            (None, 1, 200, 1_800),
        ] {
            let (mut round, now) = (Round::new(seconds), Instant::now());
            round.go_on(part, Duration::from_millis(busy));
            let pause = round.from - now;
            let expected = Duration::from_millis(expected);
            assert!((expected..expected + Duration::from_secs(5)).contains(&pause), "{pause:?}, expected {expected:?}");
        }
    }
}
