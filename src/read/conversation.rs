//! A user's conversation list, computed when it is asked for.
//!
//! A list is a merge of the user's rows, each with the head of its channel. What changed since a version is found by two
//! sorted sequences that leap to where the other is: the user's rows, and the channels that changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::token::{Continuation, Cut, Gap, Seen, SyncToken};
use super::{At, Senders};
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::kernel::scan::Scan;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::UserChannel;
use crate::model::member::own::Own;
use crate::model::membership::{FLOOR, Membership, key};
use crate::model::message::Message;

/// How many rows get their heads together, so that a lock is taken once for them.
const TOGETHER: usize = 64;

/// One entry of a conversation list.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
    /// The user's row in the channel.
    pub membership: Membership,
    /// Why the last message or the channel's name could not be read. The rest of the entry is right.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub fault: Option<Error>,
}

impl PartialEq for Conversation {
    /// Faults are alike if there are any: errors of the system can't be compared.
    fn eq(&self, other: &Self) -> bool {
        (&self.channel, self.last_seq, self.read_seq, self.unread, self.version)
            == (&other.channel, other.last_seq, other.read_seq, other.unread, other.version)
            && (&self.last, &self.membership) == (&other.last, &other.membership)
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
    /// The number of conversations that the user flagged as unread, with unread messages or without.
    pub flagged: u64,
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
}

impl<'a> Conversations<'a> {
    pub(crate) fn new(at: At<'a>, user: &[u8]) -> Self {
        Conversations { at, user: user.into(), limit: usize::MAX, after: None, unread_only: false }
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

    /// The list, newest first.
    ///
    /// Costs one step for each row of the user, and one read for each entry that is returned, whatever the number of
    /// members and messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a continuation of a `since` answer, of another store or of a state that was lost: then
    /// start over.
    pub fn list(self) -> Result<List> {
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
        let user = view.user(&self.user)?;
        if let Some(user) = user {
            each_state(&view, user, self.unread_only, |state| {
                let order = state.order();
                if order < below && newest.wants(order, state.channel) && state.listed(self.unread_only) {
                    newest.push(order, state);
                }
            })?;
        }
        let (mut ranked, cut) = newest.finish();
        if let (Some(user), false) = (user, self.unread_only) {
            add_owns(&view, user, ranked.iter_mut().map(|(_, state)| state))?;
        }
        ranked.sort_unstable_by_key(|(order, state)| Reverse((*order, state.channel)));
        let gap = cut.then(|| Gap { below: ranked.last().map_or(below, |(order, _)| *order), above: 0 });
        let as_of = Seen { gap, ..seen.seen_at(&view) };
        let mut senders = Senders::new(&view);
        let entries = ranked.iter().map(|(_, state)| load(&view, state, &mut senders)).collect();
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
        let told = states.iter().filter_map(|state| Some((state, state.due(&from, self.unread_only)?)));
        let mut due: Vec<_> = told.collect();
        due.sort_unstable_by_key(|(_, due)| due.version);
        let cut = due.len() > self.limit;
        due.truncate(self.limit);
        let as_of = match due.last() {
            _ if !cut => Seen::of(&view),
            None => from.seen_at(&view),
            Some((_, last)) => from.told_up_to(last.version, &view),
        };
        let mut senders = Senders::new(&view);
        let changes = due.iter().map(|(state, due)| tell(&view, state, due, &mut senders));
        let changes = changes.collect::<Result<_>>()?;
        let next = cut.then_some(Continuation(Cut::Changes(as_of)));
        Ok(Update::Changes { changes, as_of: SyncToken(as_of), next })
    }
}

/// A row and its channel's head.
#[derive(Clone, Debug)]
struct Standing {
    channel: ChannelId,
    row: Membership,
    head: Head,
}

/// What is to be told of a channel.
#[derive(Clone, Copy, Debug)]
struct Due {
    version: u64,
    removed: bool,
}

/// The newest states of those that are shown to it, up to a limit. It keeps few more than that, so that a list costs memory
/// for what is returned and not for all of a user's channels.
struct Newest {
    limit: usize,
    kept: Vec<(u64, Standing)>,
    /// The order and the channel of the newest one that was dropped.
    dropped: Option<(u64, ChannelId)>,
}

impl Newest {
    fn new(limit: usize) -> Newest {
        Newest { limit, kept: Vec::new(), dropped: None }
    }

