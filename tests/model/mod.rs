//! A brute-force model of a store, and what tests share around it.
//!
//! The model keeps every message and row in plain maps and counts afresh whenever it is asked: it owns the rules as the
//! contract states them, not the way in which a store keeps them. Seqs stand for marks; ordinals are counted from the
//! messages. `changes[v - 1]` tells what version `v` touched, and `since` reads that whole history.

#![allow(dead_code)] // Each test file uses its own part of this.

pub mod check;
pub mod client;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use chanlog::{
    BUFFERED_WINDOW, Batch, Condition, Draft, Durability, Head, HistoryFrom, JoinOptions, LeaveOptions, Mark,
    Message, MessageState, Outcome, RetentionPolicy,
};

pub type Name = Vec<u8>;

/// A message as a caller hands it over.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Post {
    pub sender: Name,
    pub timestamp: i64,
    pub silent: bool,
    pub id: Option<u64>,
    pub client_id: Option<Bytes>,
    pub unique_id: Option<Bytes>,
    pub payload: Bytes,
    /// Refused unless the sender is a member.
    pub members_only: bool,
    /// Whom it mentions. What is stored does not tell it.
    pub mentions: Vec<Name>,
    pub mention_all: bool,
    /// In histories alone.
    pub quiet: bool,
    /// When it expires.
    pub expires: Option<i64>,
}

/// Names and the start of the payload, for people who read a failed comparison.
impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Post { sender, timestamp, silent, id, client_id, payload, .. } = self;
        let (sender, start, len) = (check::text(sender), check::text(payload), payload.len());
        write!(f, "{sender} at {timestamp}, silent {silent}, {id:?}, {client_id:?}, {start} of {len} bytes")
    }
}

/// One operation of a batch, as data.
#[derive(Clone, Debug)]
pub enum Op {
    Append {
        channel: Name,
        post: Post,
    },
    AppendAt {
        channel: Name,
        seq: u64,
        post: Post,
    },
    SetBase {
        channel: Name,
        base: Mark,
    },
    Join {
        channel: Name,
        user: Name,
        visible: HistoryFrom,
        read: Option<u64>,
        role: Option<u8>,
    },
    Leave {
        channel: Name,
        user: Name,
    },
    LeaveKeeping {
        channel: Name,
        user: Name,
    },
    Read {
        channel: Name,
        user: Name,
        seq: u64,
    },
    ReadAll {
        user: Name,
    },
    Deliver {
        channel: Name,
        user: Name,
        seq: u64,
    },
    Clear {
        channel: Name,
        user: Name,
        seq: Option<u64>,
    },
    Hide {
        channel: Name,
        user: Name,
    },
    Activate {
        channel: Name,
        user: Name,
    },
    Pin {
        channel: Name,
        user: Name,
        on: bool,
    },
    Mute {
        channel: Name,
        user: Name,
        on: bool,
    },
    Role {
        channel: Name,
        user: Name,
        role: u8,
    },
    Attributes {
        channel: Name,
        user: Name,
        attributes: Bytes,
    },
    FlagUnread {
        channel: Name,
        user: Name,
        on: bool,
    },
    ReadAt {
        channel: Name,
        user: Name,
        seq: u64,
    },
    SetUnread {
        channel: Name,
        user: Name,
        count: u64,
    },
    Class {
        channel: Name,
        class: u8,
    },
    ChannelAttributes {
        channel: Name,
        attributes: Bytes,
    },
    UserAttributes {
        user: Name,
        attributes: Bytes,
    },
    AddToSet {
        channel: Name,
        set: u8,
        user: Name,
        attributes: Option<Bytes>,
    },
    RemoveFromSet {
        channel: Name,
        set: u8,
        user: Name,
    },
    RequireChannel {
        channel: Name,
        condition: Condition,
    },
    RequireMember {
        channel: Name,
        user: Name,
        condition: Condition,
    },
    Retract {
        channel: Name,
        seq: u64,
    },
    Annotate {
        channel: Name,
        seq: u64,
        key: Bytes,
        value: Bytes,
    },
    Trim {
        channel: Name,
        seq: u64,
    },
    DeleteChannel {
        channel: Name,
    },
    Erase {
        channel: Name,
        seq: u64,
    },
    EraseUser {
        user: Name,
    },
    DeleteUser {
        user: Name,
    },
    /// Upkeep ends the membership of a deleted user in a channel, or all have ended.
    End {
        user: usize,
        channel: Option<usize>,
    },
    /// Upkeep lets a message expire.
    Expire {
        channel: usize,
        seq: u64,
    },
    Retention {
        channel: Name,
        age: Option<u64>,
        count: Option<u64>,
    },
    Forget {
        channel: Name,
        user: Name,
        from: u64,
        to: u64,
    },
    Edit {
        channel: Name,
        seq: u64,
        payload: Bytes,
    },
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NotMember,
    /// There is no such message.
    NoMessage,
    /// Messages before it are missing.
    Gap {
        seq: u64,
    },
    /// The message was retracted or erased.
    Retracted,
    Condition,
    /// The client id or the seq is that of another message.
    Conflict {
        seq: u64,
    },
    /// The unique id is that of another message.
    IdTaken {
        seq: u64,
    },
}

/// Which operation refuses a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub op: usize,
    pub why: Why,
}

/// The batch that asks a store for `ops`.
pub fn batch(ops: &[Op], durability: Durability) -> Batch {
    let mut batch = Batch::new();
    batch.durability(durability);
    for op in ops.iter().cloned() {
        match op {
            Op::Append { channel, post } => batch.append(channel, draft(&post)),
            Op::AppendAt { channel, seq, post } => batch.append_at(channel, seq, draft(&post)),
            Op::SetBase { channel, base } => batch.set_base(channel, base),
            Op::Join { channel, user, visible, read, role } => {
                batch.join_with(channel, user, join_options(visible, read, role))
            }
            Op::Leave { channel, user } => batch.leave(channel, user),
            Op::LeaveKeeping { channel, user } => {
                batch.leave_with(channel, user, LeaveOptions::new().keep_history())
            }
            Op::Read { channel, user, seq } => batch.read(channel, user, seq),
            Op::ReadAll { user } => batch.read_all(user),
            Op::Deliver { channel, user, seq } => batch.deliver(channel, user, seq),
            Op::Clear { channel, user, seq: None } => batch.clear(channel, user),
            Op::Clear { channel, user, seq: Some(seq) } => batch.clear_to(channel, user, seq),
            Op::Hide { channel, user } => batch.hide(channel, user),
            Op::Activate { channel, user } => batch.activate(channel, user),
            Op::Pin { channel, user, on } => batch.pin(channel, user, on),
            Op::Mute { channel, user, on } => batch.mute(channel, user, on),
            Op::Role { channel, user, role } => batch.role(channel, user, role),
            Op::Attributes { channel, user, attributes } => batch.attributes(channel, user, attributes),
            Op::FlagUnread { channel, user, on } => batch.flag_unread(channel, user, on),
            Op::ReadAt { channel, user, seq } => batch.read_at(channel, user, seq),
            Op::SetUnread { channel, user, count } => batch.set_unread(channel, user, count),
            Op::Class { channel, class } => batch.class(channel, class),
            Op::ChannelAttributes { channel, attributes } => batch.channel_attributes(channel, attributes),
            Op::UserAttributes { user, attributes } => batch.user_attributes(user, attributes),
            Op::AddToSet { channel, set, user, attributes: None } => batch.add_to_set(channel, set, user),
            Op::AddToSet { channel, set, user, attributes: Some(attributes) } => {
                batch.add_to_set_with(channel, set, user, attributes)
            }
            Op::RemoveFromSet { channel, set, user } => batch.remove_from_set(channel, set, user),
            Op::RequireChannel { channel, condition } => batch.require_channel(channel, condition),
            Op::RequireMember { channel, user, condition } => batch.require_member(channel, user, condition),
            Op::Retract { channel, seq } => batch.retract(channel, seq),
            Op::Annotate { channel, seq, key, value } => batch.annotate(channel, seq, key, value),
            Op::Trim { channel, seq } => batch.trim(channel, seq),
            Op::DeleteChannel { channel } => batch.delete_channel(channel),
            Op::Erase { channel, seq } => batch.erase(channel, seq),
            Op::EraseUser { user } => batch.erase_user(user),
            Op::DeleteUser { user } => batch.delete_user(user),
            Op::End { .. } | Op::Expire { .. } => unreachable!("only upkeep asks for it"),
            Op::Retention { channel, age, count } => batch.retention(channel, policy(age, count)),
            Op::Forget { channel, user, from, to } => batch.forget(channel, user, from, to),
            Op::Edit { channel, seq, payload } => batch.edit(channel, seq, payload),
        };
    }
    batch
}

fn policy(age: Option<u64>, count: Option<u64>) -> RetentionPolicy {
    let policy = RetentionPolicy::new();
    let policy = age.map_or(policy, |ms| policy.max_age(Duration::from_millis(ms)));
    count.map_or(policy, |count| policy.max_count(count))
}

/// Whether a line of a set is told in a list, or among what changed since a version.
fn told(line: &Line, since: Option<u64>) -> bool {
    since.map_or(line.1.is_some(), |version| line.2 > version)
}

