//! Two small tables beside memberships: who belongs to a channel, by channel, and each sender's own last message.

use super::image::image;
use super::key::{ChannelUser, UserChannel};

image! {
    /// The index of memberships by channel. It follows from them and has no rule of its own.
    pub struct Member: table 2 by ChannelUser;
    marks {}
    fields {
        /// Whether the user left.
        left: bool = 1,
        /// When, in Unix milliseconds; rows of older releases don't tell.
        left_at: Option<i64> = 2,
    }
    beside {}
    tombstone |member| member.left;
}

/// The last message of a sender in a channel. It is written without a look at the membership, and counts
/// as read only if it is newer than the join (`Membership::set_own`).
pub mod own {
    use super::*;

    image! {
        /// The last message of a sender in a channel.
        pub struct Own: table 3 by UserChannel;
        marks {
            /// Its mark.
            mark = 1,
        }
        fields {}
        beside {}
        tombstone |_| false;
    }
}
