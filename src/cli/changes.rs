//! `changes`: what changed in a channel after its messages were sent.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::{ChangeKind, MessageChange};
use serde::Serialize;

use crate::failure::Result;
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List what changed in a channel after its messages were sent, oldest change first
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: OsString,
    /// Only changes after this version
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    since: u64,
    /// At most so many changes
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let changes = store.changes(open::name(&args.channel)).since(args.since).limit(args.limit).list()?;
    let mut out = Output::new();
    if args.json {
        changes.iter().try_for_each(|change| out.json(&Versioned::from(change)))?;
    } else {
        people(&mut out, &changes)?;
    }
    Ok(out.flush()?)
}

/// A change as JSON. Its version comes before it.
#[derive(Serialize)]
pub struct Line<'a> {
    seq: u64,
    change: &'static str,
    #[serde(flatten)]
    key: Option<Bytes<'a>>,
    #[serde(flatten)]
    value: Option<Bytes<'a>>,
}

impl<'a> From<&'a MessageChange> for Line<'a> {
    fn from(change: &'a MessageChange) -> Self {
        let (word, key, value) = match &change.kind {
            ChangeKind::Edited { payload, .. } => ("edited", None, Some(payload)),
            ChangeKind::Retracted => ("retracted", None, None),
            ChangeKind::Erased => ("erased", None, None),
            ChangeKind::Expired => ("expired", None, None),
            ChangeKind::Annotated { key, value, .. } => ("annotated", Some(key), Some(value)),
            ChangeKind::Unannotated { key, .. } => ("unannotated", Some(key), None),
            _ => ("altered", None, None),
        };
        Line {
            seq: change.seq,
            change: word,
            key: key.map(|key| Bytes::key(key)),
            value: value.map(|value| Bytes::payload(value)),
        }
    }
}

/// A change with its version.
#[derive(Serialize)]
struct Versioned<'a> {
    version: u64,
    #[serde(flatten)]
    line: Line<'a>,
}

impl<'a> From<&'a MessageChange> for Versioned<'a> {
    fn from(change: &'a MessageChange) -> Self {
        Versioned { version: change.version, line: change.into() }
    }
}

impl Line<'_> {
    /// What changed, in words.
    pub fn words(&self) -> String {
        let parts = [&self.key, &self.value].into_iter().flatten().map(|bytes| text::shown(bytes.bytes()));
        [self.change.to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join(" ")
    }
}

fn people(out: &mut Output, changes: &[MessageChange]) -> Result {
    let mut table = output::table(&[">version", ">seq", "change", "key", "value"]);
    for change in changes {
        let line = Line::from(change);
        let shown =
            |bytes: &Option<Bytes<'_>>| bytes.as_ref().map_or_else(String::new, |b| text::shown(b.bytes()));
        table.add_row([
            change.version.to_string(),
            line.seq.to_string(),
            line.change.into(),
            shown(&line.key),
            shown(&line.value),
        ]);
    }
    Ok(out.line(table)?)
}
