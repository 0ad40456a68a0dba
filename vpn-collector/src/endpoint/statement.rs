//! Just enough of ClickHouse's grammar to tell an insert's data from its statement.
//!
//! The engine can take an insert's text and data in one piece, but then ends binary data at a semicolon or a line
//! break inside it. So the data goes another way, and this is where the two are parted.

/// A statement as the endpoint has to treat it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// `INSERT … FORMAT name`, with data behind it or in the request's body.
    Insert(Insert),
    /// `INSERT … FROM INFILE`, which would read the collector's files.
    FromFile,
    /// Anything else.
    Other {
        /// Of the result, where the statement says so.
        format: Option<String>,
    },
}

/// An insert whose rows are data, not SQL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Insert {
    /// The text without its FORMAT clause.
    pub(super) head: String,
    /// Of the data.
    pub(super) format: String,
    /// Where data begins in the text that was parsed; its length if none follows.
    pub(super) data: usize,
}

impl Statement {
    /// Reads `text`, which may continue with the data of an insert.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut tokens = Tokens { text, at: 0 };
        if !tokens.next().is_some_and(|token| token.is(b"INSERT")) {
            return Self::Other { format: output_format(text) };
        }
        let mut depth = 0_u32;
        while let Some(token) = tokens.next() {
            match token.bytes {
                b"(" => depth += 1,
                b")" => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                _ if token.is(b"INFILE") => return Self::FromFile,
                // The rows are in the statement itself.
                _ if token.is(b"SELECT") || token.is(b"WITH") || token.is(b"VALUES") => break,
                _ if token.is(b"FORMAT") => {
                    let Some(format) = tokens.next().filter(Token::is_word) else { break };
                    return Self::Insert(Insert {
                        head: String::from_utf8_lossy(&text[..token.start]).trim_end().to_owned(),
                        format: String::from_utf8_lossy(format.bytes).into_owned(),
                        data: tokens.at + data_gap(&text[tokens.at..]),
                    });
                }
                _ => {}
            }
        }
        Self::Other { format: None }
    }
}

/// The format that a statement asks for itself.
fn output_format(text: &[u8]) -> Option<String> {
    let mut tokens = Tokens { text, at: 0 };
    let mut found = None;
    let mut after_format = false;
    while let Some(token) = tokens.next() {
        if after_format && token.is_word() {
            found = Some(String::from_utf8_lossy(token.bytes).into_owned());
        }
        after_format = token.is(b"FORMAT");
    }
    found
}

/// Bytes between a format's name and the data: blanks and at most one line break.
fn data_gap(rest: &[u8]) -> usize {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
    blanks + usize::from(rest.get(blanks) == Some(&b'\n'))
}

struct Token<'t> {
    start: usize,
    bytes: &'t [u8],
}

impl Token<'_> {
    fn is(&self, keyword: &[u8]) -> bool {
        self.bytes.eq_ignore_ascii_case(keyword)
    }

    fn is_word(&self) -> bool {
        self.bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
    }
}

/// Words, quoted texts and single characters; blanks and comments are skipped.
struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Option<Token<'t>> {
        loop {
            let rest = &self.text[self.at..];
            let first = *rest.first()?;
            let skipped = match first {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => 1,
                b'-' if rest.starts_with(b"--") => until(rest, 2, b"\n"),
                b'#' if rest.starts_with(b"#!") || rest.starts_with(b"# ") => until(rest, 2, b"\n"),
                b'/' if rest.starts_with(b"/*") => until(rest, 2, b"*/"),
                _ => {
                    let length = match first {
                        b'\'' | b'"' | b'`' => quoted(rest, first),
                        _ if word(first) => rest.iter().take_while(|byte| word(**byte)).count(),
                        _ => 1,
                    };
                    let start = self.at;
                    self.at += length;
                    return Some(Token { start, bytes: &rest[..length] });
                }
            };
            self.at += skipped;
        }
    }
}

const fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Length up to and including `end`, looked for from `from` on; all of `text` if it does not come.
fn until(text: &[u8], from: usize, end: &[u8]) -> usize {
    text[from..].windows(end.len()).position(|window| window == end).map_or(text.len(), |at| from + at + end.len())
}

/// Length of the text in quotes that `text` begins with. A quote inside is doubled or behind a backslash.
fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += match *byte {
            b'\\' => 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => 2,
            byte if byte == quote => return at + 1,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_is_parted_from_its_data() {
        for (text, head, format, data) in [
            ("INSERT INTO a.b FORMAT RowBinary", "INSERT INTO a.b", "RowBinary", ""),
            ("insert into a.b(x,y) format CSV\n1,2\n", "insert into a.b(x,y)", "CSV", "1,2\n"),
            ("INSERT INTO t(`format`, \"b`\") FORMAT TSV  \r\n\n1", "INSERT INTO t(`format`, \"b`\")", "TSV", "\n1"),
            (
                "INSERT INTO t(format, select) FORMAT JSONEachRow {}",
                "INSERT INTO t(format, select)",
                "JSONEachRow",
                "{}",
            ),
            (
                "INSERT INTO t SETTINGS a='FORMAT X' FORMAT Values (1)",
                "INSERT INTO t SETTINGS a='FORMAT X'",
                "Values",
                "(1)",
            ),
            (
                "/* FORMAT A */ INSERT INTO t -- FORMAT B\n FORMAT C\n",
                "/* FORMAT A */ INSERT INTO t -- FORMAT B",
                "C",
                "",
            ),
        ] {
            let Statement::Insert(insert) = Statement::parse(text.as_bytes()) else {
                panic!("not taken for an insert with data: {text}");
            };
            assert_eq!((&*insert.head, &*insert.format, &text[insert.data..]), (head, format, data), "{text}");
        }
    }

    #[test]
    fn data_may_be_any_bytes() {
        let mut text = b"INSERT INTO t FORMAT RowBinary\n".to_vec();
        let start = text.len();
        text.extend((0..=u8::MAX).cycle().take(1000));
        assert!(matches!(Statement::parse(&text), Statement::Insert(Insert { data, .. }) if data == start));
    }

    #[test]
    fn other_statements_stay_whole() {
        for (text, format) in [
            ("SELECT 1", None),
            ("", None),
            ("'", None),
            ("/*", None),
            ("SELECT 'FORMAT CSV' FORMAT JSON", Some("JSON")),
            ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", Some("JSON")),
            ("INSERT INTO t VALUES ('a;b')", None),
            ("INSERT INTO t SELECT 1 FORMAT Null", None),
        ] {
            let format = format.map(str::to_owned);
            assert_eq!(Statement::parse(text.as_bytes()), Statement::Other { format }, "{text}");
        }
        let text = b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV";
        assert_eq!(Statement::parse(text), Statement::FromFile);
    }
}
