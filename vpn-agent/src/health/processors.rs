//! How busy the processors are, from `/proc/stat`.

use std::fs;

/// What the processors have done since the host started, in ticks of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    busy: u64,
    idle: u64,
}

impl Processors {
    /// Until now; `None` if the kernel does not say.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: `cpu`, then user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let mut ticks = [0; 8];
        for tick in &mut ticks {
            *tick = words.next()?.parse::<u64>().ok()?;
        }
        let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
        Some(Self { busy: user + nice + system + irq + softirq + steal, idle: idle + iowait })
    }

    /// The share of the time since `before` in which they were busy, 0 to 1; `None` if no time has passed.
    pub fn busy_since(self, before: Self) -> Option<f64> {
        let (busy, idle) = (self.busy.saturating_sub(before.busy), self.idle.saturating_sub(before.idle));
        let all = busy + idle;
        (all > 0).then(|| busy as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_looks_counts() {
        let before = Processors::parse("cpu  10 0 20 100 5 1 2 3 0 0\ncpu0 1\n").unwrap();
        assert_eq!(before, Processors { busy: 36, idle: 105 });
        let after = Processors::parse("cpu  16 1 21 120 11 1 3 4 0 0\n").unwrap();
        assert_eq!(after.busy_since(before), Some(10.0 / 36.0));
        assert_eq!(after.busy_since(after), None);
        for text in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3", "cpu  a b c d e f g h"] {
            assert_eq!(Processors::parse(text), None, "{text}");
        }
        assert!(Processors::read().is_some());
    }
}
