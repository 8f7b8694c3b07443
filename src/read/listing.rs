//! Paged lists of names, and of memberships.

use std::ops::Bound;

use bytes::Bytes;

use super::{At, Classes};
use crate::env::fault;
use crate::error::{Error, Result};
use crate::files::table::NamesCursor;
use crate::kernel::View;
use crate::kernel::fileset::names;
use crate::model::delivered::Delivered;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::{ChannelUser, UserChannel};
use crate::model::mark::Mark;
use crate::model::member::Member;
use crate::model::member::own::Own;
use crate::model::membership::{FLOOR, Membership, key};

/// Whose names are listed.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    Names(Named),
    Members(Vec<u8>),
    Channels(Vec<u8>),
}

/// A member of a channel, or a channel of a user. Made by [`Listing::rows`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MemberEntry {
    /// The member's name in a list of members, the channel's in a list of a user's channels.
    pub name: Bytes,
    /// The row of that user in that channel.
    pub membership: Membership,
    /// Why its attributes could not be read. The rest of the entry is right.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub fault: Option<Error>,
}

impl PartialEq for MemberEntry {
    /// Faults are alike if there are any: errors of the system can't be compared.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.membership) == (&other.name, &other.membership)
            && self.fault.is_some() == other.fault.is_some()
    }
}

