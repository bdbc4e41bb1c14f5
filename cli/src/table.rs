//! Tables whose columns align.

use std::fmt;

/// Rows of text under a heading, each column as wide as its widest cell.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new<S: Into<String>>(titles: impl IntoIterator<Item = S>) -> Table {
        Table { rows: vec![titles.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// How many columns a text takes on a terminal: its characters, escape sequences of colours left out.
fn width(text: &str) -> usize {
    let mut in_escape = false;
    text.chars()
        .filter(|c| {
            let visible = !in_escape && *c != '\x1b';
            in_escape = *c == '\x1b' || (in_escape && *c != 'm');
            visible
        })
        .count()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, column) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(column - width(cell) + 2));
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
    fn columns_align_also_where_a_cell_is_coloured() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["a-long-name", "ok"]);
        table.row(["\x1b[32mb\x1b[0m", "ok"]);
        let text = table.to_string();
        let columns = text.lines().map(|line| width(&line[..line.rfind(['S', 'o']).unwrap()])).collect::<Vec<_>>();
        assert_eq!(columns, [13, 13, 13], "{text}");
    }
}
