//! A membership: the row of one user in one channel, which is also that user's cursor.
//!
//! Owns every rule about it: floor, cursor, unread, whether and where it is in the list, what a valid row is, and when a
//! tombstone may be dropped.

use super::blob::Blob;
use super::head::Head;
use super::ids::{ChannelId, UserId};
use super::image::image;
use super::key::{ChannelUser, UserChannel};
use super::mark::Mark;
use super::member::Member;
use super::member::own::Own;
use super::state::State;
use crate::env::fault;

image! {
    /// One membership and its cursor. Fields that few memberships have set stand in [`MembershipExtras`], and are read as if
    /// they were its own.
    pub struct Membership: table 1 by UserChannel;
    marks {
        /// The mark just before the first message that this membership may see.
        base = 1,
        /// Read up to here, as marked.
        read = 2,
        /// The user's own view of the history is cleared up to here.
        cleared = 3,
    }
    fields {
        /// The version of the join, or 0 while nothing changed the row since: a new row pays no byte for it.
        joined: u64 = 10,
        /// Whether the user pinned the conversation.
        pinned: bool = 11,
        /// Whether the user wants no notifications of the conversation.
        muted: bool = 12,
        /// The member's role, as the server gave it; 0 to begin with.
        role: u8 = 13,
    }
    /// Fields that few memberships have set. They are read as if they were the membership's own: `membership.hidden`.
    seldom MembershipExtras {
        /// Off the list until a message beyond this seq.
        hidden: u64 = 4,
        /// The version of the activation in force, or 0: the conversation is in the list even while it is empty.
        activated: u64 = 5,
        /// When the user left, in Unix milliseconds; `None` while a member. A row with it is a tombstone.
        left_at: Option<i64> = 6,
        /// The version at which the conversation was last taken off the list by its user, or 0.
        withdrawn: u64 = 7,
        /// The version of the tombstone that this membership replaced, or 0.
        replaced: u64 = 8,
        /// When the user had left before this membership.
        replaced_at: Option<i64> = 9,
        /// What the server keeps with the membership; empty to begin with.
        attributes: Blob = 14,
        /// The version at which the user flagged the conversation as unread, or 0. It is a version so that a message of the
        /// user's own, which reads no row, ends the flag by being newer.
        flagged: u64 = 15,
        /// The version at which the cursor was set outright, or 0: an own message up to it does not count as read by itself.
        set_at: u64 = 16,
        /// The greatest seq that the user hid from themself, or 0.
        forgot: u64 = 17,
    }
    beside {
        /// The user's own last message while a member, as far as it counts as read: zero if a join or a setting of the cursor
        /// came after it.
        own: Mark,
    }
    tombstone |row| row.left_at.is_some();
    changed |row, before| if row.joined == 0 { row.joined = before };
}

/// The longest attributes of a membership, in bytes.
pub const MAX_ATTRIBUTES: usize = 4096;

/// Under this channel a user has a row whose version is a floor: tombstones of the user up to it were dropped, so that a
/// question about changes since an older version can't be answered. No channel ever has this id.
pub(crate) const FLOOR: ChannelId = ChannelId(u32::MAX);

/// How long tombstones are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Those of users who left then or before may go, in Unix milliseconds.
    pub before_ms: i64,
    /// Those beyond the newest so many of a user may go.
    pub count: usize,
}

impl Membership {
    /// Whether the user is a member, that is, whether the row is no tombstone.
    #[must_use]
    pub fn present(&self) -> bool {
        self.left_at.is_none()
    }

    /// The first seq that this membership may see, its own clearing apart.
    #[must_use]
    pub fn join_seq(&self) -> u64 {
        self.base.seq.saturating_add(1)
    }

    /// Nothing up to this mark may be seen.
    #[must_use]
    pub fn floor(&self) -> Mark {
        self.base.max(self.cleared)
    }

    /// Everything up to this mark counts as read: the furthest of the floor, what was marked, and the user's own last
    /// message.
    #[must_use]
    pub fn cursor(&self) -> Mark {
        self.floor().max(self.read).max(self.own)
    }

    /// The cursor in a channel with this head: what was trimmed counts as read.
    pub(crate) fn cursor_in(&self, head: &Head) -> Mark {
        self.cursor().max(head.trimmed)
    }

