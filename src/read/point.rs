//! Questions about one thing, or a few, asked of a view.

use std::ops::RangeInclusive;

use super::{At, Conversation, Conversations, History, Listing, SetListing, SetSide, Unread, conversation};
use crate::error::Result;
use crate::kernel::View;
use crate::model::channel::Channel;
use crate::model::forgotten::{Forgotten, HiddenRanges};
use crate::model::head::Head;
use crate::model::ids::{ChannelId, LogId, Named};
use crate::model::kept::KeptHistory;
use crate::model::key::{ChannelSetUser, UserChannel};
use crate::model::member::own::Own;
use crate::model::membership::{FLOOR, Membership, key};
use crate::model::position::Position;
use crate::model::set::SetMember;
use crate::model::user::User;
use crate::read::listing::Of;

impl View {
    /// As [`Store::head`](crate::Store::head), as of this view.
    pub fn head(&self, channel: impl AsRef<[u8]>) -> Result<Head> {
        self.check()?;
        let id = self.channel_id(channel.as_ref())?;
        Ok(id.map_or_else(Head::default, |id| self.head_of(id)))
    }

    /// As [`Store::channel`](crate::Store::channel), as of this view.
    pub fn channel(&self, channel: impl AsRef<[u8]>) -> Result<Option<Channel>> {
        self.check()?;
        let Some(id) = self.channel_id(channel.as_ref())? else { return Ok(None) };
        let mut row = self.row::<Channel>(id)?.unwrap_or_default();
        self.load(&mut row.attributes)?;
        Ok(Some(row))
    }

    /// As [`Store::user`](crate::Store::user), as of this view.
    pub fn user(&self, user: impl AsRef<[u8]>) -> Result<Option<User>> {
        self.check()?;
        let Some(id) = self.user_id(user.as_ref())? else { return Ok(None) };
        let mut row = self.row::<User>(id)?.unwrap_or_default();
        self.load(&mut row.attributes)?;
        Ok(Some(row))
    }

    /// As [`Store::has_channel`](crate::Store::has_channel), as of this view.
    pub fn has_channel(&self, channel: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        Ok(self.channel_id(channel.as_ref())?.is_some())
    }

    /// As [`Store::heads`](crate::Store::heads), as of this view.
    pub fn heads<N: AsRef<[u8]>>(&self, channels: impl IntoIterator<Item = N>) -> Result<Vec<Head>> {
        self.check()?;
        // No channel has the last id, so that its head is empty.
        let id = |name: N| Ok((self.channel_id(name.as_ref())?.unwrap_or(FLOOR), Head::default()));
        let mut found: Vec<_> = channels.into_iter().map(id).collect::<Result<_>>()?;
        self.add_heads(&mut found, |(channel, head)| (*channel, head));
        Ok(found.into_iter().map(|(_, head)| head).collect())
    }

