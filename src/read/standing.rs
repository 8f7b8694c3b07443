//! How a user stands in each channel: the row, the user's own mark, and the head of the channel. What a list shows, and
//! what changed since a token, is decided here.
//!
//! What changed since a version is found by two sorted sequences that leap to where the other is: the user's rows, and the
//! channels that changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::alterations::uncounted;
use super::mentions::UnreadMentions;
use super::token::{Gap, Seen};
use crate::env::fault;
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::kernel::scan::Scan;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::UserChannel;
use crate::model::member::own::Own;
use crate::model::membership::{FLOOR, Membership, key};

/// How many rows get their heads together, so that a lock is taken once for them.
const TOGETHER: usize = 64;

/// A row and its channel's head.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) channel: ChannelId,
    pub(super) row: Membership,
    pub(super) head: Head,
    /// How many messages above the cursor counted when they were sent, and do not count for the user: they were retracted,
    /// or the user hid them. Right once it was counted.
    uncounted: u64,
    /// How many unread messages mention the user. Right once it was counted.
    pub(super) mentions: u64,
}

/// What is to be told of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) version: u64,
    pub(super) removed: bool,
}

/// The newest states of those that are shown to it, up to a limit. It keeps few more than that, so that a list costs memory
/// for what is returned and not for all of a user's channels.
pub(super) struct Newest {
    limit: usize,
    /// Those that are kept, and the places of their states: what is moved while they are ranked is small.
    ranks: Vec<(Rank, usize)>,
    states: Vec<Standing>,
    /// Places in `states` whose state was dropped.
    free: Vec<usize>,
    /// The newest one that was dropped.
    dropped: Option<Rank>,
}

/// The order of a state, and its channel.
type Rank = (u64, ChannelId);

impl Newest {
    pub(super) fn new(limit: usize) -> Newest {
        Newest { limit, ranks: Vec::new(), states: Vec::new(), free: Vec::new(), dropped: None }
    }

    /// Whether a state may be among them.
    pub(super) fn wants(&self, order: u64, channel: ChannelId) -> bool {
        self.dropped.is_none_or(|dropped| (order, channel) > dropped)
    }

    pub(super) fn push(&mut self, order: u64, state: &Standing) {
        let place = match self.free.pop() {
            Some(place) => {
                self.states[place].clone_from(state);
                place
            }
            None => {
                self.states.push(state.clone());
                self.states.len() - 1
            }
        };
        self.ranks.push(((order, state.channel), place));
        if self.ranks.len() / 2 > self.limit {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.ranks.len() > self.limit {
            let (_, dropped, _) =
                self.ranks.select_nth_unstable_by_key(self.limit, |(rank, _)| Reverse(*rank));
            self.dropped = Some(dropped.0);
            self.free.extend(self.ranks.drain(self.limit..).map(|(_, place)| place));
        }
    }

    /// The states by channel, the order and the place of each, newest first, and whether the limit cut any off.
    pub(super) fn finish(mut self) -> (Vec<Standing>, Vec<(u64, usize)>, bool) {
        self.shrink();
        // Those that were shown by channel stand so, unless a place was used again.
        if self.dropped.is_some() {
            self.ranks.sort_unstable_by_key(|((_, channel), _)| *channel);
            self.states = self.ranks.iter().map(|(_, place)| self.states[*place].clone()).collect();
            self.ranks.iter_mut().enumerate().for_each(|(at, (_, place))| *place = at);
        }
        self.ranks.sort_unstable_by_key(|(rank, _)| Reverse(*rank));
        let ranked = self.ranks.into_iter().map(|((order, _), place)| (order, place)).collect();
        (self.states, ranked, self.dropped.is_some())
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
pub(super) fn each_state(
    view: &View,
    user: UserId,
    with_owns: bool,
    mut visit: impl FnMut(&Standing),
) -> Result<()> {
    let first = key(ChannelId(0), user);
    let mut rows = view.scan::<Membership>(first, 0)?;
    let mut owns = if with_owns { Some(Owns::new(view, first)?) } else { None };
    let empty = Standing::new(FLOOR, Membership::default());
    let mut states = Vec::with_capacity(TOGETHER);
    let mut mentions = UnreadMentions::new(view, user);
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
        if with_owns {
            filled.iter_mut().try_for_each(|state| state.count(view, user, &mut mentions))?;
        }
        filled.iter().for_each(&mut visit);
        if count < TOGETHER {
            return Ok(());
        }
    }
}

/// Adds the user's own marks to states that are in order of channels.
pub(super) fn add_owns<'s>(
    view: &View,
    user: UserId,
    states: impl Iterator<Item = &'s mut Standing>,
) -> Result<()> {
    let mut states = states.peekable();
    let Some(first) = states.peek() else { return Ok(()) };
    let mut owns = Owns::new(view, key(first.channel, user))?;
    states.try_for_each(|state| owns.add(key(state.channel, user), &mut state.row))
}

/// Counts what is unread, and what of it mentions the user, in states that are in order of channels.
pub(super) fn count_all<'s>(
    view: &View,
    user: UserId,
    mut states: impl Iterator<Item = &'s mut Standing>,
) -> Result<()> {
    let mut mentions = UnreadMentions::new(view, user);
    states.try_for_each(|state| state.count(view, user, &mut mentions))
}

