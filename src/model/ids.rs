//! Ids: dense numbers that stand for names inside one store. No caller ever sees one.

/// A dense number that stands for a channel's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// A dense number that stands for a user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

/// The server's number of a log of its own, whose entries it applies to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// Which of the two kinds of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Names of channels.
    Channel,
    /// Names of users.
    User,
}

impl Named {
    /// The kind in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Named::Channel => "channel",
            Named::User => "user",
        }
    }
}

impl ChannelId {
    /// The place of this channel in an array indexed by id.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Ids stay below this bound, so that one value is left over as a sentinel. The last two below it are no name's either.
pub const MAX_IDS: u32 = u32::MAX;

/// Under this channel lie the values of rows ([`super::blob`]), each with its version as its seq. No channel ever has this
/// id, and no name leads to it.
pub const VALUES: ChannelId = ChannelId(MAX_IDS - 1);

/// Stands for all users where a row is nobody's in particular. No user ever has this id.
pub const EVERYBODY: UserId = UserId(MAX_IDS);

/// The longest channel or user name, in bytes.
pub const MAX_NAME: usize = 255;

/// The longest client id of a message, in bytes.
pub const MAX_CLIENT_ID: usize = 64;