    /// Whether a state may be among them.
    fn wants(&self, order: u64, channel: ChannelId) -> bool {
        self.dropped.is_none_or(|dropped| (order, channel) > dropped)
    }

    fn push(&mut self, order: u64, state: &Standing) {
        self.kept.push((order, state.clone()));
        if self.kept.len() / 2 > self.limit {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let rank = |(order, state): &(u64, Standing)| (*order, state.channel);
        if self.kept.len() > self.limit {
            let (_, dropped, _) =
                self.kept.select_nth_unstable_by_key(self.limit, |entry| Reverse(rank(entry)));
            self.dropped = Some(rank(dropped));
            self.kept.truncate(self.limit);
        }
    }

    /// The states by channel, each with its order, and whether the limit cut any off.
    fn finish(mut self) -> (Vec<(u64, Standing)>, bool) {
        self.shrink();
        self.kept.sort_unstable_by_key(|(_, state)| state.channel);
        (self.kept, self.dropped.is_some())
    }
}

/// A user's own marks, asked for in order of channels.
struct Owns<'v> {
    rows: Scan<'v, Own>,
    next: Option<(UserChannel, Own)>,
}

impl<'v> Owns<'v> {
    /// From `first` on.
    fn new(view: &'v View, first: UserChannel) -> Result<Owns<'v>> {
        let mut rows = view.scan::<Own>(first, 0)?;
        let next = rows.next()?;
        Ok(Owns { rows, next })
    }

    /// Adds the user's own mark to a row.
    fn add(&mut self, at: UserChannel, row: &mut Membership) -> Result<()> {
        if self.next.as_ref().is_some_and(|(other, _)| *other < at) {
            self.rows.seek(at)?;
            self.next = self.rows.next()?;
        }
        if let Some((_, own)) = self.next.as_ref().filter(|(other, _)| *other == at) {
            row.set_own(own);
        }
        Ok(())
    }
}

/// Visits the states of all channels of which a user has a row, by channel; if it is wanted, with the user's own marks.
fn each_state(view: &View, user: UserId, with_owns: bool, mut visit: impl FnMut(&Standing)) -> Result<()> {
    let first = key(ChannelId(0), user);
    let mut rows = view.scan::<Membership>(first, 0)?;
    let mut owns = if with_owns { Some(Owns::new(view, first)?) } else { None };
    let empty = Standing { channel: FLOOR, row: Membership::default(), head: Head::default() };
    let mut states = Vec::with_capacity(TOGETHER);
    loop {
        let mut count = 0;
        while count < TOGETHER {
            if count == states.len() {
                states.push(empty.clone());
            }
            let Standing { channel, row, .. } = &mut states[count];
            let Some(at) = rows.next_into(row)?.filter(|at| at.channel != FLOOR) else { break };
            if let Some(owns) = &mut owns {
                owns.add(at, row)?;
            }
            *channel = at.channel;
            count += 1;
        }
        let filled = &mut states[..count];
        view.add_heads(filled, |state| (state.channel, &mut state.head));
        filled.iter().for_each(&mut visit);
        if count < TOGETHER {
            return Ok(());
        }
    }
}

/// The entry of one channel in a user's list.
pub(super) fn entry(view: &View, user: &[u8], channel: &[u8]) -> Result<Option<Conversation>> {
    let (Some(user), Some(channel)) = (view.user(user)?, view.channel(channel)?) else { return Ok(None) };
    let key = key(channel, user);
    let Some(row) = view.row::<Membership>(key)? else { return Ok(None) };
    let state = Standing { channel, row: view.with_own(key, row)?, head: view.head_of(channel) };
    Ok(state.listed(false).then(|| load(view, &state, &mut Senders::new(view))))
}

/// What of a user's list is unread.
pub(super) fn unread(view: &View, user: &[u8]) -> Result<Unread> {
    let mut sums = Unread::default();
    let Some(user) = view.user(user)? else { return Ok(sums) };
    each_state(view, user, true, |state| {
        if state.listed(true) {
            let messages = state.row.unread(&state.head);
            sums.messages = sums.messages.saturating_add(messages);
            sums.conversations += u64::from(messages > 0);
            sums.flagged += u64::from(state.row.flagged > 0);
        }
    })?;
    Ok(sums)
}

/// Adds the user's own marks to states that are in order of channels.
fn add_owns<'s>(view: &View, user: UserId, states: impl Iterator<Item = &'s mut Standing>) -> Result<()> {
    let mut states = states.peekable();
    let Some(first) = states.peek() else { return Ok(()) };
    let mut owns = Owns::new(view, key(first.channel, user))?;
    states.try_for_each(|state| owns.add(key(state.channel, user), &mut state.row))
}

/// The states of the channels that may be due; `None` if dropped tombstones leave that unknown.
fn changed_states(view: &View, user: &[u8], from: &Seen) -> Result<Option<Vec<Standing>>> {
    let Some(user) = view.user(user)? else { return Ok(Some(Vec::new())) };
    if from.gap.is_none() && from.version == view.version() {
        return Ok(Some(Vec::new()));
    }
    let mut changed = BTreeMap::new();
    let mut rows = view.scan::<Membership>(key(ChannelId(0), user), from.version)?;
    while let Some((at, row)) = rows.next()? {
        if at.channel == FLOOR {
            return Ok(None);
        }
        changed.insert(at.channel, row);
    }
    if !tombstones_kept(view, changed.values(), from.version) {
        return Ok(None);
    }
    if from.gap.is_some() {
        let mut states = Vec::new();
        each_state(view, user, true, |state| states.push(state.clone()))?;
        return Ok(Some(states));
    }
    add_changed_channels(view, user, from.version, &mut changed)?;
    let state = |(channel, row)| Standing { channel, row, head: Head::default() };
    let mut states: Vec<_> = changed.into_iter().map(state).collect();
    add_owns(view, user, states.iter_mut())?;
    view.add_heads(&mut states, |state| (state.channel, &mut state.head));
    Ok(Some(states))
}

/// Adds the user's rows of channels that changed after `version`: two sorted lists, each leaping to where the other is.
fn add_changed_channels(
    view: &View,
    user: UserId,
    version: u64,
    found: &mut BTreeMap<ChannelId, Membership>,
) -> Result<()> {
    let Some(first) = view.next_changed(ChannelId(0), version) else { return Ok(()) };
    let mut rows = view.scan::<Membership>(key(first, user), 0)?;
    let mut next = Some(first);
    while let Some(changed) = next {
        rows.seek(key(changed, user))?;
        let Some(at) = rows.peek() else { return Ok(()) };
        let mut from = at.channel;
        if at.channel == changed {
            found.extend(rows.next()?.map(|(at, row)| (at.channel, row)));
            from = ChannelId(changed.0 + 1);
        }
        next = view.next_changed(from, version);
    }
    Ok(())
}

/// Whether all tombstones newer than `version` are still kept. They are dropped in merges, but what counts is when they may
/// be dropped, so that the answer does not depend on the merges.
fn tombstones_kept<'r>(view: &View, rows: impl Iterator<Item = &'r Membership>, version: u64) -> bool {
    let options = &view.kernel.options;
    let age = i64::try_from(options.tombstone_age.as_millis()).unwrap_or(i64::MAX);
    let oldest = options.env.unix_ms().saturating_sub(age);
    let left: Vec<i64> = rows.filter_map(|row| row.leaving_since(version)).collect();
    left.len() <= options.tombstones && left.iter().all(|at| *at > oldest)
}

impl Standing {
    /// The version of the newest change, of message or row.
    fn version(&self) -> u64 {
        self.head.changed.max(self.row.version)
    }

