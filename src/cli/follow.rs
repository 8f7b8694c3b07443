//! `follow`: what happens in a store's channels, as it happens.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use chanlog::{Event, Feed, Store, SyncToken};
use serde::Serialize;

use crate::changes;
use crate::failure::{Failure, Result};
use crate::json;
use crate::open;
use crate::output::{Output, say};
use crate::text;

/// Print what happens in all channels, or in one: messages, and what changes of them, in the order of the commits
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<OsString>,
    /// Go on after this token, which --once prints; from the beginning without it
    #[arg(long, value_name = "TOKEN")]
    after: Option<String>,
    /// Only what comes from now on
    #[arg(long, conflicts_with = "after")]
    new: bool,
    /// End after all that there is, with a line that has a token with which to go on
    #[arg(long)]
    once: bool,
    /// Look again every so many milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    every: u64,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Prints what `args` ask for.
pub fn run(args: &Args) -> Result {
    let mut token = args.after.as_deref().map(str::parse::<SyncToken>).transpose()?;
    if args.new {
        token = Some(open::existing(&args.store)?.feed().from_now()?.token()?);
    }
    let mut out = Output::new();
    loop {
        // A reader sees the store as of its opening.
        let store = open::existing(&args.store)?;
        let mut feed = feed(&store, args, token.as_ref());
        let damaged = print(&mut out, &mut feed, args.json)?;
        let told = feed.token()?;
        if args.once {
            end(&mut out, &told, args.json)?;
            return damaged.map_or(Ok(()), Err);
        }
        if let Some(damaged) = damaged {
            say(damaged);
        }
        out.flush()?;
        token = Some(told);
        thread::sleep(Duration::from_millis(args.every.max(1)));
    }
}

fn feed(store: &Store, args: &Args, token: Option<&SyncToken>) -> Feed {
    let mut feed = store.feed();
    if let Some(token) = token {
        feed = feed.after(token);
    }
    match &args.channel {
        Some(channel) => feed.channel(open::name(channel)),
        None => feed,
    }
}

/// Prints all that a feed has. Damage takes what it took, and is told after the rest.
fn print(out: &mut Output, feed: &mut Feed, json: bool) -> Result<Option<Failure>> {
    let mut damaged = None;
    for event in feed {
        match event {
            Ok(event) if json => out.json(&Line::from(&event))?,
            Ok(event) => out.line(people(&event))?,
            Err(error @ chanlog::Error::Corruption { .. }) => _ = damaged.get_or_insert(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(damaged)
}

fn end(out: &mut Output, token: &SyncToken, json: bool) -> Result {
    #[derive(Serialize)]
    struct Token {
        token: String,
    }
    match json {
        true => out.json(&Token { token: token.to_string() })?,
        false => out.line(format_args!("to go on: --after {token}"))?,
    }
    Ok(out.flush()?)
}

/// An event as JSON.
#[derive(Serialize)]
struct Line<'a> {
    version: u64,
    event: &'static str,
    #[serde(flatten)]
    channel: Option<json::Bytes<'a>>,
    #[serde(flatten)]
    message: Option<json::Message<'a>>,
    #[serde(flatten)]
    change: Option<changes::Line<'a>>,
    #[serde(flatten)]
    own: Option<Own>,
    #[serde(flatten)]
    user: Option<Of<'a>>,
}

/// What is told of a user.
#[derive(Serialize)]
struct Of<'a> {
    #[serde(flatten)]
    user: json::Bytes<'a>,
    /// What the user sent up to this version is erased, or 0.
    erased_upto: u64,
    deleted: bool,
}

/// What is told of a channel itself.
#[derive(Serialize)]
struct Own {
    class: u8,
    trimmed_seq: u64,
}

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        let line = |word, channel: Option<&'a bytes::Bytes>| Line {
            version: event.version(),
            event: word,
            channel: channel.map(|name| json::Bytes::channel(name)),
            message: None,
            change: None,
            own: None,
            user: None,
        };
        match event {
            Event::Message { channel, message, .. } => {
                Line { message: Some(message.into()), ..line("message", Some(channel)) }
            }
            Event::Change { channel, change, .. } => {
                Line { change: Some(change.into()), ..line("change", Some(channel)) }
            }
            Event::Channel { channel, head, .. } => {
                let own = Own { class: head.class, trimmed_seq: head.trimmed.seq };
                Line { own: Some(own), ..line("channel", Some(channel)) }
            }
            Event::User { user, erased, deleted, .. } => Line {
                user: Some(Of { user: json::Bytes::user(user), erased_upto: *erased, deleted: *deleted }),
                ..line("user", None)
            },
            Event::Rewound { .. } => line("rewound", None),
            _ => line("other", None),
        }
    }
}

/// An event as a line for people.
fn people(event: &Event) -> String {
    match event {
        Event::Message { channel, message, .. } => format!(
            "{} {} {} {}: {}",
            text::time(message.timestamp),
            text::label(channel),
            message.seq,
            text::label(&message.sender),
            json::state(message).map_or_else(|| text::shown(&message.payload), |state| format!("({state})")),
        ),
        Event::Change { channel, change, .. } => {
            let line = changes::Line::from(change);
            format!("{} {} {}", text::label(channel), change.seq, line.words())
        }
        Event::Channel { channel, head, .. } => {
            format!("{} class {}, trimmed up to {}", text::label(channel), head.class, head.trimmed.seq)
        }
        Event::User { user, erased, deleted, .. } => {
            let erased = (*erased > 0)
                .then(|| format!("what {} sent up to version {erased} was erased", text::label(user)));
            let deleted = deleted.then(|| format!("{} was deleted", text::label(user)));
            erased.into_iter().chain(deleted).collect::<Vec<_>>().join(", ")
        }
        Event::Rewound { version, .. } => {
            format!("a crash took what came after version {version}; it goes on from there")
        }
        other => format!("something of version {}", other.version()),
    }
}
