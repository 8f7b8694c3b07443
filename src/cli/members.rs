//! `members`: who is in a channel, with their cursors.

use std::ffi::OsString;
use std::path::PathBuf;

use bytes::Bytes;
use chanlog::{Membership, Store};
use serde::Serialize;

use crate::failure::Result;
use crate::json;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List a channel's members and how far they have read
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How many names are read at once.
const PAGE: usize = 1000;

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let channel = open::name(&args.channel);
    let mut out = Output::new();
    let mut page = store.members(channel).limit(PAGE).list()?;
    while let Some(last) = page.last().cloned() {
        let rows = rows(&store, channel, page)?;
        if args.json { objects(&mut out, channel, &rows) } else { people(&mut out, &rows) }?;
        page = store.members(channel).after(last).limit(PAGE).list()?;
    }
    Ok(out.flush()?)
}

fn rows(store: &Store, channel: &[u8], users: Vec<Bytes>) -> Result<Vec<(Bytes, Membership)>> {
    let mut rows = Vec::with_capacity(users.len());
    for user in users {
        if let Some(row) = store.membership(channel, &user)? {
            rows.push((user, row));
        }
    }
    Ok(rows)
}

/// Everything up to this seq counts as read.
fn read_seq(row: &Membership) -> u64 {
    let floor = row.floor().seq;
    floor.max(row.read.seq).max(row.own.seq)
}

/// A member as JSON.
#[derive(Serialize)]
struct Member<'a> {
    #[serde(flatten)]
    user: json::Bytes<'a>,
    #[serde(flatten)]
    channel: json::Bytes<'a>,
    join_seq: u64,
    read_seq: u64,
}

fn objects(out: &mut Output, channel: &[u8], rows: &[(Bytes, Membership)]) -> Result {
    for (user, row) in rows {
        out.json(&Member {
            user: json::Bytes::user(user),
            channel: json::Bytes::channel(channel),
            join_seq: row.join_seq(),
            read_seq: read_seq(row),
        })?;
    }
    Ok(())
}

fn people(out: &mut Output, rows: &[(Bytes, Membership)]) -> Result {
    let mut table = output::table(&["user", ">sees from", ">read to"]);
    for (user, row) in rows {
        table.add_row([text::label(user), row.join_seq().to_string(), read_seq(row).to_string()]);
    }
    Ok(out.line(table)?)
}
