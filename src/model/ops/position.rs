//! Noting how far a log of the server's was applied.

use bytes::Bytes;

use crate::env::fault;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::ids::LogId;
use crate::model::image::Patch;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::position::{MAX_POSITION_TAG, Position, field};
use crate::model::state::Transaction;

operation! {
    /// Notes that the entry of an index of a log is applied. Refused unless it is the next one.
    SetPosition = 60 "position" { log: number, index: number, tag: bytes, }

    fn check(&self, _: &Limits) -> Result<()> {
        log_of(self.log)?;
        let (len, limit) = (self.tag.len() as u64, MAX_POSITION_TAG as u64);
        match len > limit {
            true => Err(Error::TooLarge { what: "the tag's number of bytes", len, limit, op: None }),
            false => Ok(()),
        }
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let log = log_of(self.log)?;
        if let Some(row) = txn.row::<Position>(log)?
            && row.index.checked_add(1) != Some(self.index) && !fault(106)
        {
            let diverged = row.index == self.index && row.tag != self.tag;
            let (index, applied, op) = (self.index, row.index, txn.index());
            return Err(Error::OutOfOrder { log: log.0, index, applied, diverged, op, version: txn.version() });
        }
        let tag = Bytes::copy_from_slice(self.tag);
        let mut patch = Patch::new().set(field::index, self.index).set(field::tag, tag);
        if txn.replica() {
            patch = patch.set(field::time, Some(txn.now()));
        }
        txn.patch::<Position>(log, patch)
    }
}

fn log_of(log: u64) -> Result<LogId> {
    let id = u32::try_from(log).map(LogId);
    id.map_err(|_| Error::invalid(format!("a log of number {log}; 32 bits are allowed")))
}

impl Batch {
    /// Notes, with the rest of the batch or not at all, that the entry of `index` of a log was applied: of log 0 if there is but
    /// one. `tag` is up to [`MAX_POSITION_TAG`](crate::MAX_POSITION_TAG) bytes that tell the entry from another one of the same index. The first
    /// position of a log may be any. [`Store::apply`](crate::Store::apply) does this and what goes with it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, Error};
    /// let mut batch = Batch::new();
    /// batch.append("general", Draft::new("alice", 0, "hi")).position(0, 7, "term 2");
    /// store.commit(&batch)?;
    /// assert!(matches!(store.commit(&batch), Err(Error::OutOfOrder { index: 7, applied: 7, .. })));
    /// assert_eq!(store.position(0)?.expect("it was applied").index, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::OutOfOrder`] unless `index` is the one after the last that was applied.
    pub fn position(&mut self, log: u32, index: u64, tag: impl AsRef<[u8]>) -> &mut Self {
        self.push(SetPosition { log: log.into(), index, tag: tag.as_ref() })
    }
}
