//! The expiry of a message whose time has come: what upkeep commits.

use crate::error::Result;
use crate::model::alteration::{Alteration, field};
use crate::model::batch::Batch;
use crate::model::blob::Blob;
use crate::model::expiry::{self, Expiry};
use crate::model::image::Patch;
use crate::model::key::{ChannelSeq, TimeVersion};
use crate::model::op::operation;
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Lets a message expire that has a row of this time and version: it counts no more, and its bytes go.
    Expire = 63 "expire" { channel: channel, at: number, sent: number, }

    fn makes_room(&self) -> bool {
        true
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let at = TimeVersion { time: self.at, version: self.sent };
        let Some(channel) = txn.find_channel(self.channel)? else { return Ok(Outcome::Unchanged) };
        let Some(row) = txn.row::<Expiry>(at)?.filter(|row| !row.done) else { return Ok(Outcome::Unchanged) };
        // Another channel may have got the name meanwhile.
        if row.channel() != Some(channel) || row.seq <= txn.head(channel).trimmed.seq {
            return Ok(Outcome::Unchanged);
        }
        let key = ChannelSeq { channel, seq: row.seq };
        let before = txn.row::<Alteration>(key)?.unwrap_or_default();
        let mut patch = Patch::new().set(field::expired, true).set(field::erased, true);
        if !before.retracted {
            let ordinal = txn.mark(channel, key.seq)?.ordinal;
            let counted = ordinal > txn.mark(channel, key.seq - 1)?.ordinal;
            patch = patch.set(field::retracted, true).set(field::counted, counted);
        }
        if before.edited && !before.withheld() {
            patch = patch.set(field::payload, Blob::default());
        }
        let outcome = txn.patch::<Alteration>(key, patch)?;
        txn.patch_beside::<Expiry>(at, Patch::new().set(expiry::field::done, true))?;
        Ok(outcome)
    }
}

impl Batch {
    /// Lets the message expire that has a row of this time and version.
    pub(crate) fn expire(&mut self, channel: &[u8], at: TimeVersion) {
        self.push(Expire { channel, at: at.time, sent: at.version });
    }
}
