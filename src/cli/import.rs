//! `import`: JSON lines become commits. Each line is a commit of its own; many are in flight at once.
//!
//! A line is read in place: its values are decoded when its operation asks for them, so that what it carries besides costs
//! no memory. Only lines of an operation that has no form of its own here ([`other`]) are decoded as a whole.
//!
//! Invariant: `{"lines":N}` is printed only when each of the first N lines is on disk, or was found bad and skipped.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chanlog::{Argument, Batch, Commit, Draft, Error, HistoryFrom, JoinOptions, Options, Outcome, Store};
use indicatif::{HumanCount, ProgressBar};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::export;
use crate::facts;
use crate::failure::{Failure, Result};
use crate::json;
use crate::lines::{Lines, Next};
use crate::output::{self, Output};
use crate::progress;
use crate::text;

/// Write JSON lines to a store, which is made if need be.
///
/// The lines of an `export` make a store that holds the same, in a directory that is absent or empty; one bad line stops that, and
/// nothing is left of it. What follows is of other lines.
///
/// A line is a commit: {"channel":C,"user":U,"ts":UNIX_MS,"text":T} sends a message; a sender who is no member joins just
/// before. Further keys: "op" ("send", "join", "read", or any other operation by its name, such as "leave", "clear", "hide",
/// "activate", "class", with the operation's fields as keys; "attributes" of a membership, a channel or a user, by which names
/// are given; "append_at" a "seq" sends, without a join, what is not there yet; "set_base" of a channel by "seq" and "ordinal"; "pin", "mute" and "unread" without "on":false set what they say; "set_unread" takes "n"; "read_all" of a "user" marks all channels as read; "deliver" takes "seq"; "leave" with "keep" keeps for the user what could be read until then; "retract" of a message by its "seq", "edit" with "seq" and "text", "annotate" with
/// "seq", "key" and "text", which is empty in order to remove, "forget" of a range "from" a seq
/// "to" another by one user, "erase" of a message by its "seq", "erase_user" of all that a "user" sent, "trim" up to a "seq", "empty" and "delete_channel" of a channel, "delete_user" of a "user",
/// "retention" of a channel by "max_age_ms", "max_count" and "max_bytes"), "history" ("now", "all") of a join, "seq" of a read (to the end without
/// it), "silent", "quiet", "expires" (when, in Unix milliseconds), "mentions" (a list of users' names) or "mention_all", "client_id" (the client's id of the message, by
/// which a line that was sent before changes nothing; "id" means the same), "unique_id" (one that no other message has, by which
/// `message` finds it), "payload_base64" in place of "text". Names and ids
/// that are not UTF-8 come as "channel_base64", "user_base64", "mentions_base64", "client_id_base64", "id_base64", "unique_id_base64". Keys that an op does not
/// need are ignored, a key with null counts as absent. Blank lines are skipped, and counted as lines. A payload has at most
/// 1 MiB, a line about 6.
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Count bad lines and go on, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Print {"lines":N} after each durable commit: the first N lines are then safe. A line that a condition or another message
    /// refused is told as {"line":N,"refused":R}: "conflict" with the "seq" of the message that has the client id, "id_taken" with the
    /// "channel" and "seq" of the one that has the unique id, or "condition"
    #[arg(long)]
    json: bool,
    /// The file, plain or gzip; stdin if it is absent or "-"
    file: Option<PathBuf>,
}

/// How many commits may be on their way to the disk. They share its syncs.
const IN_FLIGHT: usize = 256;
/// The largest payload, in bytes.
const PAYLOAD: u32 = 1 << 20;
/// The longest line, in bytes. JSON takes six at most for one of the payload (`\u0001`); the rest has room beside it.
const LINE: usize = 6 * PAYLOAD as usize + (64 << 10);
/// How much of the cause is told for a bad line, in characters: it may quote the line.
const CAUSE: usize = 200;