/// The states of the channels that may be due; `None` if dropped tombstones leave that unknown.
pub(super) fn changed_states(view: &View, user: &[u8], from: &Seen) -> Result<Option<Vec<Standing>>> {
    let Some(newest) = view.find_any(Named::User, user)? else { return Ok(Some(Vec::new())) };
    let user = UserId(newest);
    // What a deleted user of that name was told is no more.
    let fate = view.kernel.fates.get(user).unwrap_or_default();
    let dead = view.is_dead(Named::User, newest);
    if fate.replaced > from.version || dead && fate.deleted > from.version {
        return Ok(None);
    }
    if dead {
        return Ok(Some(Vec::new()));
    }
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
        return Ok(deletions_kept(view, &states, from.version).then_some(states));
    }
    add_changed_channels(view, user, from.version, &mut changed)?;
    let mut states: Vec<_> = changed.into_iter().map(|(channel, row)| Standing::new(channel, row)).collect();
    add_owns(view, user, states.iter_mut())?;
    view.add_heads(&mut states, |state| (state.channel, &mut state.head));
    count_all(view, user, states.iter_mut())?;
    Ok(deletions_kept(view, &states, from.version).then_some(states))
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
    let keep = view.keep();
    let left: Vec<i64> = rows.filter_map(|row| row.leaving_since(version)).collect();
    left.len() <= keep.count && left.iter().all(|at| *at > keep.before_ms || fault(21))
}

/// The same of memberships that ended with their channels: only their age counts.
fn deletions_kept(view: &View, states: &[Standing], version: u64) -> bool {
    let keep = view.keep();
    let ended = states.iter().filter(|state| state.head.deleted > version && state.row.present());
    ended.into_iter().all(|state| state.head.deleted_at.is_some_and(|at| at > keep.before_ms))
}

impl Standing {
    /// A row whose head is to be filled in.
    fn new(channel: ChannelId, row: Membership) -> Standing {
        Standing { channel, row, head: Head::default(), uncounted: 0, mentions: 0 }
    }

    /// A row with the user's own mark.
    pub(super) fn of(view: &View, key: UserChannel, row: Membership) -> Result<Standing> {
        let mut state = Standing { head: view.head_of(key.channel), ..Standing::new(key.channel, row) };
        state.count(view, key.user, &mut UnreadMentions::new(view, key.user))?;
        Ok(state)
    }