/// How far a member has read. Made by [`Listing::marks`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ReadMark {
    /// The member's name in a list of members, the channel's in a list of a user's channels.
    pub name: Bytes,
    /// Everything up to it counts as read, what was trimmed apart: that was perhaps never read.
    pub mark: Mark,
    /// Everything up to this seq was delivered, by [`Batch::deliver`](crate::Batch::deliver) or because it counts as read.
    pub delivered: u64,
    /// The version of the newest change that may have moved either: of the row, a message of the member's own, or a delivery.
    pub version: u64,
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
    at: At<'a>,
    of: Of,
    after: Option<Vec<u8>>,
    limit: usize,
    classes: Classes,
    roles: Vec<u8>,
    since: Option<u64>,
    left: bool,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(at: At<'a>, of: Of) -> Self {
        Listing {
            at,
            of,
            after: None,
            limit: usize::MAX,
            classes: Classes::default(),
            roles: Vec::new(),
            since: None,
            left: false,
        }
    }

    /// Begins after this name, the last one of the page before. A name that the store never met gives an empty list of
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

    /// Only channels of this class; called again, of that one too. Means nothing in lists of users and members. A page
    /// of all channels by class costs a step for each name that was made since the last seal.
    pub fn class(mut self, class: u8) -> Self {
        self.classes.add(class);
        self
    }

    /// Only memberships with this role; called again, with that one too. Means nothing in lists of all names. Costs a
    /// look-up of a row for each member that is passed, in a list of members.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, JoinOptions};
    /// const ADMIN: u8 = 2;
    /// store.commit(Batch::new().join_with("general", "alice", JoinOptions::new().role(ADMIN)).join("general", "bob"))?;
    /// assert_eq!(store.members("general").role(ADMIN).list()?, ["alice"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn role(mut self, role: u8) -> Self {
        self.roles.push(role);
        self
    }

    /// Only memberships whose row changed after this version: by a join, a mark, a role, attributes and whatever else an
    /// operation on it changes, but not by what the member sends. Those that ended since are told too, as rows that are not
    /// [`present`](Membership::present), for as long as [`Listing::left`] tells them. Means nothing in lists of all names.
    /// Costs a look-up of a row for each member of a channel; of the channels of a user only those that changed cost
    /// anything.
    pub fn since(mut self, version: u64) -> Self {
        self.since = Some(version);
        self
    }

    /// Only memberships that ended: who left a channel, or what a user left. That is told until
    /// [`Options::tombstone_age`](crate::Options::tombstone_age) has passed, and may not be told of those beyond the user's newest
    /// [`Options::tombstones`](crate::Options::tombstones). Means nothing in lists of all names.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::Batch;
    /// store.commit(Batch::new().join("general", "alice").join("general", "bob").leave("general", "bob"))?;
    /// assert_eq!(store.members("general").left().list()?, ["bob"]);
    /// assert_eq!(store.channels_of("bob").left().list()?, ["general"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn left(mut self) -> Self {
        self.left = true;
        self
    }

    /// The names. Costs a step and a name for each.
    pub fn list(self) -> Result<Vec<Bytes>> {
        let view = self.at.view()?;
        match &self.of {
            Of::Names(named) => self.by_name(&view, *named),
            _ => self.by_row(&view)?.into_iter().map(|(_, id)| self.name(&view, id)).collect(),
        }
    }

    /// The members of a channel, or the channels of a user, each with the membership. Pages go on after the last name, as
    /// those of names do. Costs two look-ups of a row for each beside the name, and one more where attributes are
    /// longer than 1,024 bytes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, JoinOptions};
    /// store.commit(Batch::new().join_with("general", "alice", JoinOptions::new().role(2)).join("general", "bob"))?;
    /// let page = store.members("general").limit(1).rows()?;
    /// assert_eq!((&page[0].name[..], page[0].membership.role), (&b"alice"[..], 2));
    /// let page = store.members("general").after(&page[0].name).limit(1).rows()?;
    /// assert_eq!(page[0].name, "bob");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a list of all channels or of all users, who have no membership of their own.
    pub fn rows(self) -> Result<Vec<MemberEntry>> {
        let view = self.at.view()?;
        if let Of::Names(_) = self.of {
            return Err(Error::invalid("a list of all names has no memberships"));
        }
        let mut found = Vec::new();
        for (key, id) in self.by_row(&view)? {
            if let Some(row) = view.row::<Membership>(key)? {
                let mut membership = view.with_own(key, row)?;
                let fault = view.load(&mut membership.attributes).err();
                found.push(MemberEntry { name: self.name(&view, id)?, membership, fault });
            }
        }
        Ok(found)
    }

    /// How far each member has read, and got: receipts. Narrowed by [`Listing::since`], only those whose marks may have moved after
    /// that version, by a message of their own too. Costs three look-ups of a row for each beside the name; with a version, for
    /// each member of the channel.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "alice").join("general", "bob"))?;
    /// let asked = store.view()?.version();
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// let marks = store.members("general").since(asked).marks()?;
    /// assert_eq!((&marks[0].name[..], marks[0].mark.seq, marks.len()), (&b"alice"[..], 1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a list of all channels or of all users.
    pub fn marks(mut self) -> Result<Vec<ReadMark>> {
        let view = self.at.view()?;
        if let Of::Names(_) = self.of {
            return Err(Error::invalid("a list of all names has no memberships"));
        }
        let (since, limit) = (self.since.take(), self.limit);
        // Whom a version leaves is known only with the own mark.
        if since.is_some() {
            self.limit = usize::MAX;
        }
        let mut found = Vec::new();
        for (key, id) in self.by_row(&view)? {
            if found.len() == limit {
                break;
            }
            let Some(mut row) = view.row::<Membership>(key)? else { continue };
            let own = view.row::<Own>(key)?.unwrap_or_default();
            row.set_own(&own);
            let mark = row.cursor();
            let delivered =
                view.row::<Delivered>(key)?.and_then(|known| known.counts(&row)).unwrap_or_default();
            let own = if row.own.seq > 0 { own.version } else { 0 };
            let version = row.version.max(own).max(delivered.version);
            if since.is_none_or(|since| version > since) {
                let delivered = delivered.seq.max(mark.seq);
                found.push(ReadMark { name: self.name(&view, id)?, mark, delivered, version });
            }
        }
        Ok(found)
    }

    /// The name of what is listed.
    fn name(&self, view: &View, id: u32) -> Result<Bytes> {
        let named = if let Of::Members(_) = self.of { Named::User } else { Named::Channel };
        view.name(named, id)
    }

    /// The keys of the memberships that are listed, and the ids of what they are listed by.
    fn by_row(&self, view: &View) -> Result<Vec<(UserChannel, u32)>> {
        match &self.of {
            Of::Members(channel) => match view.channel_id(channel)? {
                Some(channel) => self.members(view, channel),
                None => Ok(Vec::new()),
            },
            Of::Channels(user) => match view.user_id(user)? {
                Some(user) => self.channels(view, user),
                None => Ok(Vec::new()),
            },
            Of::Names(_) => Ok(Vec::new()),
        }
    }

    fn by_name(&self, view: &View, named: Named) -> Result<Vec<Bytes>> {
        let after = self.after.as_deref().unwrap_or_default();
        let end = view.moment.counts.names(named);
        let mut sources = Vec::new();
        // In most stores no name needs a look at what became of its owner.
        let all = match named {
            Named::Channel => self.classes.0.is_empty() && view.kernel.dead_count() == 0,
            Named::User => view.kernel.fates.dead() == 0,
        };
        let means = |id| match named {
            Named::Channel => self.means(view, ChannelId(id)),
            Named::User => !view.is_dead(named, id),
        };
        let wanted = |id| all || means(id);
        for layer in view.layers() {
            let names = layer.names_after(named, after, self.limit, |id| id < end && wanted(id));
            sources.push(NameSource::Memory(names.into_iter()));
        }
        for run in &view.moment.files.runs {
            sources.push(NameSource::Run(names(run, named).iter(Bound::Excluded(after))?));
        }
        merge_names(sources, self.limit, wanted)
    }

    /// Whether a channel is one of those that are listed.
    fn means(&self, view: &View, channel: ChannelId) -> bool {
        let head = view.head_of(channel);
        !head.dead() && self.classes.have(&head)
    }

    fn members(&self, view: &View, channel: ChannelId) -> Result<Vec<(UserChannel, u32)>> {
        let Some(first) = self.first_id(view, Named::User)? else { return Ok(Vec::new()) };
        let mut rows = view.scan::<Member>(ChannelUser { channel, user: UserId(first) }, 0)?;
        let mut found = Vec::new();
        while found.len() < self.limit
            && let Some((key, member)) = rows.next()?
        {
            let key = self::key(channel, key.user);
            if !view.is_dead(Named::User, key.user.0) && self.tells_member(view, key, &member)? {
                found.push((key, key.user.0));
            }
        }
        Ok(found)
    }

    fn channels(&self, view: &View, user: UserId) -> Result<Vec<(UserChannel, u32)>> {
        let Some(first) = self.first_id(view, Named::Channel)? else { return Ok(Vec::new()) };
        let since = self.since.unwrap_or(0);
        let mut rows = view.scan::<Membership>(key(ChannelId(first), user), since)?;
        let mut found = Vec::new();
        while found.len() < self.limit
            && let Some((key, row)) = rows.next()?
        {
            if key.channel != FLOOR && self.tells(view, &row) && self.means(view, key.channel) {
                found.push((key, key.channel.0));
            }
        }
        Ok(found)
    }

    /// Whether a line of the index of members is told. Most lists need no look at the row.
    fn tells_member(&self, view: &View, key: UserChannel, member: &Member) -> Result<bool> {
        if self.roles.is_empty() && self.since.is_none() && !self.left {
            return Ok(!member.left);
        }
        // Changes are told of those who left too.
        if self.since.is_none() && member.left != self.left {
            return Ok(false);
        }
        Ok(view.row::<Membership>(key)?.is_some_and(|row| self.tells(view, &row)))
    }

    /// Whether a membership is told. A tombstone that a merge may drop for its age is not, whether it did so or not.
    fn tells(&self, view: &View, row: &Membership) -> bool {
        let side = match row.left_at {
            None => !self.left,
            Some(at) => (self.left || self.since.is_some()) && at > view.keep().before_ms,
        };
        side && self.since.is_none_or(|since| row.version > since)
            && (self.roles.is_empty() || self.roles.contains(&row.role))
    }

    /// The first id that is wanted in a list by id; `None` after an unknown name.
    fn first_id(&self, view: &View, named: Named) -> Result<Option<u32>> {
        match &self.after {
            None => Ok(Some(0)),
            // Also after one that was deleted since the page before.
            Some(name) => Ok(view.find_any(named, name)?.map(|id| id + 1 + u32::from(fault(20)))),
        }
    }
}

/// Where names come from, in byte order.
enum NameSource<'a> {
    Memory(std::vec::IntoIter<(Bytes, u32)>),
    Run(NamesCursor<'a>),
}

impl NameSource<'_> {
    fn next(&mut self) -> Result<Option<(Bytes, u32)>> {
        match self {
            NameSource::Memory(names) => Ok(names.next()),
            NameSource::Run(cursor) => cursor.next(),
        }
    }
}

/// Merges sources, of those ids that are `wanted`: no two of them have a name in common.
fn merge_names(
    mut sources: Vec<NameSource<'_>>,
    limit: usize,
    wanted: impl Fn(u32) -> bool,
) -> Result<Vec<Bytes>> {
    let mut heads = sources.iter_mut().map(NameSource::next).collect::<Result<Vec<_>>>()?;
    let mut names = Vec::new();
    while names.len() < limit {
        let least = heads.iter().enumerate().filter_map(|(at, head)| Some((head.as_ref()?, at))).min();
        let Some((_, at)) = least else { break };
        let next = std::mem::replace(&mut heads[at], sources[at].next()?);
        names.extend(next.filter(|(_, id)| wanted(*id)).map(|(name, _)| name));
    }
    Ok(names)
}
