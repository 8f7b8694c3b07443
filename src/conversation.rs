//! A user's conversation list, computed when it is asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::change::Key;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fetch;
use crate::message::Message;
use crate::rows::{self, Rows};
use crate::state::{self, Base, Named};
use crate::token::{Cut, Gap, Page, Seen, Token};
use crate::types::{ChannelId, Head, Row, UserId};

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
    engine: &'a Engine,
    user: Vec<u8>,
    limit: usize,
    after: Option<Page>,
    unread_only: bool,
}

impl<'a> Conversations<'a> {
    pub(crate) fn new(engine: &'a Engine, user: &[u8]) -> Self {
        Conversations { engine, user: user.into(), limit: usize::MAX, after: None, unread_only: false }
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
    ///
    /// Costs one step for each row of the user, and one read for each entry that is returned, whatever the number of
    /// members and messages.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a page of a `since` answer.
    pub fn list(self) -> Result<List> {
        let engine = self.engine;
        engine.check_open()?;
        let mut view = View::new(engine, &self.user)?;
        let (as_of, below) = match self.after.as_ref().map(|page| page.0) {
            None => (seen(engine, view.version), u64::MAX),
            Some(Cut::List(seen)) => (seen, seen.gap.map_or(u64::MAX, |gap| gap.below)),
            Some(Cut::Changes(_)) => return Err(Error::invalid("a page of changes, not of a list")),
        };
        let mut found = view.all()?;
        found.retain(|(_, state)| state.listed(self.unread_only) && state.order() < below);
        let newest_first = |(_, state): &(ChannelId, State)| Reverse(state.order());
        let cut = found.len() > self.limit;
        if cut {
            found.select_nth_unstable_by_key(self.limit, newest_first);
            found.truncate(self.limit);
        }
        found.sort_unstable_by_key(newest_first);
        let gap =
            cut.then(|| Gap { below: found.last().map_or(below, |(_, state)| state.order()), above: 0 });
        let as_of = Seen { gap, at: as_of.at.max(view.at), ..as_of };
        let entries =
            found.iter().map(|(channel, state)| load(engine, *channel, state)).collect::<Result<_>>()?;
        Ok(List { entries, as_of: Token(as_of), next: cut.then_some(Page(Cut::List(as_of))) })
    }

    /// What changed since an earlier answer, oldest change first.
    ///
    /// An entry that changed several times is told once, as it is now. A channel that the user left, or whose
    /// conversation is no longer in the list, is told as removed, whether or not the client ever saw it. Costs one step
    /// for each of the user's channels that changed; ranges of channels in which nothing changed are skipped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a page of a list.
    pub fn since(self, token: &Token) -> Result<Update> {
        let engine = self.engine;
        engine.check_open()?;
        let from = match self.after.as_ref().map(|page| page.0) {
            None => token.0,
            Some(Cut::Changes(seen)) => seen,
            Some(Cut::List(_)) => return Err(Error::invalid("a page of a list, not of changes")),
        };
        let mut view = View::new(engine, &self.user)?;
        if !known(engine, &from, view.version) {
            return Ok(Update::Reset);
        }
        let Some(found) = view.changed(&from)? else { return Ok(Update::Reset) };
        let mut due: Vec<_> = found
            .into_iter()
            .filter_map(|(channel, state)| Some((channel, state, state.due(&from, self.unread_only)?)))
            .collect();
        due.sort_unstable_by_key(|(_, _, due)| due.version);
        let cut = due.len() > self.limit;
        due.truncate(self.limit);
        let as_of = match due.last() {
            _ if !cut => seen(engine, view.version),
            None => from,
            Some((_, _, last)) => behind(engine, &from, last.version, view.version),
        };
        let as_of = Seen { at: as_of.at.max(view.at), ..as_of };
        let told = due.iter().map(|(channel, state, due)| tell(engine, *channel, state, due));
        let changes = told.collect::<Result<_>>()?;
        Ok(Update::Changes { changes, as_of: Token(as_of), next: cut.then_some(Page(Cut::Changes(as_of))) })
    }
}

/// A moment's view of one user's rows.
///
/// It is taken under the lock; the rows in files are then walked without it, and at last the rows and heads that matter
/// are read together under the lock again. So an entry is exact, and may be newer than the view's version: the client
/// then hears of it again, and misses nothing.
struct View<'a> {
    engine: &'a Engine,
    user: Option<UserId>,
    /// The version of the moment when it was taken.
    version: u64,
    /// The version of the moment when rows and heads were read together.
    at: u64,
    base: Arc<Base>,
    /// The user's rows in the active segment then, by channel.
    active: Vec<(ChannelId, Row)>,
}

