//! `unread`: how much of a user's conversation list is unread, in sums.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::Unread;
use serde::Serialize;

use crate::failure::Result;
use crate::open;
use crate::output::{self, Output};

/// Print how much of a user's conversation list is unread, in sums
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The user
    #[arg(long, value_name = "NAME")]
    user: OsString,
    /// Only channels of this class; may be given several times
    #[arg(long, value_name = "N")]
    class: Vec<u8>,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// The sums, as JSON.
#[derive(Serialize)]
struct Object {
    messages: u64,
    conversations: u64,
    mentions: u64,
    flagged: u64,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let all = store.conversations(open::name(&args.user));
    let Unread { messages, conversations, mentions, flagged, .. } =
        args.class.iter().fold(all, |question, class| question.class(*class)).unread()?;
    let mut out = Output::new();
    if args.json {
        out.json(&Object { messages, conversations, mentions, flagged })?;
    } else {
        let mut table = output::table(&[">messages", ">conversations", ">mentions", ">flagged"]);
        table.add_row([messages, conversations, mentions, flagged]);
        out.line(table)?;
    }
    Ok(out.flush()?)
}
