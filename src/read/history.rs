//! Reading a channel's messages by seq.

use std::cell::Cell;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;

use super::alterations::Alterations;
use super::{At, Senders};
use crate::error::Result;
use crate::files::record::Record;
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
        let mut bytes = 0;
        let (count, ended) = (Cell::new(0), Cell::new(false));
        let mut senders = Senders::new(&view);
        let mut alterations = Alterations::new(&view, channel, &view.head_of(channel), self.reverse);
        let mut see = |record_bytes: &Bytes, record: &Record<'_>| {
            let altered = alterations.of(record.mark.seq)?;
            bytes += altered.map_or(record.payload.len(), |altered| altered.len(record.payload)) as u64;
            let mut done = count.get() > 0 && bytes > self.bytes;
            if !done {
                count.set(count.get() + 1);
                let message = senders.message(record_bytes, record, altered)?;
                done = visit(message)?.is_break() || count.get() == self.limit;
            }
            ended.set(done);
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        for part in self.parts(&view, channel)? {
            let left = self.limit - count.get();
            view.messages(channel, part, self.reverse, left).read(&mut see)?;
            if ended.get() {
                break;
            }
        }
        Ok(())
    }

    /// The parts of the range that may be read, in the order of reading: one, if the viewer hid none of it; none, if the
    /// viewer is no member.
    fn parts(&self, view: &View, channel: ChannelId) -> Result<Vec<RangeInclusive<u64>>> {
        let mut from = self.from.max(1);
        let Some(viewer) = &self.viewer else { return Ok(vec![from..=self.to]) };
        let Some(user) = view.user_id(viewer)? else { return Ok(Vec::new()) };
        let key = key(channel, user);
        let row = view.row::<Membership>(key)?.filter(Membership::present);
        let Some(row) = row else { return Ok(Vec::new()) };
        from = from.max(row.floor().seq.saturating_add(1));
        let mut parts = Vec::new();
        for (before, last) in view.hidden(key, &row, from)?.iter() {
            parts.push(from..=before.seq.min(self.to));
            from = from.max(last.seq.saturating_add(1));
        }
        parts.push(from..=self.to);
        parts.retain(|part| !part.is_empty());
        if self.reverse {
            parts.reverse();
        }
        Ok(parts)
    }

    /// The last `count` messages of the range, oldest first; fewer if a smaller [`History::limit`] was set.
    pub fn last(self, count: usize) -> Result<Vec<Message>> {
        let count = count.min(self.limit);
        let mut messages = self.reverse().limit(count).list()?;
        messages.reverse();
        Ok(messages)
    }
}
