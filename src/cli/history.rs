//! `history`: a channel's messages by seq.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::{History, Message, Store};

use crate::failure::Result;
use crate::json;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// Print a channel's messages
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// The first seq
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// The last seq; the channel's end without it
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Only the last N messages of the range
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// How much is read at once.
const PAGE: usize = 1000;
const PAGE_BYTES: u64 = 4 << 20;

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let mut out = Output::new();
    let mut print =
        |page: &[Message]| if args.json { objects(&mut out, page) } else { people(&mut out, page) };
    let range = Range::new(&store, args);
    match (args.reverse, args.last) {
        (false, None) => range.forward(&mut print)?,
        (false, Some(last)) => range.tail(last)?.forward(&mut print)?,
        (true, last) => range.backward(last.unwrap_or(usize::MAX), &mut print)?,
    }
    Ok(out.flush()?)
}

/// A range of a channel, read page by page, so that memory does not depend on its length.
struct Range<'a> {
    store: &'a Store,
    channel: &'a [u8],
    from: u64,
    to: u64,
}

impl<'a> Range<'a> {
    fn new(store: &'a Store, args: &'a Args) -> Self {
        Range { store, channel: open::name(&args.channel), from: args.from, to: args.to }
    }

    fn page(&self) -> History<'_> {
        self.store.history(self.channel).from(self.from).to(self.to).limit(PAGE).bytes(PAGE_BYTES)
    }

    fn forward(mut self, mut visit: impl FnMut(&[Message]) -> Result) -> Result {
        while self.from <= self.to {
            let page = self.page().list()?;
            let Some(last) = page.last() else { break };
            visit(&page)?;
            let Some(from) = last.seq.checked_add(1) else { break };
            self.from = from;
        }
        Ok(())
    }

    fn backward(mut self, mut most: usize, mut visit: impl FnMut(&[Message]) -> Result) -> Result {
        while most > 0 && self.from <= self.to {
            let page = self.page().limit(most.min(PAGE)).reverse().list()?;
            let Some(last) = page.last() else { break };
            visit(&page)?;
            most -= page.len();
            self.to = last.seq - 1;
        }
        Ok(())
    }

    /// The part of the range that holds its last `count` messages. A channel may have a gap, so seqs alone can't tell.
    fn tail(self, count: usize) -> Result<Range<'a>> {
        let Range { store, channel, from, to } = self;
        let mut start = None;
        self.backward(count, |page| {
            start = page.last().map(|first| first.seq);
            Ok(())
        })?;
        let (from, to) = start.map_or((from, 0), |start| (start, to));
        Ok(Range { store, channel, from, to })
    }
}

fn objects(out: &mut Output, page: &[Message]) -> Result {
    for message in page {
        out.json(&json::Message::from(message))?;
    }
    Ok(())
}

fn people(out: &mut Output, page: &[Message]) -> Result {
    let mut table = output::table(&[">seq", "time (UTC)", "sender", "message"]);
    for message in page {
        let mut payload = text::shown(&message.payload);
        if message.quiet {
            payload.push_str(" (quiet)");
        } else if message.silent {
            payload.push_str(" (silent)");
        }
        if let Some(state) = json::state(message) {
            payload = format!("{payload} ({state})").trim_start().to_owned();
        }
        let (time, sender) = (text::time(message.timestamp), text::label(&message.sender));
        table.add_row([message.seq.to_string(), time, sender, payload]);
    }
    Ok(out.line(table)?)
}