    /// What the list is ordered by.
    fn order(&self) -> u64 {
        self.row.order(&self.head)
    }

    fn listed(&self, unread_only: bool) -> bool {
        self.row.visible(&self.head) && (!unread_only || self.row.is_unread(&self.head))
    }

    /// What is to be told to a client that has seen `from`.
    fn due(&self, from: &Seen, unread_only: bool) -> Option<Due> {
        if self.listed(unread_only) {
            let version = self.version();
            let missed = |gap: Gap| self.order() < gap.below && version > gap.above;
            let due = version > from.version || from.gap.is_some_and(missed);
            return due.then_some(Due { version, removed: false });
        }
        // It is not in the list now, because all is read, or because it was taken off.
        let read = self.row.visible(&self.head);
        let version = if read { self.version() } else { self.row.gone_at() };
        (version > from.version).then_some(Due { version, removed: true })
    }
}

impl Seen {
    /// What a client has seen who got an answer of a view in full.
    fn of(view: &View) -> Seen {
        let (session, version) = (view.session(), view.version());
        Seen { store: view.kernel.store, session, version, at: version, gap: None }
    }

    /// The same, from an answer that was made at a view.
    fn seen_at(&self, view: &View) -> Seen {
        Seen { session: view.session(), at: self.at.max(view.version()), ..*self }
    }

