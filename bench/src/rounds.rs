//! How often something is measured, and what counts of it.

/// How long the benchmarks may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Seconds, on small maps: whether everything can be measured.
    Trial,
    /// Two minutes.
    Quick,
    /// Five to fifteen minutes.
    Full,
}

impl Effort {
    /// How many rounds there are.
    pub const fn rounds(self) -> usize {
        match self {
            Self::Trial => 1,
            Self::Quick => 5,
            Self::Full => 15,
        }
    }

    /// Of so many packets, flows or users, how many there are.
    pub const fn part(self, count: u32) -> u32 {
        match self {
            Self::Trial => count / 100,
            Self::Quick | Self::Full => count,
        }
    }
}

/// The middle one: neither a round that was disturbed nor one that was lucky counts.
///
/// # Panics
/// If there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
