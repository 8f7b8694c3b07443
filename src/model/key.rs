//! Keys of small rows. In memory each table has a type of its own; in files every key is a [`Key`] of three numbers.

use super::ids::{ChannelId, EVERYBODY, LogId, UserId};

/// The key of any small row as files order it: by `a`, then `b`, then `c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The first part, which groups rows that are read together.
    pub a: u32,
    /// The second part; below 2^32 in tables whose keys have two.
    pub b: u64,
    /// The third part; 0 in tables whose keys have two.
    pub c: u64,
}

impl Key {
    /// The greatest key.
    pub const MAX: Key = Key { a: u32::MAX, b: u64::MAX, c: u64::MAX };
}

/// A table's own key.
pub trait TableKey: Copy + Eq + Ord + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static {
    /// What orders the keys of one group.
    type Minor: Copy + Ord + std::fmt::Debug + Send + Sync;
    /// Whether the second part of [`Key`] may be large and the third one is used.
    const WIDE: bool;
    /// The first part.
    fn group(self) -> u32;
    /// The rest.
    fn minor(self) -> Self::Minor;
    /// The key of a group and a minor.
    fn of(group: u32, minor: Self::Minor) -> Self;
    /// The key as files order it.
    fn raw(self) -> Key;
    /// The key of what a file holds.
    fn from_raw(raw: Key) -> Self;
    /// The channel and the user that it names, as far as it names any.
    fn ids(self) -> (Option<ChannelId>, Option<UserId>);
}

/// A user and a channel, by user: a user's rows lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserChannel {
    /// Whose row it is.
    pub user: UserId,
    /// In which channel.
    pub channel: ChannelId,
}

/// A channel and a user, by channel: a channel's rows lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelUser {
    /// Whose row it is.
    pub channel: ChannelId,
    /// About which user.
    pub user: UserId,
}

/// A channel, one of its sets, and a user: the users of a set lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelSetUser {
    /// Whose set it is.
    pub channel: ChannelId,
    /// Which of its sets.
    pub set: u8,
    /// Who is in it.
    pub user: UserId,
}

/// A user, a set, and a channel: the channels that have a user in such a set lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserSetChannel {
    /// Who is in it.
    pub user: UserId,
    /// In which set.
    pub set: u8,
    /// Of which channel.
    pub channel: ChannelId,
}

/// A channel, a sender, and the hash of a client id: a sender's lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelSenderHash {
    /// Where it was sent.
    pub channel: ChannelId,
    /// By whom.
    pub sender: UserId,
    /// The keyed hash of the client id.
    pub hash: u64,
}

impl TableKey for ChannelSenderHash {
    type Minor = (u32, u64);
    const WIDE: bool = true;

    fn group(self) -> u32 {
        self.channel.0
    }

    fn minor(self) -> (u32, u64) {
        (self.sender.0, self.hash)
    }

    fn of(group: u32, (sender, hash): (u32, u64)) -> Self {
        ChannelSenderHash { channel: ChannelId(group), sender: UserId(sender), hash }
    }

    fn raw(self) -> Key {
        Key { a: self.channel.0, b: self.sender.0.into(), c: self.hash }
    }

    fn from_raw(raw: Key) -> Self {
        ChannelSenderHash { channel: ChannelId(raw.a), sender: UserId(raw.b as u32), hash: raw.c }
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (Some(self.channel), Some(self.sender))
    }
}

/// The two keyed hashes of a message's unique id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash {
    /// One.
    pub one: u64,
    /// Another.
    pub two: u64,
}

impl TableKey for IdHash {
    type Minor = (u32, u64);
    const WIDE: bool = true;

    fn group(self) -> u32 {
        (self.one >> 32) as u32
    }

    fn minor(self) -> (u32, u64) {
        (self.one as u32, self.two)
    }

    fn of(group: u32, (low, two): (u32, u64)) -> Self {
        IdHash { one: (u64::from(group) << 32) | u64::from(low), two }
    }

    fn raw(self) -> Key {
        Key { a: self.group(), b: self.one & u64::from(u32::MAX), c: self.two }
    }

    fn from_raw(raw: Key) -> Self {
        IdHash::of(raw.a, (raw.b as u32, raw.c))
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (None, None)
    }
}

/// A time and the version of a message that was sent: all rows lie together, in order of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeVersion {
    /// In Unix milliseconds.
    pub time: u64,
    /// The message's.
    pub version: u64,
}

impl TableKey for TimeVersion {
    type Minor = (u64, u64);
    const WIDE: bool = true;

    fn group(self) -> u32 {
        0
    }

    fn minor(self) -> (u64, u64) {
        (self.time, self.version)
    }

    fn of(_: u32, (time, version): (u64, u64)) -> Self {
        TimeVersion { time, version }
    }

    fn raw(self) -> Key {
        Key { a: 0, b: self.time, c: self.version }
    }

    fn from_raw(raw: Key) -> Self {
        TimeVersion { time: raw.b, version: raw.c }
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (None, None)
    }
}

