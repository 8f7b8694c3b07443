//! Marking all conversations of a user as read.

use super::read::read_to;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::ids::ChannelId;
use crate::model::key::UserChannel;
use crate::model::member::own::Own;
use crate::model::membership::{Membership, key};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Marks every channel of a user as read to its end.
    ReadAll = 18 "read_all" { user: user, }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let Some(user) = txn.find_user(self.user)? else { return Ok(Outcome::Unchanged) };
        let first = key(ChannelId(0), user);
        let (mut keys, mut owns) = (Vec::new(), Vec::new());
        txn.each_after::<Membership>(first, &mut |key, row| keys.extend(row.present().then_some(key)))?;
        txn.each_after::<Own>(first, &mut |key, own| owns.push((key, own.clone())))?;
        keys.sort_unstable();
        owns.sort_unstable_by_key(|(key, _)| *key);
        let mut outcome = Outcome::Unchanged;
        for key in keys {
            let own = owns.binary_search_by_key(&key, |(key, _)| *key).ok().map(|at| &owns[at].1);
            if let changed @ Outcome::Changed { .. } = read_one(txn, key, own)? {
                outcome = changed;
            }
        }
        Ok(outcome)
    }
}

/// Marks one channel as read, if anything in it is unread or it is flagged. The row is looked at in any case, so that what was
/// read before the writer's lock serves too when messages have come since.
fn read_one(txn: &mut impl Transaction, key: UserChannel, own: Option<&Own>) -> Result<Outcome> {
    let Some(mut row) = txn.row::<Membership>(key)? else { return Ok(Outcome::Unchanged) };
    row.set_own(own.unwrap_or(&Own::default()));
    let head = txn.head(key.channel);
    if head.dead() || row.flagged == 0 && row.unread(&head) == 0 {
        return Ok(Outcome::Unchanged);
    }
    read_to(txn, key, &row, u64::MAX)
}

impl Batch {
    /// Marks all of a user's channels as read to their ends, and ends their unread flags, as [`Batch::read`] does for each:
    /// in one commit, of what is there when it is written. Channels in which no message counted after the user's cursor, and
    /// that are not flagged, stay as they are. The outcome is that of the last row that was changed.
    ///
    /// Costs a look-up of each of the user's rows before the writer's lock, and a row for each channel with unread messages.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// for channel in ["general", "random"] {
    ///     store.commit(Batch::new().join(channel, "bob").append(channel, Draft::new("alice", 0, "hi")))?;
    /// }
    /// assert_eq!(store.unread("bob")?.conversations, 2);
    /// store.commit(Batch::new().read_all("bob"))?;
    /// assert_eq!(store.unread("bob")?.conversations, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An unknown user has nothing to read: that changes nothing.
    pub fn read_all(&mut self, user: impl AsRef<[u8]>) -> &mut Self {
        self.push(ReadAll { user: user.as_ref() })
    }
}
