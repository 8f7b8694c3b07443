//! `message`: one message by its id.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, Result};
use crate::json;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// Print the message that has an id
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The message's unique id
    #[arg(long, value_name = "ID")]
    id: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A message and its channel.
#[derive(serde::Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    channel: json::Bytes<'a>,
    #[serde(flatten)]
    message: json::Message<'a>,
}

/// Prints what `args` ask for. An id that no message has is a failure.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let found = store.message_by_id(open::name(&args.id))?;
    let found = found.ok_or_else(|| Failure::told("no message has this id"))?;
    let message = &found.message;
    let mut out = Output::new();
    if args.json {
        let (channel, message) = (json::Bytes::channel(&found.channel), message.into());
        out.json(&Line { channel, message })?;
        return Ok(out.flush()?);
    }
    let mut table = output::table(&["channel", ">seq", "time (UTC)", "sender", "message"]);
    let (channel, sender) = (text::label(&found.channel), text::label(&message.sender));
    let (time, payload) = (text::time(message.timestamp), text::shown(&message.payload));
    table.add_row([channel, message.seq.to_string(), time, sender, payload]);
    out.line(table)?;
    Ok(out.flush()?)
}
