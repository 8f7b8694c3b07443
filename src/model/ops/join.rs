//! Becoming a member.

use super::role::role_of;
use super::{find_row, mark_within};
use crate::env::fault;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field, key};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Makes a user a member. `history` is the first seq that may be seen, what comes from now on if absent; `read` is what
    /// counts as read, all if absent.
    Join = 2 "join" { channel: channel, user: user, history: maybe, read: maybe, role: maybe, }

    fn check(&self, _: &Limits) -> Result<()> {
        role_of(self.role.unwrap_or_default()).map(drop)
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let before = find_row(txn, self.channel, self.user)?.map(|(_, row)| row);
        if before.as_ref().is_some_and(Membership::present) {
            return Ok(Outcome::Unchanged);
        }
        let channel = txn.make_channel(self.channel)?;
        let user = txn.make_user(self.user)?;
        let base = mark_within(txn, channel, self.history.map_or(u64::MAX, |seq| seq.saturating_sub(1)))?;
        let read = mark_within(txn, channel, self.read.unwrap_or(u64::MAX))?;
        let key = key(channel, user);
        let mut patch = Patch::reset().set(field::base, base).set(field::read, read);
        if let Some(role) = self.role {
            patch = patch.set(field::role, role_of(role)?);
        }
        // Who asks what changed since before the user left has to hear of it even now.
        if let Some((version, at)) = before.and_then(|row| Some((row.version, row.left_at?))).filter(|_| !fault(104)) {
            patch = patch.set(field::replaced, version).set(field::replaced_at, Some(at));
        }
        txn.patch::<Membership>(key, patch)
    }
}

/// What of a channel's past a new member may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryFrom {
    /// What comes after the join.
    #[default]
    Now,
    /// Everything.
    Start,
    /// From this seq on; beyond the end means from now.
    Seq(u64),
}

/// How somebody joins. The default is [`Batch::join`]'s.
///
/// ```
/// use chanlog::{Batch, HistoryFrom, JoinOptions};
/// let whole = JoinOptions::new().history(HistoryFrom::Start).read(0);
/// Batch::new().join_with("general", "alice", whole);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct JoinOptions {
    history: HistoryFrom,
    read: Option<u64>,
    role: Option<u8>,
}

impl JoinOptions {
    /// From now on, with all that was said counting as read.
    pub fn new() -> Self {
        JoinOptions::default()
    }

    /// What of the past may be seen.
    pub fn history(mut self, from: HistoryFrom) -> Self {
        self.history = from;
        self
    }

    /// Only what lies up to this seq counts as read.
    pub fn read(mut self, seq: u64) -> Self {
        self.read = Some(seq);
        self
    }

    /// The role to begin with, in place of 0. See [`Batch::role`].
    pub fn role(mut self, role: u8) -> Self {
        self.role = Some(role);
        self
    }
}

impl Batch {
    /// Makes a user a member who sees what comes from now on. Joining again as a member changes nothing.
    pub fn join(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.join_with(channel, user, JoinOptions::new())
    }

    /// Makes a user a member who sees the given part of the past, and has read a part of it.
    pub fn join_with(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        options: JoinOptions,
    ) -> &mut Self {
        let history = match options.history {
            HistoryFrom::Now => None,
            HistoryFrom::Start => Some(0),
            HistoryFrom::Seq(seq) => Some(seq),
        };
        self.push(Join {
            channel: channel.as_ref(),
            user: user.as_ref(),
            history,
            read: options.read,
            role: options.role.map(u64::from),
        })
    }
}
