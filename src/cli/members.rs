//! `members`: who is in a channel, with their cursors.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::{MemberEntry, Membership};
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
    /// Only members of this role; may be given several times
    #[arg(long, value_name = "N")]
    role: Vec<u8>,
    /// Only those whose row changed after this version, those who left since included
    #[arg(long, value_name = "VERSION")]
    since: Option<u64>,
    /// Those who left, in place of those who are there
    #[arg(long)]
    left: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How many members are read at once.
const PAGE: usize = 1000;

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let channel = open::name(&args.channel);
    let listing = || {
        let all = args.role.iter().fold(store.members(channel).limit(PAGE), |all, role| all.role(*role));
        let all = args.since.map_or(all.clone(), |version| all.since(version));
        if args.left { all.left() } else { all }
    };
    let mut out = Output::new();
    let mut page = listing().rows()?;
    while let Some(last) = page.last().map(|entry| entry.name.clone()) {
        if args.json { objects(&mut out, channel, &page) } else { people(&mut out, &page) }?;
        page = listing().after(last).rows()?;
    }
    Ok(out.flush()?)
}

/// Everything up to this seq counts as read.
fn read_seq(row: &Membership) -> u64 {
    let floor = row.floor().seq;
    floor.max(row.read.seq).max(row.own.seq)
}

/// A member as JSON. What few have is left out of others.
#[derive(Serialize)]
struct Member<'a> {
    #[serde(flatten)]
    user: json::Bytes<'a>,
    #[serde(flatten)]
    channel: json::Bytes<'a>,
    join_seq: u64,
    read_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_ts: Option<i64>,
    #[serde(flatten)]
    attributes: Option<json::Bytes<'a>>,
}

fn objects(out: &mut Output, channel: &[u8], page: &[MemberEntry]) -> Result {
    for MemberEntry { name, membership: row, .. } in page {
        let attributes = row.attributes.bytes().filter(|bytes| !bytes.is_empty());
        out.json(&Member {
            user: json::Bytes::user(name),
            channel: json::Bytes::channel(channel),
            join_seq: row.join_seq(),
            read_seq: read_seq(row),
            role: Some(row.role).filter(|role| *role > 0),
            left_ts: row.left_at,
            attributes: attributes.map(|bytes| json::Bytes::attributes(bytes)),
        })?;
    }
    Ok(())
}

fn people(out: &mut Output, page: &[MemberEntry]) -> Result {
    let mut table = output::table(&["user", ">sees from", ">read to", ">role"]);
    for MemberEntry { name, membership: row, .. } in page {
        let numbers = [row.join_seq(), read_seq(row), row.role.into()].map(|number| number.to_string());
        table.add_row([text::label(name)].into_iter().chain(numbers));
    }
    Ok(out.line(table)?)
}
