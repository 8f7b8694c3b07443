//! `repair`: makes a store of what is whole of a damaged one.

use std::path::PathBuf;

use chanlog::{Options, Repair};
use indicatif::HumanCount;
use serde::Serialize;

use crate::failure::{self, Result};
use crate::json::Bytes;
use crate::open;
use crate::output::Output;
use crate::progress;
use crate::text;
use crate::verify::Fault;

/// Make a store of all that is whole in a damaged one, which stays as it is, and list what is missing
///
/// Messages are listed by channel and seq, rows by table and keys, commits by versions. The store must not be open for writing. Its
/// manifest must be whole: without it a backup is the way out.
#[derive(clap::Args)]
pub struct Args {
    /// The damaged store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The directory of the store to be, which must be absent or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON: one object for each thing that is missing or damaged, and one for the whole
    #[arg(long)]
    json: bool,
}

/// Makes the store that `args` ask for.
pub fn run(args: &Args) -> Result {
    open::check(&args.store)?;
    let fresh = !args.to.exists();
    let spinner = progress::spinner("saving what is whole");
    let repair = chanlog::repair(&args.store, &args.to, &Options::new());
    spinner.finish_and_clear();
    if repair.is_err() && fresh {
        // Only if it is empty, as it was made here.
        let _ = std::fs::remove_dir(&args.to);
    }
    let repair = repair?;
    failure::unless_unread(print(args, &repair))
}

fn print(args: &Args, repair: &Repair) -> Result {
    let mut out = Output::new();
    let lines = lines(repair);
    if args.json {
        lines.iter().try_for_each(|line| out.json(line))?;
        out.json(&Whole::from(repair))?;
    } else {
        lines.iter().try_for_each(|line| out.line(words(line)))?;
        let saved = &repair.saved;
        let (messages, rows) = (HumanCount(saved.messages), HumanCount(saved.rows));
        out.line(format!(
            "{messages} messages and {rows} rows saved; {} things missing or damaged",
            lines.len()
        ))?;
    }
    Ok(out.flush()?)
}

/// Something that is missing or damaged.
#[derive(Serialize)]
#[serde(tag = "missing", rename_all = "snake_case")]
enum Missing<'a> {
    Messages {
        #[serde(flatten)]
        channel: Bytes<'a>,
        from: u64,
        to: u64,
    },
    Rows {
        table: Option<&'a str>,
        between: ([u64; 3], [u64; 3]),
        what: &'a str,
    },
    Commits {
        from_version: u64,
        to_version: Option<u64>,
    },
    Value {
        version: u64,
        table: &'a str,
        key: [u64; 3],
        #[serde(flatten)]
        channel: Option<Bytes<'a>>,
        #[serde(flatten)]
        user: Option<Bytes<'a>>,
    },
    /// The name that stands for it.
    Name {
        #[serde(flatten)]
        name: Bytes<'a>,
    },
    Bytes {
        #[serde(flatten)]
        fault: Fault<'a>,
    },
}

/// What was saved, as JSON.
#[derive(Serialize)]
struct Whole {
    version: u64,
    channels: u32,
    users: u32,
    rows: u64,
    messages: u64,
    whole: bool,
}

impl From<&Repair> for Whole {
    fn from(repair: &Repair) -> Whole {
        let saved = &repair.saved;
        Whole {
            version: saved.version,
            channels: saved.channels,
            users: saved.users,
            rows: saved.rows,
            messages: saved.messages,
            whole: repair.is_whole(),
        }
    }
}

fn lines(repair: &Repair) -> Vec<Missing<'_>> {
    let mut lines = Vec::new();
    lines.extend(repair.faults.iter().map(|fault| Missing::Bytes { fault: fault.into() }));
    lines.extend(repair.names.iter().map(|lost| {
        let name = if lost.channel { Bytes::channel(&lost.name) } else { Bytes::user(&lost.name) };
        Missing::Name { name }
    }));
    lines.extend(repair.messages.iter().map(|range| Missing::Messages {
        channel: Bytes::channel(&range.channel),
        from: range.from,
        to: range.to,
    }));
    lines.extend(repair.rows.iter().map(|rows| Missing::Rows {
        table: rows.table.as_deref(),
        between: rows.between,
        what: &rows.fault,
    }));
    lines.extend(
        repair.commits.iter().map(|(from, to)| Missing::Commits { from_version: *from, to_version: *to }),
    );
    lines.extend(repair.values.iter().map(|value| Missing::Value {
        version: value.version,
        table: &value.table,
        key: value.key,
        channel: value.channel.as_deref().map(Bytes::channel),
        user: value.user.as_deref().map(Bytes::user),
    }));
    lines
}

fn words(line: &Missing<'_>) -> String {
    match line {
        Missing::Messages { channel, from, to } => {
            format!("messages {from} to {to} of channel {} are missing", text::label(channel.bytes()))
        }
        Missing::Rows { table, between, what } => {
            let table = table.map_or("any table".to_owned(), |table| format!("table {table}"));
            format!(
                "rows of {table} from {:?} to {:?} are missing or old: {}",
                between.0,
                between.1,
                text::visible(what)
            )
        }
        Missing::Commits { from_version, to_version: Some(to) } => {
            format!("commits of versions {from_version} to {to} are missing")
        }
        Missing::Commits { from_version, to_version: None } => {
            format!("commits from version {from_version} on are missing")
        }
        Missing::Value { table, key, .. } => {
            format!("a long value of the row {key:?} of table {table} is missing")
        }
        Missing::Name { name } => format!("a name is lost: {} stands for it", text::label(name.bytes())),
        Missing::Bytes { fault } => text::visible(&fault.to_string()),
    }
}