    /// What a client has seen who asked from here and got all changes up to `last`, which a limit made the last.
    fn told_up_to(&self, last: u64, view: &View) -> Seen {
        match self.gap {
            Some(gap) if last <= self.version => {
                Seen { gap: Some(Gap { above: last, ..gap }), ..self.seen_at(view) }
            }
            _ => Seen { version: last.min(view.version()), ..Seen::of(view) },
        }
    }

    /// Whether it is of a state that a view's store went through.
    fn known(&self, view: &View) -> bool {
        let ended = || view.kernel.sessions.iter().rev().find(|session| session.id == self.session);
        let end = match self.session == view.session() {
            true => Some(view.version().max(ended().map_or(0, |session| session.last))),
            false => ended().map(|session| session.last),
        };
        self.store == view.kernel.store && end.is_some_and(|end| self.at <= end)
    }
}

fn tell(view: &View, state: &Standing, due: &Due, senders: &mut Senders<'_>) -> Result<ListChange> {
    if due.removed {
        let channel = view.name(Named::Channel, state.channel.0)?;
        return Ok(ListChange::Removed { channel, version: due.version });
    }
    Ok(ListChange::Entry(load(view, state, senders)))
}

/// Completes an entry with its name and its last message. What can't be read is the entry's own fault.
fn load(view: &View, state: &Standing, senders: &mut Senders<'_>) -> Conversation {
    let Standing { channel, row, head } = state;
    let mut fault = None;
    let mut good = |result: Result<Bytes>| result.map_err(|error| fault = Some(error)).unwrap_or_default();
    let name = good(view.name(Named::Channel, channel.0));
    let last = match row.sees_last(head) {
        true => last_message(view, *channel, head, senders),
        false => Ok(None),
    };
    let last = last.unwrap_or_else(|error| {
        fault = Some(error);
        None
    });
    Conversation {
        channel: name,
        last_seq: head.last.seq,
        read_seq: row.cursor().seq,
        unread: row.unread(head),
        version: state.version(),
        last,
        membership: row.clone(),
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
    view.last_record(channel, head, &mut |bytes, record| {
        found = Some(senders.message(bytes, record)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}
