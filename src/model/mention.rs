//! Who is mentioned in a message: a row for each user who is named, and one for a message that mentions everybody.
//!
//! Owns what a mention is: only messages that count have any, nobody mentions themself, and who mentions everybody names
//! nobody besides. Rows are written blind, beside their message, and never change. The head tells the greatest seq that has
//! one, so that a channel without any costs a comparison.
//!
//! A user's mentions lie together, in order of channels; so do those of everybody, under [`EVERYBODY`].

use super::head::Head;
use super::ids::{ChannelId, EVERYBODY, UserId};
use super::image::{Patch, image};
use super::key::UserChannelSeq;
use super::message::NewMessage;
use super::names::names;
use super::state::{State, Transaction};
use crate::error::Result;

image! {
    /// A mention in a message.
    pub struct Mention: table 24 by UserChannelSeq;
    marks {}
    fields {
        /// Of everybody's: the number of the sender, who is not meant.
        sender: u64 = 1,
    }
    beside {}
    tombstone |_| false;
}

/// The most users that a message can name.
pub const MAX_MENTIONS: usize = 1024;

impl Mention {
    /// Whether it is one of a user, given that it is the user's or everybody's.
    pub(crate) fn is_of(&self, key: UserChannelSeq, user: UserId) -> bool {
        key.user == user || self.sender != u64::from(user.0)
    }

    /// What follows from a row: what the head tells of the channel's messages.
    pub(crate) fn follow(key: UserChannelSeq, state: &mut impl State) {
        let head = state.head(key.channel);
        state.set_head(key.channel, Head { mentioned: head.mentioned.max(key.seq), ..head });
    }

    /// Whether the row can stand in a channel with this head.
    pub(crate) fn fits(key: UserChannelSeq, head: &Head) -> bool {
        (1..=head.last.seq).contains(&key.seq)
    }
}

/// Whom a message mentions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mentions<'a> {
    /// Everybody.
    pub all: bool,
    /// These, as a list of names.
    pub names: &'a [u8],
}

impl Mentions<'_> {
    /// The users that get a row, who are made if need be.
    pub fn users(&self, txn: &mut impl Transaction, message: &NewMessage<'_>) -> Result<Vec<UserId>> {
        let mut users = Vec::new();
        if !self.all && self.names.is_empty() {
            return Ok(users);
        }
        match (message.silent, self.all) {
            (true, _) => {}
            (false, true) => users.push(EVERYBODY),
            (false, false) => {
                for name in names(self.names).unwrap_or_default() {
                    users.push(txn.make_listed(name)?);
                }
            }
        }
        users.retain(|user| *user != message.sender);
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }
}

/// Notes whom the message mentions that was just appended.
pub(crate) fn note(
    txn: &mut impl Transaction,
    (channel, seq): (ChannelId, u64),
    sender: UserId,
    users: &[UserId],
) -> Result<()> {
    users.iter().try_for_each(|user| {
        let patch = match *user {
            EVERYBODY => Patch::new().set(field::sender, u64::from(sender.0)),
            _ => Patch::new(),
        };
        txn.add_beside::<Mention>(UserChannelSeq { user: *user, channel, seq }, patch)
    })
}
