//! A user's conversation list, computed when it is asked for.
//!
//! A list is a merge of the user's rows, each with the head of its channel (`standing`). This file holds what callers ask
//! and get.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::alterations::of_one;
use super::standing::{Due, Newest, Standing, add_owns, changed_states, count_all, each_state};
use super::token::{Continuation, Cut, Gap, Seen, SyncToken};
use super::{At, Classes, Senders};
use crate::env::{fault, skip};
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::kernel::measures::Measured;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::UserChannel;
use crate::model::membership::{Membership, key};
use crate::model::message::Message;

/// One entry of a conversation list.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Conversation {
    /// The channel's name.
    pub channel: Bytes,
    /// The channel's class.
    pub class: u8,
    /// The channel's last seq, whether the user may see that message or not.
    pub last_seq: u64,
    /// Everything up to this seq counts as read.
    pub read_seq: u64,
    /// The exact number of unread messages; own, silent and retracted ones don't count.
    pub unread: u64,
    /// How many of them mention the user ([`Draft::mentions`](crate::Draft::mentions)), by name or with everybody.
    pub mentions: u64,
    /// The version of the newest change: the greatest of [`Conversation::versions`].
    pub version: u64,
    /// The versions of its parts, by which a client that got an update knows what to fetch.
    pub versions: Versions,
    /// The last message that the user may see, quiet ones apart.
    pub last: Option<Message>,
    /// The user's row in the channel. In a list its attributes are loaded only if they are short, or if that was asked for.
    pub membership: Membership,
    /// Why the last message, the channel's name or the attributes could not be read. The rest of the entry is right.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub fault: Option<Error>,
}

/// When each part of an entry changed last, as versions; 0 for what never did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Versions {
    /// The channel's last message.
    pub messages: u64,
    /// The content or the annotations of messages: ask [`Store::changes`](crate::Store::changes) which.
    pub content: u64,
    /// What is kept with the channel: [`Store::channel`](crate::Store::channel) gives it.
    pub channel: u64,
    /// The user's own row, which the entry holds.
    pub row: u64,
}

impl PartialEq for Conversation {
    /// Faults are alike if there are any: errors of the system can't be compared.
    fn eq(&self, other: &Self) -> bool {
        (&self.channel, self.class, self.last_seq, self.read_seq, self.unread, self.version)
            == (&other.channel, other.class, other.last_seq, other.read_seq, other.unread, other.version)
            && (self.mentions, &self.versions, &self.last, &self.membership)
                == (other.mentions, &other.versions, &other.last, &other.membership)
            && self.fault.is_some() == other.fault.is_some()
    }
}

/// A conversation list, newest first.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct List {
    /// The entries.
    pub entries: Vec<Conversation>,
    /// Pass this to [`Conversations::since`] later.
    pub as_of: SyncToken,
    /// Where the list goes on, if a limit cut it.
    pub next: Option<Continuation>,
}

/// What of a user's conversation list is unread, in sums. Made by [`Store::unread`](crate::Store::unread).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Unread {
    /// The number of unread messages.
    pub messages: u64,
    /// The number of conversations with unread messages.
    pub conversations: u64,
    /// The number of unread messages that mention the user ([`Draft::mentions`](crate::Draft::mentions)).
    pub mentions: u64,
    /// The number of conversations that the user flagged as unread, with unread messages or without.
    pub flagged: u64,
}

impl Unread {
    fn add(&mut self, state: &Standing) {
        let messages = state.unread();
        self.messages = self.messages.saturating_add(messages);
        self.conversations += u64::from(messages > 0);
        self.mentions = self.mentions.saturating_add(state.mentions);
        self.flagged += u64::from(state.row.flagged > 0);
    }
}

/// One change of a conversation list.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all changes are entries, and a box would cost each an allocation"
)]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ListChange {
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
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Update {
    /// The token is of another store, of a state that was lost, or too old. Start over with [`Conversations::list`].
    Reset,
    /// The changes, oldest first.
    Changes {
        /// What changed.
        changes: Vec<ListChange>,
        /// Pass this to [`Conversations::since`] later.
        as_of: SyncToken,
        /// Where the changes go on, if a limit cut the answer. Passing `as_of` instead misses nothing either.
        next: Option<Continuation>,
    },
}

/// A question for a user's conversation list. Made by [`Store::conversations`](crate::Store::conversations).
#[derive(Clone, Debug)]
#[must_use]
pub struct Conversations<'a> {
    at: At<'a>,
    user: Vec<u8>,
    limit: usize,
    after: Option<Continuation>,
    unread_only: bool,
    classes: Classes,
    attributes: bool,
}

impl<'a> Conversations<'a> {
    pub(crate) fn new(at: At<'a>, user: &[u8]) -> Self {
        Conversations {
            at,
            user: user.into(),
            limit: usize::MAX,
            after: None,
            unread_only: false,
            classes: Classes::default(),
            attributes: false,
        }
    }

