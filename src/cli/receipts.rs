//! `receipts`: how far each member of a channel has read.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::ReadMark;
use serde::Serialize;

use crate::failure::Result;
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List how far each member of a channel has read
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// Only those whose mark may have moved after this version
    #[arg(long, value_name = "VERSION")]
    since: Option<u64>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How many members are read at once.
const PAGE: usize = 1000;

/// A member's mark, as JSON.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    read_seq: u64,
    version: u64,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let members = || {
        let members = store.members(open::name(&args.channel)).limit(PAGE);
        args.since.map_or(members.clone(), |version| members.since(version))
    };
    let mut out = Output::new();
    let mut page = members().marks()?;
    while let Some(last) = page.last().map(|mark| mark.name.clone()) {
        if args.json { objects(&mut out, &page) } else { people(&mut out, &page) }?;
        page = members().after(last).marks()?;
    }
    Ok(out.flush()?)
}

fn objects(out: &mut Output, page: &[ReadMark]) -> Result {
    for ReadMark { name, mark, version, .. } in page {
        out.json(&Object { user: Bytes::user(name), read_seq: mark.seq, version: *version })?;
    }
    Ok(())
}

fn people(out: &mut Output, page: &[ReadMark]) -> Result {
    let mut table = output::table(&["user", ">read to", ">version"]);
    for ReadMark { name, mark, version, .. } in page {
        table.add_row([text::label(name), mark.seq.to_string(), version.to_string()]);
    }
    Ok(out.line(table)?)
}
