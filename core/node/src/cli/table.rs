//! Tables for people: columns as wide as their widest cell, numbers to the right, two spaces
//! between.

use std::fmt::Write;

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line ended.
    pub(crate) fn render(&self) -> String {
        let columns: Vec<Column> = (0..self.header.len()).map(|i| self.column(i)).collect();
        let mut out = String::new();
        line(&mut out, &columns, self.header.iter().copied());
        for row in &self.rows {
            line(&mut out, &columns, row.iter().map(String::as_str));
        }
        out
    }

    fn column(&self, index: usize) -> Column {
        let cells = || self.rows.iter().filter_map(|row| row.get(index));
        let header = self.header.get(index).map_or(0, |h| h.len());
        Column {
            width: cells().map(|c| c.chars().count()).max().unwrap_or(0).max(header),
            right: !self.rows.is_empty() && cells().all(|c| is_number(c)),
        }
    }
}

struct Column {
    width: usize,
    right: bool,
}

fn is_number(cell: &str) -> bool {
    cell == "-"
        || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-') && cell.parse::<f64>().is_ok()
}

fn line<'a>(out: &mut String, columns: &[Column], cells: impl Iterator<Item = &'a str>) {
    let start = out.len();
    for (column, cell) in columns.iter().zip(cells) {
        let width = column.width;
        let _ = match column.right {
            true => write!(out, "{cell:>width$}  "),
            false => write!(out, "{cell:<width$}  "),
        };
    }
    let end = out[start..].trim_end().len();
    out.truncate(start + end);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_lines_have_no_tail() {
        let mut table = Table::new(["TOPIC", "PARTITIONS", "NOTE"]);
        table.row(["temperature".into(), "4".into(), String::new()]);
        table.row(["a".into(), "128".into(), "x".into()]);
        assert_eq!(
            table.render(),
            "TOPIC        PARTITIONS  NOTE\n\
             temperature           4\n\
             a                   128  x\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_header() {
        let table = Table::new(["TOPIC", "PARTITIONS"]);
        assert!(table.is_empty());
        assert_eq!(table.render(), "TOPIC  PARTITIONS\n");
    }
}
