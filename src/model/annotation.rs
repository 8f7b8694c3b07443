//! Annotations: what a server keeps with a message under a key, such as a reaction or who revoked it.
//!
//! Each is a row of its own, so that a message with a million of them costs no more to annotate than one with none. A row's
//! place is the hash of its key; should another key be there, the next place after it. Removing one leaves a row without a
//! value, so that those who ask what changed hear of it, and no place is ever given to another key.

use bytes::Bytes;

use super::blob::Blob;
use super::head::Head;
use super::image::image;
use super::key::MessageSlot;
use super::state::State;
use crate::error::Result;

image! {
    /// What is kept with a message under a key.
    pub struct Annotation: table 9 by MessageSlot;
    marks {}
    fields {
        /// The key.
        key: Bytes = 1,
        /// What is kept under it; never empty where it is read.
        value: Blob = 2,
    }
    beside {
        /// The seq of the message.
        seq: u64,
    }
    tombstone |row| row.value.is_empty();
}

/// The longest key of an annotation, in bytes.
pub const MAX_KEY: usize = 255;

/// The longest value of an annotation, in bytes.
pub const MAX_ANNOTATION: usize = 64 << 10;

impl Annotation {
    /// Finds the place of a key from the place of its hash on, and the row if there is one.
    pub(crate) fn find(
        mut at: MessageSlot,
        key: &[u8],
        mut look: impl FnMut(MessageSlot) -> Result<Option<Annotation>>,
    ) -> Result<(MessageSlot, Option<Annotation>)> {
        loop {
            match look(at)? {
                Some(row) if row.key != key => at.slot = at.slot.wrapping_add(1),
                row => return Ok((at, row)),
            }
        }
    }

    /// What follows from a change of the row: members are told of the channel.
    pub(crate) fn follow(after: &Self, key: MessageSlot, state: &mut impl State) {
        let before = state.head(key.channel);
        state.set_head(key.channel, Head { changed: after.version, content: after.version, ..before });
    }

    /// Whether the row can stand in a channel with this head, whatever changed it.
    pub(crate) fn fits(key: MessageSlot, head: &Head) -> bool {
        (1..=head.last.seq).contains(&key.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ChannelId;
    use std::collections::BTreeMap;

    #[test]
    fn keys_of_one_hash_have_places_of_their_own() {
        let first = MessageSlot { channel: ChannelId(1), seq: 2, slot: u64::MAX };
        let mut rows = BTreeMap::new();
        for key in ["a", "b", "c"] {
            let (at, row) = Annotation::find(first, key.as_bytes(), |at| Ok(rows.get(&at).cloned())).unwrap();
            assert_eq!(row, None);
            rows.insert(at, Annotation { key: key.into(), ..Annotation::default() });
        }
        assert_eq!(rows.len(), 3);
        for key in ["c", "a", "b"] {
            let found = Annotation::find(first, key.as_bytes(), |at| Ok(rows.get(&at).cloned())).unwrap();
            assert_eq!(found.1.unwrap().key, key);
        }
    }
}
