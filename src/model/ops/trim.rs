//! Trimming a channel: its oldest messages go for everybody.

use super::mark_within;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::channel::{Channel, field};
use crate::model::ids::ChannelId;
use crate::model::image::Patch;
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Takes the messages up to a seq from everybody.
    Trim = 48 "trim" { channel: channel, seq: number, only: maybe, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let Some(channel) = txn.find_channel(self.channel)? else { return Ok(Outcome::Unchanged) };
        // Upkeep means one channel, and not another that got its name meanwhile.
        if self.only.is_some_and(|number| number != channel.0.into()) {
            return Ok(Outcome::Unchanged);
        }
        let head = txn.head(channel);
        if self.seq.min(head.last.seq) <= head.trimmed.seq {
            return Ok(Outcome::Unchanged);
        }
        let trimmed = mark_within(txn, channel, self.seq)?;
        txn.patch::<Channel>(channel, Patch::new().set(field::trimmed, trimmed))
    }
}

impl Batch {
    /// Takes the messages of a channel up to `seq` from everybody; beyond the end means all of them. They are not read any
    /// more, count as read, and what a member sees last is a message after them, or nothing. The channel's last seq and its
    /// place in lists stay, and seqs go on from there. Trimming goes forward only; an unknown channel has nothing to trim.
    ///
    /// Costs a row and one look-up of a message. The bytes go with whole files: a message segment of which everything was
    /// trimmed is removed by the next upkeep after its sealing ([`Store::maintain`](crate::Store::maintain)).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// for text in ["one", "two", "three"] {
    ///     store.commit(Batch::new().append("general", Draft::new("alice", 0, text)))?;
    /// }
    /// store.commit(Batch::new().trim("general", 2))?;
    /// let left = store.history("general").list()?;
    /// assert_eq!((left.len(), left[0].seq), (1, 3));
    /// assert_eq!(store.head("general")?.trimmed.seq, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&mut self, channel: impl AsRef<[u8]>, seq: u64) -> &mut Self {
        self.push(Trim { channel: channel.as_ref(), seq, only: None })
    }

    /// The same, of this channel alone.
    pub(crate) fn trim_only(&mut self, name: &[u8], channel: ChannelId, seq: u64) {
        self.push(Trim { channel: name, seq, only: Some(channel.0.into()) });
    }
}
