//! Stdout and stderr: lines of JSON, or lines and tables for people.

use std::io::{self, BufWriter, StdoutLock, Write};

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::json;
use crate::text;

/// Stdout, buffered.
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// The one stdout there is.
    pub fn new() -> Output {
        Output { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes whatever fills a line.
    pub fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Writes a JSON object on a line.
    pub fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        json::write(&mut self.out, object)?;
        self.out.write_all(b"\n")
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Makes all that was written visible to the reader.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says something on stderr. Where even that is gone, there is nobody left to tell.
pub fn say(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "chanlog: {}", text::visible(&what.to_string()));
}

/// A table with these column heads; those that begin with `>` are numbers, set flush right.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(heads.iter().map(|head| Cell::new(head.trim_start_matches('>'))));
    for (column, head) in heads.iter().enumerate() {
        if let (true, Some(column)) = (head.starts_with('>'), table.column_mut(column)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
