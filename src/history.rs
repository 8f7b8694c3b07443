//! Reading a channel's messages by seq.

use crate::error::Result;
use crate::message::Message;
use crate::store::Store;

/// A range of a channel's messages, to be read. Made by [`Store::history`](crate::Store::history).
#[derive(Clone, Debug)]
#[must_use]
pub struct History<'a> {
    store: &'a Store,
    channel: Vec<u8>,
    from: u64,
    to: u64,
    limit: usize,
    bytes: u64,
    reverse: bool,
    viewer: Option<Vec<u8>>,
}

impl<'a> History<'a> {
    pub(crate) fn new(store: &'a Store, channel: &[u8]) -> Self {
        History {
            store,
            channel: channel.into(),
            from: 1,
            to: u64::MAX,
            limit: usize::MAX,
            bytes: u64::MAX,
            reverse: false,
            viewer: None,
        }
    }

    /// The first seq that is wanted; 1 by default.
    pub fn from(mut self, seq: u64) -> Self {
        self.from = seq;
        self
    }

    /// The last seq that is wanted; the end by default.
    pub fn to(mut self, seq: u64) -> Self {
        self.to = seq;
        self
    }

    /// At most so many messages, from the side where reading begins.
    pub fn limit(mut self, messages: usize) -> Self {
        self.limit = messages;
        self
    }

    /// Stops before the payloads exceed this sum in bytes; the first message always comes.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// From the newest to the oldest.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Only what this member may see; nothing for a non-member.
    pub fn seen_by(mut self, user: impl AsRef<[u8]>) -> Self {
        self.viewer = Some(user.as_ref().into());
        self
    }

    /// The messages of the range.
    pub fn list(self) -> Result<Vec<Message>> {
        todo!()
    }

    /// The last `count` messages of the range, oldest first.
    pub fn last(self, count: usize) -> Result<Vec<Message>> {
        let mut messages = self.reverse().limit(count).list()?;
        messages.reverse();
        Ok(messages)
    }
}