    /// At most so many entries.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = entries;
        self
    }

    /// Goes on where an earlier answer was cut.
    pub fn after(mut self, continuation: &Continuation) -> Self {
        self.after = Some(continuation.clone());
        self
    }

    /// Only entries with unread messages, and those that the user flagged as unread. An update then tells of entries that were read as removed.
    pub fn unread_only(mut self) -> Self {
        self.unread_only = true;
        self
    }

    /// Only channels of this class; called again, of that one too. A change of class takes an entry away, or brings it, without
    /// a word in an update: give a channel its class when it is made.
    pub fn class(mut self, class: u8) -> Self {
        self.classes.add(class);
        self
    }

    /// How much of the list is unread, in sums. Costs one step for each row of the user; no message is read.
    pub fn unread(self) -> Result<Unread> {
        let view = self.at.view()?;
        let mut sums = Unread::default();
        let Some(user) = view.user_id(&self.user)? else { return Ok(sums) };
        each_state(&view, user, true, |state| {
            if state.listed(true) && self.classes.have(&state.head) {
                sums.add(state);
            }
        })?;
        Ok(sums)
    }

    /// Also loads attributes that are longer than 1,024 bytes: one look-up more for each such entry. Without it their
    /// length is told, and [`Store::membership`](crate::Store::membership) loads those of one entry.
    pub fn with_attributes(mut self) -> Self {
        self.attributes = true;
        self
    }

    /// The list, newest first.
    ///
    /// Costs one step for each row of the user, and one read for each entry that is returned, whatever the number of
    /// members and messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a continuation of a `since` answer, of another store or of a state that was lost: then
    /// start over.
    pub fn list(self) -> Result<List> {
        self.at.kernel().timed(Measured::List, || self.answer_list())
    }

    fn answer_list(self) -> Result<List> {
        let view = self.at.view()?;
        let (seen, below) = match self.after.as_ref().map(|continuation| continuation.0) {
            None => (Seen::of(&view), u64::MAX),
            Some(Cut::List(seen)) => match seen.known(&view) {
                true => (seen, seen.gap.map_or(u64::MAX, |gap| gap.below)),
                false => {
                    return Err(Error::invalid("the continuation is not of this store, or of a lost state"));
                }
            },
            Some(Cut::Changes(_)) => {
                return Err(Error::invalid("the continuation is of changes, not of a list"));
            }
        };
        let mut newest = Newest::new(self.limit);
        let user = view.user_id(&self.user)?;
        if let Some(user) = user {
            each_state(&view, user, self.unread_only, |state| {
                let order = state.order();
                let wanted = order < below && newest.wants(order, state.channel);
                if wanted && state.listed(self.unread_only) && self.classes.have(&state.head) {
                    newest.push(order, state);
                }
            })?;
        }
        let (mut states, ranked, cut) = newest.finish();
        if let (Some(user), false) = (user, self.unread_only) {
            add_owns(&view, user, states.iter_mut())?;
            count_all(&view, user, states.iter_mut())?;
        }
        let gap = cut.then(|| Gap { below: ranked.last().map_or(below, |(order, _)| *order), above: 0 });
        let as_of = Seen { gap, ..seen.seen_at(&view) };
        let mut senders = Senders::new(&view);
        let mut load = |user, place: usize| load(&view, user, &states[place], &mut senders, self.attributes);
        let load = |user| ranked.iter().map(|(_, place)| load(user, *place)).collect();
        let entries = user.map(load).unwrap_or_default();
        let next = cut.then_some(Continuation(Cut::List(as_of)));
        Ok(List { entries, as_of: SyncToken(as_of), next })
    }

    /// What changed since an earlier answer, oldest change first.
    ///
    /// An entry that changed several times is told once, as it is now. A channel that the user left, or whose conversation
    /// was taken off the list, is told as removed, whether or not the client ever saw it. A join is told as an entry once
    /// there is something to see. Costs one step for each of the user's channels that changed; ranges of channels in which
    /// nothing changed are skipped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a continuation of a list.
    pub fn since(self, token: &SyncToken) -> Result<Update> {
        self.at.kernel().timed(Measured::Since, || self.answer_since(token))
    }

    fn answer_since(self, token: &SyncToken) -> Result<Update> {
        let view = self.at.view()?;
        let from = match self.after.as_ref().map(|continuation| continuation.0) {
            None => token.0,
            Some(Cut::Changes(seen)) => seen,
            Some(Cut::List(_)) => {
                return Err(Error::invalid("the continuation is of a list, not of changes"));
            }
        };
        if !from.known(&view) {
            return Ok(Update::Reset);
        }
        let Some(states) = changed_states(&view, &self.user, &from)? else { return Ok(Update::Reset) };
        let states = states.iter().filter(|state| self.classes.have(&state.head));
        let told = states.filter_map(|state| Some((state, state.due(&from, self.unread_only)?)));
        let mut due: Vec<_> = told.collect();
        skip(93, || due.sort_unstable_by_key(|(_, due)| due.version));
        let cut = due.len() > self.limit;
        due.truncate(self.limit);
        let as_of = match due.last() {
            _ if !cut => Seen { version: view.version() + u64::from(fault(17)), ..Seen::of(&view) },
            None => from.seen_at(&view),
            Some((_, last)) => from.told_up_to(last.version, &view),
        };
        let mut senders = Senders::new(&view);
        let mut tell = |user| {
            due.iter()
                .map(|(state, due)| tell(&view, user, state, due, &mut senders, self.attributes))
                .collect()
        };
        let changes = view.user_id(&self.user)?.map_or_else(|| Ok(Vec::new()), &mut tell)?;
        let next = cut.then_some(Continuation(Cut::Changes(as_of)));
        Ok(Update::Changes { changes, as_of: SyncToken(as_of), next })
    }
}