/// A row and its channel's head, of one moment.
#[derive(Clone, Copy, Debug)]
struct State {
    row: Row,
    head: Head,
}

/// What is to be told of a channel.
#[derive(Clone, Copy, Debug)]
struct Due {
    version: u64,
    removed: bool,
}

impl<'a> View<'a> {
    fn new(engine: &'a Engine, user: &[u8]) -> Result<View<'a>> {
        let user = engine.published.user(user)?;
        let mut view = View { engine, user, version: 0, at: 0, base: Arc::default(), active: Vec::new() };
        view.refresh(&engine.published.0.read());
        Ok(view)
    }

    fn refresh(&mut self, state: &state::State) {
        let rows = self.user.iter().flat_map(|user| state.active.table.rows_of(*user, ChannelId(0)));
        self.active = rows.map(|(channel, row)| (channel, *row)).collect();
        self.base = state.base.clone();
        self.version = state.version;
    }

    /// The state of all the user's channels.
    fn all(&mut self) -> Result<Vec<(ChannelId, State)>> {
        loop {
            let found = self.rows()?;
            if let Some(states) = self.read(found) {
                return Ok(states);
            }
        }
    }

    /// The state of the channels that may be due; `None` if dropped tombstones leave that unknown.
    fn changed(&mut self, from: &Seen) -> Result<Option<Vec<(ChannelId, State)>>> {
        let Some(user) = self.user else { return Ok(Some(Vec::new())) };
        loop {
            let (touched, floor) = rows::changed(user, &self.base, from.version)?;
            if floor > from.version {
                return Ok(None);
            }
            let found = match from.gap {
                Some(_) => self.rows()?,
                None => self.candidates(user, touched, from.version)?,
            };
            if let Some(states) = self.read(found) {
                return Ok(self.tombstones_kept(&states, from.version).then_some(states));
            }
        }
    }

    fn rows(&self) -> Result<Vec<(ChannelId, Row)>> {
        let mut found = Vec::new();
        if let Some(user) = self.user {
            let mut rows = Rows::new(user, &self.active, &self.base)?;
            while let Some(row) = rows.next()? {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// The rows that changed since `version`, and those whose channel got a message since.
    fn candidates(
        &self,
        user: UserId,
        touched: Vec<ChannelId>,
        version: u64,
    ) -> Result<Vec<(ChannelId, Row)>> {
        let newer = self.active.iter().filter(|(_, row)| row.version > version);
        let mut found: BTreeMap<ChannelId, Row> = newer.copied().collect();
        for channel in touched {
            let row = match self.active.binary_search_by_key(&channel, |(active, _)| *active) {
                Ok(at) => Some(self.active[at].1),
                Err(_) => self.base.row(Key { user, channel })?,
            };
            found.extend(row.map(|row| (channel, row)));
        }
        // Two sorted lists, the user's rows and the changed heads, each leaping to where the other is.
        let mut rows = Rows::new(user, &self.active, &self.base)?;
        let mut from = ChannelId(0);
        while let Some(changed) = self.next_changed(from, version) {
            let Some((channel, row)) = rows.seek(changed)? else { break };
            if channel == changed {
                found.insert(channel, row);
                from = ChannelId(channel.0 + 1);
            } else {
                from = channel;
            }
        }
        Ok(found.into_iter().collect())
    }

    fn next_changed(&self, from: ChannelId, version: u64) -> Option<ChannelId> {
        self.engine.published.0.read().heads.next_changed(from, version)
    }

    /// Rows and heads of one moment. `None` if files came or went meanwhile: the view is then of now, to be walked again.
    fn read(&mut self, found: Vec<(ChannelId, Row)>) -> Option<Vec<(ChannelId, State)>> {
        let state = self.engine.published.0.read();
        if !Arc::ptr_eq(&state.base, &self.base) {
            self.refresh(&state);
            return None;
        }
        self.at = state.version;
        // Both lists ascend, so that the lock is held for no look-up of a row.
        let active = self.user.iter().flat_map(|user| state.active.table.rows_of(*user, ChannelId(0)));
        let mut active = active.peekable();
        let now = |(channel, row): (ChannelId, Row)| {
            while active.next_if(|(before, _)| *before < channel).is_some() {}
            let newer = active.next_if(|(same, _)| *same == channel);
            (channel, State { row: newer.map_or(row, |(_, row)| *row), head: state.heads.get(channel) })
        };
        Some(found.into_iter().map(now).collect())
    }

    /// Whether all tombstones newer than `version` are still kept. They are dropped in merges, but what counts is when
    /// they may be dropped, so that the answer does not depend on the merges.
    fn tombstones_kept(&self, states: &[(ChannelId, State)], version: u64) -> bool {
        let options = &self.engine.options;
        let age = i64::try_from(options.tombstone_age.as_millis()).unwrap_or(i64::MAX);
        let oldest = options.env.unix_ms().saturating_sub(age);
        let newer = states.iter().filter(|(_, state)| state.row.version > version);
        let left: Vec<i64> = newer.filter_map(|(_, state)| state.row.left_at).collect();
        left.len() <= options.tombstones && left.iter().all(|at| *at > oldest)
    }
}

impl State {
    fn unread(&self) -> u64 {
        self.head.last.ordinal.saturating_sub(self.row.cursor().ordinal)
    }

    /// The version of the newest change, of message or row.
    fn version(&self) -> u64 {
        self.head.version.max(self.row.version)
    }

    /// What the list is ordered by.
    fn order(&self) -> u64 {
        if self.head.last.seq > self.row.floor().seq { self.head.version } else { self.row.activated }
    }

    fn listed(&self, unread_only: bool) -> bool {
        self.row.visible(&self.head) && !(unread_only && self.unread() == 0)
    }

    /// What is to be told to a client that has seen `from`.
    fn due(&self, from: &Seen, unread_only: bool) -> Option<Due> {
        if self.listed(unread_only) {
            let version = self.version();
            let missed = |gap: Gap| self.order() < gap.below && version > gap.above;
            let due = version > from.version || from.gap.is_some_and(missed);
            return due.then_some(Due { version, removed: false });
        }
        let hidden = self.row.visible(&self.head);
        let version = if hidden { self.version() } else { self.row.version };
        (version > from.version).then_some(Due { version, removed: true })
    }
}

/// What a client has seen who got an answer of `version` in full.
fn seen(engine: &Engine, version: u64) -> Seen {
    Seen { store: engine.store, incarnation: engine.forks.len() as u32, version, at: version, gap: None }
}

/// What a client has seen who asked from `from` and got all changes up to `last`, which a limit made the last.
fn behind(engine: &Engine, from: &Seen, last: u64, version: u64) -> Seen {
    match from.gap {
        Some(gap) if last <= from.version => Seen { gap: Some(Gap { above: last, ..gap }), ..*from },
        _ => seen(engine, last.min(version)),
    }
}

/// Whether a token is of a state that this store went through.
fn known(engine: &Engine, from: &Seen, version: u64) -> bool {
    let end = match engine.forks.get(from.incarnation as usize) {
        Some(fork) => *fork,
        None if from.incarnation as usize == engine.forks.len() => version,
        None => return false,
    };
    from.store == engine.store && from.at <= end
}

fn tell(engine: &Engine, channel: ChannelId, state: &State, due: &Due) -> Result<Change> {
    if due.removed {
        let channel = engine.published.name(Named::Channel, channel.0)?;
        return Ok(Change::Removed { channel, version: due.version });
    }
    load(engine, channel, state).map(Change::Entry)
}

/// Completes an entry with its name and its last message.
fn load(engine: &Engine, channel: ChannelId, state: &State) -> Result<Conversation> {
    let State { row, head } = state;
    let seen = head.last.seq > row.floor().seq;
    let last = seen.then(|| fetch::message_at(&engine.published, channel, head)).transpose()?;
    Ok(Conversation {
        channel: engine.published.name(Named::Channel, channel.0)?,
        last_seq: head.last.seq,
        read_seq: row.cursor().seq,
        unread: state.unread(),
        version: state.version(),
        last,
    })
}
