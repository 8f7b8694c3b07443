//! A channel's own row: what a server says of the channel, beside its messages and members. A plain channel has none.
//!
//! The head carries a copy of the class and of the floor that trimming sets, so that a list needs no look at rows.

use super::blob::Blob;
use super::head::Head;
use super::ids::ChannelId;
use super::image::image;
use super::mark::Mark;
use super::retention::RetentionPolicy;
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
        /// Messages up to this mark were trimmed.
        trimmed: Mark = 3,
        /// When the channel was deleted, in Unix milliseconds; `None` as long as it was not. It is the row's last change.
        deleted_at: Option<i64> = 8,
        /// How old messages may become, in milliseconds; 0 if the store's default says.
        max_age_ms: u64 = 9,
        /// How many messages are kept; 0 if the store's default says.
        max_count: u64 = 10,
        /// How many bytes of messages are kept; 0 if the store's default says.
        max_bytes: u64 = 11,
        /// Where the channel began ([`Batch::set_base`](crate::Batch::set_base)).
        base: Mark = 16,
    }
    beside {}
    tombstone |_| false;
}

/// The longest attributes of a channel, and of a user, in bytes.
pub const MAX_CHANNEL_ATTRIBUTES: usize = 64 << 10;

/// The greatest seq of a channel's base. What counts on from there stays far below 2^64.
pub(crate) const MAX_BASE: u64 = 1 << 56;

impl Channel {
    /// The channel's own retention policy, if it has one.
    #[must_use]
    pub fn retention(&self) -> Option<RetentionPolicy> {
        let given = |limit: u64| (limit > 0).then_some(limit);
        let policy = RetentionPolicy {
            max_age_ms: given(self.max_age_ms),
            max_count: given(self.max_count),
            max_bytes: given(self.max_bytes),
        };
        (!policy.is_empty()).then_some(policy)
    }

    /// What follows from a change of the row: the head's class and floor, and that members are told of the channel.
    pub(crate) fn follow(after: &Self, key: ChannelId, state: &mut impl State) {
        let before = state.head(key);
        let (class, trimmed, changed) = (after.class, after.trimmed, after.version);
        let limited = after.retention().is_some();
        let mut head = Head { class, trimmed, limited, changed, kept: changed, ..before };
        if before.order == 0 {
            head.begin_at(trimmed);
        }
        if after.deleted_at.is_some() {
            (head.deleted, head.deleted_at, head.members) = (changed, after.deleted_at, 0);
        }
        state.set_head(key, head);
    }

    /// Whether the row can stand in a channel with this head, whatever changed it.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        let trimmed = self.trimmed;
        (trimmed.within(head.last) || trimmed.seq <= MAX_BASE && head.may_begin_at(trimmed))
            && trimmed.seq >= head.trimmed.seq
            && !head.dead()
    }
}