    /// As [`Store::history`](crate::Store::history), as of this view.
    pub fn history(&self, channel: impl AsRef<[u8]>) -> History<'_> {
        History::new(At::View(self), channel.as_ref())
    }

    /// As [`Store::membership`](crate::Store::membership), as of this view.
    pub fn membership(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<Membership>> {
        self.check()?;
        let (Some(channel), Some(user)) = (self.channel_id(channel.as_ref())?, self.user_id(user.as_ref())?)
        else {
            return Ok(None);
        };
        let key = key(channel, user);
        let Some(row) = self.row::<Membership>(key)?.filter(Membership::present) else { return Ok(None) };
        let mut row = self.with_own(key, row)?;
        self.load(&mut row.attributes)?;
        Ok(Some(row))
    }

    /// A membership with its user's own mark.
    pub(super) fn with_own(&self, key: UserChannel, mut row: Membership) -> Result<Membership> {
        row.set_own(&self.row::<Own>(key)?.unwrap_or_default());
        Ok(row)
    }

    /// What a member hid; none if it all lies before `from`.
    pub(super) fn hidden(&self, key: UserChannel, row: &Membership, from: u64) -> Result<HiddenRanges> {
        self.hidden_up_to(key, row.forgot, from)
    }

    /// What a user hid, the greatest seq of which is `forgot`; none if it all lies before `from`.
    pub(super) fn hidden_up_to(&self, key: UserChannel, forgot: u64, from: u64) -> Result<HiddenRanges> {
        match forgot >= from {
            true => Ok(self.row::<Forgotten>(key)?.unwrap_or_default().ranges),
            false => Ok(HiddenRanges::default()),
        }
    }

    /// The seqs that a user may read, hidden ones included, and the greatest hidden one: as a member, or as kept; `None` if
    /// there are none.
    pub(super) fn readable(&self, key: UserChannel) -> Result<Option<(RangeInclusive<u64>, u64)>> {
        if let Some(row) = self.row::<Membership>(key)?.filter(Membership::present) {
            return Ok(Some((row.floor().seq.saturating_add(1)..=u64::MAX, row.forgot)));
        }
        let kept = self.row::<KeptHistory>(key)?.filter(KeptHistory::holds);
        Ok(kept.map(|kept| (kept.seqs(), kept.forgot)))
    }

    /// As [`Store::kept_history`](crate::Store::kept_history), as of this view.
    pub fn kept_history(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<RangeInclusive<u64>>> {
        self.check()?;
        let (Some(channel), Some(user)) = (self.channel_id(channel.as_ref())?, self.user_id(user.as_ref())?)
        else {
            return Ok(None);
        };
        let key = key(channel, user);
        if self.row::<Membership>(key)?.is_some_and(|row| row.present()) {
            return Ok(None);
        }
        Ok(self.row::<KeptHistory>(key)?.filter(KeptHistory::holds).map(|kept| kept.seqs()))
    }

    /// As [`Store::forgotten`](crate::Store::forgotten), as of this view.
    pub fn forgotten(
        &self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
    ) -> Result<Vec<RangeInclusive<u64>>> {
        self.check()?;
        let (Some(channel), Some(user)) = (self.channel_id(channel.as_ref())?, self.user_id(user.as_ref())?)
        else {
            return Ok(Vec::new());
        };
        let key = key(channel, user);
        let Some(row) = self.row::<Membership>(key)?.filter(Membership::present) else {
            return Ok(Vec::new());
        };
        let floor = row.floor_in(&self.head_of(channel)).seq;
        let hidden = self.hidden(key, &row, floor + 1)?;
        Ok(hidden.iter().map(|(before, last)| before.seq + 1..=last.seq).collect())
    }

    /// As [`Store::position`](crate::Store::position), as of this view.
    pub fn position(&self, log: u32) -> Result<Option<Position>> {
        self.check()?;
        self.row::<Position>(LogId(log))
    }

    /// As [`Store::conversations`](crate::Store::conversations), as of this view.
    pub fn conversations(&self, user: impl AsRef<[u8]>) -> Conversations<'_> {
        Conversations::new(At::View(self), user.as_ref())
    }

    /// As [`Store::conversation`](crate::Store::conversation), as of this view.
    pub fn conversation(
        &self,
        user: impl AsRef<[u8]>,
        channel: impl AsRef<[u8]>,
    ) -> Result<Option<Conversation>> {
        self.check()?;
        conversation::entry(self, user.as_ref(), channel.as_ref())
    }

    /// As [`Store::unread`](crate::Store::unread), as of this view.
    pub fn unread(&self, user: impl AsRef<[u8]>) -> Result<Unread> {
        self.conversations(user).unread()
    }

    /// As [`Store::members`](crate::Store::members), as of this view.
    pub fn members(&self, channel: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(At::View(self), Of::Members(channel.as_ref().into()))
    }

    /// As [`Store::set`](crate::Store::set), as of this view.
    pub fn set(&self, channel: impl AsRef<[u8]>, set: u8) -> SetListing<'_> {
        SetListing::new(At::View(self), SetSide::Users(channel.as_ref().into()), set)
    }

    /// As [`Store::sets_of`](crate::Store::sets_of), as of this view.
    pub fn sets_of(&self, user: impl AsRef<[u8]>, set: u8) -> SetListing<'_> {
        SetListing::new(At::View(self), SetSide::Channels(user.as_ref().into()), set)
    }

    /// As [`Store::set_member`](crate::Store::set_member), as of this view.
    pub fn set_member(
        &self,
        channel: impl AsRef<[u8]>,
        set: u8,
        user: impl AsRef<[u8]>,
    ) -> Result<Option<SetMember>> {
        self.check()?;
        let (Some(channel), Some(user)) = (self.channel_id(channel.as_ref())?, self.user_id(user.as_ref())?)
        else {
            return Ok(None);
        };
        let row = self.row::<SetMember>(ChannelSetUser { channel, set, user })?;
        Ok(row.filter(SetMember::present))
    }

    /// As [`Store::channels_of`](crate::Store::channels_of), as of this view.
    pub fn channels_of(&self, user: impl AsRef<[u8]>) -> Listing<'_> {
        Listing::new(At::View(self), Of::Channels(user.as_ref().into()))
    }

    /// As [`Store::channels`](crate::Store::channels), as of this view.
    pub fn channels(&self) -> Listing<'_> {
        Listing::new(At::View(self), Of::Names(Named::Channel))
    }

    /// As [`Store::users`](crate::Store::users), as of this view.
    pub fn users(&self) -> Listing<'_> {
        Listing::new(At::View(self), Of::Names(Named::User))
    }

    /// As [`Store::has_memberships`](crate::Store::has_memberships), as of this view.
    pub fn has_memberships(&self, user: impl AsRef<[u8]>) -> Result<bool> {
        self.check()?;
        let Some(user) = self.user_id(user.as_ref())? else { return Ok(false) };
        Ok(self.scan::<Membership>(key(ChannelId(0), user), 0)?.peek().is_some())
    }
}
