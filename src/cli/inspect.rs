//! `inspect`: the parts of one file of a store.

use std::path::PathBuf;

use chanlog::Options;
use serde_json::{Map, Value};

use crate::failure::Result;
use crate::output::{self, Output};

/// Print the parts of one file of a store, as a table; nothing is changed, and the store may be open
#[derive(clap::Args)]
pub struct Args {
    /// The file
    file: PathBuf,
    /// Print at most so many rows
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Print JSON: one object for the file, and one for each part
    #[arg(long)]
    json: bool,
}

/// Names and values, as a JSON object of texts.
fn object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
    pairs.map(|(name, value)| (name.replace(' ', "_"), value.into())).collect()
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let found = chanlog::inspect(&args.file, &Options::new())?;
    let mut out = Output::new();
    let rows = || found.rows.iter().take(args.limit);
    let columns = || found.columns.iter().map(String::as_str);
    if args.json {
        out.json(&object(found.facts.iter().map(|(name, value)| (&name[..], &value[..]))))?;
        for row in rows() {
            out.json(&object(columns().zip(row.iter().map(String::as_str))))?;
        }
        return Ok(out.flush()?);
    }
    for (name, value) in &found.facts {
        out.line(format!("{name}: {value}"))?;
    }
    let mut table = output::table(&columns().collect::<Vec<_>>());
    for row in rows() {
        table.add_row(row);
    }
    out.line(table)?;
    if let Some(more) = found.rows.len().checked_sub(args.limit).filter(|more| *more > 0) {
        out.line(format!("and {more} more"))?;
    }
    Ok(out.flush()?)
}
