//! The plain types at the bottom: ids, marks, heads and rows. Owns no behaviour beyond what their fields imply.

/// A dense number that stands for a channel's name inside one store. Never shown to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// A dense number that stands for a user's name inside one store. Never shown to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

impl ChannelId {
    /// The place of this channel in an array indexed by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Ids stay below this bound, so that one value is left over as a sentinel.
pub const MAX_IDS: u32 = u32::MAX;

/// No seq, version or file number gets here. A greater one on disk is damage, so that sums don't overflow.
pub const MAX_SEQ: u64 = 1 << 62;

/// The longest channel or user name, in bytes.
pub const MAX_NAME: usize = 255;

/// The longest client id of a message, in bytes.
pub const MAX_CLIENT_ID: usize = 64;

/// A place in a channel: a seq, and the number of counted (not silent) messages up to and with it.
///
/// Two marks of one channel give an exact count of the messages between them by one subtraction of ordinals. The default
/// mark lies before the first message.
///
/// ```
/// let read = chanlog::Mark { seq: 7, ordinal: 6 };
/// let end = chanlog::Mark { seq: 12, ordinal: 9 };
/// assert_eq!(end.ordinal - read.ordinal, 3); // Two of the five messages after `read` are silent.
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The seq of a message, or 0 for the place before the first one.
    pub seq: u64,
    /// The number of counted messages with a seq up to `seq`.
    pub ordinal: u64,
}

impl Mark {
    /// The later of two marks of one channel.
    #[must_use]
    pub fn max(self, other: Mark) -> Mark {
        if other.seq > self.seq { other } else { self }
    }
}

/// What is kept in memory for each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last message's mark.
    pub last: Mark,
    /// The version of the last message; 0 while there is none. It also tells where that message lies, because every
    /// file covers a contiguous range of versions.
    pub version: u64,
    /// The number of present members.
    pub members: u32,
}

/// One membership, which is also the cursor of its user in its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The mark just before the first message that this membership may see: its seq is `join_seq - 1`.
    pub base: Mark,
    /// Read up to here.
    pub read: Mark,
    /// The user's own last message while a member.
    pub own: Mark,
    /// Hidden up to here.
    pub deleted: Mark,
    /// The version of the activation in force, or 0.
    pub activated: u64,
    /// When the user left, in Unix milliseconds; `None` while a member. A row with it is a tombstone.
    pub left_at: Option<i64>,
    /// The version of the row's last own change. An own message does not count: it is the channel's change.
    pub version: u64,
}

impl Row {
    /// Whether the user is a member, that is, whether the row is no tombstone.
    pub fn present(&self) -> bool {
        self.left_at.is_none()
    }

    /// Nothing up to this mark may be seen.
    pub fn floor(&self) -> Mark {
        self.base.max(self.deleted)
    }

    /// Everything up to this mark counts as read.
    pub fn cursor(&self) -> Mark {
        self.floor().max(self.read).max(self.own)
    }

    /// Whether the conversation shows up in the user's list, given the channel's head.
    pub fn visible(&self, head: &Head) -> bool {
        self.present() && (head.last.seq > self.floor().seq || self.activated > 0)
    }
}