    /// Nothing up to this mark is shown: it may not be seen, or was trimmed.
    pub(crate) fn floor_in(&self, head: &Head) -> Mark {
        self.floor().max(head.trimmed)
    }

    /// The number of unread messages, those included that counted when they were sent and no longer do.
    pub(crate) fn unread(&self, head: &Head) -> u64 {
        head.last.ordinal.saturating_sub(self.cursor_in(head).ordinal)
    }

    /// Whether the last message that is not quiet is shown.
    pub(crate) fn sees_last(&self, head: &Head) -> bool {
        head.loud().seq > self.floor_in(head).seq
    }

    /// Whether the conversation is in the user's list.
    pub(crate) fn visible(&self, head: &Head) -> bool {
        self.present() && (head.loud().seq > self.floor().seq.max(self.hidden) || self.activated > 0)
    }

    /// What the list is ordered by: the version of the last message that is not quiet, trimmed or not, or of the activation while there is none.
    pub(crate) fn order(&self, head: &Head) -> u64 {
        if head.loud().seq > self.floor().seq { head.loud_order() } else { self.activated }
    }

    /// The version at which the conversation last left the list, given that it is not in it now. A join takes nothing off
    /// the list, but somebody who comes back left before.
    pub(crate) fn gone_at(&self) -> u64 {
        if self.present() { self.withdrawn.max(self.replaced) } else { self.version }
    }

    /// The time of each leaving that is newer than `version` and that this row knows of.
    pub(crate) fn leaving_since(&self, version: u64) -> Option<i64> {
        match self.left_at {
            Some(at) if self.version > version => Some(at),
            _ if self.replaced > version => self.replaced_at,
            _ => None,
        }
    }

    /// Whether the row can stand in a channel with this head, whatever changed it.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        let marks = [self.base, self.read, self.cleared];
        marks.into_iter().all(|mark| mark.within(head.last)) && self.hidden.max(self.forgot) <= head.last.seq
    }

    /// The floor that dropped tombstones leave.
    pub(crate) fn dropped(version: u64) -> Membership {
        Membership::tombstone(version, 0)
    }

    /// The row of somebody who left.
    pub(crate) fn tombstone(version: u64, left_at: i64) -> Membership {
        let mut row = Membership { version, ..Membership::default() };
        row.left_at = Some(left_at);
        row
    }

    /// The version of the join. What the user sent up to it does not count as read by this membership.
    pub(crate) fn joined_at(&self) -> u64 {
        if self.joined == 0 { self.version } else { self.joined }
    }

    /// Fills in the user's own last message, if that was sent by this membership, and ends what it ended.
    pub(crate) fn set_own(&mut self, own: &Own) {
        let counts = own.version > self.joined_at().max(self.set_at) || fault(22);
        self.own = if counts { own.mark } else { Mark::default() };
        if self.flagged > 0 && own.version > self.flagged {
            self.flagged = 0;
        }
        if self.set_at > 0 && own.version > self.set_at {
            self.set_at = 0;
        }
    }

    /// What follows from a change of the row: the index by channel and the number of members.
    pub(crate) fn follow(before: Option<&Self>, after: &Self, key: UserChannel, state: &mut impl State) {
        let was = before.is_some_and(Membership::present);
        if was == after.present() {
            return;
        }
        let UserChannel { user, channel } = key;
        let mut head = state.head(channel);
        head.members = match after.present() {
            true => head.members.saturating_add(1),
            false => head.members.saturating_sub(1),
        };
        state.set_head(channel, head);
        let (left, left_at, version) = (!after.present(), after.left_at, after.version);
        let member = Member { left, left_at, version, ..Member::default() };
        state.put(ChannelUser { channel, user }, member);
    }
}

/// The row of a user and a channel.
pub(crate) fn key(channel: ChannelId, user: UserId) -> UserChannel {
    UserChannel { user, channel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_row_takes_104_bytes_and_nothing_beside() {
        let mut row = Membership::default();
        row.set_own(&Own { version: 7, ..Own::default() });
        assert_eq!((size_of::<Membership>(), super::super::image::Image::heap(&row)), (104, 0));
        row.hidden = 3;
        assert_ne!(row, Membership::default());
        row.hidden = 0;
        assert_eq!(row, Membership::default(), "defaults are defaults, wherever they stand");
    }
}
