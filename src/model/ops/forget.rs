//! Hiding messages from oneself.

use super::{mark_within, member};
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::forgotten::{Forgotten, MAX_RANGES};
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Hides a range of seqs from one member.
    Forget = 34 "forget" { channel: channel, user: user, from: number, to: number, }

    fn check(&self, _: &Limits) -> Result<()> {
        match self.from > self.to {
            true => Err(Error::invalid(format!("a range from {} to {}", self.from, self.to))),
            false => Ok(()),
        }
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let floor = row.floor_in(&txn.head(key.channel)).seq;
        let before = self.from.saturating_sub(1).max(floor);
        let last = self.to.min(txn.head(key.channel).last.seq);
        if before >= last {
            return Ok(Outcome::Unchanged);
        }
        // What an earlier membership hid is no more.
        let known = if row.forgot > 0 { txn.row::<Forgotten>(key)? } else { None };
        let new = (mark_within(txn, key.channel, before)?, mark_within(txn, key.channel, last)?);
        let patch = if known.is_some() { Forgotten::add(new, floor) } else { Forgotten::begin(new) };
        let Some(ranges) = known.unwrap_or_default().ranges.with(new, floor) else {
            return Ok(Outcome::Unchanged);
        };
        if ranges.len() > MAX_RANGES {
            let (len, limit) = (ranges.len() as u64, MAX_RANGES as u64);
            let what = "the number of ranges that a user forgot in a channel";
            return Err(Error::TooLarge { what, len, limit, op: Some(txn.index()) });
        }
        txn.patch::<Forgotten>(key, patch)?;
        txn.patch::<Membership>(key, Patch::new().set(field::forgot, row.forgot.max(last)))
    }
}

impl Batch {
    /// Hides the messages from `from` to `to` from this user alone: they are no longer in what the user may see
    /// ([`History::seen_by`](crate::History::seen_by)), nor unread, and a last message among them gives way to the last one
    /// before that is not. Beyond the end means to the end: what comes later is not hidden. The order of the user's list and
    /// what is in it stays, and nobody else hears of it. It ends with the membership.
    ///
    /// Ranges that touch are one; a user can have hidden 1,024 in a channel, above what was cleared. Costs two rows, one of
    /// which holds all of them, and two look-ups of messages.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// use chanlog::{Batch, Draft};
    /// let mut batch = Batch::new();
    /// batch.join("general", "bob");
    /// for text in ["one", "two", "three"] {
    ///     batch.append("general", Draft::new("alice", 0, text));
    /// }
    /// store.commit(batch.forget("general", "bob", 2, 3))?;
    /// let entry = store.conversation("bob", "general")?.expect("it is in the list");
    /// assert_eq!((entry.unread, &entry.last.expect("one is left").payload[..]), (1, &b"one"[..]));
    /// assert_eq!(store.history("general").seen_by("bob").list()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Committing it is refused with [`Error::NotMember`](crate::Error::NotMember) for anybody but a member, with
    /// [`Error::TooLarge`](crate::Error::TooLarge) for one range too many, and with
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `from` is above `to`.
    pub fn forget(
        &mut self,
        channel: impl AsRef<[u8]>,
        user: impl AsRef<[u8]>,
        from: u64,
        to: u64,
    ) -> &mut Self {
        self.push(Forget { channel: channel.as_ref(), user: user.as_ref(), from, to })
    }
}
