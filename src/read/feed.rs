//! What happened in all channels, in order of versions.
//!
//! There is no second log: the changed index names the channels in which something happened, and a channel's messages and
//! changed rows ascend by version. A feed looks round once, notes where each such channel goes on, and merges them. Messages
//! never change and their place does not either, so that it holds no view between two events, however slow its reader is:
//! what is committed meanwhile has greater versions, and is found when it looks round again.
//!
//! Invariant: all events up to the feed's version were told, and none above it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::changes::{ByVersion, ChangedRow, MessageChange, told};
use super::token::{Seen, SyncToken};
use super::{Senders, alterations};
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::kernel::feeds::FeedPart;
use crate::kernel::{Kernel, View};
use crate::model::Table;
use crate::model::alteration::Alteration;
use crate::model::annotation::Annotation;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::{ChannelSeq, MessageSlot, TableKey};
use crate::model::message::Message;

/// Something that happened in a channel. Made by [`Feed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Event {
    /// A message was sent. It is told as it is now.
    #[non_exhaustive]
    Message {
        /// The channel's name.
        channel: Bytes,
        /// The message.
        message: Message,
    },
    /// A message was changed after it was sent. What changed several times is told once, as it is now, at its last change.
    #[non_exhaustive]
    Change {
        /// The channel's name.
        channel: Bytes,
        /// What changed.
        change: MessageChange,
    },
    /// The channel itself changed: its class, its attributes, or how far it was trimmed. Told as it is now.
    #[non_exhaustive]
    Channel {
        /// The channel's name.
        channel: Bytes,
        /// The version of the last such change.
        version: u64,
        /// Its head, which has class and floor; [`Store::channel`](crate::Store::channel) has the attributes.
        head: Head,
    },
    /// Something became of a user in whatever channels: what the user sent is erased up to a version, or the user was deleted.
    /// Also who follows one channel is told.
    #[non_exhaustive]
    User {
        /// The user's name.
        user: Bytes,
        /// The version of the change.
        version: u64,
        /// The payloads of the user's messages up to this version are erased ([`Batch::erase_user`](crate::Batch::erase_user)); 0
        /// if none are.
        erased: u64,
        /// Whether the user was deleted ([`Batch::delete_user`](crate::Batch::delete_user)): messages up to this version have no
        /// sender any more. Later ones of the name are another user's.
        deleted: bool,
    },
    /// The token was of a state that a crash took: what was told of later versions than this one never was. What follows
    /// begins after it.
    #[non_exhaustive]
    Rewound {
        /// The last version that was kept.
        version: u64,
    },
}

impl Event {
    /// The version at which it happened.
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Event::Message { message, .. } => message.version,
            Event::Change { change, .. } => change.version,
            Event::Channel { version, .. } | Event::User { version, .. } | Event::Rewound { version } => {
                *version
            }
        }
    }
}

/// All that happens in the store, or in one channel, in the order in which it was committed. Made by
/// [`Store::feed`](crate::Store::feed).
///
/// An iterator that ends when all that is published was told, and goes on when there is more: call it again, after
/// [`Feed::wait`], or after awaiting [`Store::changed`](crate::Store::changed).
///
/// It holds no files, no memory of rows and no thread between two events: 40 bytes for each channel that changed since it last
/// looked round, and for each changed row. So it may be as slow as it likes, and loses nothing. An event costs about what
/// reading one message costs; looking round, a few look-ups for each channel that changed.
///
/// Damage is told as an error for each message that it took, and then the feed goes on. After any other error it is where it
/// was.
#[derive(Debug)]
#[must_use = "a feed tells nothing unless it is read"]
pub struct Feed {
    kernel: Arc<Kernel>,
    /// Only this channel is wanted.
    only: Option<Vec<u8>>,
    /// A token that was not looked at yet.
    token: Option<Seen>,
    /// All up to here was told.
    told: u64,
    /// What is noted is complete up to here.
    until: u64,
    ahead: BinaryHeap<Reverse<Ahead>>,
    memory: FeedPart,
}

/// Something that is to be told. The order is that of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ahead {
    version: u64,
    channel: ChannelId,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The first message from this seq on, and after it those that follow.
    Messages {
        seq: u64,
    },
    Alteration {
        seq: u64,
    },
    Annotation {
        seq: u64,
        slot: u64,
    },
    Channel,
    /// Of no channel.
    User(UserId),
}

impl Feed {
    pub(crate) fn new(kernel: Arc<Kernel>) -> Feed {
        let memory = FeedPart::new(&kernel.feeds);
        Feed { kernel, only: None, token: None, told: 0, until: 0, ahead: BinaryHeap::new(), memory }
    }

    /// Only what happened after the state that a token names: that of an earlier feed, a list or an update.
    pub fn after(mut self, token: &SyncToken) -> Feed {
        (self.token, self.told) = (Some(token.0), token.0.version);
        self
    }

