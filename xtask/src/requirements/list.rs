//! The list of requirements: the rows `| number | what | done or open |` of a document's tables.

/// What the product must do, in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Requirement {
    /// A letter and a number.
    pub number: String,
    /// For people to read.
    pub what: String,
    /// Whether it is said to be done, wholly.
    pub is_done: bool,
}

/// The requirements in the order of the document, and what is wrong with it, a line each.
pub fn parse(text: &str) -> (Vec<Requirement>, Vec<String>) {
    let mut requirements = Vec::<Requirement>::new();
    let mut wrong = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(row) = line.strip_prefix('|') else { continue };
        let cells: Vec<_> = row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "number" || cells[0].starts_with("---") {
            continue;
        }
        match requirement(&cells) {
            Ok(one) if requirements.iter().any(|before| before.number == one.number) => {
                wrong.push(format!("line {} of the list: {} is there twice", at + 1, one.number));
            }
            Ok(one) => requirements.push(one),
            Err(what) => wrong.push(format!("line {} of the list: {what}", at + 1)),
        }
    }
    if requirements.is_empty() {
        wrong.push("the list has no requirement".to_owned());
    }
    (requirements, wrong)
}

fn requirement(cells: &[&str]) -> Result<Requirement, String> {
    let [number, what, status] = cells else {
        return Err(format!("{} columns; it has three: number, what, status", cells.len()));
    };
    if !is_number(number) {
        return Err(format!("{number:?} is no number of a requirement; use a letter and a number, as A1"));
    }
    let is_done = match *status {
        "done" => true,
        "open" => false,
        other => return Err(format!("{number} is {other:?}; use done or open")),
    };
    Ok(Requirement { number: (*number).to_owned(), what: (*what).to_owned(), is_done })
}

/// Whether it has the form of a requirement's number: a capital letter and digits.
pub fn is_number(text: &str) -> bool {
    let (letter, digits) = text.split_at_checked(1).unwrap_or_default();
    letter.bytes().all(|byte| byte.is_ascii_uppercase())
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_everything_else_is_not() {
        let text = "# List\n\nA3 is nothing.\n\n| number | what | status |\n| --- | --- | --- |\n\
                    | A1 | one thing | done |\n\n## B\n| B12 | another | open |\n";
        let row = |number: &str, what: &str, is_done| Requirement { number: number.into(), what: what.into(), is_done };
        assert_eq!(parse(text), (vec![row("A1", "one thing", true), row("B12", "another", false)], vec![]));
    }

    #[test]
    fn a_wrong_row_is_named() {
        for (row, part) in [
            ("| A1 | one |", "2 columns"),
            ("| A | one | done |", "\"A\" is no number"),
            ("| 1 | one | done |", "\"1\" is no number"),
            ("| A1 | one | almost |", "A1 is \"almost\"; use done or open"),
            ("| Z1 | again | done |", "Z1 is there twice"),
        ] {
            let (requirements, wrong) = parse(&format!("| Z1 | first | done |\n{row}\n"));
            assert_eq!((requirements.len(), wrong.len()), (1, 1), "{row}");
            assert!(wrong[0].starts_with("line 2") && wrong[0].contains(part), "{wrong:?}");
        }
        assert_eq!(parse("").1, ["the list has no requirement"]);
    }
}