/// Whether a condition holds of what was found: a version, and attributes.
fn holds(condition: &Condition, found: Option<(u64, &Bytes)>) -> bool {
    match (condition, found) {
        (Condition::Absent, found) => found.is_none(),
        (_, None) => false,
        (Condition::Present, Some(_)) => true,
        (Condition::Version(version), Some((found, _))) => *version == found,
        (Condition::Attributes(attributes), Some((_, found))) => attributes == found,
        _ => unreachable!("a condition that the model does not know"),
    }
}

fn join_options(history: HistoryFrom, read: Option<u64>, role: Option<u8>) -> JoinOptions {
    let options = JoinOptions::new().history(history);
    let options = role.map_or(options, |role| options.role(role));
    read.map_or(options, |seq| options.read(seq))
}

fn draft(post: &Post) -> Draft {
    let mut draft = Draft::new(&post.sender, post.timestamp, post.payload.clone());
    if post.silent {
        draft = draft.silent();
    }
    draft = draft.mentions(&post.mentions);
    if post.quiet {
        draft = draft.quiet();
    }
    if post.mention_all {
        draft = draft.mention_all();
    }
    if post.members_only {
        draft = draft.members_only();
    }
    if let Some(at) = post.expires {
        draft = draft.expires(at);
    }
    if let Some(id) = post.id {
        draft = draft.id(id);
    }
    if let Some(id) = &post.unique_id {
        draft = draft.unique_id(id);
    }
    match &post.client_id {
        Some(id) => draft.client_id(id),
        None => draft,
    }
}

/// A stored message.
#[derive(Clone, Debug, Eq)]
pub struct Msg {
    pub seq: u64,
    pub ordinal: u64,
    pub version: u64,
    pub post: Post,
    pub fate: Fate,
    /// The number of its sender; that of nobody in what a store answers.
    pub by: usize,
}

impl PartialEq for Msg {
    /// As readers see it.
    fn eq(&self, other: &Self) -> bool {
        let seen = |fate: Fate| match fate {
            Fate::Erased { version, .. } => Fate::Erased { version, retracted: false },
            fate => fate,
        };
        (self.seq, self.ordinal, self.version, seen(self.fate))
            == (other.seq, other.ordinal, other.version, seen(other.fate))
            && self.post == other.post
    }
}

/// What became of a message, with the version of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    Edited(u64),
    Retracted(u64),
    /// And whether it had been retracted before.
    Erased {
        version: u64,
        retracted: bool,
    },
    /// Upkeep committed that.
    Expired(u64),
    /// As readers are told of it, with its time.
    ExpiredAt(i64),
}

/// What changed of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Edited(Bytes),
    Retracted,
    Erased,
    Expired,
    /// A key, and its value; none if it was removed.
    Annotated(Bytes, Bytes),
}

impl Msg {
    /// Whether it counts as unread for those who have not read it.
    fn counts(&self) -> bool {
        !self.post.silent && !self.retracted()
    }

    pub fn retracted(&self) -> bool {
        matches!(self.fate, Fate::Retracted(_) | Fate::Erased { retracted: true, .. } | Fate::Expired(_))
    }

    /// Whether nobody reads its payload any more.
    fn withheld(&self) -> bool {
        matches!(self.fate, Fate::Retracted(_) | Fate::Erased { .. } | Fate::Expired(_))
    }
}

impl From<&Message> for Msg {
    fn from(m: &Message) -> Self {
        let post = Post {
            sender: m.sender.to_vec(),
            timestamp: m.timestamp,
            silent: m.silent,
            id: m.id,
            client_id: m.client_id.clone(),
            unique_id: m.unique_id.clone(),
            payload: m.payload.clone(),
            members_only: false,
            mentions: Vec::new(),
            mention_all: false,
            quiet: m.quiet,
            expires: m.expires,
        };
        let fate = match m.state {
            MessageState::Sent => Fate::Sent,
            MessageState::Edited { version, .. } => Fate::Edited(version),
            MessageState::Retracted { version, .. } => Fate::Retracted(version),
            // A message does not tell whether it had been retracted.
            MessageState::Erased { version, .. } => Fate::Erased { version, retracted: false },
            MessageState::Expired { at, .. } => Fate::ExpiredAt(at),
            _ => unreachable!("a state that the model does not know"),
        };
        Msg { seq: m.seq, ordinal: m.ordinal, version: m.version, post, fate, by: usize::MAX }
    }
}

/// An entry of a conversation list.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub channel: Name,
    pub class: u8,
    pub last_seq: u64,
    pub read_seq: u64,
    pub unread: u64,
    pub mentions: u64,
    pub version: u64,
    /// Those of messages, content, channel and row.
    pub versions: [u64; 4],
    pub last: Option<Msg>,
    pub member: Member,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { channel, class, last_seq, read_seq, unread, mentions, version, versions, last, member } =
            self;
        let channel = check::text(channel);
        write!(
            f,
            "{channel}: class {class}, last_seq {last_seq}, read_seq {read_seq}, unread {unread}, {mentions} mentions, version {version}, "
        )?;
        write!(f, "{versions:?}, {last:?}, {member:?}")
    }
}

/// A change of a conversation list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a model is small, and simple first")]
pub enum Event {
    Entry(Entry),
    Removed { channel: Name, version: u64 },
}

impl Event {
    fn version(&self) -> u64 {
        match self {
            Event::Entry(entry) => entry.version,
            Event::Removed { version, .. } => *version,
        }
    }
}

/// A membership as `Store::membership` answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub join_seq: u64,
    pub read: Mark,
    pub own: Mark,
    pub cleared: Mark,
    pub hidden: u64,
    pub activated: u64,
    pub withdrawn: u64,
    pub pinned: bool,
    pub muted: bool,
    pub role: u8,
    pub attributes: Bytes,
    pub flagged: bool,
    pub forgot: u64,
    pub version: u64,
}

/// A question for a range of messages.
#[derive(Clone, Debug)]
pub struct Range {
    pub from: u64,
    pub to: u64,
    pub limit: usize,
    pub bytes: u64,
    pub reverse: bool,
    pub viewer: Option<Name>,
    pub times: (i64, i64),
    pub sender: Option<Name>,
}

