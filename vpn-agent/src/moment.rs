//! Moments in desired states: RFC 3339, in whole seconds.

use jiff::Timestamp;

/// The pattern of every moment, as a regular expression.
pub const PATTERN: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})$";

/// The moment that `text` names.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let moment = if has_form(text) { text.parse::<Timestamp>().ok() } else { None };
    moment.ok_or_else(|| {
        format!(
            "{text:?} is not a moment; use whole seconds with Z or an offset, such as \"2027-01-01T00:00:00Z\" or \
             \"2027-01-01T01:00:00+01:00\""
        )
    })
}

/// The moment without fractions of its second.
#[must_use]
pub fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

/// Whether `text` has the form of [`PATTERN`]. The library also takes other forms, of which people disagree what they
/// mean.
fn has_form(text: &str) -> bool {
    let fits = |form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                b'+' => b"+-".contains(&byte),
                _ => byte == form,
            })
    };
    fits("0000-00-00T00:00:00Z") || fits("0000-00-00T00:00:00+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_one_whatever_its_offset() {
        let moment = parse("2027-01-01T00:00:00Z").unwrap();
        assert_eq!(parse("2027-01-01T01:30:00+01:30"), Ok(moment));
        assert_eq!(moment.to_string(), "2027-01-01T00:00:00Z");
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "2027-01-01",
            "2027-01-01T00:00Z",
            "2027-01-01T00:00:00",
            "2027-01-01 00:00:00Z",
            "2027-01-01T00:00:00z",
            "2027-01-01T00:00:00.5Z",
            "2027-13-01T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2027-01-01T00:00:00[Europe/Berlin]",
            "١٠٢٧-01-01T00:00:00Z",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("use whole seconds"), "{error}");
        }
    }
}
