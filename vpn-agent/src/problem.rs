//! What is wrong with an input, by field.

use std::{fmt, ops::RangeInclusive};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The field, as a path such as `plants[1].subnets[0]`; empty for the input as a whole.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Everything that is wrong with an input, at least one thing; one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Err` with the problems, if there are any.
    ///
    /// # Errors
    /// The problems.
    pub fn none_of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// The problems in the order of the input.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

/// Collects what is wrong with an input.
#[derive(Default)]
pub(crate) struct Check {
    problems: Vec<Problem>,
}

impl Check {
    /// A problem of the field `path`, unless all is fine.
    pub fn that(&mut self, fine: bool, path: &str, message: impl FnOnce() -> String) {
        if !fine {
            self.problems.push(Problem { path: path.to_owned(), message: message() });
        }
    }

    /// A problem of the field `path`, unless its value is in the range.
    pub fn range(&mut self, path: &str, value: u32, allowed: RangeInclusive<u32>) {
        self.that(allowed.contains(&value), path, || {
            format!("{value} is out of range; use {} to {}", allowed.start(), allowed.end())
        });
    }

    /// `Err` with the problems, if there are any.
    ///
    /// # Errors
    /// The problems.
    pub fn end(self) -> Result<(), Problems> {
        Problems::none_of(self.problems)
    }
}