    /// Counts what does not count for the user, and what mentions the user, once the head and the user's own mark are there.
    fn count(&mut self, view: &View, user: UserId, mentions: &mut UnreadMentions<'_>) -> Result<()> {
        // Nobody asks what is unread for who left.
        if !self.row.present() {
            return Ok(());
        }
        let cursor = self.row.cursor_in(&self.head);
        let hidden = view.hidden(key(self.channel, user), &self.row, cursor.seq + 1)?;
        self.uncounted = if fault(95) { 0 } else { hidden.counted_after(cursor) }
            + uncounted(view, self.channel, &self.head, cursor.seq, &hidden)?;
        self.mentions = mentions.count(self.channel, &self.head, cursor.seq, &hidden)?;
        Ok(())
    }

    /// The exact number of unread messages.
    pub(super) fn unread(&self) -> u64 {
        self.row.unread(&self.head).saturating_sub(self.uncounted)
    }

    /// The version of the newest change, of message or row.
    pub(super) fn version(&self) -> u64 {
        self.head.changed.max(self.row.version)
    }

    /// What the list is ordered by.
    pub(super) fn order(&self) -> u64 {
        self.row.order(&self.head)
    }

    pub(super) fn listed(&self, unread_only: bool) -> bool {
        !self.head.dead()
            && self.row.visible(&self.head)
            && (!unread_only || self.unread() > 0 || self.row.flagged > 0)
    }

    /// What is to be told to a client that has seen `from`.
    pub(super) fn due(&self, from: &Seen, unread_only: bool) -> Option<Due> {
        if self.listed(unread_only) {
            let version = self.version();
            let missed = |gap: Gap| self.order() < gap.below && version > gap.above;
            let due = version > from.version || from.gap.is_some_and(missed);
            return due.then_some(Due { version, removed: false });
        }
        // It is not in the list now, because the channel was deleted, all is read, or it was taken off.
        let version = match () {
            () if self.head.dead() && self.row.present() => self.head.deleted,
            () if self.row.visible(&self.head) => self.version(),
            () => self.row.gone_at(),
        };
        (version > from.version).then_some(Due { version, removed: true })
    }
}

impl Seen {
    /// What a client has seen who got an answer of a view in full.
    pub(super) fn of(view: &View) -> Seen {
        let (session, version) = (view.session(), view.version());
        Seen { store: view.kernel.store, session, version, at: version, gap: None }
    }

    /// The same, from an answer that was made at a view.
    pub(super) fn seen_at(&self, view: &View) -> Seen {
        Seen { session: view.session(), at: self.at.max(view.version()), ..*self }
    }

    /// What a client has seen who asked from here and got all changes up to `last`, which a limit made the last.
    pub(super) fn told_up_to(&self, last: u64, view: &View) -> Seen {
        let last = if fault(19) { u64::MAX } else { last };
        match self.gap {
            Some(gap) if last <= self.version => {
                Seen { gap: Some(Gap { above: last, ..gap }), ..self.seen_at(view) }
            }
            _ => Seen { version: last.min(view.version()), ..Seen::of(view) },
        }
    }

    /// Whether it is of a state that a view's store went through.
    pub(super) fn known(&self, view: &View) -> bool {
        self.store == view.kernel.store && self.end(view).is_some_and(|end| self.at <= end || fault(94))
    }

    /// The last version of its session, as far as a view's store knows that.
    fn end(&self, view: &View) -> Option<u64> {
        let ended = || view.kernel.sessions.iter().rev().find(|session| session.id == self.session);
        match self.session == view.session() {
            true => Some(view.version().max(ended().map_or(0, |session| session.last))),
            false => ended().map(|session| session.last),
        }
    }

    /// The last version that was kept of a state that was lost, or `None` if nothing of it was.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it is of another store, or of a session that is long forgotten.
    pub(super) fn lost(&self, view: &View) -> Result<Option<u64>> {
        match self.end(view).filter(|_| self.store == view.kernel.store) {
            // A reader beside the writer may be behind what its token tells.
            Some(_) if self.session == view.session() => Ok(None),
            Some(end) => Ok(Some(end).filter(|end| self.at > *end)),
            None => Err(Error::invalid("the token is not of this store, or of a session that is forgotten")),
        }
    }
}
