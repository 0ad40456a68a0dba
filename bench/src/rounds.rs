//! How often something is measured, and what counts of it.

/// How long the benchmarks may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Two minutes.
    Quick,
    /// A quarter of an hour.
    Full,
}

impl Effort {
    /// How many rounds there are.
    pub const fn rounds(self) -> usize {
        match self {
            Self::Quick => 5,
            Self::Full => 15,
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
