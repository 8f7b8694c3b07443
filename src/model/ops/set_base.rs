//! Letting a channel begin later than at its first seq.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::channel::{Channel, MAX_BASE, field};
use crate::model::image::Patch;
use crate::model::mark::Mark;
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Lets a channel that never had a message begin after a mark.
    SetBase = 73 "set_base" { channel: channel, seq: number, ordinal: number, }

    fn check(&self, _: &Limits) -> Result<()> {
        match self.seq > MAX_BASE || self.ordinal > self.seq {
            true => {
                let (seq, ordinal) = (self.seq, self.ordinal);
                let what = format!("a base at seq {seq} and ordinal {ordinal}; seqs up to 2^56 and ordinals up to the seq are allowed");
                Err(Error::invalid(what))
            }
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let base = Mark { seq: self.seq, ordinal: self.ordinal };
        let found = txn.find_channel(self.channel)?;
        let before = match found {
            Some(channel) => txn.row::<Channel>(channel)?.map_or(Mark::default(), |row| row.base),
            None => Mark::default(),
        };
        if before == base {
            return Ok(Outcome::Unchanged);
        }
        let head = found.map(|channel| txn.head(channel)).unwrap_or_default();
        if !head.may_begin_at(base) {
            return Err(Error::ConditionFailed { op: txn.index(), version: txn.version() });
        }
        let channel = txn.make_channel(self.channel)?;
        txn.patch::<Channel>(channel, Patch::new().set(field::base, base).set(field::trimmed, base))
    }
}

impl Batch {
    /// Lets a channel begin after a mark: its first message gets the seq after `base.seq`, and counts on from `base.ordinal`. For
    /// a channel whose earlier messages are elsewhere or gone. The channel may be absent, or have members, but it must never
    /// have had a message; a later base may be set in place of an earlier one until it has. It is then as if all up to the
    /// base had been trimmed ([`Batch::trim`]), and nobody sees it in a list before its first message. Setting the base that it
    /// has, also after messages came, changes nothing.
    ///
    /// Costs a row of a few bytes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft, Mark};
    /// store.commit(Batch::new().set_base("general", Mark { seq: 1_000, ordinal: 990 }))?;
    /// let receipt = store.commit(Batch::new().append_at("general", 1_001, Draft::new("alice", 0, "hi")))?;
    /// assert_eq!(receipt.outcomes()[0].seq(), Some(1_001));
    /// assert_eq!(store.history("general").list()?[0].ordinal, 991);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::ConditionFailed`] if the channel has or had a message or begins beyond the mark
    /// already, and with [`Error::InvalidArgument`] if the mark's ordinal is above its seq, or the seq above 2^56.
    pub fn set_base(&mut self, channel: impl AsRef<[u8]>, base: Mark) -> &mut Self {
        self.push(SetBase { channel: channel.as_ref(), seq: base.seq, ordinal: base.ordinal })
    }
}