/// The entry of one channel in a user's list.
pub(super) fn entry(view: &View, user: &[u8], channel: &[u8]) -> Result<Option<Conversation>> {
    let (Some(user), Some(channel)) = (view.user_id(user)?, view.channel_id(channel)?) else {
        return Ok(None);
    };
    let key = key(channel, user);
    let Some(row) = view.row::<Membership>(key)? else { return Ok(None) };
    let state = Standing::of(view, key, view.with_own(key, row)?)?;
    Ok(state.listed(false).then(|| load(view, user, &state, &mut Senders::new(view), true)))
}

fn tell(
    view: &View,
    user: UserId,
    state: &Standing,
    due: &Due,
    senders: &mut Senders<'_>,
    attributes: bool,
) -> Result<ListChange> {
    if due.removed {
        let channel = view.name(Named::Channel, state.channel.0)?;
        return Ok(ListChange::Removed { channel, version: due.version });
    }
    Ok(ListChange::Entry(load(view, user, state, senders, attributes)))
}

/// Completes an entry with its name and its last message, and with long attributes if they are wanted. What can't be read is the entry's own fault.
fn load(
    view: &View,
    user: UserId,
    state: &Standing,
    senders: &mut Senders<'_>,
    attributes: bool,
) -> Conversation {
    let Standing { channel, row, head, .. } = state;
    let mut fault = None;
    let mut good = |result: Result<Bytes>| result.map_err(|error| fault = Some(error)).unwrap_or_default();
    let name = good(view.name(Named::Channel, channel.0));
    let last = match row.sees_last(head) {
        true if row.forgot >= head.loud().seq => last_visible(view, key(*channel, user), state, senders),
        true => last_message(view, *channel, head, senders),
        false => Ok(None),
    };
    let last = last.unwrap_or_else(|error| {
        fault = Some(error);
        None
    });
    let mut membership = row.clone();
    if attributes && let Err(error) = view.load(&mut membership.attributes) {
        fault = Some(error);
    }
    Conversation {
        channel: name,
        class: head.class,
        last_seq: head.last.seq,
        read_seq: row.cursor_in(head).seq,
        unread: state.unread(),
        mentions: state.mentions,
        version: state.version(),
        versions: Versions {
            messages: head.order,
            content: head.content,
            channel: head.kept,
            row: row.version,
        },
        last,
        membership,
        fault,
    }
}

fn last_message(
    view: &View,
    channel: ChannelId,
    head: &Head,
    senders: &mut Senders<'_>,
) -> Result<Option<Message>> {
    let mut found = None;
    let altered = of_one(view, channel, head, head.loud().seq)?;
    view.last_record(channel, head, &mut |bytes, record| {
        found = Some(senders.message(bytes, record, altered.as_ref())?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// The last message that a user may see who hid the channel's last one. Each step goes below a hidden range, or from a quiet
/// message to the last one before it that is not.
fn last_visible(
    view: &View,
    key: UserChannel,
    state: &Standing,
    senders: &mut Senders<'_>,
) -> Result<Option<Message>> {
    let Standing { channel, row, head, .. } = state;
    let hidden = view.hidden(key, row, head.loud().seq)?;
    let (first, mut next, mut found) = (row.floor_in(head).seq + 1, head.loud().seq, None);
    while next >= first && found.is_none() {
        let from = hidden.before(next).map_or(next, |before| before.seq);
        // Between two ranges there may be a gap in place of messages.
        next = 0;
        view.messages(*channel, first..=from, true, 1).read(&mut |bytes, record| {
            let seq = record.mark.seq;
            if record.quiet > 0 {
                next = seq - record.quiet;
            } else if hidden.before(seq).is_some() {
                next = seq;
            } else {
                let altered = of_one(view, *channel, head, seq)?;
                found = Some(senders.message(bytes, record, altered.as_ref())?);
            }
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(found)
}
