//! `cargo xtask requirements`: which tests prove which requirement.
//!
//! `docs/requirements.md` has the list. A test names what it proves in its documentation, on a line of its own:
//! `Requirements: B1, B4.` What is said to be done must have a test; the other way round, a test may prove a part of
//! what is still open.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::workspace;
use list::Requirement;
use source::Proof;

mod list;
mod source;

/// Where the list is, from the workspace's root.
const LIST: &str = "docs/requirements.md";

/// Functions below this folder are steps of scenarios, which tests run in a virtual machine.
const SCENARIOS: &str = "tests/src";

/// Prints the table. Fails if something in it is wrong.
pub fn run() -> Result<ExitCode> {
    Ok(if check()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the table; whether nothing in it is wrong.
pub fn check() -> Result<bool> {
    let root = workspace::root();
    let text = fs::read_to_string(root.join(LIST)).with_context(|| format!("read {LIST}"))?;
    let (requirements, mut wrong) = list::parse(&text);
    let mut proofs = Vec::new();
    let target = workspace::target();
    for file in sources(root, &target)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let text = fs::read_to_string(&file).with_context(|| format!("read {name}"))?;
        let is_scenario = file.starts_with(root.join(SCENARIOS));
        let (found, complaints) = source::proofs(&text, is_scenario);
        proofs.extend(found.into_iter().map(|proof| (name.clone(), proof)));
        wrong.extend(complaints.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
    }
    let table = Table::new(requirements, proofs, wrong);
    print!("{}", table.text());
    Ok(table.wrong.is_empty())
}

/// Requirements with the tests that name them.
struct Table {
    rows: Vec<(Requirement, Vec<String>)>,
    /// One line each.
    wrong: Vec<String>,
}

impl Table {
    fn new(requirements: Vec<Requirement>, proofs: Vec<(String, Proof)>, mut wrong: Vec<String>) -> Self {
        let mut tests = BTreeMap::<String, Vec<String>>::new();
        for (file, proof) in proofs {
            for number in proof.requirements {
                if requirements.iter().any(|requirement| requirement.number == number) {
                    tests.entry(number).or_default().push(format!("{file}: {}", proof.test));
                } else {
                    wrong.push(format!("{file}:{}: {LIST} has no requirement {number}", proof.line));
                }
            }
        }
        let mut rows = Vec::new();
        for requirement in requirements {
            let proofs = tests.remove(&requirement.number).unwrap_or_default();
            if requirement.is_done && proofs.is_empty() {
                let Requirement { number, .. } = &requirement;
                wrong.push(format!("{LIST}: {number} is said to be done, and no test names it"));
            }
            rows.push((requirement, proofs));
        }
        Self { rows, wrong }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        for (Requirement { number, what, is_done }, tests) in &self.rows {
            let status = if *is_done { "done" } else { "open" };
            let _ = writeln!(text, "{number}  {status}  {what}");
            for test in tests {
                let _ = writeln!(text, "            {test}");
            }
        }
        let done = self.rows.iter().filter(|(requirement, _)| requirement.is_done).count();
        let _ = writeln!(text, "{} requirements: {done} done, {} open", self.rows.len(), self.rows.len() - done);
        for wrong in &self.wrong {
            let _ = writeln!(text, "WRONG: {wrong}");
        }
        text
    }
}

/// Every Rust file of the workspace, sorted.
fn sources(root: &Path, target: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || path == target || path == root.join("target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(list: &str, file: &str) -> Table {
        let (requirements, wrong) = list::parse(list);
        let (proofs, _) = source::proofs(file, false);
        Table::new(requirements, proofs.into_iter().map(|proof| ("a.rs".to_owned(), proof)).collect(), wrong)
    }

    const TWO: &str = "| A1 | one | done |\n| A2 | two | open |\n";

    #[test]
    fn a_requirement_is_shown_with_its_tests() {
        let table = table(TWO, "/// Requirements: A1, A2.\n#[test]\nfn both() {}\n");
        assert_eq!(table.wrong, [""; 0]);
        let shown = "A1  done  one\n            a.rs: both\nA2  open  two\n            a.rs: both\n\
                     2 requirements: 1 done, 1 open\n";
        assert_eq!(table.text(), shown);
    }

    #[test]
    fn what_is_said_to_be_done_has_a_test_and_what_a_test_names_is_listed() {
        let table = table(TWO, "/// Requirements: A2, A3.\n#[test]\nfn second() {}\n");
        let wrong = [
            "a.rs:1: docs/requirements.md has no requirement A3",
            "docs/requirements.md: A1 is said to be done, and no test names it",
        ];
        assert_eq!(table.wrong, wrong);
        assert!(table.text().ends_with("WRONG: docs/requirements.md: A1 is said to be done, and no test names it\n"));
    }

    #[test]
    fn folders_of_builds_and_hidden_ones_are_left_out() {
        let root = workspace::root();
        let found = sources(root, &root.join("xtask")).unwrap();
        assert!(found.contains(&root.join("vpn-agent/src/lib.rs")));
        let left_out = |path: &PathBuf| path.starts_with(root.join("target")) || path.starts_with(root.join("xtask"));
        assert!(!found.iter().any(left_out));
    }
}
