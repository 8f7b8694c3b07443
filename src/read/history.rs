//! Reading a channel's messages by seq.

use std::cell::Cell;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;

use super::alterations::Alterations;
use super::{At, Senders, payload_len};
use crate::error::Result;
use crate::files::record::Record;
use crate::kernel::View;
use crate::kernel::measures::Measured;
use crate::model::ids::{ChannelId, UserId};
use crate::model::member::own::Own;
use crate::model::membership::key;
use crate::model::message::Message;

/// A list has room for so many messages at once, or for all that it may have: a page of an app's.
const PAGE: usize = 32;

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
    times: (i64, i64),
    sender: Option<Vec<u8>>,
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
            times: (i64::MIN, i64::MAX),
            sender: None,
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

    /// Only messages whose timestamp is not before this one, in Unix milliseconds.
    ///
    /// It asks each message for what its sender's server said, and rests on no order: clocks that step back, and a message
    /// from a far future, hide nothing. Costs 64 bytes of an index for each sealed block of 16 KiB that the range covers
    /// until the answer is complete, the blocks that hold such messages, and the unsealed messages of the range.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// for (at, text) in [(1000, "one"), (9000, "from the future"), (2000, "two"), (3000, "three")] {
    ///     store.commit(Batch::new().append("general", Draft::new("alice", at, text)))?;
    /// }
    /// // The last message at or before a time, and the first one after it.
    /// let before = store.history("general").to_time(2500).last(1)?;
    /// let after = store.history("general").from_time(2501).limit(1).list()?;
    /// assert_eq!((before[0].seq, after[0].seq), (3, 2));
    /// // What follows where the reader was.
    /// let next = store.history("general").from(before[0].seq + 1).from_time(2501).limit(1).list()?;
    /// assert_eq!(next[0].payload, "three");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_time(mut self, timestamp: i64) -> Self {
        self.times.0 = timestamp;
        self
    }

    /// Only messages of this sender.
    ///
    /// The sender's last message in the channel is known, quiet ones apart, so that nothing after it and after the last quiet
    /// message is read, and nothing at all for who never sent where nobody sent such; before it, every message of the range is looked at until the answer is complete.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// for (sender, text) in [("alice", "one"), ("bob", "two"), ("alice", "three"), ("bob", "four")] {
    ///     store.commit(Batch::new().append("general", Draft::new(sender, 0, text)))?;
    /// }
    /// // Alice's own last message at or below seq 2.
    /// assert_eq!(store.history("general").to(2).by("alice").last(1)?[0].payload, "one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by(mut self, sender: impl AsRef<[u8]>) -> Self {
        self.sender = Some(sender.as_ref().into());
        self
    }

    /// Only messages whose timestamp is not after this one. See [`History::from_time`].
    pub fn to_time(mut self, timestamp: i64) -> Self {
        self.times.1 = timestamp;
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

    /// Only what this member may see; for a non-member what was kept ([`Batch::leave_with`](crate::Batch::leave_with)), or nothing.
    pub fn seen_by(mut self, user: impl AsRef<[u8]>) -> Self {
        self.viewer = Some(user.as_ref().into());
        self
    }

    /// The messages of the range.
    ///
    /// Costs one look-up for each file that holds a part of the range, a number of look-ups that is logarithmic in the number
    /// of files in order to find the first of them, and then the messages.
    pub fn list(self) -> Result<Vec<Message>> {
        let kernel = self.at.kernel();
        kernel.timed(Measured::History, || {
            let mut messages = Vec::with_capacity(self.limit.min(PAGE));
            self.visit(&mut |message| {
                messages.push(message);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(messages)
        })
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
        let Some((to, sender)) = self.last_sent(&view, channel)? else { return Ok(()) };
        let times = self.times.0..=self.times.1;
        let mut alterations = Alterations::new(&view, channel, &view.head_of(channel), self.reverse);
        let mut see = |record_bytes: &Bytes, record: &Record<'_>| {
            if sender.is_some_and(|sender| sender != record.sender) {
                return Ok(ControlFlow::Continue(()));
            }
            let altered = alterations.of(record.mark.seq)?;
            let state = senders.state(record, altered)?;
            bytes += payload_len(state, record, altered) as u64;
            let mut done = count.get() > 0 && bytes > self.bytes;
            if !done {
                count.set(count.get() + 1);
                let message = senders.message_in(state, record_bytes, record, altered)?;
                done = visit(message)?.is_break() || count.get() == self.limit;
            }
            ended.set(done);
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        for part in self.parts(&view, channel)? {
            let left =
                if sender.is_none() || self.limit == 0 { self.limit - count.get() } else { usize::MAX };
            let part = *part.start()..=to.min(*part.end());
            view.messages(channel, part, self.reverse, left).of_times(times.clone()).read(&mut see)?;
            if ended.get() {
                break;
            }
        }
        Ok(())
    }

    /// The last seq that may be wanted, and whose messages are; `None` if there are none.
    fn last_sent(&self, view: &View, channel: ChannelId) -> Result<Option<(u64, Option<UserId>)>> {
        let Some(sender) = &self.sender else { return Ok(Some((self.to, None))) };
        let Some(user) = view.user_id(sender)? else { return Ok(None) };
        // Quiet ones move no mark.
        let own = view.row::<Own>(key(channel, user))?.map_or(0, |own| own.mark.seq);
        let last = own.max(view.head_of(channel).quiet);
        Ok((last > 0).then_some((self.to.min(last), Some(user))))
    }

    /// The parts of the range that may be read, in the order of reading: one, if the viewer hid none of it; none, if the
    /// viewer is no member and kept nothing.
    fn parts(&self, view: &View, channel: ChannelId) -> Result<Vec<RangeInclusive<u64>>> {
        let mut from = self.from.max(1);
        let Some(viewer) = &self.viewer else { return Ok(vec![from..=self.to]) };
        let Some(user) = view.user_id(viewer)? else { return Ok(Vec::new()) };
        let key = key(channel, user);
        let Some((seqs, forgot)) = view.readable(key)? else { return Ok(Vec::new()) };
        from = from.max(*seqs.start());
        let to = self.to.min(*seqs.end());
        let mut parts = Vec::new();
        for (before, last) in view.hidden_up_to(key, forgot, from)?.iter() {
            parts.push(from..=before.seq.min(to));
            from = from.max(last.seq.saturating_add(1));
        }
        parts.push(from..=to);
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
