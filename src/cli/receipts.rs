//! `receipts`: how far each member of a channel has read, and how far it was delivered.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::ReadMark;
use serde::Serialize;

use crate::failure::Result;
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List how far each member of a channel has read, and how far it was delivered
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
    delivered_seq: u64,
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
    for ReadMark { name, mark, delivered, version, .. } in page {
        let user = Bytes::user(name);
        out.json(&Object { user, read_seq: mark.seq, delivered_seq: *delivered, version: *version })?;
    }
    Ok(())
}

fn people(out: &mut Output, page: &[ReadMark]) -> Result {
    let mut table = output::table(&["user", ">read to", ">delivered to", ">version"]);
    for ReadMark { name, mark, delivered, version, .. } in page {
        let numbers = [mark.seq, *delivered, *version].map(|number| number.to_string());
        table.add_row([text::label(name)].into_iter().chain(numbers));
    }
    Ok(out.line(table)?)
}
