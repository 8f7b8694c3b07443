//! Where the messages are whose callers gave them an id of their own, unique in the store.

use super::ids::ChannelId;
use super::image::{Patch, image};
use super::key::IdHash;
use super::state::{State, Transaction};
use crate::error::{Error, Result};

image! {
    /// Where a message with a unique id is.
    pub struct MessageId: table 19 by IdHash;
    marks {}
    fields {
        /// The channel's number.
        channel: u64 = 1,
        /// The seq.
        seq: u64 = 2,
    }
    beside {}
    tombstone |_| false;
}

impl MessageId {
    /// The message's channel; `None` if it can't be one.
    pub(crate) fn channel(&self) -> Option<ChannelId> {
        u32::try_from(self.channel).ok().map(ChannelId)
    }

    /// Whether the row leads to a message that there is.
    pub(crate) fn leads(&self, state: &impl State) -> bool {
        let known = self.channel().filter(|channel| state.knows(*channel));
        known.is_some_and(|channel| (1..=state.head(channel).last.seq).contains(&self.seq))
    }
}

/// What the hashes of an id are of, apart from those of client ids.
const OF_ID: u8 = 4;
const OF_ID_AGAIN: u8 = 5;

/// The key of an id, by a hash of one part or two. 128 bits, so that no two ids ever have a key in common.
pub(crate) fn key(hash: impl Fn(&[&[u8]]) -> u64, id: &[u8]) -> IdHash {
    IdHash { one: hash(&[&[OF_ID], id]), two: hash(&[&[OF_ID_AGAIN], id]) }
}

/// Refuses an id that another message has.
pub(crate) fn check_free(txn: &mut impl Transaction, id: &[u8]) -> Result<()> {
    let key = key(|parts| txn.hash(parts), id);
    match txn.row::<MessageId>(key)? {
        None => Ok(()),
        // An id goes with its message when that is trimmed.
        Some(row) if row.channel().is_some_and(|channel| row.seq <= txn.head(channel).trimmed.seq) => Ok(()),
        // The channel's name is filled in where files may be read.
        Some(row) => Err(Error::IdTaken {
            op: txn.index(),
            channel: bytes::Bytes::new(),
            seq: row.seq,
            version: txn.version(),
        }),
    }
}

/// Notes where a message is that was just appended with an id.
pub(crate) fn note(txn: &mut impl Transaction, id: &[u8], channel: ChannelId, seq: u64) -> Result<()> {
    let key = key(|parts| txn.hash(parts), id);
    let patch = Patch::new().set(field::channel, u64::from(channel.0)).set(field::seq, seq);
    txn.patch_beside::<MessageId>(key, patch)
}
