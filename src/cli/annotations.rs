//! `annotations`: what is kept with messages under keys.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::Annotation;
use serde::Serialize;

use crate::failure::Result;
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List what is kept with the messages of a channel under keys, such as reactions
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// Only with messages from this seq on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Only with messages up to this seq
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How many are read at once.
const PAGE: usize = 1000;

/// An annotation, as JSON.
#[derive(Serialize)]
struct Object<'a> {
    seq: u64,
    #[serde(flatten)]
    key: Bytes<'a>,
    #[serde(flatten)]
    value: Bytes<'a>,
    version: u64,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let listing = || store.annotations(open::name(&args.channel)).from(args.from).to(args.to).limit(PAGE);
    let mut out = Output::new();
    let mut page = listing().list()?;
    while let Some((seq, key)) = page.last().map(|last| (last.seq, last.key.clone())) {
        if args.json { objects(&mut out, &page) } else { people(&mut out, &page) }?;
        page = listing().after(seq, key).list()?;
    }
    Ok(out.flush()?)
}

fn objects(out: &mut Output, page: &[Annotation]) -> Result {
    for Annotation { seq, key, value, version, .. } in page {
        let value = Bytes::payload(value.bytes().map_or(&[][..], |bytes| bytes));
        out.json(&Object { seq: *seq, key: Bytes::key(key), value, version: *version })?;
    }
    Ok(())
}

fn people(out: &mut Output, page: &[Annotation]) -> Result {
    let mut table = output::table(&[">seq", "key", "value"]);
    for Annotation { seq, key, value, .. } in page {
        let value = value.bytes().map_or(&[][..], |bytes| bytes);
        table.add_row([seq.to_string(), text::label(key), text::shown(value)]);
    }
    Ok(out.line(table)?)
}
