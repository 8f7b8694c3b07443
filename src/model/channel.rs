//! A channel's own row: what a server says of the channel, beside its messages and members. A plain channel has none.
//!
//! The head carries a copy of the class, so that a list is filtered without a look at rows.

use super::blob::Blob;
use super::head::Head;
use super::ids::ChannelId;
use super::image::image;
use super::state::State;

image! {
    /// What a server keeps with a channel.
    pub struct Channel: table 4 by ChannelId;
    marks {}
    fields {
        /// The channel's class, which means what the server says; 0 to begin with.
        class: u8 = 1,
        /// What the server keeps with the channel; empty to begin with.
        attributes: Blob = 2,
    }
    beside {}
    tombstone |_| false;
}

/// The longest attributes of a channel, and of a user, in bytes.
pub const MAX_CHANNEL_ATTRIBUTES: usize = 64 << 10;

impl Channel {
    /// What follows from a change of the row: the head's class, and that members are told of the channel.
    pub(crate) fn follow(after: &Self, key: ChannelId, state: &mut impl State) {
        let before = state.head(key);
        let (class, changed) = (after.class, after.version);
        state.set_head(key, Head { class, changed, kept: changed, ..before });
    }
}
