//! Applying the entries of a log that the server replicates: each once, whatever is applied again after a crash.
//!
//! The position stands in the same frame as what the entry did, as the last operation of its batch, so that the places of
//! the others in it are the caller's.

use super::Store;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::ids::LogId;
use crate::model::outcome::Receipt;
use crate::model::position::Position;

/// What became of an entry of a log. Made by [`Store::apply`].
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use]
pub enum Applied {
    /// It took effect now.
    Now(Receipt),
    /// A rule refused it: it did nothing, and counts as applied.
    Refused(Error),
    /// It was applied before.
    Before,
}

impl Store {
    /// Applies the entry of `index` of a log: commits `batch`, and notes the position with it, or both not at all. For servers that
    /// replicate a log, by Raft or otherwise: after a crash they apply again from [`Store::position`] on, or from any place before
    /// it, and each entry takes effect once. Several logs have numbers of their own; one alone is log 0.
    ///
    /// An entry that a rule refuses, such as a send of somebody who is no member, advances the position too: its outcome is the
    /// same on every replica that applied the same before it ([`Options::replica`](crate::Options::replica)). The batch's time is
    /// [`Batch::time`].
    /// Whatever else fails ([`Error::OutOfSpace`], [`Error::Io`], [`Error::Poisoned`]) does not advance it: apply it again. Costs a
    /// row besides the commit, and one operation of those that a batch may have. One thread applies a log; what others commit meanwhile is theirs to answer for.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Applied, Batch, Draft};
    /// let mut entry = Batch::new();
    /// entry.append("general", Draft::new("alice", 0, "hi"));
    /// assert!(matches!(store.apply(0, 1, "term 1", &entry)?, Applied::Now(_)));
    /// assert!(matches!(store.apply(0, 1, "term 1", &entry)?, Applied::Before));
    /// let mut refused = Batch::new();
    /// refused.read("general", "a stranger", 1);
    /// assert!(matches!(store.apply(0, 2, "term 1", &refused)?, Applied::Refused(_)));
    /// assert_eq!((store.head("general")?.last.seq, store.position(0)?.expect("it was applied").index), (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] if an entry is missing, or if another one was applied under this index; those of
    /// [`Store::commit`] that are no refusal.
    pub fn apply(&self, log: u32, index: u64, tag: impl AsRef<[u8]>, batch: &Batch) -> Result<Applied> {
        let tag = tag.as_ref();
        if let Some(at) = self.position(log)?
            && (index < at.index || (index == at.index && at.tag == tag))
        {
            return Ok(Applied::Before);
        }
        let mut entry = batch.clone();
        entry.position(log, index, tag);
        match self.commit(&entry) {
            Ok(mut receipt) => {
                // The last outcome is the position's.
                receipt.outcomes.pop();
                Ok(Applied::Now(receipt))
            }
            Err(error @ Error::OutOfOrder { .. }) => Err(error),
            Err(refusal) if refusal.is_refusal() => {
                let mut nothing = Batch::new();
                (nothing.durability, nothing.time) = (batch.durability, batch.time);
                self.commit(nothing.position(log, index, tag))?;
                Ok(Applied::Refused(refusal))
            }
            Err(error) => Err(error),
        }
    }

    /// What upkeep has to commit at a time, in Unix milliseconds, as a batch: the ends of deleted users' memberships, or else messages
    /// that expire, or else trims by retention policies, of at most 256 at once; an empty batch if nothing is due. Nothing is
    /// committed. For who leads a group of replicas, and puts it into the log, as upkeep of
    /// a [replica](crate::Options::replica) commits nothing: the same batch means the same on each of them. Ask again once it is
    /// applied. Costs what [`Store::enforce_retention`] costs.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Options::new().replica(7).open(dir.path())?;
    /// use chanlog::{Batch, Draft, RetentionPolicy};
    /// let mut entry = Batch::new();
    /// entry.retention("general", RetentionPolicy::new().max_count(1));
    /// entry.append("general", Draft::new("alice", 0, "one")).append("general", Draft::new("alice", 0, "two"));
    /// store.apply(0, 1, "term 1", &entry)?;
    /// let trims = store.overdue(1_700_000_000_000)?;
    /// store.apply(0, 2, "term 1", &trims)?;
    /// assert_eq!(store.history("general").list()?[0].payload, "two");
    /// assert!(store.overdue(1_700_000_000_000)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn overdue(&self, now: i64) -> Result<Batch> {
        self.handle.engine.overdue(now)
    }

    /// How far a log was applied; `None` if nothing of it was. A loss of power may take it back to
    /// [`Store::durable_position`]. Costs a look-up.
    pub fn position(&self, log: u32) -> Result<Option<Position>> {
        self.now()?.position(log)
    }

    /// How far a log was applied for sure: no loss of power takes that back, so that the server may drop entries of its log up to
    /// there. It follows [`Store::position`] at once with [`Durability::Sync`](crate::Durability::Sync), and else within
    /// [`Options::sync_interval`](crate::Options::sync_interval), or when [`Store::sync`] is called. Costs a look-up.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Options::new().background(false).open(dir.path())?;
    /// use chanlog::{Batch, Draft, Durability};
    /// let mut entry = Batch::new();
    /// entry.append("general", Draft::new("alice", 0, "hi")).durability(Durability::Buffered);
    /// store.apply(0, 1, "term 1", &entry.clone().durability(Durability::Sync))?;
    /// store.apply(0, 2, "term 1", &entry)?;
    /// assert_eq!(store.position(0)?.expect("it was applied").index, 2);
    /// assert_eq!(store.durable_position(0)?.expect("so was the one before").index, 1);
    /// store.sync()?;
    /// assert_eq!(store.durable_position(0)?, store.position(0)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ReadOnly`]: a reader does not know what its writer has synced.
    pub fn durable_position(&self, log: u32) -> Result<Option<Position>> {
        self.handle.engine.check_writable()?;
        // In this order: what was read is durable, unless it is known not to be.
        let position = self.position(log)?;
        Ok(self.handle.engine.syncer().durable_position(LogId(log)).unwrap_or(position))
    }
}