    /// Only what happens from now on.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn from_now(self) -> Result<Feed> {
        let now = Seen::of(&self.kernel.view()?);
        Ok(self.after(&SyncToken(now)))
    }

    /// Only what happens in this channel. It need not be there yet.
    pub fn channel(mut self, channel: impl AsRef<[u8]>) -> Feed {
        self.only = Some(channel.as_ref().into());
        self
    }

    /// All events up to this version were told.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.told
    }

    /// Names the state that was told so far: with it a later feed goes on, also in another process. Keep it where what was
    /// made of the events is kept, or in the attributes of a user that stands for the reader.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn token(&self) -> Result<SyncToken> {
        let view = self.kernel.view()?;
        Ok(SyncToken(match self.token {
            Some(seen) => seen,
            None => Seen { version: self.told, ..Seen::of(&view) },
        }))
    }

    /// Waits until there is more to be told, at most so long; whether there is.
    ///
    /// # Errors
    /// [`Error::Closed`] once the store is closed.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        if self.token.is_some() || !self.ahead.is_empty() {
            return self.kernel.check_open().map(|()| true);
        }
        let deadline = Instant::now().checked_add(timeout);
        Ok(self.kernel.wait_for(self.until, deadline).transpose()?.is_some())
    }

    /// The next event.
    fn step(&mut self) -> Result<Option<Event>> {
        if let Some(rewound) = self.begin()? {
            return Ok(Some(rewound));
        }
        loop {
            let view = self.kernel.view()?;
            let Some(Reverse(ahead)) = self.ahead.peek().copied() else {
                match self.look_round(&view)? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let event = self.tell(&view, ahead);
            // After damage the next message comes, and after any other error the same again.
            if matches!(event, Ok(_) | Err(Error::Corruption { .. })) {
                self.ahead.pop();
                self.told = ahead.version;
            }
            match event {
                Ok((event, next)) => {
                    self.note(next);
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Err(error) => {
                    if let (Error::Corruption { .. }, What::Messages { seq }) = (&error, ahead.what) {
                        self.note(self.after_damage(&view, ahead, seq));
                    }
                    return Err(error);
                }
            }
        }
    }

    fn note(&mut self, ahead: Option<Ahead>) {
        self.ahead.extend(ahead.filter(|ahead| ahead.version <= self.until).map(Reverse));
    }

    /// Looks at the token, if that was not done yet.
    fn begin(&mut self) -> Result<Option<Event>> {
        let Some(seen) = self.token else { return Ok(None) };
        let view = self.kernel.view()?;
        let lost = seen.lost(&view)?;
        self.token = None;
        self.told = lost.map_or(seen.version, |kept| kept.min(seen.version));
        self.until = self.told;
        Ok(lost.map(|version| Event::Rewound { version }))
    }

    /// Notes what happened since it was last done. False if nothing did. If it fails it is done again.
    fn look_round(&mut self, view: &View) -> Result<bool> {
        let (after, until) = (self.until, view.version());
        self.told = after;
        self.keep(BinaryHeap::new());
        if until <= after {
            return Ok(false);
        }
        let mut found = Vec::new();
        match &self.only {
            Some(name) => {
                if let Some(channel) = view.channel_id(name)? {
                    look_at(view, channel, after, &mut found)?;
                }
            }
            None => {
                let mut from = ChannelId(0);
                while let Some(channel) = view.next_changed(from, after) {
                    look_at(view, channel, after, &mut found)?;
                    from = ChannelId(channel.0.saturating_add(1));
                }
            }
        }
        let users = self.kernel.fates.told(after, until);
        let noted = users.into_iter().map(|(version, user)| Ahead {
            version,
            channel: ChannelId(0),
            what: What::User(user),
        });
        self.keep(found.into_iter().chain(noted).map(Reverse).collect());
        self.until = until;
        Ok(true)
    }

    /// Takes what is noted in place of what was told, and its memory.
    fn keep(&mut self, ahead: BinaryHeap<Reverse<Ahead>>) {
        if self.ahead.capacity() + ahead.capacity() > 0 {
            self.memory.set((ahead.capacity() * size_of::<Ahead>()) as u64);
            self.ahead = ahead;
        }
    }

    /// What is told of something that was noted, if there is still something to tell, and what comes after it.
    fn tell(&self, view: &View, ahead: Ahead) -> Result<(Option<Event>, Option<Ahead>)> {
        let Ahead { version, channel, what } = ahead;
        let name = || view.name(Named::Channel, channel.0);
        let head = view.head_of(channel);
        let changed = |seq, row| -> Result<_> {
            let change = told(view, ByVersion { version, seq, row })?;
            Ok(Some(Event::Change { channel: name()?, change }))
        };
        let event = match what {
            What::Messages { seq } => return next_message(view, &head, ahead, seq),
            What::Channel if head.kept == version => Some(Event::Channel { channel: name()?, version, head }),
            What::Alteration { seq } if seq > head.trimmed.seq => {
                let row = view.row::<Alteration>(ChannelSeq { channel, seq })?;
                match row.filter(|row| row.version == version) {
                    Some(row) if !alterations::is_erased_edit(view, &row)? => {
                        changed(seq, ChangedRow::Alteration(row))?
                    }
                    _ => None,
                }
            }
            What::Annotation { seq, slot } if seq > head.trimmed.seq => {
                let row = view.row::<Annotation>(MessageSlot { channel, seq, slot })?;
                match row.filter(|row| row.version == version) {
                    Some(row) => changed(seq, ChangedRow::Annotation(row))?,
                    None => None,
                }
            }
            What::User(user) => match self.kernel.fates.get(user).filter(|fate| fate.told_at() == version) {
                Some(fate) => {
                    let (user, deleted) = (view.name(Named::User, user.0)?, fate.deleted > 0);
                    Some(Event::User { user, version, erased: fate.erased, deleted })
                }
                None => None,
            },
            // It changed again, and will be told then, or it went.
            _ => None,
        };
        Ok((event, None))
    }

    /// Where a channel goes on after a message that can't be read: at the next one that can, or with the next error.
    fn after_damage(&self, view: &View, ahead: Ahead, seq: u64) -> Option<Ahead> {
        let last = view.head_of(ahead.channel).last.seq;
        let what = What::Messages { seq: seq.saturating_add(1) };
        (seq < last).then_some(Ahead { what, ..ahead })
    }
}

impl Iterator for Feed {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        self.step().transpose()
    }
}

