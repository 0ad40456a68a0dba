//! Counts of tests, from what cargo prints and from what the tests say of themselves.

use std::{collections::BTreeSet, fmt};

/// How many tests had which end.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    skipped: BTreeSet<String>,
}

impl Tally {
    /// Takes a line of cargo's output: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn line(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Takes the lines of tests that could not run. Each returned without a failure, so cargo counts it as passed.
    pub fn skip(&mut self, lines: &str) {
        self.skipped.extend(lines.lines().map(str::to_owned));
    }

    /// The skipped tests, with their reasons.
    pub fn skipped(&self) -> impl Iterator<Item = &String> {
        self.skipped.iter()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.skipped.len());
        write!(out, "{passed} passed, {} failed, {} skipped", self.failed, self.skipped.len() + self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_and_skipped_tests_did_not_pass() {
        let mut tally = Tally::default();
        tally.line("running 4 tests");
        tally.line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally.line("test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        tally.skip("SKIPPED: tunnel: no kernel\nSKIPPED: demo: no kernel\n");
        assert_eq!(tally.to_string(), "6 passed, 2 failed, 3 skipped");
    }
}
