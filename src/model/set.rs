//! Named sets beside a channel's members: who is denied, invited, banned, or whatever the server keeps them for. They show up
//! in nobody's list, among no members, and in no count. A set is a number that the server chooses, from 0 to 255.

use bytes::Bytes;

use super::image::image;
use super::key::{ChannelSetUser, UserSetChannel};
use super::state::State;
use by_user::InSet;

image! {
    /// A user in a set of a channel, with what the server keeps there.
    pub struct SetMember: table 16 by ChannelSetUser;
    marks {}
    fields {
        /// When the user was taken out of the set, in Unix milliseconds; `None` while in it. A row with it is a tombstone.
        removed_at: Option<i64> = 1,
        /// What the server keeps with the user in the set; empty to begin with.
        attributes: Bytes = 2,
    }
    beside {}
    tombstone |row| row.removed_at.is_some();
}

/// The longest attributes of a user in a set, in bytes.
pub const MAX_SET_ATTRIBUTES: usize = 1024;

impl SetMember {
    /// Whether the user is in the set, that is, whether the row is no tombstone.
    #[must_use]
    pub fn present(&self) -> bool {
        self.removed_at.is_none()
    }

    /// What follows from a change of the row: the index by user.
    pub(crate) fn follow(after: &Self, key: ChannelSetUser, state: &mut impl State) {
        let ChannelSetUser { channel, set, user } = key;
        let row = InSet { removed_at: after.removed_at, version: after.version, ..InSet::default() };
        state.put(UserSetChannel { user, set, channel }, row);
    }
}

/// The sets that a user is in.
pub mod by_user {
    use super::*;

    image! {
        /// The index of sets by user. It follows from them and has no rule of its own.
        pub struct InSet: table 17 by UserSetChannel;
        marks {}
        fields {
            /// When the user was taken out of the set.
            removed_at: Option<i64> = 1,
        }
        beside {}
        tombstone |row| row.removed_at.is_some();
    }
}