impl Default for Range {
    fn default() -> Self {
        Range {
            from: 1,
            to: u64::MAX,
            limit: usize::MAX,
            bytes: u64::MAX,
            reverse: false,
            viewer: None,
            times: (i64::MIN, i64::MAX),
            sender: None,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Channel {
    name: Name,
    messages: BTreeMap<u64, Msg>,
    /// Where it begins, if that is not before seq 1.
    base: Mark,
    /// Seqs up to here may have been seen before a loss of power.
    reserved: u64,
    class: u8,
    attributes: Bytes,
    /// Messages up to this seq were trimmed. They stay here, so that ordinals are counted as ever.
    trimmed: u64,
    /// The version at which it was deleted, or 0. It stays here, under no name.
    dead: u64,
    /// How old, and how many, messages may become; 0 for no limit.
    limits: (u64, u64),
    /// Whether anything was ever kept with it, and when last.
    kept: Option<u64>,
    /// When the content of a message or an annotation changed last.
    content: u64,
    /// By seq and key, with the version; removed ones without a value.
    annotations: BTreeMap<(u64, Bytes), (Bytes, u64)>,
    /// Whom messages mention, by seq: everybody, or those who are named.
    mentions: BTreeMap<u64, (bool, Vec<usize>)>,
}

impl Channel {
    fn last(&self) -> Option<&Msg> {
        self.messages.values().next_back()
    }

    fn end(&self) -> u64 {
        self.last().map_or(self.base.seq, |m| m.seq)
    }

    fn order(&self) -> u64 {
        self.last().map_or(0, |m| m.version)
    }

    /// The last message that is not quiet.
    fn loud(&self) -> Option<&Msg> {
        self.messages.values().rev().find(|m| !m.post.quiet)
    }

    /// Its seq.
    fn loud_end(&self) -> u64 {
        self.loud().map_or(0, |m| m.seq)
    }

    /// Its version.
    fn loud_order(&self) -> u64 {
        self.loud().map_or(0, |m| m.version)
    }

    /// The version of the last change that its members are told of.
    fn changed(&self) -> u64 {
        self.order().max(self.kept.unwrap_or(0)).max(self.content)
    }

    /// The seq that the next message gets.
    fn next(&self) -> u64 {
        self.end().max(self.reserved) + 1
    }

    /// The greatest seq of a message of which something is true.
    fn greatest(&self, which: impl Fn(&Msg) -> bool) -> u64 {
        self.messages.values().rev().find(|m| which(m)).map_or(0, |m| m.seq)
    }

    /// The mark at `seq`, its ordinal taken from the last message that is not beyond it.
    fn mark(&self, seq: u64) -> Mark {
        let before = self.messages.range(..=seq).next_back();
        let base = if seq < self.base.seq { 0 } else { self.base.ordinal };
        Mark { seq, ordinal: before.map_or(base, |(_, m)| m.ordinal) }
    }

    /// What a member has not read.
    fn unread(&self, row: &Row) -> u64 {
        let later = self.messages.range(row.cursor().max(self.trimmed) + 1..);
        later.filter(|(seq, m)| m.counts() && !row.hides(**seq)).count() as u64
    }

    /// How many of the messages that a member has not read mention the user.
    fn mentions(&self, row: &Row, user: usize) -> u64 {
        let later = self.messages.range(row.cursor().max(self.trimmed) + 1..);
        let later = later.filter(|(seq, m)| m.counts() && !row.hides(**seq) && m.by != user);
        let meant =
            |seq: &u64| self.mentions.get(seq).is_some_and(|(all, users)| *all || users.contains(&user));
        later.filter(|(seq, _)| meant(seq)).count() as u64
    }

    /// A place as an operation may set it: not before where trimming ended.
    fn reach(&self, seq: u64) -> u64 {
        seq.min(self.end()).max(self.trimmed)
    }

    /// A row of a member, in the terms of a store.
    fn member(&self, row: &Row) -> Member {
        Member {
            join_seq: row.join_seq,
            read: self.mark(row.read),
            own: self.mark(row.own_read()),
            cleared: self.mark(row.cleared),
            hidden: row.hidden,
            activated: row.activated,
            withdrawn: row.withdrawn,
            pinned: row.pinned,
            muted: row.muted,
            role: row.role,
            attributes: row.attributes.clone(),
            flagged: row.flagged,
            forgot: row.forgot.iter().map(|(_, to)| *to).max().unwrap_or(0),
            version: row.version,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    member: bool,
    join_seq: u64,
    read: u64,
    own: u64,
    /// The cursor was set outright since the own message, which no longer counts as read by itself.
    own_ended: bool,
    cleared: u64,
    /// Off the list until a message beyond this seq.
    hidden: u64,
    activated: u64,
    pinned: bool,
    muted: bool,
    role: u8,
    attributes: Bytes,
    /// Flagged as unread.
    flagged: bool,
    /// What the user hid, each from and to a seq.
    forgot: Vec<(u64, u64)>,
    /// Up to which seq messages were delivered, and the version of that.
    delivered: (u64, u64),
    version: u64,
    /// When the user last took the conversation off the list, and when the user last left, as versions.
    withdrawn: u64,
    left: u64,
}

impl Row {
    fn floor(&self) -> u64 {
        (self.join_seq - 1).max(self.cleared)
    }

    fn cursor(&self) -> u64 {
        self.floor().max(self.read).max(self.own_read())
    }

    /// Whether the user hid a message.
    fn hides(&self, seq: u64) -> bool {
        self.forgot.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// What counts as read by the user's own last message.
    fn own_read(&self) -> u64 {
        if self.own_ended { 0 } else { self.own }
    }

    fn visible(&self, channel: &Channel) -> bool {
        self.member && (channel.loud_end() > self.floor().max(self.hidden) || self.activated > 0)
    }
}

/// What somebody who left may still read.
#[derive(Clone, Debug)]
struct Kept {
    from: u64,
    to: u64,
    forgot: Vec<(u64, u64)>,
}

impl Kept {
    fn shows(&self, seq: u64) -> bool {
        let hidden = self.forgot.iter().any(|(from, to)| (*from..=*to).contains(&seq));
        (self.from..=self.to).contains(&seq) && !hidden
    }
}

/// The row of a user in a set: attributes, `None` after the removal.
#[derive(Clone, Debug)]
struct InSet {
    kept: Option<Bytes>,
    version: u64,
}

/// A line of a list of a set: name, attributes unless removed, version.
pub type Line = (Name, Option<Bytes>, u64);

#[derive(Clone, Debug)]
struct Touch {
    /// `None` for what is kept with a user.
    channel: Option<usize>,
    /// Whose row changed; `None` for a message, and for what is kept with the channel.
    user: Option<usize>,
}

/// A store as the contract describes it. Names get numbers in the order in which they are met.
#[derive(Clone, Debug)]
pub struct Model {
    channels: Vec<Channel>,
    users: Vec<Name>,
    channel_ids: BTreeMap<Name, usize>,
    user_ids: BTreeMap<Name, usize>,
    /// By user, then channel. A row that is no member is a tombstone.
    rows: BTreeMap<(usize, usize), Row>,
    changes: Vec<Touch>,
    /// What is kept with users.
    attributes: BTreeMap<usize, Bytes>,
    /// By user, then channel. Of those who are members again, it is not looked at.
    kept_histories: BTreeMap<(usize, usize), Kept>,
    /// By channel, set, and user.
    sets: BTreeMap<(usize, u8, usize), InSet>,
    /// The deleted users, with the version of that, and whether their memberships have ended.
    dead: BTreeMap<usize, (u64, bool)>,
    /// What a user sent up to a version is erased.
    erased: BTreeMap<usize, u64>,
    /// The payloads of messages as they were sent, by version.
    sent: BTreeMap<u64, Bytes>,
    /// The version of the present batch's first change.
    first: u64,
    /// The time of whoever reads.
    pub now: i64,
    /// For how many versions a client id makes a send unique; `None` for ever.
    pub window: Option<u64>,
    /// How many tombstones a store must keep for each user.
    tombstones: usize,
    /// By user, the newest tombstone that a store may have dropped.
    forgotten: BTreeMap<usize, u64>,
}

impl Default for Model {
    fn default() -> Self {
        Model::new(usize::MAX)
    }
}

/// Writing.
impl Model {
    /// The model of an empty store that keeps so many tombstones for each user.
    pub fn new(tombstones: usize) -> Self {
        Model {
            channels: Vec::new(),
            users: Vec::new(),
            channel_ids: BTreeMap::new(),
            user_ids: BTreeMap::new(),
            rows: BTreeMap::new(),
            changes: Vec::new(),
            attributes: BTreeMap::new(),
            kept_histories: BTreeMap::new(),
            sets: BTreeMap::new(),
            dead: BTreeMap::new(),
            erased: BTreeMap::new(),
            sent: BTreeMap::new(),
            first: 1,
            now: 0,
            window: None,
            tombstones,
            forgotten: BTreeMap::new(),
        }
    }

    /// The first operation that refuses a batch, if there is one, with the effect of those before it.
    pub fn refused(&self, ops: &[Op]) -> Option<usize> {
        self.refusal(ops).map(|refusal| refusal.op)
    }

    /// The same, and why.
    pub fn refusal(&self, ops: &[Op]) -> Option<Refusal> {
        let lax = |op: &Op| match op {
            Op::Append { post, .. } => {
                !post.members_only && post.client_id.is_none() && post.unique_id.is_none()
            }
            _ => false,
        };
        if ops.iter().all(lax) {
            return None;
        }
        let mut trial = self.clone();
        trial.first = self.version() + 1;
        for (op, asked) in ops.iter().enumerate() {
            if let Some(why) = trial.refuses(asked) {
                return Some(Refusal { op, why });
            }
            // The last one has no effect on others.
            if op + 1 < ops.len() {
                trial.apply_one(asked);
            }
        }
        None
    }

    /// Why an operation refuses its batch now.
    fn refuses(&self, op: &Op) -> Option<Why> {
        match op {
            Op::Append { channel, post } => self.refuses_send(channel, post),
            Op::AppendAt { channel, seq, post } => {
                let (end, trimmed) = self.channel(channel).map_or((0, 0), |c| (c.end(), c.trimmed));
                match self.channel(channel).and_then(|c| c.messages.get(seq)) {
                    _ if *seq == end + 1 => self.refuses_send(channel, post),
                    _ if *seq > end => Some(Why::Gap { seq: *seq }),
                    _ if *seq <= trimmed => None,
                    None => Some(Why::NoMessage),
                    Some(first)
                        if first.withheld()
                            || self.same_content(first, post) && first.post.sender == post.sender =>
                    {
                        None
                    }
                    Some(_) => Some(Why::Conflict { seq: *seq }),
                }
            }
            Op::SetBase { channel, base } => {
                let place = self.channel(channel)?;
                let (before, later) =
                    (place.base, base.seq >= place.base.seq && base.ordinal >= place.base.ordinal);
                let allowed = before == *base || place.messages.is_empty() && later;
                (!allowed).then_some(Why::Condition)
            }
            Op::Join { .. }
            | Op::Leave { .. }
            | Op::LeaveKeeping { .. }
            | Op::AddToSet { .. }
            | Op::RemoveFromSet { .. } => None,
            Op::Class { .. } | Op::ChannelAttributes { .. } | Op::UserAttributes { .. } => None,
            Op::Trim { .. } | Op::DeleteChannel { .. } | Op::Retention { .. } | Op::ReadAll { .. } => None,
            Op::EraseUser { .. } | Op::DeleteUser { .. } | Op::End { .. } | Op::Expire { .. } => None,
            Op::Retract { channel, seq }
            | Op::Erase { channel, seq }
            | Op::Annotate { channel, seq, .. }
            | Op::Edit { channel, seq, .. } => {
                let place = self.channel(channel).filter(|place| *seq > place.trimmed);
                match (place.and_then(|place| place.messages.get(seq)), op) {
                    (None, _) => Some(Why::NoMessage),
                    (Some(message), Op::Edit { .. }) if self.withheld(message) => Some(Why::Retracted),
                    _ => None,
                }
            }
            Op::RequireChannel { channel, condition } => {
                let found = self.channel(channel).map(|place| (place.kept.unwrap_or(0), &place.attributes));
                (!holds(condition, found)).then_some(Why::Condition)
            }
            Op::RequireMember { channel, user, condition } => {
                let found = self.row(channel, user).map(|row| (row.version, &row.attributes));
                (!holds(condition, found)).then_some(Why::Condition)
            }
            Op::Read { channel, user, .. }
            | Op::Clear { channel, user, .. }
            | Op::Deliver { channel, user, .. }
            | Op::Hide { channel, user }
            | Op::Activate { channel, user }
            | Op::Pin { channel, user, .. }
            | Op::Mute { channel, user, .. }
            | Op::Role { channel, user, .. }
            | Op::Attributes { channel, user, .. }
            | Op::FlagUnread { channel, user, .. }
            | Op::ReadAt { channel, user, .. }
            | Op::SetUnread { channel, user, .. }
            | Op::Forget { channel, user, .. } => (!self.is_member(channel, user)).then_some(Why::NotMember),
        }
    }

    fn refuses_send(&self, channel: &Name, post: &Post) -> Option<Why> {
        match self.sent_before(channel, post) {
            Some(first) if self.same_content(first, post) => return None,
            Some(first) => return Some(Why::Conflict { seq: first.seq }),
            None => {}
        }
        if post.members_only && !self.is_member(channel, &post.sender) {
            return Some(Why::NotMember);
        }
        let taken = post.unique_id.as_ref().and_then(|id| self.by_id(id));
        taken.map(|(_, first)| Why::IdTaken { seq: first.seq })
    }

    /// The message with a unique id, and its channel.
    pub fn by_id(&self, id: &[u8]) -> Option<(Name, Msg)> {
        let same = |m: &&Msg| m.post.unique_id.as_deref() == Some(id);
        let kept = |c: &'_ Channel| c.trimmed + 1..;
        self.channels.iter().find_map(|c| {
            let found = c.messages.range(kept(c)).map(|(_, m)| m).find(same)?;
            Some((c.name.clone(), self.seen(found)))
        })
    }

    /// Applies a whole batch, or tells which operation refuses it.
    pub fn apply(&mut self, ops: &[Op]) -> Result<Vec<Outcome>, usize> {
        match self.refused(ops) {
            Some(op) => Err(op),
            None => {
                self.first = self.version() + 1;
                Ok(ops.iter().map(|op| self.apply_one(op)).collect())
            }
        }
    }

    /// Whether a send is the same to a client as a message once was.
    fn same_content(&self, first: &Msg, post: &Post) -> bool {
        let class = |post: &Post| (post.silent || post.quiet, post.quiet);
        (&self.sent[&first.version], class(&first.post)) == (&post.payload, class(post))
    }

    /// The message that was sent to a channel with the same client id by the same sender, if that still counts.
    fn sent_before(&self, channel: &Name, post: &Post) -> Option<&Msg> {
        let id = post.client_id.as_ref()?;
        let messages = &self.channel(channel)?.messages;
        let sender = self.user_ids.get(&post.sender)?;
        let same = |m: &&Msg| m.post.client_id.as_ref() == Some(id) && m.by == *sender;
        let counts =
            |m: &&Msg| self.window.is_none_or(|window| self.first.saturating_sub(m.version) <= window);
        messages.values().rev().find(same).filter(counts)
    }

    fn apply_one(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Append { channel, post } => self.append(channel, post),
            Op::AppendAt { channel, seq, post } => self.append_at(channel, *seq, post),
            Op::SetBase { channel, base } => self.set_base(channel, *base),
            Op::Join { channel, user, visible, read, role } => {
                self.join(channel, user, *visible, *read, *role)
            }
            Op::Leave { channel, user } => self.leave(channel, user, false),
            Op::LeaveKeeping { channel, user } => self.leave(channel, user, true),
            Op::Read { channel, user, seq } => self.read(channel, user, *seq),
            Op::ReadAll { user } => self.read_all(user),
            Op::Deliver { channel, user, seq } => self.deliver(channel, user, *seq),
            Op::Clear { channel, user, seq } => self.clear(channel, user, *seq),
            Op::Hide { channel, user } => self.hide(channel, user),
            Op::Activate { channel, user } => self.activate(channel, user),
            Op::Pin { channel, user, on } => self.pin(channel, user, *on),
            Op::Mute { channel, user, on } => self.mute(channel, user, *on),
            Op::Role { channel, user, role } => self.role(channel, user, *role),
            Op::Attributes { channel, user, attributes } => self.attributes(channel, user, attributes),
            Op::FlagUnread { channel, user, on } => self.flag_unread(channel, user, *on),
            Op::ReadAt { channel, user, seq } => self.read_at(channel, user, *seq),
            Op::SetUnread { channel, user, count } => self.set_unread(channel, user, *count),
            Op::Class { channel, class } => {
                self.set_channel(channel, |place| std::mem::replace(&mut place.class, *class) != *class)
            }
            Op::ChannelAttributes { channel, attributes } => {
                if self.kept(channel).is_none_or(|kept| kept.1 != attributes) {
                    self.write_beside(attributes);
                }
                self.set_channel(channel, |place| {
                    std::mem::replace(&mut place.attributes, attributes.clone()) != attributes
                })
            }
            Op::UserAttributes { user, attributes } => self.user_attributes(user, attributes),
            Op::AddToSet { channel, set, user, attributes } => {
                self.add_to_set(channel, *set, user, attributes.as_ref())
            }
            Op::RemoveFromSet { channel, set, user } => self.remove_from_set(channel, *set, user),
            Op::RequireChannel { .. } | Op::RequireMember { .. } => Outcome::Unchanged,
            Op::Retract { channel, seq } => self.retract(channel, *seq),
            Op::Annotate { channel, seq, key, value } => self.annotate(channel, *seq, key, value),
            Op::Trim { channel, seq } => self.trim(channel, *seq),
            Op::DeleteChannel { channel } => self.delete_channel(channel),
            Op::Erase { channel, seq } => self.erase(channel, *seq),
            Op::EraseUser { user } => self.erase_user(user),
            Op::DeleteUser { user } => self.delete_user(user),
            Op::Expire { channel, seq } => self.expire(*channel, *seq),
            Op::End { user, channel } => self.end_membership(*user, *channel),
            Op::Retention { channel, age, count } => {
                let limits = (age.unwrap_or(0), count.unwrap_or(0));
                self.set_channel(channel, |place| std::mem::replace(&mut place.limits, limits) != limits)
            }
            Op::Forget { channel, user, from, to } => self.hide_range(channel, user, *from, *to),
            Op::Edit { channel, seq, payload } => self.edit(channel, *seq, payload),
        }
    }

    fn append_at(&mut self, channel: &Name, seq: u64, post: &Post) -> Outcome {
        let c = self.make_channel(channel);
        let place = &mut self.channels[c];
        if seq > place.end() {
            // The caller says the seq, whatever somebody may have seen.
            if self.sent_before(channel, post).is_none() {
                self.channels[c].reserved = 0;
            }
            return self.append(channel, post);
        }
        let version = if seq <= place.trimmed { 0 } else { place.messages[&seq].version };
        Outcome::Existed { seq, version }
    }

    fn set_base(&mut self, channel: &Name, base: Mark) -> Outcome {
        if self.channel(channel).map_or(Mark::default(), |place| place.base) == base {
            return Outcome::Unchanged;
        }
        let c = self.make_channel(channel);
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.reserved = place.reserved.max(place.end()) + base.seq - place.end();
        (place.base, place.trimmed, place.kept) = (base, base.seq, Some(version));
        Outcome::Changed { version }
    }

    fn append(&mut self, channel: &Name, post: &Post) -> Outcome {
        if let Some(first) = self.sent_before(channel, post) {
            return Outcome::Existed { seq: first.seq, version: first.version };
        }
        let (c, u) = (self.make_channel(channel), self.make_user(&post.sender));
        let silent = post.silent || post.quiet;
        let mut mentions = Vec::new();
        if !silent && !post.mention_all {
            mentions.extend(post.mentions.iter().map(|name| self.make_user(name)));
        }
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        let seq = place.next();
        let ordinal = place.mark(seq).ordinal + u64::from(!silent);
        place.mentions.insert(seq, (post.mention_all, mentions));
        let post =
            Post { members_only: false, mentions: Vec::new(), mention_all: false, silent, ..post.clone() };
        let post_quiet = post.quiet;
        self.sent.insert(version, post.payload.clone());
        place.messages.insert(seq, Msg { seq, ordinal, version, post, fate: Fate::Sent, by: u });
        if let Some(row) = self.rows.get_mut(&(u, c)).filter(|row| row.member && !post_quiet) {
            row.own = seq;
            row.own_ended = false;
            row.flagged = false;
        }
        Outcome::Appended { seq, ordinal, version }
    }

    fn join(
        &mut self,
        channel: &Name,
        user: &Name,
        visible: HistoryFrom,
        read: Option<u64>,
        role: Option<u8>,
    ) -> Outcome {
        if self.is_member(channel, user) {
            return Outcome::Unchanged;
        }
        let (c, u) = (self.make_channel(channel), self.make_user(user));
        let end = self.channels[c].end();
        let join_seq = match visible {
            HistoryFrom::Now => end + 1,
            HistoryFrom::Start => self.channels[c].trimmed + 1,
            HistoryFrom::Seq(seq) => seq.clamp(1, end + 1).max(self.channels[c].trimmed + 1),
            _ => unreachable!("a variant that the model does not know"),
        };
        let read = self.channels[c].reach(read.unwrap_or(end));
        let version = self.touch(c, Some(u));
        let left = self.rows.get(&(u, c)).map_or(0, |row| row.left);
        let role = role.unwrap_or_default();
        let row = Row { member: true, join_seq, read, role, version, left, ..Row::default() };
        self.rows.insert((u, c), row);
        Outcome::Changed { version }
    }

    fn leave(&mut self, channel: &Name, user: &Name, keep: bool) -> Outcome {
        let (Some(&c), Some(&u)) = (self.channel_ids.get(channel), self.user_ids.get(user)) else {
            return Outcome::Unchanged;
        };
        if !self.is_member(channel, user) {
            return if keep { Outcome::Unchanged } else { self.settle_kept((u, c), None) };
        }
        let (row, place) = (&self.rows[&(u, c)], &self.channels[c]);
        let kept =
            Kept { from: row.floor().max(place.trimmed) + 1, to: place.end(), forgot: row.forgot.clone() };
        self.settle_kept((u, c), Some(kept).filter(|kept| keep && kept.from <= kept.to));
        let outcome = self.change(channel, user, |row, version| {
            row.member = false;
            row.left = version;
        });
        self.forget(self.user_ids[user]);
        outcome
    }

    /// Each leaving settles what is kept. Nobody's list hears of it.
    fn settle_kept(&mut self, key: (usize, usize), kept: Option<Kept>) -> Outcome {
        if kept.is_none() && !self.kept_histories.contains_key(&key) {
            return Outcome::Unchanged;
        }
        self.changes.push(Touch { channel: None, user: None });
        match kept {
            Some(kept) => _ = self.kept_histories.insert(key, kept),
            None => _ = self.kept_histories.remove(&key),
        }
        Outcome::Changed { version: self.version() }
    }

    /// Notes which tombstones of a user a store may now drop: all but the newest ones.
    fn forget(&mut self, user: usize) {
        let mut left: Vec<u64> =
            self.rows_of(user).filter(|(_, r)| !r.member).map(|(_, r)| r.version).collect();
        left.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(&newest) = left.get(self.tombstones) {
            let known = self.forgotten.entry(user).or_default();
            *known = newest.max(*known);
        }
    }

    fn read(&mut self, channel: &Name, user: &Name, seq: u64) -> Outcome {
        let (c, u) = (self.channel_ids[channel], self.user_ids[user]);
        let mut to = seq.min(self.channels[c].end());
        let row = &self.rows[&(u, c)];
        if to > row.read {
            to = self.channels[c].reach(to);
        }
        if to <= row.read && !row.flagged && !row.own_ended {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| {
            row.read = row.read.max(to);
            row.flagged = false;
            row.own_ended = false;
        })
    }

    fn deliver(&mut self, channel: &Name, user: &Name, seq: u64) -> Outcome {
        let (c, u) = (self.channel_ids[channel], self.user_ids[user]);
        let to = seq.min(self.channels[c].end());
        if to <= self.present(channel, user).delivered.0 {
            return Outcome::Unchanged;
        }
        // Nobody's list hears of it.
        self.changes.push(Touch { channel: None, user: None });
        let version = self.version();
        self.rows.get_mut(&(u, c)).expect("refused for others").delivered = (to, version);
        Outcome::Changed { version }
    }

    fn read_all(&mut self, user: &Name) -> Outcome {
        let Some(&u) = self.user_ids.get(user) else { return Outcome::Unchanged };
        let counted = |place: &Channel, row: &Row| {
            let later = place.messages.range(row.cursor().max(place.trimmed) + 1..);
            row.member && (row.flagged || later.into_iter().any(|(_, m)| !m.post.silent))
        };
        let rows = self.live_rows_of(u).filter(|(c, row)| counted(&self.channels[*c], row));
        let channels: Vec<Name> = rows.map(|(c, _)| self.channels[c].name.clone()).collect();
        let read = channels.iter().map(|channel| self.read(channel, user, u64::MAX));
        read.last().unwrap_or(Outcome::Unchanged)
    }

    fn clear(&mut self, channel: &Name, user: &Name, seq: Option<u64>) -> Outcome {
        let (c, u) = (self.channel_ids[channel], self.user_ids[user]);
        let (end, row) = (self.channels[c].end(), &self.rows[&(u, c)]);
        let mut to = seq.unwrap_or(end).min(end).max(row.cleared);
        if to > row.cleared {
            to = self.channels[c].reach(to);
        }
        if to <= row.cleared && row.activated == 0 {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, version| {
            row.cleared = to;
            row.activated = 0;
            row.withdrawn = version;
        })
    }

    fn hide(&mut self, channel: &Name, user: &Name) -> Outcome {
        let (c, u) = (self.channel_ids[channel], self.user_ids[user]);
        let place = &self.channels[c];
        if !self.rows[&(u, c)].visible(place) {
            return Outcome::Unchanged;
        }
        let end = place.end();
        self.change(channel, user, |row, version| {
            row.hidden = end;
            row.activated = 0;
            row.withdrawn = version;
        })
    }

    fn activate(&mut self, channel: &Name, user: &Name) -> Outcome {
        self.change(channel, user, |row, version| row.activated = version)
    }

    fn pin(&mut self, channel: &Name, user: &Name, on: bool) -> Outcome {
        if self.present(channel, user).pinned == on {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| row.pinned = on)
    }

    fn mute(&mut self, channel: &Name, user: &Name, on: bool) -> Outcome {
        if self.present(channel, user).muted == on {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| row.muted = on)
    }

    fn role(&mut self, channel: &Name, user: &Name, role: u8) -> Outcome {
        if self.present(channel, user).role == role {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| row.role = role)
    }

    fn attributes(&mut self, channel: &Name, user: &Name, attributes: &Bytes) -> Outcome {
        if self.present(channel, user).attributes == attributes {
            return Outcome::Unchanged;
        }
        self.write_beside(attributes);
        self.change(channel, user, |row, _| row.attributes = attributes.clone())
    }

    fn flag_unread(&mut self, channel: &Name, user: &Name, on: bool) -> Outcome {
        if self.present(channel, user).flagged == on {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| row.flagged = on)
    }

    fn read_at(&mut self, channel: &Name, user: &Name, seq: u64) -> Outcome {
        let place = &self.channels[self.channel_ids[channel]];
        let to = place.reach(seq.max(self.present(channel, user).floor()));
        self.set_cursor(channel, user, to)
    }

    fn set_unread(&mut self, channel: &Name, user: &Name, count: u64) -> Outcome {
        let (place, row) = (&self.channels[self.channel_ids[channel]], self.present(channel, user));
        if place.end() == 0 {
            return Outcome::Unchanged;
        }
        // Just before the first of so many counted messages.
        let counted = place.messages.values().rev().filter(|m| m.counts() && !row.hides(m.seq));
        let to = match count {
            0 => place.end(),
            _ => counted.skip(count as usize - 1).map(|m| m.seq - 1).next().unwrap_or(0),
        };
        self.set_cursor(channel, user, to.max(row.floor()).max(place.trimmed))
    }

    fn set_cursor(&mut self, channel: &Name, user: &Name, to: u64) -> Outcome {
        let row = self.present(channel, user);
        if row.cursor() == to && !row.flagged {
            return Outcome::Unchanged;
        }
        self.change(channel, user, |row, _| {
            row.read = to;
            row.own_ended = true;
            row.flagged = false;
        })
    }

    fn set_channel(&mut self, channel: &Name, set: impl FnOnce(&mut Channel) -> bool) -> Outcome {
        let c = self.make_channel(channel);
        if !set(&mut self.channels[c]) && self.channels[c].kept.is_some() {
            return Outcome::Unchanged;
        }
        let version = self.touch(c, None);
        self.channels[c].kept = Some(version);
        Outcome::Changed { version }
    }

    fn user_attributes(&mut self, user: &Name, attributes: &Bytes) -> Outcome {
        let u = self.make_user(user);
        if self.attributes.get(&u) == Some(attributes) {
            return Outcome::Unchanged;
        }
        self.write_beside(attributes);
        self.changes.push(Touch { channel: None, user: Some(u) });
        self.attributes.insert(u, attributes.clone());
        Outcome::Changed { version: self.version() }
    }

    /// Long values are written beside the row, by a change that touches nobody.
    fn write_beside(&mut self, attributes: &Bytes) {
        if attributes.len() > 1024 {
            self.changes.push(Touch { channel: None, user: None });
        }
    }

    fn add_to_set(&mut self, channel: &Name, set: u8, user: &Name, attributes: Option<&Bytes>) -> Outcome {
        let key = (self.make_channel(channel), set, self.make_user(user));
        let before = self.sets.get(&key).and_then(|row| row.kept.clone());
        if before.is_some() && attributes.is_none_or(|wanted| before.as_ref() == Some(wanted)) {
            return Outcome::Unchanged;
        }
        self.change_set(key, Some(attributes.cloned().unwrap_or_default()))
    }

    fn remove_from_set(&mut self, channel: &Name, set: u8, user: &Name) -> Outcome {
        let ids = (self.channel_ids.get(channel), self.user_ids.get(user));
        let (Some(&channel), Some(&user)) = ids else { return Outcome::Unchanged };
        let key = (channel, set, user);
        match self.sets.get(&key).is_some_and(|row| row.kept.is_some()) {
            true => self.change_set(key, None),
            false => Outcome::Unchanged,
        }
    }

    fn change_set(&mut self, key: (usize, u8, usize), kept: Option<Bytes>) -> Outcome {
        self.changes.push(Touch { channel: None, user: Some(key.2) });
        let version = self.version();
        self.sets.insert(key, InSet { kept, version });
        Outcome::Changed { version }
    }

    fn retract(&mut self, channel: &Name, seq: u64) -> Outcome {
        let c = self.channel_ids[channel];
        if self.withheld(&self.channels[c].messages[&seq]) {
            return Outcome::Unchanged;
        }
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.content = version;
        let message = place.messages.get_mut(&seq).expect("refused for others");
        message.fate = Fate::Retracted(version);
        message.post.payload = Bytes::new();
        Outcome::Changed { version }
    }

    fn erase(&mut self, channel: &Name, seq: u64) -> Outcome {
        let c = self.channel_ids[channel];
        let message = &self.channels[c].messages[&seq];
        if matches!(message.fate, Fate::Erased { .. } | Fate::Expired(_))
            || self.erased_with_sender(message).is_some()
        {
            return Outcome::Unchanged;
        }
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.content = version;
        let message = place.messages.get_mut(&seq).expect("refused for others");
        message.fate = Fate::Erased { version, retracted: message.retracted() };
        message.post.payload = Bytes::new();
        Outcome::Changed { version }
    }

    fn erase_user(&mut self, user: &Name) -> Outcome {
        let Some(&u) = self.user_ids.get(user) else { return Outcome::Unchanged };
        // Nobody's list hears of it.
        self.changes.push(Touch { channel: None, user: None });
        let version = self.version();
        self.erased.insert(u, version);
        Outcome::Changed { version }
    }

    fn delete_user(&mut self, user: &Name) -> Outcome {
        let Some(u) = self.user_ids.remove(user) else { return Outcome::Unchanged };
        // Nobody's list hears of it.
        self.changes.push(Touch { channel: None, user: None });
        let version = self.version();
        self.dead.insert(u, (version, false));
        Outcome::Changed { version }
    }

    fn end_membership(&mut self, user: usize, channel: Option<usize>) -> Outcome {
        self.changes.push(Touch { channel: None, user: None });
        match channel {
            Some(channel) => self.rows.get_mut(&(user, channel)).expect("it is present").member = false,
            None => self.dead.get_mut(&user).expect("it was deleted").1 = true,
        }
        Outcome::Changed { version: self.version() }
    }

    fn expire(&mut self, c: usize, seq: u64) -> Outcome {
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.content = version;
        let message = place.messages.get_mut(&seq).expect("it is due");
        message.fate = Fate::Expired(version);
        message.post.payload = Bytes::new();
        Outcome::Changed { version }
    }

    /// What upkeep does about messages whose time has come, in the order of times.
    pub fn due(&self, now: i64) -> Vec<Op> {
        let mut due = Vec::new();
        for (channel, place) in self.channels.iter().enumerate().filter(|(_, place)| place.dead == 0) {
            for (seq, m) in place.messages.range(place.trimmed + 1..) {
                let at = m.post.expires.filter(|at| *at <= now && !matches!(m.fate, Fate::Expired(_)));
                due.extend(at.map(|at| (at, m.version, Op::Expire { channel, seq: *seq })));
            }
        }
        due.sort_by_key(|(at, version, _)| (*at, *version));
        due.into_iter().map(|(_, _, op)| op).collect()
    }

    /// The version at which a message was erased with all that its sender had sent, if it was.
    fn erased_with_sender(&self, message: &Msg) -> Option<u64> {
        self.erased.get(&message.by).copied().filter(|version| message.version <= *version)
    }

    /// Whether nobody reads a message's payload any more.
    fn withheld(&self, message: &Msg) -> bool {
        message.withheld() || self.erased_with_sender(message).is_some()
    }

    /// A message as readers see it.
    fn seen(&self, message: &Msg) -> Msg {
        let mut seen = message.clone();
        if let Some(version) = self.erased_with_sender(message) {
            if !matches!(message.fate, Fate::Erased { .. }) {
                seen.fate = Fate::Erased { version, retracted: message.retracted() };
            }
            seen.post.payload = Bytes::new();
        }
        if let Some(at) = message.post.expires
            && (matches!(message.fate, Fate::Expired(_)) || at <= self.now)
        {
            (seen.fate, seen.post.payload) = (Fate::ExpiredAt(at), Bytes::new());
        }
        if self.dead.contains_key(&message.by) {
            seen.post.sender.clear();
        }
        seen
    }

    fn edit(&mut self, channel: &Name, seq: u64, payload: &Bytes) -> Outcome {
        let c = self.channel_ids[channel];
        let message = &self.channels[c].messages[&seq];
        if message.fate != Fate::Sent && message.post.payload == payload {
            return Outcome::Unchanged;
        }
        self.write_beside(payload);
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.content = version;
        let message = place.messages.get_mut(&seq).expect("refused for others");
        message.fate = Fate::Edited(version);
        message.post.payload = payload.clone();
        Outcome::Changed { version }
    }

    fn annotate(&mut self, channel: &Name, seq: u64, key: &Bytes, value: &Bytes) -> Outcome {
        let c = self.channel_ids[channel];
        let key = (seq, key.clone());
        let before = self.channels[c].annotations.get(&key).map(|(value, _)| value.clone());
        if before.unwrap_or_default() == value {
            return Outcome::Unchanged;
        }
        self.write_beside(value);
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        place.content = version;
        place.annotations.insert(key, (value.clone(), version));
        Outcome::Changed { version }
    }

    fn trim(&mut self, channel: &Name, seq: u64) -> Outcome {
        let Some(&c) = self.channel_ids.get(channel) else { return Outcome::Unchanged };
        let to = seq.min(self.channels[c].end());
        if to <= self.channels[c].trimmed {
            return Outcome::Unchanged;
        }
        self.channels[c].trimmed = to;
        let version = self.touch(c, None);
        self.channels[c].kept = Some(version);
        Outcome::Changed { version }
    }

    fn delete_channel(&mut self, channel: &Name) -> Outcome {
        let Some(c) = self.channel_ids.remove(channel) else { return Outcome::Unchanged };
        let version = self.touch(c, None);
        let place = &mut self.channels[c];
        (place.trimmed, place.dead) = (place.end(), version);
        Outcome::Changed { version }
    }

    fn hide_range(&mut self, channel: &Name, user: &Name, from: u64, to: u64) -> Outcome {
        let row = self.present(channel, user);
        let place = &self.channels[self.channel_ids[channel]];
        let floor = row.floor().max(place.trimmed);
        let (from, to) = (from.max(floor + 1), to.min(place.end()));
        // All of a range is hidden if its begin is, and what follows each hidden range in it.
        let mut begins = row.forgot.iter().map(|(_, to)| to + 1).chain([from]);
        if from > to || begins.all(|seq| !(from..=to).contains(&seq) || row.hides(seq)) {
            return Outcome::Unchanged;
        }
        // The ranges are a change of their own.
        self.touch(self.channel_ids[channel], Some(self.user_ids[user]));
        self.change(channel, user, |row, _| row.forgot.push((from, to)))
    }

    /// The row of a member.
    fn present(&self, channel: &Name, user: &Name) -> &Row {
        self.row(channel, user).expect("refused for others")
    }

    fn change(&mut self, channel: &Name, user: &Name, change: impl FnOnce(&mut Row, u64)) -> Outcome {
        let (c, u) = (self.channel_ids[channel], self.user_ids[user]);
        let version = self.touch(c, Some(u));
        let row = self.rows.get_mut(&(u, c)).expect("only rows that exist are changed");
        change(row, version);
        row.version = version;
        Outcome::Changed { version }
    }

    fn touch(&mut self, channel: usize, user: Option<usize>) -> u64 {
        self.changes.push(Touch { channel: Some(channel), user });
        self.version()
    }

    fn make_channel(&mut self, name: &Name) -> usize {
        *self.channel_ids.entry(name.clone()).or_insert_with(|| {
            self.channels.push(Channel { name: name.clone(), ..Channel::default() });
            self.channels.len() - 1
        })
    }

    fn make_user(&mut self, name: &Name) -> usize {
        if let Some(user) = self.user_ids.get(name) {
            return *user;
        }
        self.users.push(name.clone());
        self.user_ids.insert(name.clone(), self.users.len() - 1);
        // That a name was another's before is noted.
        if self.dead.keys().any(|dead| self.users[*dead] == *name) {
            self.changes.push(Touch { channel: None, user: None });
        }
        self.users.len() - 1
    }

    /// A loss of power may have taken messages that somebody saw: every channel goes on beyond the window.
    pub fn skip_window(&mut self) {
        for channel in &mut self.channels {
            channel.reserved = channel.end().max(channel.reserved) + BUFFERED_WINDOW;
        }
    }
}

/// Reading.
impl Model {
    /// The same, read at a time.
    pub fn at(&self, now: i64) -> Model {
        Model { now, ..self.clone() }
    }

    pub fn version(&self) -> u64 {
        self.changes.len() as u64
    }

    pub fn messages(&self) -> u64 {
        self.channels.iter().map(|c| c.messages.len() as u64).sum()
    }

    /// How many messages were trimmed.
    pub fn trimmed_messages(&self) -> u64 {
        let trimmed = |place: &Channel| place.messages.range(..=place.trimmed).count() as u64;
        self.channels.iter().map(trimmed).sum()
    }

    /// All channels, by name.
    pub fn channels(&self) -> Vec<Name> {
        self.channel_ids.keys().cloned().collect()
    }

    /// All users, by name.
    pub fn users(&self) -> Vec<Name> {
        self.user_ids.keys().cloned().collect()
    }

    /// Those who were not deleted, in the order in which the store met them.
    fn live_users(&self) -> impl Iterator<Item = usize> {
        (0..self.users.len()).filter(|u| !self.dead.contains_key(u))
    }

    /// The names of users who were deleted.
    pub fn dead_users(&self) -> Vec<Name> {
        let dead =
            self.dead.keys().map(|u| &self.users[*u]).filter(|name| !self.user_ids.contains_key(*name));
        dead.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether a user of this name was deleted after a version.
    pub fn deleted_since(&self, user: &[u8], version: u64) -> bool {
        self.dead.iter().any(|(u, (at, _))| self.users[*u] == user && *at > version)
    }

    /// What upkeep does about deleted users.
    pub fn endings(&self) -> Vec<Op> {
        let unended = self.dead.iter().filter(|(_, (_, ended))| !ended).map(|(user, _)| *user);
        let ending = |user| {
            let rows = self.live_rows_of(user).filter(|(_, row)| row.member);
            let one = rows.map(move |(channel, _)| Op::End { user, channel: Some(channel) });
            one.chain([Op::End { user, channel: None }])
        };
        unended.flat_map(ending).collect()
    }

    pub fn is_member(&self, channel: &[u8], user: &[u8]) -> bool {
        self.row(channel, user).is_some()
    }

    fn row(&self, channel: &[u8], user: &[u8]) -> Option<&Row> {
        let key = (*self.user_ids.get(user)?, *self.channel_ids.get(channel)?);
        self.rows.get(&key).filter(|row| row.member)
    }

    fn channel(&self, name: &[u8]) -> Option<&Channel> {
        self.channel_ids.get(name).map(|c| &self.channels[*c])
    }

    fn rows_of(&self, user: usize) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.range((user, 0)..=(user, usize::MAX)).map(|((_, c), row)| (*c, row))
    }

    /// Those of channels that were not deleted.
    fn live_rows_of(&self, user: usize) -> impl Iterator<Item = (usize, &Row)> {
        self.rows_of(user).filter(|(c, _)| self.channels[*c].dead == 0)
    }

    /// What is kept with a channel: class and attributes.
    pub fn kept(&self, channel: &[u8]) -> Option<(u8, Bytes)> {
        self.channel(channel).map(|place| (place.class, place.attributes.clone()))
    }

    /// What is kept with a user.
    pub fn attributes_of(&self, user: &[u8]) -> Option<Bytes> {
        let user = self.user_ids.get(user)?;
        Some(self.attributes.get(user).cloned().unwrap_or_default())
    }

    /// The seq of a channel's last message, or 0.
    pub fn end(&self, channel: &[u8]) -> u64 {
        self.channel(channel).map_or(0, Channel::end)
    }

    /// What is kept for somebody who is no member.
    fn kept_history(&self, channel: &[u8], user: &[u8]) -> Option<&Kept> {
        let key = (*self.user_ids.get(user)?, *self.channel_ids.get(channel)?);
        self.kept_histories.get(&key).filter(|_| !self.is_member(channel, user))
    }

    /// Its first and its last seq.
    pub fn kept_seqs(&self, channel: &[u8], user: &[u8]) -> Option<std::ops::RangeInclusive<u64>> {
        self.kept_history(channel, user).map(|kept| kept.from..=kept.to)
    }

    /// The seqs of the messages that a member could see and hid.
    pub fn forgotten(&self, channel: &[u8], user: &[u8]) -> Vec<u64> {
        let Some(row) = self.row(channel, user) else { return Vec::new() };
        let seqs = self.seqs(channel).into_iter();
        let floor = row.floor().max(self.channel(channel).map_or(0, |place| place.trimmed));
        seqs.filter(|seq| *seq > floor && row.hides(*seq)).collect()
    }

    /// What is kept with a channel's messages: seq, key, value and version.
    pub fn annotations(&self, channel: &[u8]) -> Vec<(u64, Bytes, Bytes, u64)> {
        let place = self.channel(channel).into_iter();
        let kept = |place: &'_ Channel, seq: u64| seq > place.trimmed;
        let all =
            place.flat_map(|place| place.annotations.iter().filter(move |((seq, _), _)| kept(place, *seq)));
        let all = all.filter(|(_, (value, _))| !value.is_empty());
        all.map(|((seq, key), (value, version))| (*seq, key.clone(), value.clone(), *version)).collect()
    }

    /// What changed of a channel's messages after `version`, oldest change first: version, seq, and what.
    pub fn changes(&self, channel: &[u8], version: u64) -> Vec<(u64, u64, Changed)> {
        let Some(place) = self.channel(channel) else { return Vec::new() };
        let altered = place.messages.values().filter_map(|m| match m.fate {
            Fate::Sent => None,
            Fate::Edited(_) if self.erased_with_sender(m).is_some() => None,
            Fate::Edited(at) if m.post.expires.is_some_and(|time| time <= self.now) => {
                Some((at, m.seq, Changed::Expired))
            }
            Fate::Edited(at) => Some((at, m.seq, Changed::Edited(m.post.payload.clone()))),
            Fate::Expired(at) => Some((at, m.seq, Changed::Expired)),
            Fate::ExpiredAt(_) => unreachable!("no message of the model's"),
            Fate::Retracted(at) => Some((at, m.seq, Changed::Retracted)),
            Fate::Erased { version, .. } => Some((version, m.seq, Changed::Erased)),
        });
        let annotated = place
            .annotations
            .iter()
            .map(|((seq, key), (value, at))| (*at, *seq, Changed::Annotated(key.clone(), value.clone())));
        let mut changes: Vec<_> = altered.chain(annotated).filter(|(at, ..)| *at > version).collect();
        changes.retain(|(_, seq, _)| *seq > place.trimmed);
        changes.sort_by_key(|(at, ..)| *at);
        changes
    }

    /// The trims that retention asks for at a time, in the order in which the channels were made.
    pub fn overdue(&self, now: i64) -> Vec<Op> {
        let over = |place: &Channel| {
            let (age, count) = place.limits;
            let seqs: Vec<u64> = place.messages.keys().copied().collect();
            let surplus = seqs.len().saturating_sub(count as usize);
            let by_count = if count == 0 || surplus == 0 { 0 } else { seqs[surplus - 1] };
            let oldest = now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
            let mut kept = place.messages.range(place.trimmed + 1..);
            let young = kept.find(|(_, m)| m.post.timestamp >= oldest).map(|(seq, _)| seq - 1);
            let by_age = if age == 0 { 0 } else { young.unwrap_or(place.end()) };
            by_count.max(by_age)
        };
        let live = self.channels.iter().filter(|place| place.dead == 0 && over(place) > place.trimmed);
        live.map(|place| Op::Trim { channel: place.name.clone(), seq: over(place) }).collect()
    }

    /// The seqs of a channel's messages.
    pub fn seqs(&self, channel: &[u8]) -> Vec<u64> {
        self.channel(channel).map_or_else(Vec::new, |place| place.messages.keys().copied().collect())
    }

    /// A message as it was sent.
    pub fn sent_at(&self, channel: &[u8], seq: u64) -> Option<Post> {
        let message = self.channel(channel)?.messages.get(&seq)?;
        Some(Post { payload: self.sent[&message.version].clone(), ..message.post.clone() })
    }

    pub fn head(&self, channel: &[u8]) -> Head {
        let Some(place) = self.channel(channel) else { return Head::default() };
        let c = self.channel_ids[channel];
        // Those of deleted users count until they are ended.
        let members = self.rows.iter().filter(|((_, at), row)| *at == c && row.member).count() as u32;
        let mut head = Head::default();
        (head.last, head.members) = (place.mark(place.end()), members);
        (head.order, head.changed, head.class) = (place.order(), place.changed(), place.class);
        (head.content, head.kept) = (place.content, place.kept.unwrap_or(0));
        head.trimmed = place.mark(place.trimmed);
        let mentions = |m: &Msg| {
            let (all, users) = &place.mentions[&m.seq];
            !m.post.silent && (*all || users.iter().any(|user| *user != m.by))
        };
        head.mentioned = place.greatest(mentions);
        head.quiet = place.greatest(|m| m.post.quiet).max(place.base.seq);
        if head.quiet > 0 && head.quiet == place.end() {
            (head.loud_seq, head.loud_order) = (place.loud_end(), place.loud_order());
        }
        (head.retracted, head.altered) =
            (place.greatest(Msg::retracted), place.greatest(|m| m.fate != Fate::Sent));
        head.limited = place.limits != (0, 0);
        head.erased = place.greatest(|m| matches!(m.fate, Fate::Erased { .. } | Fate::Expired(_)));
        head
    }

    pub fn membership(&self, channel: &[u8], user: &[u8]) -> Option<Member> {
        Some(self.channel(channel)?.member(self.row(channel, user)?))
    }

    /// The version of the tombstone that a membership replaced, if tombstones are kept.
    pub fn replaced(&self, channel: &[u8], user: &[u8]) -> Option<u64> {
        self.row(channel, user).map(|row| row.left)
    }

    pub fn has_memberships(&self, user: &[u8]) -> bool {
        self.user_ids.get(user).is_some_and(|u| self.rows_of(*u).next().is_some())
    }

    /// The members of a channel, in the order in which the store first met them.
    pub fn members(&self, channel: &[u8]) -> Vec<Name> {
        let Some(&c) = self.channel_ids.get(channel) else { return Vec::new() };
        let present = |u: &usize| self.rows.get(&(*u, c)).is_some_and(|row| row.member);
        self.live_users().filter(present).map(|u| self.users[u].clone()).collect()
    }

    /// The memberships of a channel, or of those who left it, in the order in which the store first met the users: name,
    /// whether present, role, cursor, version of the row, and that of the newest change that may have moved the cursor.
    fn rows_in(&self, channel: &[u8]) -> Vec<(Name, &Row, u64)> {
        let Some(&c) = self.channel_ids.get(channel) else { return Vec::new() };
        let row = |u: usize| {
            let (row, place) = (self.rows.get(&(u, c))?, &self.channels[c]);
            let own = place.messages.get(&row.own_read()).map_or(0, |m| m.version);
            Some((self.users[u].clone(), row, row.version.max(own).max(row.delivered.1)))
        };
        self.live_users().filter_map(row).collect()
    }

    /// The members of a channel with a role.
    pub fn members_of_role(&self, channel: &[u8], role: u8) -> Vec<Name> {
        let rows = self.rows_in(channel).into_iter();
        rows.filter(|(_, row, _)| row.member && row.role == role).map(|(name, ..)| name).collect()
    }

    /// Who left a channel.
    pub fn left(&self, channel: &[u8]) -> Vec<Name> {
        let rows = self.rows_in(channel).into_iter();
        rows.filter(|(_, row, _)| !row.member).map(|(name, ..)| name).collect()
    }

    /// What a user left.
    pub fn left_by(&self, user: &[u8]) -> Vec<Name> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let rows = self.live_rows_of(u).filter(|(_, row)| !row.member);
        rows.map(|(c, _)| self.channels[c].name.clone()).collect()
    }

    /// The memberships of a channel that changed after a version, and whether they are.
    pub fn members_since(&self, channel: &[u8], version: u64) -> Vec<(Name, bool)> {
        let rows = self.rows_in(channel).into_iter().filter(|(_, row, _)| row.version > version);
        rows.map(|(name, row, _)| (name, row.member)).collect()
    }

    /// The same of a user.
    pub fn channels_since(&self, user: &[u8], version: u64) -> Vec<(Name, bool)> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let rows = self.live_rows_of(u).filter(|(_, row)| row.version > version);
        rows.map(|(c, row)| (self.channels[c].name.clone(), row.member)).collect()
    }

    /// How far the members of a channel have read and got, of those for whom that may have changed after a version.
    pub fn marks(&self, channel: &[u8], since: u64) -> Vec<(Name, u64, u64, u64)> {
        let rows = self.rows_in(channel).into_iter().filter(|(_, row, at)| row.member && *at > since);
        rows.map(|(name, row, at)| (name, row.cursor(), row.delivered.0.max(row.cursor()), at)).collect()
    }

    /// The users of a set of a channel, in the order in which the store first met them; with a version, all that changed
    /// since.
    pub fn set(&self, channel: &[u8], set: u8, since: Option<u64>) -> Vec<Line> {
        let Some(&c) = self.channel_ids.get(channel) else { return Vec::new() };
        let rows = self.sets.range((c, set, 0)..=(c, set, usize::MAX));
        let rows = rows.filter(|((_, _, u), _)| !self.dead.contains_key(u));
        let rows = rows.map(|((_, _, u), row)| (self.users[*u].clone(), row.kept.clone(), row.version));
        rows.filter(|row| told(row, since)).collect()
    }

    /// The channels that have a user in such a set, likewise.
    pub fn sets_of(&self, user: &[u8], set: u8, since: Option<u64>) -> Vec<Line> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let live = |key: &(usize, u8, usize)| self.channels[key.0].dead == 0;
        let rows = self.sets.iter().filter(|(key, _)| (key.1, key.2) == (set, u) && live(key));
        let rows =
            rows.map(|((c, _, _), row)| (self.channels[*c].name.clone(), row.kept.clone(), row.version));
        rows.filter(|row| told(row, since)).collect()
    }

    /// The channels of a user, in the order in which the store first met them.
    pub fn channels_of(&self, user: &[u8]) -> Vec<Name> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let present = self.live_rows_of(u).filter(|(_, row)| row.member);
        present.map(|(c, _)| self.channels[c].name.clone()).collect()
    }

    pub fn history(&self, channel: &[u8], range: &Range) -> Vec<Msg> {
        let Some(place) = self.channel(channel) else { return Vec::new() };
        let viewer =
            range.viewer.as_ref().map(|user| (self.row(channel, user), self.kept_history(channel, user)));
        let sees = |m: &Msg| match viewer {
            None => true,
            Some((Some(row), _)) => m.seq > row.floor() && !row.hides(m.seq),
            Some((None, kept)) => kept.is_some_and(|kept| kept.shows(m.seq)),
        };
        let times = range.times.0..=range.times.1;
        let wanted = |m: &&Msg| {
            m.seq > place.trimmed
                && sees(m)
                && (range.from..=range.to).contains(&m.seq)
                && times.contains(&m.post.timestamp)
                && range.sender.as_ref().is_none_or(|sender| self.user_ids.get(sender) == Some(&m.by))
        };
        let mut messages: Vec<Msg> = place.messages.values().filter(wanted).map(|m| self.seen(m)).collect();
        if range.reverse {
            messages.reverse();
        }
        messages.truncate(range.limit);
        let (mut sum, mut fit) = (0, 0);
        for message in &messages {
            sum += message.post.payload.len() as u64;
            if sum > range.bytes && fit > 0 {
                break;
            }
            fit += 1;
        }
        messages.truncate(fit);
        messages
    }

    fn entry(&self, c: usize, u: usize, row: &Row) -> Entry {
        let place = &self.channels[c];
        Entry {
            channel: place.name.clone(),
            last_seq: place.end(),
            read_seq: row.cursor().max(place.trimmed),
            unread: place.unread(row),
            mentions: place.mentions(row, u),
            version: place.changed().max(row.version),
            versions: [place.order(), place.content, place.kept.unwrap_or(0), row.version],
            class: place.class,
            last: place
                .messages
                .range(row.floor().max(place.trimmed) + 1..)
                .rev()
                .map(|(_, m)| m)
                .find(|m| !row.hides(m.seq) && !m.post.quiet)
                .map(|m| self.seen(m)),
            member: place.member(row),
        }
    }

    /// A user's conversations, newest first.
    pub fn conversations(&self, user: &[u8], unread_only: bool) -> Vec<Entry> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let shown = self.live_rows_of(u).filter(|(c, row)| row.visible(&self.channels[*c]));
        // A hidden conversation that was activated is in the list at its last message all the same.
        let order = |e: &Entry, row: &Row| {
            let place = &self.channels[self.channel_ids[&e.channel]];
            if place.loud_end() > row.floor() { place.loud_order() } else { row.activated }
        };
        let mut entries: Vec<_> = shown.map(|(c, row)| (self.entry(c, u, row), row)).collect();
        entries.retain(|(e, row)| e.unread > 0 || row.flagged || !unread_only);
        entries.sort_by_key(|(e, row)| std::cmp::Reverse(order(e, row)));
        entries.into_iter().map(|(e, _)| e).collect()
    }