/// Makes two ids with the number of a set between them a table's key.
macro_rules! in_set {
    ($name:ident, $a:ident: $first:ident, $c:ident: $last:ident) => {
        impl TableKey for $name {
            type Minor = (u8, u32);
            const WIDE: bool = true;

            fn group(self) -> u32 {
                self.$a.0
            }

            fn minor(self) -> (u8, u32) {
                (self.set, self.$c.0)
            }

            fn of(group: u32, (set, id): (u8, u32)) -> Self {
                $name { $a: $first(group), set, $c: $last(id) }
            }

            fn raw(self) -> Key {
                Key { a: self.$a.0, b: self.set.into(), c: self.$c.0.into() }
            }

            fn from_raw(raw: Key) -> Self {
                $name { $a: $first(raw.a), set: raw.b as u8, $c: $last(raw.c as u32) }
            }

            fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
                (Some(self.channel), Some(self.user))
            }
        }
    };
}

in_set!(ChannelSetUser, channel: ChannelId, user: UserId);
in_set!(UserSetChannel, user: UserId, channel: ChannelId);

/// Makes a pair of ids a table's key.
macro_rules! pair {
    ($name:ident, $a:ident: $first:ident, $b:ident: $second:ident) => {
        impl TableKey for $name {
            type Minor = u32;
            const WIDE: bool = false;

            fn group(self) -> u32 {
                self.$a.0
            }

            fn minor(self) -> u32 {
                self.$b.0
            }

            fn of(group: u32, minor: u32) -> Self {
                $name { $a: $first(group), $b: $second(minor) }
            }

            fn raw(self) -> Key {
                Key { a: self.$a.0, b: self.$b.0.into(), c: 0 }
            }

            fn from_raw(raw: Key) -> Self {
                $name { $a: $first(raw.a), $b: $second(raw.b as u32) }
            }

            fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
                (Some(self.channel), Some(self.user))
            }
        }
    };
}

pair!(UserChannel, user: UserId, channel: ChannelId);
pair!(ChannelUser, channel: ChannelId, user: UserId);

/// A channel and a seq: a channel's rows lie together, in order of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelSeq {
    /// The channel.
    pub channel: ChannelId,
    /// The seq of a message.
    pub seq: u64,
}

impl TableKey for ChannelSeq {
    type Minor = u64;
    const WIDE: bool = true;

    fn group(self) -> u32 {
        self.channel.0
    }

    fn minor(self) -> u64 {
        self.seq
    }

    fn of(group: u32, seq: u64) -> Self {
        ChannelSeq { channel: ChannelId(group), seq }
    }

    fn raw(self) -> Key {
        Key { a: self.channel.0, b: self.seq, c: 0 }
    }

    fn from_raw(raw: Key) -> Self {
        ChannelSeq { channel: ChannelId(raw.a), seq: raw.b }
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (Some(self.channel), None)
    }
}

/// A place beside a message, for what there may be much of: a channel's rows lie together, in order of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageSlot {
    /// The channel.
    pub channel: ChannelId,
    /// The seq of a message.
    pub seq: u64,
    /// Which of the message's places.
    pub slot: u64,
}

impl TableKey for MessageSlot {
    type Minor = (u64, u64);
    const WIDE: bool = true;

    fn group(self) -> u32 {
        self.channel.0
    }

    fn minor(self) -> (u64, u64) {
        (self.seq, self.slot)
    }

    fn of(group: u32, (seq, slot): (u64, u64)) -> Self {
        MessageSlot { channel: ChannelId(group), seq, slot }
    }

    fn raw(self) -> Key {
        Key { a: self.channel.0, b: self.seq, c: self.slot }
    }

    fn from_raw(raw: Key) -> Self {
        MessageSlot { channel: ChannelId(raw.a), seq: raw.b, slot: raw.c }
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (Some(self.channel), None)
    }
}

/// A user and a message: a user's rows lie together, in order of channels and their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserChannelSeq {
    /// Whose row it is; [`EVERYBODY`] if it is nobody's in particular.
    pub user: UserId,
    /// The channel.
    pub channel: ChannelId,
    /// The seq of a message.
    pub seq: u64,
}

impl TableKey for UserChannelSeq {
    type Minor = (u32, u64);
    const WIDE: bool = true;

    fn group(self) -> u32 {
        self.user.0
    }

    fn minor(self) -> (u32, u64) {
        (self.channel.0, self.seq)
    }

    fn of(group: u32, (channel, seq): (u32, u64)) -> Self {
        UserChannelSeq { user: UserId(group), channel: ChannelId(channel), seq }
    }

    fn raw(self) -> Key {
        Key { a: self.user.0, b: self.channel.0.into(), c: self.seq }
    }

    fn from_raw(raw: Key) -> Self {
        UserChannelSeq { user: UserId(raw.a), channel: ChannelId(raw.b as u32), seq: raw.c }
    }

    fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
        (Some(self.channel), Some(self.user).filter(|user| *user != EVERYBODY))
    }
}

/// Makes an id a table's key.
macro_rules! single {
    ($name:ident: $ids:expr) => {
        impl TableKey for $name {
            type Minor = ();
            const WIDE: bool = false;

            fn group(self) -> u32 {
                self.0
            }

            fn minor(self) {}

            fn of(group: u32, _: ()) -> Self {
                $name(group)
            }

            fn raw(self) -> Key {
                Key { a: self.0, ..Key::default() }
            }

            fn from_raw(raw: Key) -> Self {
                $name(raw.a)
            }

            fn ids(self) -> (Option<ChannelId>, Option<UserId>) {
                let ids: fn($name) -> (Option<ChannelId>, Option<UserId>) = $ids;
                ids(self)
            }
        }
    };
}

single!(ChannelId: |channel| (Some(channel), None));
single!(UserId: |user| (None, Some(user)));
single!(LogId: |_| (None, None));
