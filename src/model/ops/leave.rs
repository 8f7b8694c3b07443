//! Ending a membership.

use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::image::Patch;
use crate::model::kept::{self, KeptHistory};
use crate::model::key::UserChannel;
use crate::model::membership::{Membership, field, key};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Ends a membership. With `keep`, what could be seen until now may be read by the user from now on too.
    Leave = 3 "leave" { channel: channel, user: user, keep: flag, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (Some(channel), Some(user)) = (txn.find_channel(self.channel)?, txn.find_user(self.user)?) else {
            return Ok(Outcome::Unchanged);
        };
        let key = key(channel, user);
        let row = txn.row::<Membership>(key)?.filter(Membership::present);
        let Some(row) = row else {
            return if self.keep { Ok(Outcome::Unchanged) } else { settle(txn, key, None) };
        };
        let head = txn.head(channel);
        settle(txn, key, KeptHistory::of(&row, &head).filter(|_| self.keep))?;
        let mut patch = Patch::new().set(field::left_at, Some(txn.now())).set(field::activated, 0u64);
        // Tombstones are to be small.
        if !row.attributes.is_empty() {
            patch = patch.set(field::attributes, Blob::default());
        }
        txn.patch::<Membership>(key, patch)
    }
}

/// Replaces what was kept of an earlier membership.
fn settle(txn: &mut impl Transaction, key: UserChannel, kept: Option<KeptHistory>) -> Result<Outcome> {
    let before = txn.row::<KeptHistory>(key)?.is_some_and(|row| row.holds());
    let patch = match kept {
        Some(KeptHistory { floor, last, forgot, .. }) => Patch::reset()
            .set(kept::field::floor, floor)
            .set(kept::field::last, last)
            .set(kept::field::forgot, forgot),
        None if before => Patch::reset(),
        None => return Ok(Outcome::Unchanged),
    };
    txn.patch::<KeptHistory>(key, patch)
}

/// How somebody leaves. The default is [`Batch::leave`]'s.
///
/// ```
/// use chanlog::{Batch, LeaveOptions};
/// Batch::new().leave_with("general", "alice", LeaveOptions::new().keep_history());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct LeaveOptions {
    keep: bool,
}

impl LeaveOptions {
    /// With nothing left to read.
    pub fn new() -> Self {
        LeaveOptions::default()
    }

    /// What the user could see until now may be read by the user after the leave too, and nothing later.
    pub fn keep_history(mut self) -> Self {
        self.keep = true;
        self
    }
}

impl Batch {
    /// Ends a membership. Leaving as a non-member ends what was kept of an earlier membership ([`Batch::leave_with`]), and else
    /// changes nothing.
    pub fn leave(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> &mut Self {
        self.leave_with(channel, user, LeaveOptions::new())
    }

    /// Ends a membership, and may keep for the user what could be seen until then: [`History::seen_by`](crate::History::seen_by)
    /// goes on to show that, without what the user hid, and [`Store::kept_history`](crate::Store::kept_history) tells which part it
    /// is. It is in no list, and no age drops it. Joining again ends it, and so does leaving as a non-member.
    ///
    /// Costs a row of about 16 bytes beside that of the leave. With these options a non-member changes nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, LeaveOptions};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "farewell")))?;
    /// store.commit(Batch::new().leave_with("general", "bob", LeaveOptions::new().keep_history()))?;
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "he is gone")))?;
    /// let seen = store.history("general").seen_by("bob").list()?;
    /// assert_eq!((seen.len(), &seen[0].payload[..]), (1, &b"farewell"[..]));
    /// assert_eq!(store.kept_history("general", "bob")?, Some(1..=1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_with(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        options: LeaveOptions,
    ) -> &mut Self {
        self.push(Leave { channel: channel.as_ref(), user: user.as_ref(), keep: options.keep })
    }
}
