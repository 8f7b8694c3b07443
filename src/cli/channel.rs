//! `channel`: what a store keeps with one channel.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// Print what a channel is: its end, its members, its class, attributes and retention policy
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// A channel as JSON. Limits that its policy has not are left out.
#[derive(Serialize)]
struct Channel<'a> {
    #[serde(flatten)]
    channel: Bytes<'a>,
    last_seq: u64,
    trimmed_seq: u64,
    members: u32,
    class: u8,
    #[serde(flatten)]
    attributes: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    version: u64,
}

/// Prints a channel. An unknown one is a failure.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let (view, name) = (store.view()?, open::name(&args.channel));
    let row = view.channel(name)?.ok_or_else(|| Failure::told("there is no such channel"))?;
    let (head, attributes) = (view.head(name)?, row.attributes.bytes().map_or(&[][..], |bytes| &bytes[..]));
    let limit = |limit: u64| Some(limit).filter(|limit| *limit > 0);
    let mut out = Output::new();
    if args.json {
        out.json(&Channel {
            channel: Bytes::channel(name),
            last_seq: head.last.seq,
            trimmed_seq: head.trimmed.seq,
            members: head.members,
            class: row.class,
            attributes: Some(attributes).filter(|bytes| !bytes.is_empty()).map(Bytes::attributes),
            max_age_ms: limit(row.max_age_ms),
            max_count: limit(row.max_count),
            max_bytes: limit(row.max_bytes),
            version: head.changed,
        })?;
        return Ok(out.flush()?);
    }
    let mut table = output::table(&["channel", ">"]);
    let mut add = |what: &str, value: String| _ = table.add_row([what.to_owned(), value]);
    add("name", text::label(name));
    add("last seq", head.last.seq.to_string());
    add("trimmed up to", head.trimmed.seq.to_string());
    add("members", head.members.to_string());
    add("class", row.class.to_string());
    add("attributes", text::shown(attributes));
    for (what, most) in
        [("most ms", row.max_age_ms), ("most messages", row.max_count), ("most bytes", row.max_bytes)]
    {
        if most > 0 {
            add(what, most.to_string());
        }
    }
    out.line(table)?;
    Ok(out.flush()?)
}
