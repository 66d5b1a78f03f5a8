//! Columns for people: as wide as their widest cell, two blanks apart.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    alignment: CellAlignment,
    /// Characters that it takes at least, so that a table stays as it is from one time to the next.
    least: u16,
}

impl Column {
    /// Text begins at the left.
    pub const TEXT: Self = Self { alignment: CellAlignment::Left, least: 0 };
    /// Numbers end at the right.
    pub const NUMBER: Self = Self { alignment: CellAlignment::Right, least: 0 };

    /// Takes this many characters at least.
    #[must_use]
    pub const fn at_least(self, least: u16) -> Self {
        Self { least, ..self }
    }
}

/// One line for each row, in their order: what belongs below a row can be put between. No line ends in blanks.
pub fn lines<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Vec<String> {
    const GAP: u16 = 2;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        // A row is a line, whatever a cell holds.
        table.add_row(row.map(|cell| cell.replace('\n', " ")));
    }
    for (column, of) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, GAP)).set_cell_alignment(of.alignment);
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(of.least + GAP)));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// The same as text.
pub fn text<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    lines(columns, rows).into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            || [["NAME", "SIZE", "FROM"], ["a", "12", "here\nand there"], ["bcdef", "3", ""]];
        let rows = || rows().map(|row| row.map(str::to_owned));
        assert_eq!(
            text([Column::TEXT, Column::NUMBER, Column::TEXT], rows()),
            "NAME   SIZE  FROM\na        12  here and there\nbcdef     3\n"
        );
        let wide =
            text([Column::TEXT.at_least(6), Column::NUMBER.at_least(6), Column::TEXT], rows());
        assert_eq!(wide, "NAME      SIZE  FROM\na           12  here and there\nbcdef        3\n");
        assert_eq!(text([Column::TEXT], Vec::new()), "");
        // As many columns as a terminal gives them, not as many bytes.
        let wide = ["\u{e9}\u{e9}", "\u{4e16}"].map(|cell| [cell.to_owned(), "x".to_owned()]);
        assert_eq!(text([Column::TEXT, Column::TEXT], wide), "\u{e9}\u{e9}  x\n\u{4e16}  x\n");
    }
}