    /// What of a user's conversations changed after `version`, oldest change first, by the whole history of changes.
    pub fn since(&self, user: &[u8], version: u64, unread_only: bool) -> Vec<Event> {
        let Some(&u) = self.user_ids.get(user) else { return Vec::new() };
        let mut touched = BTreeMap::new();
        for (i, touch) in self.changes.iter().enumerate().skip(version as usize) {
            let Some(channel) = touch.channel else { continue };
            let Some(row) = self.rows.get(&(u, channel)) else { continue };
            if touch.user == Some(u) || (touch.user.is_none() && row.member) {
                touched.insert(channel, i as u64 + 1);
            }
        }
        let event = |(c, at): (usize, u64)| {
            let row = &self.rows[&(u, c)];
            let entry = self.entry(c, u, row);
            let dead = self.channels[c].dead;
            let visible = dead == 0 && row.visible(&self.channels[c]);
            if visible && (entry.unread > 0 || row.flagged || !unread_only) {
                return Some(Event::Entry(entry));
            }
            // Read by now, or taken off the list since. A join takes nothing off it.
            let told = match visible {
                true => at,
                false if dead > 0 && row.member => dead,
                false => row.withdrawn.max(row.left),
            };
            (told > version).then_some(Event::Removed { channel: entry.channel, version: told })
        };
        let mut events: Vec<Event> = touched.into_iter().filter_map(event).collect();
        events.sort_by_key(Event::version);
        events
    }

    /// Whether a store may answer "start over" to a token of this version, for want of tombstones.
    pub fn may_have_forgotten(&self, user: &[u8], version: u64) -> bool {
        let u = self.user_ids.get(user);
        u.and_then(|u| self.forgotten.get(u)).is_some_and(|newest| version < *newest)
    }
}
