//! A user's conversation list, computed when it is asked for.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::message::Message;
use crate::store::Store;

/// One entry of a conversation list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversation {
    /// The channel's name.
    pub channel: Bytes,
    /// The channel's last seq, whether the user may see that message or not.
    pub last_seq: u64,
    /// Everything up to this seq counts as read.
    pub read_seq: u64,
    /// The exact number of unread messages; own and silent ones don't count.
    pub unread: u64,
    /// The version of the newest change, of message or row.
    pub version: u64,
    /// The last message that the user may see.
    pub last: Option<Message>,
}

/// A conversation list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct List {
    /// The entries.
    pub entries: Vec<Conversation>,
    /// Pass this to [`Conversations::since`] later.
    pub as_of: Token,
    /// Where the next page begins, if a limit cut the list.
    pub next: Option<Page>,
}

/// One change of a conversation list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The entry is new or changed.
    Entry(Conversation),
    /// The entry disappeared, if it was there.
    Removed {
        /// The channel's name.
        channel: Bytes,
        /// The version of the change.
        version: u64,
    },
}

/// What changed in a conversation list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// The token is of another store, of a state that was lost, or too old. Start over with [`Conversations::list`].
    Reset,
    /// The changes, oldest first.
    Changes {
        /// What changed.
        changes: Vec<Change>,
        /// Pass this to [`Conversations::since`] later.
        as_of: Token,
        /// Where the next page begins, if a limit cut the answer. Passing `as_of` instead misses nothing either.
        next: Option<Page>,
    },
}

/// A question for a user's conversation list. Made by [`Store::conversations`](crate::Store::conversations).
#[derive(Clone, Debug)]
#[must_use]
pub struct Conversations<'a> {
    store: &'a Store,
    user: Vec<u8>,
    limit: usize,
    after: Option<Page>,
    unread_only: bool,
}

impl<'a> Conversations<'a> {
    pub(crate) fn new(store: &'a Store, user: &[u8]) -> Self {
        Conversations { store, user: user.into(), limit: usize::MAX, after: None, unread_only: false }
    }

    /// At most so many entries.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = entries;
        self
    }

    /// Goes on where an earlier answer was cut.
    pub fn after(mut self, page: &Page) -> Self {
        self.after = Some(page.clone());
        self
    }

    /// Only entries with unread messages. An update then tells of entries that were read as removed.
    pub fn unread_only(mut self) -> Self {
        self.unread_only = true;
        self
    }

    /// The list, newest first.
    pub fn list(self) -> Result<List> {
        todo!()
    }

    /// What changed since an earlier answer, oldest change first.
    pub fn since(self, token: &Token) -> Result<Update> {
        let _ = token;
        todo!()
    }
}

/// Names a state of a store: which store, which of its incarnations, which version. Opaque; keep it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(Vec<u8>);

/// Names a place in a list that a limit cut. Opaque; keep it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page(Vec<u8>);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

impl FromStr for Token {
    type Err = Error;
    fn from_str(_: &str) -> Result<Token> {
        todo!()
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

impl FromStr for Page {
    type Err = Error;
    fn from_str(_: &str) -> Result<Page> {
        todo!()
    }
}
