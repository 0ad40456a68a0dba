//! The explanation for people.

use std::fmt;

use super::{Explanation, Outcome, Side, Step};
use crate::overview::Link;

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate, owner, question, revision, state, kernel, denied_by, differences } = self;
        writeln!(f, "certificate {certificate} of {owner}, to {question}")?;
        writeln!(f, "\ndesired state, revision {revision}")?;
        lines(f, &state.steps)?;
        if !state.others.is_empty() {
            let others: Vec<_> = state.others.iter().take(OTHERS).map(ToString::to_string).collect();
            let more = state.others.len().saturating_sub(OTHERS);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            writeln!(f, "          the same address is also at {}{more}", others.join(", "))?;
        }
        writeln!(f, "  so it {}", state.outcome)?;
        writeln!(f, "\nkernel")?;
        lines(f, &kernel.steps)?;
        let verdict = kernel.verdict.map(|verdict| format!(" ({verdict})")).unwrap_or_default();
        writeln!(f, "  so it {}{verdict}", kernel.outcome)?;
        writeln!(f)?;
        for difference in differences {
            writeln!(f, "difference: {difference}")?;
        }
        match denied_by {
            None => match state.target.as_ref().map(|target| target.link) {
                Some(link @ (Link::Down | Link::Never)) => writeln!(f, "allowed, but the uplink is {link}"),
                _ => writeln!(f, "allowed"),
            },
            Some(denied_by) => {
                let side = match denied_by.side {
                    Side::State => "the desired state",
                    Side::Kernel => "the kernel",
                };
                writeln!(f, "denied by {side}: {}", denied_by.step.what)
            }
        }
    }
}

/// How many other plants with the same address are named.
const OTHERS: usize = 10;

fn lines(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    steps.iter().try_for_each(|step| {
        let word = if step.allows { "allows" } else { "denies" };
        writeln!(f, "  {word}  {}", step.what)
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plant { plant: Some(plant), device, .. } => write!(f, "leads to {device} at plant {plant}"),
            Self::Plant { plant: None, number, device } => {
                write!(f, "leads to {device} at the plant with the number {number}")
            }
            Self::Gateway => f.write_str("leads to a service of the gateway"),
            Self::Denied => f.write_str("is denied"),
        }
    }
}
