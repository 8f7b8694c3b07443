//! Paged lists of names.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::error::Result;
use crate::rows::Rows;
use crate::state::{Base, Named, Unsealed};
use crate::table::{MemberCursor, NamesCursor, Run};
use crate::types::{ChannelId, Row, UserId};

/// Whose names are listed.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    Names(Named),
    Members(Vec<u8>),
    Channels(Vec<u8>),
}

/// A list of names, to be read page by page. Made by [`Store::channels`](crate::Store::channels) and its kin.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// let mut page = store.users().limit(100).list()?;
/// while let Some(last) = page.last() {
///     page = store.users().after(last).limit(100).list()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Listing<'a> {
    engine: &'a Engine,
    of: Of,
    after: Option<Vec<u8>>,
    limit: usize,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(engine: &'a Engine, of: Of) -> Self {
        Listing { engine, of, after: None, limit: usize::MAX }
    }

    /// Begins behind this name, the last one of the page before. A name that the store never met gives an empty list of
    /// members or of a user's channels, and the right place in a list by name.
    pub fn after(mut self, name: impl AsRef<[u8]>) -> Self {
        self.after = Some(name.as_ref().into());
        self
    }

    /// At most so many names.
    pub fn limit(mut self, names: usize) -> Self {
        self.limit = names;
        self
    }

    /// The names.
    pub fn list(self) -> Result<Vec<Bytes>> {
        let engine = self.engine;
        engine.check_open()?;
        match &self.of {
            Of::Names(named) => self.by_name(engine, *named),
            Of::Members(channel) => match engine.published.channel(channel)? {
                Some(channel) => self.members(engine, channel),
                None => Ok(Vec::new()),
            },
            Of::Channels(user) => match engine.published.user(user)? {
                Some(user) => self.channels(engine, user),
                None => Ok(Vec::new()),
            },
        }
    }

    fn by_name(&self, engine: &Engine, named: Named) -> Result<Vec<Bytes>> {
        let after = self.after.as_deref().unwrap_or_default();
        let (active, base) = {
            let state = engine.published.0.read();
            (state.active.table.names(named).after(after, self.limit), state.base.clone())
        };
        let mut sources = vec![NameSource::Memory(active.into_iter())];
        for frozen in &base.frozen {
            sources.push(NameSource::Memory(frozen.table.names(named).after(after, self.limit).into_iter()));
        }
        for run in &base.runs {
            sources.push(NameSource::Run(run.names(named).iter(Bound::Excluded(after))?));
        }
        merge_names(sources, self.limit)
    }

    fn members(&self, engine: &Engine, channel: ChannelId) -> Result<Vec<Bytes>> {
        let Some(mut from) = self.first_id(engine, Named::User)?.map(UserId) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        let mut base = engine.published.base();
        let mut cursors = member_cursors(&base, channel, from)?;
        while names.len() < self.limit {
            // The active segment is read step by step. If it rolls meanwhile, its members are in the new base.
            let (active, now) = {
                let state = engine.published.0.read();
                let now = (!Arc::ptr_eq(&state.base, &base)).then(|| state.base.clone());
                (state.active.table.members_of(channel, from).next(), now)
            };
            if let Some(now) = now {
                drop(cursors);
                base = now;
                cursors = member_cursors(&base, channel, from)?;
            }
            let Some((user, present)) = next_member(active, &base.frozen, &mut cursors, channel, from)?
            else {
                break;
            };
            if present {
                names.push(engine.published.name(Named::User, user.0)?);
            }
            let Some(next) = user.0.checked_add(1) else { break };
            from = UserId(next);
        }
        Ok(names)
    }

    fn channels(&self, engine: &Engine, user: UserId) -> Result<Vec<Bytes>> {
        let Some(from) = self.first_id(engine, Named::Channel)?.map(ChannelId) else { return Ok(Vec::new()) };
        let (active, base) = {
            let state = engine.published.0.read();
            let rows = state.active.table.rows_of(user, from).map(|(channel, row)| (channel, *row));
            (rows.collect::<Vec<_>>(), state.base.clone())
        };
        let mut rows = Rows::new(user, &active, &base)?;
        let mut names = Vec::new();
        let mut next = rows.seek(from)?.map(|(channel, _)| channel);
        while let Some(channel) = next.filter(|_| names.len() < self.limit) {
            let row = rows.seek(channel)?.filter(|(found, row)| *found == channel && Row::present(row));
            if row.is_some() {
                names.push(engine.published.name(Named::Channel, channel.0)?);
            }
            next = rows.seek(ChannelId(channel.0 + 1))?.map(|(channel, _)| channel);
        }
        Ok(names)
    }

    /// The first id that is wanted in a list by id; `None` behind an unknown name.
    fn first_id(&self, engine: &Engine, named: Named) -> Result<Option<u32>> {
        match &self.after {
            None => Ok(Some(0)),
            Some(name) => Ok(engine.published.find(named, name)?.map(|id| id + 1)),
        }
    }
}

/// Where names come from, in byte order.
enum NameSource<'a> {
    Memory(std::vec::IntoIter<(Bytes, u32)>),
    Run(NamesCursor<'a>),
}

impl NameSource<'_> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            NameSource::Memory(names) => Ok(names.next().map(|(name, _)| name)),
            NameSource::Run(cursor) => Ok(cursor.next()?.map(|(name, _)| name)),
        }
    }
}

/// Merges sources that have no name in common.
fn merge_names(mut sources: Vec<NameSource<'_>>, limit: usize) -> Result<Vec<Bytes>> {
    let mut heads = sources.iter_mut().map(NameSource::next).collect::<Result<Vec<_>>>()?;
    let mut names = Vec::new();
    while names.len() < limit {
        let least = heads.iter().enumerate().filter_map(|(at, head)| Some((head.as_ref()?, at))).min();
        let Some((_, at)) = least else { break };
        names.extend(std::mem::replace(&mut heads[at], sources[at].next()?));
    }
    Ok(names)
}

/// A cursor over a run's members and what it found last.
struct Members<'a> {
    cursor: MemberCursor<'a>,
    current: Option<(UserId, bool)>,
}

/// Cursors over the members in runs, newest run first.
fn member_cursors(base: &Base, channel: ChannelId, from: UserId) -> Result<Vec<Members<'_>>> {
    base.runs.iter().rev().map(|run| Members::open(run, channel, from)).collect()
}

impl<'a> Members<'a> {
    fn open(run: &'a Run, channel: ChannelId, from: UserId) -> Result<Self> {
        let mut cursor = run.members(channel, from);
        let current = cursor.next()?;
        Ok(Members { cursor, current })
    }
}

/// The first member from `from` on, present or gone, as the newest source that has it says.
fn next_member(
    active: Option<(UserId, bool)>,
    frozen: &[Arc<Unsealed>],
    runs: &mut [Members<'_>],
    channel: ChannelId,
    from: UserId,
) -> Result<Option<(UserId, bool)>> {
    let mut best = active;
    let mut offer = |candidate: Option<(UserId, bool)>| {
        let Some((user, _)) = candidate else { return };
        if best.is_none_or(|(least, _)| user < least) {
            best = candidate;
        }
    };
    for log in frozen.iter().rev() {
        offer(log.table.members_of(channel, from).next());
    }
    for members in runs {
        while members.current.is_some_and(|(user, _)| user < from) {
            members.current = members.cursor.next()?;
        }
        offer(members.current);
    }
    Ok(best)
}