/// Notes what happened in a channel after a version.
fn look_at(view: &View, channel: ChannelId, after: u64, found: &mut Vec<Ahead>) -> Result<()> {
    let head = view.head_of(channel);
    if let Some((version, seq)) = first_after(view, channel, &head, after)? {
        found.push(Ahead { version, channel, what: What::Messages { seq } });
    }
    if head.content > after {
        let first = ChannelSeq { channel, seq: head.trimmed.seq + 1 };
        each_changed::<Alteration>(view, first, after, found, |at| What::Alteration { seq: at.seq })?;
        let first = MessageSlot { channel, seq: head.trimmed.seq + 1, slot: 0 };
        each_changed::<Annotation>(view, first, after, found, |at| What::Annotation {
            seq: at.seq,
            slot: at.slot,
        })?;
    }
    if head.kept > after {
        found.push(Ahead { version: head.kept, channel, what: What::Channel });
    }
    Ok(())
}

fn each_changed<T: Table>(
    view: &View,
    first: T::Key,
    after: u64,
    found: &mut Vec<Ahead>,
    what: impl Fn(T::Key) -> What,
) -> Result<()> {
    let channel = ChannelId(first.group());
    let mut rows = view.scan::<T>(first, after)?;
    while let Some((at, row)) = rows.next()? {
        found.push(Ahead { version: row.version(), channel, what: what(at) });
    }
    Ok(())
}

/// The version and the seq of a channel's first message after a version. Leaps back from the end, ever further, and then
/// halves: a number of reads that is logarithmic in the number of new messages.
fn first_after(view: &View, channel: ChannelId, head: &Head, after: u64) -> Result<Option<(u64, u64)>> {
    if head.order <= after || head.last.seq <= head.trimmed.seq {
        return Ok(None);
    }
    // No message up to `below` is wanted, and `first` is.
    let (mut below, mut first) = (head.trimmed.seq, (head.order, head.last.seq));
    let mut leap = 1;
    while first.1 - below > 1 {
        let seq = first.1 - leap.min(first.1 - below - 1);
        let mut found = None;
        view.messages(channel, below + 1..=seq, true, 1).read(&mut |_, record| {
            found = Some((record.version, record.mark.seq));
            Ok(ControlFlow::Break(()))
        })?;
        match found.filter(|(version, _)| *version > after) {
            Some(newer) => {
                first = newer;
                leap = leap.saturating_mul(2);
            }
            None => {
                below = seq;
                leap = (first.1 - below) / 2;
            }
        }
        leap = leap.max(1);
    }
    Ok(Some(first))
}

/// The message that comes at `seq` or after it, if it is the one that was noted, and where the next one is.
fn next_message(view: &View, head: &Head, ahead: Ahead, seq: u64) -> Result<(Option<Event>, Option<Ahead>)> {
    let channel = ahead.channel;
    let (mut event, mut next) = (None, None);
    let mut senders = Senders::new(view);
    view.messages(channel, seq..=u64::MAX, false, 2).read(&mut |bytes, record| {
        let here = record.mark.seq;
        if event.is_none() && record.version == ahead.version {
            let altered = alterations::of_one(view, channel, head, here)?;
            let message = senders.message(bytes, record, altered.as_ref())?;
            event = Some(Event::Message { channel: view.name(Named::Channel, channel.0)?, message });
            return Ok(ControlFlow::Continue(()));
        }
        next = Some(Ahead { version: record.version, channel, what: What::Messages { seq: here } });
        Ok(ControlFlow::Break(()))
    })?;
    Ok((event, next))
}
