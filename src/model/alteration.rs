//! What became of a message after it was sent. A message that is as it was sent has no row.
//!
//! The message's record never changes: it keeps its seq, its ordinal and its place. Rows of this table are never removed
//! and their keys never change. The head tells the greatest seq that has one, so that a range without any costs nothing.

use super::blob::Blob;
use super::head::Head;
use super::ids::UserId;
use super::image::image;
use super::key::ChannelSeq;
use super::message::MessageState;
use super::state::State;

image! {
    /// What became of a message.
    pub struct Alteration: table 8 by ChannelSeq;
    marks {}
    fields {
        /// Whether it was retracted: its payload is withheld from all readers.
        retracted: bool = 1,
        /// Of a retracted one, whether it counted until then: it was not silent.
        counted: bool = 2,
        /// Whether its payload is another than the one it was sent with.
        edited: bool = 3,
        /// The payload of an edited one that was not retracted.
        payload: Blob = 4,
        /// Whether it was erased: its payload is withheld, and its bytes go from the files.
        erased: bool = 5,
        /// Of an edited one: the number of its sender.
        sender: u64 = 6,
        /// And the version at which it was sent.
        sent: u64 = 7,
        /// Whether it expired: it is erased too, and counts no more.
        expired: bool = 8,
        /// Of an edited one: when it expires, in Unix milliseconds.
        expires: Option<i64> = 9,
    }
    beside {}
    tombstone |_| false;
}

impl Alteration {
    /// Whether the message counted when it was sent, and no longer does.
    pub(crate) fn uncounted(&self) -> bool {
        self.retracted && self.counted
    }

    /// Whether nobody gets the payload any more.
    pub(crate) fn withheld(&self) -> bool {
        self.retracted || self.erased
    }

    /// Who sent the message and when, if the row says nothing but what it was edited to.
    pub(crate) fn edit_of(&self) -> Option<(UserId, u64)> {
        let sender = u32::try_from(self.sender).ok().filter(|_| self.edited && !self.withheld())?;
        Some((UserId(sender), self.sent))
    }

    /// The state of the message.
    pub(crate) fn state(&self) -> MessageState {
        match *self {
            Alteration { erased: true, version, .. } => MessageState::Erased { version },
            Alteration { retracted: true, version, .. } => MessageState::Retracted { version },
            Alteration { edited: true, version, .. } => MessageState::Edited { version },
            _ => MessageState::Sent,
        }
    }

    /// What follows from a change of the row: what the head tells of the channel's messages.
    pub(crate) fn follow(after: &Self, key: ChannelSeq, state: &mut impl State) {
        let mut head = state.head(key.channel);
        (head.changed, head.content) = (after.version, after.version);
        head.altered = head.altered.max(key.seq);
        if after.retracted {
            head.retracted = head.retracted.max(key.seq);
        }
        if after.erased {
            head.erased = head.erased.max(key.seq);
        }
        state.set_head(key.channel, head);
    }

    /// Whether the row can stand in a channel with this head, whatever changed it.
    pub(crate) fn fits(key: ChannelSeq, head: &Head) -> bool {
        (1..=head.last.seq).contains(&key.seq)
    }
}