/// Imports what `args` ask for.
pub fn run(args: &Args) -> Result {
    let (input, bar) = open(args)?;
    let mut lines = Lines::new(bar.wrap_read(input), LINE);
    let unread = |e| Failure::told(format!("line 1: the input can't be read: {e}"));
    if lines.begin_with(facts::BEGIN).map_err(unread)? {
        return whole(args, lines, &bar);
    }
    let store = Options::new().payload_limit(PAYLOAD).open(&args.store)?;
    let mut import = Import::new(&store, args);
    let started = Instant::now();
    import.all(lines)?;
    store.close()?;
    bar.finish_and_clear();
    import.summary(started.elapsed())
}

/// Makes a store of an export.
fn whole(args: &Args, lines: Lines, bar: &ProgressBar) -> Result {
    let started = Instant::now();
    let (lines, made) = export::import(&args.store, lines)?;
    bar.finish_and_clear();
    let mut out = Output::new();
    if args.json {
        out.json(&Safe { lines })?;
    } else {
        let (lines, messages) = (HumanCount(lines), HumanCount(made.messages));
        let seconds = started.elapsed().as_secs_f64();
        out.line(format!("{lines} lines of an export, {messages} messages in {seconds:.2} s"))?;
    }
    Ok(out.flush()?)
}

/// The input, and a bar that shows how much of it was read.
fn open(args: &Args) -> Result<(Box<dyn Read + Send>, ProgressBar)> {
    let Some(path) = args.file.as_ref().filter(|path| path.as_os_str() != "-") else {
        return Ok((Box::new(io::stdin()), progress::spinner("importing from stdin")));
    };
    let fail = |e: io::Error| Failure::told(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    // It can be opened, but not be read.
    if found.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), progress::bytes(found.len())))
}

struct Import<'a> {
    store: &'a Store,
    out: Output,
    args: &'a Args,
    /// Whether anybody reads which lines are safe.
    heard: bool,
    /// Commits on their way, each with the number of its line.
    pending: VecDeque<(u64, Commit)>,
    /// Lines that were taken in.
    lines: u64,
    /// Lines that were reported safe.
    told: u64,
    messages: u64,
    bad: u64,
}

/// So many lines are safe.
#[derive(Serialize)]
struct Safe {
    lines: u64,
}

/// A line that a condition or another message refused, and what that was.
#[derive(Serialize)]
struct Refused {
    line: u64,
    refused: &'static str,
    /// Where the other message is, if that is not the line's channel.
    #[serde(flatten)]
    channel: Option<OwnedName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

/// A channel's name that is nobody else's.
struct OwnedName(Vec<u8>);

impl Serialize for OwnedName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        json::Bytes::channel(&self.0).serialize(serializer)
    }
}

/// Why a line was not taken in.
enum Refusal {
    /// The line is at fault, and nothing was written.
    Bad(String),
    /// The same, by a condition or a message that was there before.
    Ruled(String, Refused),
    /// The store is.
    Store(Error),
}

impl<'a> Import<'a> {
    fn new(store: &'a Store, args: &'a Args) -> Self {
        let (out, pending) = (Output::new(), VecDeque::new());
        Import { store, out, args, heard: args.json, pending, lines: 0, told: 0, messages: 0, bad: 0 }
    }

