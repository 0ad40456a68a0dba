//! Text in columns.

use std::fmt;

/// Rows under headings, each column as wide as its widest text.
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row; what is empty is shown as a dash.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row.map(|text| if text.is_empty() { "-".to_owned() } else { text }));
    }
}

impl<const N: usize> Extend<[String; N]> for Table<N> {
    fn extend<T: IntoIterator<Item = [String; N]>>(&mut self, rows: T) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for (text, width) in row.iter().zip(widths) {
                line.push_str(&format!("  {text:width$}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let mut table = Table::new(["NAME", "N"]);
        table.extend([["a-long-name".into(), "1".into()], [String::new(), "22".into()]]);
        assert_eq!(table.to_string(), "  NAME         N\n  a-long-name  1\n  -            22\n");
    }
}
