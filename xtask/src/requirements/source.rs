//! What tests say that they prove, read from their source.
//!
//! Line by line, because tests also stand in macros, of which no parser of Rust makes functions.

use super::list;

/// A test and the requirements that it names.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// Name of its function.
    pub test: String,
    /// Where it names them, from 1.
    pub line: usize,
    /// Numbers of the requirements.
    pub requirements: Vec<String>,
}

/// The tests of a file that name requirements; and what is wrong with such lines, each with its number. In a file of a
/// scenario, any function may name some.
pub fn proofs(text: &str, is_scenario: bool) -> (Vec<Proof>, Vec<(usize, String)>) {
    let mut proofs = Vec::new();
    let mut wrong = Vec::new();
    // What stands directly in front of the next function: documentation and attributes.
    let mut named: Option<(usize, Vec<String>)> = None;
    let mut is_test = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(doc) = line.strip_prefix("///") {
            match requirements(doc.trim()) {
                None => {}
                Some(Ok(numbers)) => named.get_or_insert((number, Vec::new())).1.extend(numbers),
                Some(Err(what)) => wrong.push((number, what)),
            }
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        } else {
            match (named.take(), function(line)) {
                (None, _) => {}
                (Some((line, requirements)), Some(name)) if is_test || is_scenario => {
                    proofs.push(Proof { test: name.to_owned(), line, requirements });
                }
                (Some((line, _)), Some(name)) => wrong.push((line, format!("{name} is no test"))),
                (Some((line, _)), None) => wrong.push((line, "this is not directly at a test".to_owned())),
            }
            is_test = false;
        }
    }
    (proofs, wrong)
}

/// The numbers in a line of documentation, if it is one that names requirements.
fn requirements(doc: &str) -> Option<Result<Vec<String>, String>> {
    // With a look at what was probably meant, since a test that names nothing is not missed.
    let rest = doc.strip_prefix("Requirement")?;
    let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(':')?;
    let numbers: Vec<_> = rest.trim().trim_end_matches('.').split(", ").map(str::to_owned).collect();
    let is_fine = doc.starts_with("Requirements: ") && doc.ends_with('.') && numbers.iter().all(|n| list::is_number(n));
    Some(if is_fine { Ok(numbers) } else { Err(format!("{doc:?}; write \"Requirements: A1, B2.\"")) })
}

/// The name of the function that begins in this line.
fn function(line: &str) -> Option<&str> {
    let mut rest = line;
    for word in ["pub ", "pub(crate) ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_every_form_are_found() {
        for (head, tail) in [
            ("#[test]", "fn name() {"),
            ("#[tokio::test]", "async fn name() {"),
            ("#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]", "async fn name() {"),
            ("    #[test]", "    fn name(value in 0..4) {"),
            ("/// More of it.\n#[test]", "pub fn name() {"),
        ] {
            let text = format!("use a;\n/// What it is.\n/// Requirements: A1, B2.\n{head}\n{tail}\n");
            let requirements = vec!["A1".to_owned(), "B2".to_owned()];
            let proof = Proof { test: "name".to_owned(), line: 3, requirements };
            assert_eq!(proofs(&text, false), (vec![proof], vec![]), "{text}");
        }
    }

    #[test]
    fn steps_of_scenarios_need_no_attribute() {
        let text = "/// Requirements: A1.\nfn step() {\n";
        assert_eq!(proofs(text, true).0[0].test, "step");
        assert_eq!(proofs(text, false), (vec![], vec![(1, "step is no test".to_owned())]));
    }

    #[test]
    fn what_is_written_in_another_form_or_place_is_named() {
        for (text, part) in [
            ("/// Requirement: A1.\n#[test]\nfn a() {\n", "write \"Requirements: A1, B2.\""),
            ("/// Requirements: A1\n#[test]\nfn a() {\n", "write"),
            ("/// Requirements: A1 and A2.\n#[test]\nfn a() {\n", "write"),
            ("/// Requirements:\n#[test]\nfn a() {\n", "write"),
            ("/// Requirements: A1.\n\n#[test]\nfn a() {\n", "not directly at a test"),
            ("#[test]\nfn a() {\n/// Requirements: A1.\n}\n", "not directly at a test"),
        ] {
            let (proofs, wrong) = proofs(text, false);
            assert!(proofs.is_empty() && wrong.len() == 1 && wrong[0].1.contains(part), "{text}: {wrong:?}");
        }
        let prose = "/// Requirement B1 word by word.\nfn naive() {\n/// Requirements of others.\nfn other() {\n";
        assert_eq!(proofs(prose, false), (vec![], vec![]));
    }
}
