//! `set`: who is in a set beside a channel's members, or which channels have a user in theirs.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::SetEntry;
use serde::Serialize;

use crate::failure::Result;
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List the users in a set of a channel, or the channels that have a user in one
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel whose set it is
    #[arg(long, value_name = "NAME", required_unless_present = "user", conflicts_with = "user")]
    channel: Option<OsString>,
    /// The user who is in the sets
    #[arg(long, value_name = "NAME")]
    user: Option<OsString>,
    /// The number of the set
    #[arg(long, value_name = "N")]
    set: u8,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How many are read at once.
const PAGE: usize = 1000;

/// A user in a set, or a channel with one, as JSON.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    name: Bytes<'a>,
    #[serde(flatten)]
    attributes: Option<Bytes<'a>>,
    version: u64,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let listing = || match (&args.channel, &args.user) {
        (Some(channel), _) => store.set(open::name(channel), args.set).limit(PAGE),
        (None, user) => store.sets_of(open::name(user.as_deref().unwrap_or_default()), args.set).limit(PAGE),
    };
    let mut out = Output::new();
    let mut page = listing().list()?;
    while let Some(last) = page.last().map(|entry| entry.name.clone()) {
        if args.json { objects(&mut out, args, &page) } else { people(&mut out, args, &page) }?;
        page = listing().after(last).list()?;
    }
    Ok(out.flush()?)
}

fn objects(out: &mut Output, args: &Args, page: &[SetEntry]) -> Result {
    for SetEntry { name, member, .. } in page {
        let name = if args.user.is_some() { Bytes::channel(name) } else { Bytes::user(name) };
        let attributes = Some(&member.attributes).filter(|bytes| !bytes.is_empty());
        let attributes = attributes.map(|bytes| Bytes::attributes(bytes));
        out.json(&Object { name, attributes, version: member.version })?;
    }
    Ok(())
}

fn people(out: &mut Output, args: &Args, page: &[SetEntry]) -> Result {
    let what = if args.user.is_some() { "channel" } else { "user" };
    let mut table = output::table(&[what, "attributes", ">version"]);
    for SetEntry { name, member, .. } in page {
        table.add_row([text::label(name), text::shown(&member.attributes), member.version.to_string()]);
    }
    Ok(out.line(table)?)
}
