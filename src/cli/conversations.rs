//! `conversations`: the list of one user or of all, or what changed in it.

use std::ffi::OsString;
use std::path::PathBuf;

use chanlog::{Continuation, Conversation, ListChange, Store, SyncToken, Update};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::json::{Bytes, Message};
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// List a user's conversations, newest first, or what changed since an earlier list
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    #[command(flatten)]
    whose: Whose,
    /// At most so many entries for each user
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only conversations with unread messages
    #[arg(long)]
    unread: bool,
    /// Only what changed since the answer that gave this "as_of", oldest change first
    #[arg(long, value_name = "TOKEN")]
    since: Option<String>,
    /// Go on where a limit cut the answer that gave this "next"
    #[arg(long, value_name = "PAGE")]
    after: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The user
    #[arg(long, value_name = "NAME")]
    user: Option<OsString>,
    /// Every user who is or was a member somewhere, by name
    #[arg(long)]
    all: bool,
}

/// How many user names are read at once.
const USERS: usize = 1000;

/// What is asked of each user's list.
struct Question {
    limit: usize,
    unread: bool,
    since: Option<SyncToken>,
    after: Option<Continuation>,
}

/// One user's answer, be it a list or an update.
enum Answer {
    Reset,
    Entries { changes: Vec<ListChange>, as_of: SyncToken, next: Option<Continuation> },
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let question = Question {
        limit: args.limit.unwrap_or(usize::MAX),
        unread: args.unread,
        since: parse("--since", args.since.as_deref())?,
        after: parse("--after", args.after.as_deref())?,
    };
    let store = open::existing(&args.store)?;
    let mut out = Output::new();
    let mut print = |user: &[u8]| {
        let answer = question.ask(&store, user)?;
        if args.json { objects(&mut out, user, answer) } else { people(&mut out, user, answer) }
    };
    match &args.whose.user {
        Some(user) => print(open::name(user))?,
        None => each_user(&store, print)?,
    }
    Ok(out.flush()?)
}

fn parse<T: std::str::FromStr<Err = chanlog::Error>>(option: &str, text: Option<&str>) -> Result<Option<T>> {
    text.map(str::parse).transpose().map_err(|e| Failure::told(format!("{option}: {e}")))
}

/// Calls `visit` for every user who ever had a row, in byte order of their names.
fn each_user(store: &Store, mut visit: impl FnMut(&[u8]) -> Result) -> Result {
    let mut page = store.users().limit(USERS).list()?;
    while let Some(last) = page.last().cloned() {
        for user in &page {
            if store.has_memberships(user)? {
                visit(user)?;
            }
        }
        page = store.users().after(last).limit(USERS).list()?;
    }
    Ok(())
}

impl Question {
    fn ask(&self, store: &Store, user: &[u8]) -> Result<Answer> {
        let mut question = store.conversations(user).limit(self.limit);
        if self.unread {
            question = question.unread_only();
        }
        if let Some(page) = &self.after {
            question = question.after(page);
        }
        let Some(token) = &self.since else {
            let list = question.list()?;
            let changes = list.entries.into_iter().map(ListChange::Entry).collect();
            return Ok(Answer::Entries { changes, as_of: list.as_of, next: list.next });
        };
        match question.since(token)? {
            Update::Changes { changes, as_of, next, .. } => Ok(Answer::Entries { changes, as_of, next }),
            // Starting over is the answer that is right for whatever else a later library may say.
            _ => Ok(Answer::Reset),
        }
    }
}

/// An entry of a user's list as JSON.
#[derive(Serialize)]
pub struct Entry<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    #[serde(flatten)]
    channel: Bytes<'a>,
    last_seq: u64,
    read_seq: u64,
    unread: u64,
    /// How many of them mention the user, if any do.
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<u64>,
    version: u64,
    last: Option<Message<'a>>,
}

/// An entry that disappeared.
#[derive(Serialize)]
struct Removed<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    #[serde(flatten)]
    channel: Bytes<'a>,
    removed: bool,
    version: u64,
}

/// The answer to a token that tells nothing here.
#[derive(Serialize)]
struct Reset<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    reset: bool,
}

/// The end of an answer.
#[derive(Serialize)]
struct End<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    as_of: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<'a> Entry<'a> {
    /// An entry of this user's list.
    pub fn new(user: &'a [u8], entry: &'a Conversation) -> Self {
        Entry {
            user: Bytes::user(user),
            channel: Bytes::channel(&entry.channel),
            last_seq: entry.last_seq,
            read_seq: entry.read_seq,
            unread: entry.unread,
            mentions: Some(entry.mentions).filter(|mentions| *mentions > 0),
            version: entry.version,
            last: entry.last.as_ref().map(Message::from),
        }
    }
}

fn objects(out: &mut Output, name: &[u8], answer: Answer) -> Result {
    let user = || Bytes::user(name);
    let Answer::Entries { changes, as_of, next } = answer else {
        return Ok(out.json(&Reset { user: user(), reset: true })?);
    };
    for change in &changes {
        match change {
            ListChange::Entry(entry) => out.json(&Entry::new(name, entry))?,
            ListChange::Removed { channel, version, .. } => {
                let (channel, version) = (Bytes::channel(channel), *version);
                out.json(&Removed { user: user(), channel, removed: true, version })?;
            }
            other => return Err(Failure::told(format!("unknown change {other:?}"))),
        }
    }
    let (as_of, next) = (as_of.to_string(), next.map(|page| page.to_string()));
    Ok(out.json(&End { user: user(), as_of, next })?)
}

fn people(out: &mut Output, user: &[u8], answer: Answer) -> Result {
    out.line(format!("Conversations of {}", text::label(user)))?;
    let Answer::Entries { changes, as_of, next } = answer else {
        return Ok(out.line("start over: ask without --since\n")?);
    };
    if !changes.is_empty() {
        out.line(table(&changes))?;
    }
    if let Some(page) = next {
        out.line(format!("next page: --after {page}"))?;
    }
    Ok(out.line(format!("changes from here on: --since {as_of}\n"))?)
}

/// The table of a list or an update.
pub fn table(changes: &[ListChange]) -> comfy_table::Table {
    let mut table =
        output::table(&["channel", ">unread", ">last seq", ">read", "time (UTC)", "sender", "message"]);
    for change in changes {
        table.add_row(match change {
            ListChange::Entry(entry) => row(entry),
            ListChange::Removed { channel, .. } => vec![text::label(channel), "removed".into()],
            other => vec![format!("{other:?}")],
        });
    }
    table
}

fn row(entry: &Conversation) -> Vec<String> {
    let mut row = vec![
        text::label(&entry.channel),
        entry.unread.to_string(),
        entry.last_seq.to_string(),
        entry.read_seq.to_string(),
    ];
    if let Some(last) = &entry.last {
        row.extend([text::time(last.timestamp), text::label(&last.sender), text::shown(&last.payload)]);
    }
    row
}
