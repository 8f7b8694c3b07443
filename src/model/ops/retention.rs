//! Giving a channel a retention policy.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::channel::{Channel, field};
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::retention::RetentionPolicy;
use crate::model::state::Transaction;

operation! {
    /// Gives a channel a retention policy. Makes the channel if need be.
    Retention = 59 "retention" { channel: channel, max_age_ms: maybe, max_count: maybe, max_bytes: maybe, }

    fn check(&self, _: &Limits) -> Result<()> {
        match [self.max_age_ms, self.max_count, self.max_bytes].contains(&Some(0)) {
            true => Err(Error::invalid("a retention limit of 0; leave it out for none")),
            false => Ok(()),
        }
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let channel = txn.make_channel(self.channel)?;
        let (age, count) = (self.max_age_ms.unwrap_or(0), self.max_count.unwrap_or(0));
        let bytes = self.max_bytes.unwrap_or(0);
        match txn.row::<Channel>(channel)? {
            Some(row) if (row.max_age_ms, row.max_count, row.max_bytes) == (age, count, bytes) => Ok(Outcome::Unchanged),
            _ => {
                let patch = Patch::new().set(field::max_age_ms, age).set(field::max_count, count);
                txn.patch::<Channel>(channel, patch.set(field::max_bytes, bytes))
            }
        }
    }
}

impl Batch {
    /// Gives a channel a retention policy of its own, in place of the store's default
    /// ([`Options::retention`](crate::Options::retention)); one without limits gives it back to the default. Makes the channel
    /// if need be. Messages beyond the limits are trimmed ([`Batch::trim`]) by upkeep after a log segment was sealed, and by
    /// [`Store::enforce_retention`](crate::Store::enforce_retention); until then they are read. Costs one row, and tells members
    /// that the channel changed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, RetentionPolicy};
    /// store.commit(Batch::new().retention("general", RetentionPolicy::new().max_count(2)))?;
    /// for text in ["one", "two", "three"] {
    ///     store.commit(Batch::new().append("general", Draft::new("alice", 0, text)))?;
    /// }
    /// store.enforce_retention(1_700_000_000_000, usize::MAX)?;
    /// assert_eq!(store.history("general").list()?[0].payload, "two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retention(&mut self, channel: impl AsRef<[u8]>, policy: RetentionPolicy) -> &mut Self {
        let RetentionPolicy { max_age_ms, max_count, max_bytes } = policy;
        self.push(Retention { channel: channel.as_ref(), max_age_ms, max_count, max_bytes })
    }
}