    /// Takes in all lines. Whenever no line is waiting, what was taken in is made safe first.
    fn all(&mut self, mut input: Lines) -> Result {
        let mut wait = false;
        loop {
            let next = input.next(wait);
            wait = matches!(next, Ok(Next::Pending));
            match next {
                Ok(Next::Line(line)) => self.line(&line)?,
                Ok(Next::TooLong) => self.bad(&format!("longer than {LINE} bytes"))?,
                Ok(Next::Pending) => self.settle(0)?,
                Ok(Next::End) => return self.settle(0),
                Err(e) => return self.stop(&format!("the input can't be read: {e}")),
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result {
        if line.trim_ascii().is_empty() {
            self.lines += 1;
            return Ok(());
        }
        match self.submit(line) {
            Ok(commit) => {
                self.lines += 1;
                self.pending.push_back((self.lines, commit));
                self.settle(IN_FLIGHT)
            }
            Err(Refusal::Bad(cause)) => self.bad(&cause),
            Err(Refusal::Ruled(cause, refused)) => {
                if self.heard {
                    self.say(&refused)?;
                }
                self.bad(&cause)
            }
            Err(Refusal::Store(error)) => {
                self.settle(0)?;
                Err(error.into())
            }
        }
    }

    fn submit(&self, line: &[u8]) -> std::result::Result<Commit, Refusal> {
        let batch = parse(line).map_err(Refusal::Bad)?;
        let line = self.lines + 1;
        self.store.submit(&batch).map_err(|error| match error {
            // The place in the batch means nothing to somebody who wrote a line.
            Error::InvalidArgument { what, .. } => Refusal::Bad(what),
            Error::NotMember { .. } => Refusal::Bad("the user is no member of the channel".into()),
            Error::Conflict { seq, .. } => Refusal::Ruled(
                format!("message {seq} was sent before, with another content"),
                Refused { line, refused: "conflict", channel: None, seq: Some(seq) },
            ),
            Error::IdTaken { channel, seq, .. } => Refusal::Ruled(
                format!("the unique id is that of message {seq} in channel {}", text::label(&channel)),
                Refused {
                    line,
                    refused: "id_taken",
                    channel: Some(OwnedName(channel.to_vec())),
                    seq: Some(seq),
                },
            ),
            Error::ConditionFailed { .. } => Refusal::Ruled(
                "the condition does not hold".into(),
                Refused { line, refused: "condition", channel: None, seq: None },
            ),
            Error::NoMessage { seq, .. } => Refusal::Bad(format!("the channel has no message {seq}")),
            Error::Gap { seq, last, .. } => {
                Refusal::Bad(format!("message {seq} does not follow {last}, the last one"))
            }
            Error::Retracted { seq, .. } => Refusal::Bad(format!("message {seq} was retracted or erased")),
            Error::TooLarge { .. } => Refusal::Bad(error.to_string()),
            error => Refusal::Store(error),
        })
    }

    /// Skips a bad line, or stops there.
    fn bad(&mut self, cause: &str) -> Result {
        if !self.args.skip_bad {
            return self.stop(cause);
        }
        self.lines += 1;
        self.bad += 1;
        Ok(())
    }

    /// Ends the import before the present line.
    fn stop(&mut self, cause: &str) -> Result {
        self.settle(0)?;
        Err(Failure::told(format!("line {}: {}", self.lines + 1, text::cut(cause, CAUSE))))
    }

    /// Waits until at most `most` commits are on their way, and tells which lines are safe.
    fn settle(&mut self, most: usize) -> Result {
        let before = self.pending.len();
        while let Some((_, first)) = self.pending.front()
            && (self.pending.len() > most || first.is_done())
        {
            let Some((_, first)) = self.pending.pop_front() else { break };
            let receipt = first.wait()?;
            let appended = receipt.outcomes().iter().filter(|o| matches!(o, Outcome::Appended { .. }));
            self.messages += appended.count() as u64;
        }
        if most == 0 || self.pending.len() < before { self.tell() } else { Ok(()) }
    }

    fn tell(&mut self) -> Result {
        let safe = self.pending.front().map_or(self.lines, |(line, _)| line - 1);
        if !self.heard || safe == self.told {
            return Ok(());
        }
        self.told = safe;
        self.say(&Safe { lines: safe })
    }

    fn say(&mut self, object: &impl Serialize) -> Result {
        match self.out.json(object).and_then(|()| self.out.flush()) {
            // The work goes on when nobody listens any more.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.heard = false,
            done => done?,
        }
        Ok(())
    }

    fn summary(&mut self, time: Duration) -> Result {
        if self.bad > 0 {
            output::say(format!("{} bad lines were skipped", self.bad));
        }
        if !self.args.json {
            let seconds = time.as_secs_f64();
            let rate = HumanCount((self.messages as f64 / seconds.max(1e-9)) as u64);
            let (lines, messages) = (HumanCount(self.lines), HumanCount(self.messages));
            self.out
                .line(format!("{lines} lines, {messages} messages in {seconds:.2} s, {rate} messages/s"))?;
        }
        Ok(self.out.flush()?)
    }
}

/// Makes a line's batch, or tells what is wrong with the line.
fn parse(line: &[u8]) -> Parsed<Batch> {
    let line = std::str::from_utf8(line).map_err(|e| e.to_string())?;
    let fields = Fields(serde_json::from_str(line).map_err(|e| syntax(&e))?);
    let op = fields.text(Key::Op)?.unwrap_or_else(|| "send".into());
    let channel = fields.bytes(Key::Channel, Key::ChannelBase64)?;
    let user = fields.bytes(Key::User, Key::UserBase64)?;
    let mut batch = Batch::new();
    if !["send", "append_at", "join", "read"].contains(&&op[..]) {
        other(&mut batch, &op, line, (channel.as_deref(), user.as_deref()))?;
        return Ok(batch);
    }
    let (channel, user) = (channel.ok_or("no channel")?, user.ok_or("no user")?);
    match &op[..] {
        // Joining again as a member changes nothing, so nobody needs to look who is one.
        "send" => batch.join(&channel, &user).append(&channel, fields.draft(&user)?),
        "append_at" => batch.append_at(&channel, fields.seq()?.ok_or("no seq")?, fields.draft(&user)?),
        "join" => batch.join_with(&channel, &user, JoinOptions::new().history(fields.history()?)),
        _ => batch.read(&channel, &user, fields.seq()?.unwrap_or(u64::MAX)),
    };
    Ok(batch)
}

/// Any further operation that the store knows, with its fields by their names. Attributes are those of a membership, a channel
/// or a user, by which names are given.
fn other(batch: &mut Batch, op: &str, line: &str, names: (Option<&[u8]>, Option<&[u8]>)) -> Parsed<()> {
    let op = match (op, names) {
        ("attributes", (Some(_), None)) => "channel_attributes",
        ("attributes", (None, Some(_))) => "user_attributes",
        ("unread", _) => "flag_unread",
        _ => op,
    };
    if !Batch::OPERATIONS.contains(&op) {
        return Err(format!("unknown op {op:?}"));
    }
    let given: serde_json::Map<String, Value> = serde_json::from_str(line).map_err(|e| syntax(&e))?;
    let opaque = |text: &str, base64: &str| match (given.get(text), given.get(base64)) {
        (Some(Value::String(text)), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(Value::String(text))) => {
            BASE64.decode(text).map(Some).map_err(|e| format!("{base64}: {e}"))
        }
        (Some(_), Some(_)) => Err(format!("both {text} and {base64}")),
        _ => Ok(None),
    };
    let (label, payload) = (opaque("key", "key_base64")?, opaque("text", "payload_base64")?);
    let argument = |field: &str| match (field, given.get(key(field))) {
        // To say an op is to want it: only `false` takes it back.
        ("on", None | Some(Value::Null)) => Some(Argument::Flag(true)),
        ("channel", _) => names.0.map(Argument::Bytes),
        ("user", _) => names.1.map(Argument::Bytes),
        ("key", _) => label.as_deref().map(Argument::Bytes),
        ("payload" | "value", _) => payload.as_deref().map(Argument::Bytes),
        (_, Some(Value::String(text))) => Some(Argument::Bytes(text.as_bytes())),
        (_, Some(Value::Bool(flag))) => Some(Argument::Flag(*flag)),
        (_, Some(Value::Number(number))) => number.as_i128().map(Argument::Number),
        _ => None,
    };
    let added = batch.operation(op, &mut { argument });
    added.map(drop).map_err(|error| error.to_string())
}

/// The key of a field, where lines have another word for it.
fn key(field: &str) -> &str {
    match field {
        "count" => "n",
        field => field,
    }
}

/// The parser counts lines too, from the start of this one; that number would only confuse.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.rfind(" at line ").map_or(&text[..], |at| &text[..at]);
    format!("{cause} at column {}", error.column())
}

/// A key of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Op,
    Channel,
    ChannelBase64,
    User,
    UserBase64,
    Ts,
    Text,
    PayloadBase64,
    ClientId,
    ClientIdBase64,
    UniqueId,
    UniqueIdBase64,
    Id,
    IdBase64,
    Silent,
    Quiet,
    Expires,
    Mentions,
    MentionsBase64,
    MentionAll,
    History,
    Seq,
    /// One that no operation asks for.
    #[serde(other)]
    Other,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A line's values by their keys, as they stand there. Those that an operation does not ask for may hold anything.
struct Fields<'a>(HashMap<Key, &'a RawValue>);

/// What a line holds, or what is wrong with it.
type Parsed<T> = std::result::Result<T, String>;

impl Fields<'_> {
    /// A value, unless absent or null. What it is not, if its type is wrong, is told as `what`.
    fn value<T: DeserializeOwned>(&self, key: Key, what: &str) -> Parsed<Option<T>> {
        let Some(value) = self.0.get(&key) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|e| match e.is_data() {
            true => format!("{key} is {what}"),
            false => format!("{key}: {}", syntax(&e)),
        })
    }

    fn text(&self, key: Key) -> Parsed<Option<String>> {
        self.value(key, "no string")
    }

    /// Bytes: those of a string, or base64 under another key.
    fn bytes(&self, key: Key, base64: Key) -> Parsed<Option<Vec<u8>>> {
        match (self.text(key)?, self.text(base64)?) {
            (Some(_), Some(_)) => Err(format!("both {key} and {base64}")),
            (Some(text), None) => Ok(Some(text.into_bytes())),
            (None, Some(text)) => BASE64.decode(text).map(Some).map_err(|e| format!("{base64}: {e}")),
            (None, None) => Ok(None),
        }
    }

    fn draft(&self, sender: &[u8]) -> Parsed<Draft> {
        let ts = self.value(Key::Ts, "no whole number of milliseconds")?.ok_or("no ts")?;
        let payload = self.bytes(Key::Text, Key::PayloadBase64)?.ok_or("neither text nor payload_base64")?;
        let mut draft = Draft::new(sender, ts, payload);
        let id = match (self.bytes(Key::ClientId, Key::ClientIdBase64)?, self.bytes(Key::Id, Key::IdBase64)?)
        {
            (Some(_), Some(_)) => return Err("both client_id and id".into()),
            (one, other) => one.or(other),
        };
        if let Some(id) = id {
            draft = draft.client_id(id);
        }
        if let Some(id) = self.bytes(Key::UniqueId, Key::UniqueIdBase64)? {
            draft = draft.unique_id(id);
        }
        draft = draft.mentions(self.mentions()?);
        if self.value(Key::MentionAll, "neither true nor false")?.unwrap_or(false) {
            draft = draft.mention_all();
        }
        if let Some(at) = self.value(Key::Expires, "no whole number of milliseconds")? {
            draft = draft.expires(at);
        }
        if self.value(Key::Quiet, "neither true nor false")?.unwrap_or(false) {
            draft = draft.quiet();
        }
        let silent = self.value(Key::Silent, "neither true nor false")?.unwrap_or(false);
        Ok(if silent { draft.silent() } else { draft })
    }

    /// The names of those whom a message mentions.
    fn mentions(&self) -> Parsed<Vec<Vec<u8>>> {
        let names = |key| self.value::<Vec<String>>(key, "no list of strings").map(Option::unwrap_or_default);
        let decode = |name: String| BASE64.decode(name).map_err(|e| format!("{}: {e}", Key::MentionsBase64));
        let plain = names(Key::Mentions)?.into_iter().map(|name| Ok(name.into_bytes()));
        plain.chain(names(Key::MentionsBase64)?.into_iter().map(decode)).collect()
    }

    fn history(&self) -> Parsed<HistoryFrom> {
        match self.text(Key::History)?.as_deref() {
            None | Some("now") => Ok(HistoryFrom::Now),
            Some("all") => Ok(HistoryFrom::Start),
            Some(other) => Err(format!("history is {other:?}, neither \"now\" nor \"all\"")),
        }
    }

    fn seq(&self) -> Parsed<Option<u64>> {
        self.value(Key::Seq, "no whole number of 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(line: &str) -> String {
        parse(line.as_bytes()).expect_err(line)
    }

    #[test]
    fn a_send_joins_its_sender_first() {
        let batch = parse(br#"{"channel":"c","user":"u","ts":-5,"text":""}"#).unwrap();
        assert_eq!(batch.len(), 2);
        let at = r#"{"channel":"c","user":"u","op":"append_at","seq":7,"ts":0,"text":""}"#;
        let expected = Batch::new().append_at("c", 7, Draft::new("u", 0, "")).as_bytes().to_vec();
        assert_eq!(parse(at.as_bytes()).unwrap().as_bytes(), expected);
        for op in ["join", "leave", "read", "hide", "activate", "pin", "mute", "unread", "clear"] {
            let line = format!(
                r#"{{"channel":"c","user":"u","op":"{op}","ts":[],"text":7,"silent":1,"more":{{}}}}"#
            );
            assert_eq!(parse(line.as_bytes()).unwrap().len(), 1);
        }
    }

    #[test]
    fn an_op_that_is_said_is_wanted_unless_it_says_otherwise() {
        let same = |line: &str, expected: &mut Batch| {
            assert_eq!(parse(line.as_bytes()).unwrap().as_bytes(), expected.as_bytes(), "{line}");
        };
        same(r#"{"channel":"c","user":"u","op":"pin"}"#, Batch::new().pin("c", "u", true));
        same(r#"{"channel":"c","user":"u","op":"mute","on":false}"#, Batch::new().mute("c", "u", false));
        same(r#"{"channel":"c","user":"u","op":"unread"}"#, Batch::new().flag_unread("c", "u", true));
        same(r#"{"channel":"c","user":"u","op":"set_unread","n":3}"#, Batch::new().set_unread("c", "u", 3));
        same(
            r#"{"channel":"c","op":"attributes","attributes":"x"}"#,
            Batch::new().channel_attributes("c", "x"),
        );
        same(r#"{"user":"u","op":"attributes","attributes":"x"}"#, Batch::new().user_attributes("u", "x"));
        same(
            r#"{"channel":"c","user":"u","op":"attributes","attributes":"x"}"#,
            Batch::new().attributes("c", "u", "x"),
        );
    }

    #[test]
    fn bad_lines_are_told_by_their_cause() {
        for (line, expected) in [
            ("{", "EOF while parsing an object at column 1"),
            ("[]", "invalid type: sequence, expected a map"),
            (r#"{"user":"u","ts":1,"text":""}"#, "no channel"),
            (r#"{"channel":"c","ts":1,"text":""}"#, "no user"),
            (r#"{"channel":"c","user":7,"ts":1,"text":""}"#, "user is no string"),
            (r#"{"channel":"c","user":"u","text":""}"#, "no ts"),
            (r#"{"channel":"c","user":"u","ts":1.5,"text":""}"#, "ts is no whole number"),
            (r#"{"channel":"c","user":"u","ts":1,"text":null}"#, "neither text nor payload_base64"),
            (r#"{"channel":"c","user":"u","ts":1,"text":"","payload_base64":""}"#, "both text"),
            (r#"{"channel":"c","user":"u","ts":1,"payload_base64":"?"}"#, "payload_base64: Invalid"),
            (r#"{"channel":"c","user":"u","ts":1,"text":"","silent":"yes"}"#, "silent is neither"),
            (r#"{"channel":"c","user":"u","ts":1,"text":"","id":7}"#, "id is no string"),
            (
                r#"{"channel":"c","user":"u","ts":1,"text":"","mentions":"bob"}"#,
                "mentions is no list of strings",
            ),
            (r#"{"channel":"c","user":"u","ts":1,"text":"","mention_all":1}"#, "mention_all is neither"),
            (r#"{"channel":"c","user":"u","op":"dance"}"#, "unknown op"),
            (r#"{"channel":"c","user":"u","op":"join","history":"some"}"#, "history is"),
            (r#"{"channel":"c","user":"u","op":"append_at","ts":1,"text":""}"#, "no seq"),
            (r#"{"channel":"c","user":"u","op":"read","seq":-1}"#, "seq is no whole number"),
            (r#"{"channel":"c","user":"u","op":"read","seq":18446744073709551616}"#, "seq is no whole"),
            (r#"{"channel":"\ud800","user":"u","op":"hide"}"#, "hex escape"),
        ] {
            let cause = cause(line);
            assert!(cause.contains(expected), "{line}: {cause}");
            assert!(!cause.contains("line 1"), "{cause}");
        }
        assert!(parse(b"{\"channel\":\"\xff\",\"user\":\"u\",\"op\":\"hide\"}").is_err());
    }
}
