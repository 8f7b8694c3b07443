//! Reading a channel's messages by seq.

use std::ops::ControlFlow;

use super::alterations::Alterations;
use super::{At, Senders};
use crate::error::Result;
use crate::kernel::View;
use crate::model::ids::ChannelId;
use crate::model::membership::{Membership, key};
use crate::model::message::Message;

/// A range of a channel's messages, to be read. Made by [`Store::history`](crate::Store::history).
#[derive(Clone, Debug)]
#[must_use]
pub struct History<'a> {
    at: At<'a>,
    channel: Vec<u8>,
    from: u64,
    to: u64,
    limit: usize,
    bytes: u64,
    reverse: bool,
    viewer: Option<Vec<u8>>,
}

impl<'a> History<'a> {
    pub(crate) fn new(at: At<'a>, channel: &[u8]) -> Self {
        History {
            at,
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

    /// Stops before the payloads exceed this sum in bytes, as they are told: that of a retracted message is empty. The first
    /// message always comes.
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
    ///
    /// Costs one look-up for each file that holds a part of the range, a number of look-ups that is logarithmic in the number
    /// of files in order to find the first of them, and then the messages.
    pub fn list(self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        self.visit(&mut |message| {
            messages.push(message);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(messages)
    }

    /// Hands the messages of the range to `visit`, one by one, until it breaks.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use std::ops::ControlFlow;
    /// let mut bytes = 0;
    /// store.history("general").visit(&mut |message| {
    ///     bytes += message.payload.len();
    ///     Ok(ControlFlow::Continue(()))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn visit(self, visit: &mut dyn FnMut(Message) -> Result<ControlFlow<()>>) -> Result<()> {
        let view = self.at.view()?;
        let Some(channel) = view.channel_id(&self.channel)? else { return Ok(()) };
        let Some(from) = self.first_seen(&view, channel)? else { return Ok(()) };
        let (mut count, mut bytes) = (0, 0);
        let mut senders = Senders::new(&view);
        let mut alterations = Alterations::new(&view, channel, &view.head_of(channel), self.reverse);
        let messages = view.messages(channel, from..=self.to, self.reverse, self.limit);
        messages.read(&mut |record_bytes, record| {
            let altered = alterations.of(record.mark.seq)?;
            bytes += altered.map_or(record.payload.len(), |altered| altered.len(record.payload)) as u64;
            if count > 0 && bytes > self.bytes {
                return Ok(ControlFlow::Break(()));
            }
            count += 1;
            if visit(senders.message(record_bytes, record, altered)?)?.is_break() || count == self.limit {
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The first seq that may be read; `None` if the viewer is no member.
    fn first_seen(&self, view: &View, channel: ChannelId) -> Result<Option<u64>> {
        let from = self.from.max(1);
        let Some(viewer) = &self.viewer else { return Ok(Some(from)) };
        let Some(user) = view.user_id(viewer)? else { return Ok(None) };
        let row = view.row::<Membership>(key(channel, user))?.filter(Membership::present);
        Ok(row.map(|row| from.max(row.floor().seq.saturating_add(1))))
    }

    /// The last `count` messages of the range, oldest first; fewer if a smaller [`History::limit`] was set.
    pub fn last(self, count: usize) -> Result<Vec<Message>> {
        let count = count.min(self.limit);
        let mut messages = self.reverse().limit(count).list()?;
        messages.reverse();
        Ok(messages)
    }
}
