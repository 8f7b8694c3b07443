//! Deleting a channel with everything in it.

use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::channel::{Channel, field};
use crate::model::image::Patch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Deletes a channel.
    DeleteChannel = 56 "delete_channel" { channel: channel, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let Some(channel) = txn.find_channel(self.channel)? else { return Ok(Outcome::Unchanged) };
        // All of its messages are trimmed with it, by which their bytes go.
        let mut patch = Patch::new().set(field::deleted_at, Some(txn.now()));
        patch = patch.set(field::trimmed, txn.head(channel).last);
        if txn.row::<Channel>(channel)?.is_some_and(|row| !row.attributes.is_empty()) {
            patch = patch.set(field::attributes, Blob::default());
        }
        txn.patch::<Channel>(channel, patch)
    }
}

impl Batch {
    /// Deletes a channel with everything in it: messages, what is kept with them, memberships, sets, attributes, client ids and
    /// unique ids. From then on no call finds any of it, and members are told that it is gone from their lists
    /// ([`ListChange::Removed`](crate::ListChange::Removed)), as long as
    /// [`Options::tombstone_age`](crate::Options::tombstone_age) says. The name may be used again, by the same batch too: that
    /// is another channel, which begins empty, with seq 1 and without members. Deleting a channel that there is not changes
    /// nothing.
    ///
    /// Costs one row, whatever the channel holds. Its rows go when runs are merged, its messages with whole files, as those that
    /// were trimmed; 100 bytes of memory for its number stay for ever.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().join("general", "bob").append("general", Draft::new("alice", 0, "hi")))?;
    /// store.commit(Batch::new().delete_channel("general"))?;
    /// assert!(!store.has_channel("general")? && store.conversations("bob").list()?.entries.is_empty());
    /// // The next one of that name has nothing to do with it.
    /// let receipt = store.commit(Batch::new().append("general", Draft::new("alice", 0, "hello")))?;
    /// assert_eq!(receipt.outcomes()[0].seq(), Some(1));
    /// assert!(store.members("general").list()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_channel(&mut self, channel: impl AsRef<[u8]>) -> &mut Self {
        self.push(DeleteChannel { channel: channel.as_ref() })
    }
}
