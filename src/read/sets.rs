//! The sets of a channel, and those that a user is in, page by page.

use bytes::Bytes;

use super::At;
use crate::error::Result;
use crate::kernel::View;
use crate::model::ids::{ChannelId, Named, UserId};
use crate::model::key::{ChannelSetUser, UserSetChannel};
use crate::model::set::SetMember;
use crate::model::set::by_user::InSet;

/// From which side a set is listed.
#[derive(Clone, Debug)]
pub(crate) enum SetSide {
    /// The users of this channel's.
    Users(Vec<u8>),
    /// The channels that have this user in theirs.
    Channels(Vec<u8>),
}

/// One line of a list of a set. Made by [`SetListing::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SetEntry {
    /// The user's name in a list of a channel's set, the channel's in a list of a user's.
    pub name: Bytes,
    /// The row of that user in that set.
    pub member: SetMember,
}

/// A set of a channel, or the channels that have a user in a set, to be read page by page. Made by
/// [`Store::set`](crate::Store::set) and [`Store::sets_of`](crate::Store::sets_of).
#[derive(Clone, Debug)]
#[must_use]
pub struct SetListing<'a> {
    at: At<'a>,
    of: SetSide,
    set: u8,
    after: Option<Vec<u8>>,
    limit: usize,
    since: Option<u64>,
}

impl<'a> SetListing<'a> {
    pub(crate) fn new(at: At<'a>, of: SetSide, set: u8) -> Self {
        SetListing { at, of, set, after: None, limit: usize::MAX, since: None }
    }

    /// Begins after this name, the last one of the page before. A name that the store never met gives an empty list.
    pub fn after(mut self, name: impl AsRef<[u8]>) -> Self {
        self.after = Some(name.as_ref().into());
        self
    }

    /// At most so many lines.
    pub fn limit(mut self, lines: usize) -> Self {
        self.limit = lines;
        self
    }

    /// Only what changed after this version, and also who was taken out since: lines whose row is not
    /// [`present`](SetMember::present). That is told until [`Options::tombstone_age`](crate::Options::tombstone_age) has
    /// passed; who asks less often lists the set as a whole. Take the version before listing, of a
    /// [`View`](crate::View) that the list is asked of.
    pub fn since(mut self, version: u64) -> Self {
        self.since = Some(version);
        self
    }

    /// The lines, in the order in which the store first met the names. Costs a step and a name for each, and a look-up of a
    /// row for each channel in a list of a user's.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::Batch;
    /// const INVITED: u8 = 1;
    /// store.commit(Batch::new().add_to_set("general", INVITED, "bob").add_to_set("general", INVITED, "carol"))?;
    /// let (page, version) = (store.set("general", INVITED).limit(1).list()?, store.view()?.version());
    /// assert_eq!(page[0].name, "bob");
    /// store.commit(Batch::new().remove_from_set("general", INVITED, "bob"))?;
    /// let changes = store.set("general", INVITED).since(version).list()?;
    /// assert_eq!((&changes[0].name[..], changes[0].member.present()), (&b"bob"[..], false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(self) -> Result<Vec<SetEntry>> {
        let view = self.at.view()?;
        let after = match &self.after {
            None => Some(0),
            // Also after one that was deleted since the page before.
            Some(name) => view.find_any(self.named(), name)?.map(|id| id + 1),
        };
        let Some(first) = after else { return Ok(Vec::new()) };
        match &self.of {
            SetSide::Users(channel) => match view.channel_id(channel)? {
                Some(channel) => self.users(&view, channel, UserId(first)),
                None => Ok(Vec::new()),
            },
            SetSide::Channels(user) => match view.user_id(user)? {
                Some(user) => self.channels(&view, user, ChannelId(first)),
                None => Ok(Vec::new()),
            },
        }
    }

    /// What kind of names are listed.
    fn named(&self) -> Named {
        match self.of {
            SetSide::Users(_) => Named::User,
            SetSide::Channels(_) => Named::Channel,
        }
    }

    fn users(&self, view: &View, channel: ChannelId, user: UserId) -> Result<Vec<SetEntry>> {
        let wanted = self.wanted(view);
        let first = ChannelSetUser { channel, set: self.set, user };
        let mut rows = view.scan::<SetMember>(first, self.since.unwrap_or(0))?;
        let mut found = Vec::new();
        while found.len() < self.limit
            && let Some((key, member)) = rows.next()?.filter(|(key, _)| key.set == self.set)
        {
            if wanted(member.removed_at) && !view.is_dead(Named::User, key.user.0) {
                found.push(SetEntry { name: view.name(Named::User, key.user.0)?, member });
            }
        }
        Ok(found)
    }

    fn channels(&self, view: &View, user: UserId, channel: ChannelId) -> Result<Vec<SetEntry>> {
        let wanted = self.wanted(view);
        let first = UserSetChannel { user, set: self.set, channel };
        let mut rows = view.scan::<InSet>(first, self.since.unwrap_or(0))?;
        let mut found = Vec::new();
        while found.len() < self.limit
            && let Some((key, row)) = rows.next()?.filter(|(key, _)| key.set == self.set)
        {
            if !wanted(row.removed_at) || view.is_dead(Named::Channel, key.channel.0) {
                continue;
            }
            let UserSetChannel { user, set, channel } = key;
            // Both tables change together.
            let member = view.row::<SetMember>(ChannelSetUser { channel, set, user })?;
            let name = view.name(Named::Channel, channel.0)?;
            found.extend(member.map(|member| SetEntry { name, member }));
        }
        Ok(found)
    }

    /// Whether a row is told, by when it was removed. A tombstone that a merge may drop is not, whether it did so or not.
    fn wanted(&self, view: &View) -> impl Fn(Option<i64>) -> bool {
        let (removals, keep) = (self.since.is_some(), view.keep());
        move |removed_at| removed_at.is_none_or(|at| removals && at > keep.before_ms)
    }
}
