//! One block in memory: its records, and where each begins.
//!
//! Invariants: the records fill the bytes exactly, each decodes, and their keys ascend. So a lookup is a binary search,
//! and no later read scans or decodes.

use std::ops::Range;

use bytes::Bytes;

use super::format::{Key, Summary};
use crate::files::record::Record;
use crate::model::ids::ChannelId;

/// A decoded block.
pub struct Block {
    bytes: Bytes,
    records: Box<[RecordStart]>,
    summary: Summary,
    /// Whether the bytes are on the heap, and not part of a mapped file.
    owned: bool,
}

/// Where a record begins. Flat, as a tuple with a [`Key`] would take half as much again.
struct RecordStart {
    channel: ChannelId,
    start: u32,
    seq: u64,
}

impl RecordStart {
    fn key(&self) -> Key {
        (self.channel, self.seq)
    }
}

impl Block {
    /// Finds the records in the raw bytes of a block. The error is the offset in them of what is no record or is out of
    /// order.
    pub fn parse(bytes: Bytes, owned: bool) -> Result<Block, usize> {
        let mut records: Vec<RecordStart> = Vec::new();
        let mut summary = Summary::EMPTY;
        let mut at = 0;
        while at < bytes.len() {
            let (record, len) = Record::read(&bytes[at..]).ok_or(at)?;
            let start = u32::try_from(at).map_err(|_| at)?;
            let place = RecordStart { channel: record.channel, start, seq: record.mark.seq };
            if records.last().is_some_and(|last| last.key() >= place.key()) {
                return Err(at);
            }
            summary.note(record.timestamp, record.version);
            at += len;
            records.push(place);
        }
        Ok(Block { bytes, records: records.into_boxed_slice(), summary, owned })
    }

    /// What its index entry has to tell of its records.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The keys of the first and the last record.
    pub fn bounds(&self) -> Option<(Key, Key)> {
        Some((self.records.first()?.key(), self.records.last()?.key()))
    }

    /// The records with `first <= key <= last`.
    pub fn range(&self, first: Key, last: Key) -> Range<usize> {
        let start = self.records.partition_point(|place| place.key() < first);
        let end = self.records.partition_point(|place| place.key() <= last);
        start..end
    }

    /// The key of a record.
    pub fn key(&self, n: usize) -> Key {
        self.records[n].key()
    }

    /// An encoded record. It shares the block's bytes.
    pub fn record(&self, n: usize) -> Bytes {
        self.bytes.slice_ref(self.encoded(n))
    }

    /// All of the block's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// An encoded record, as a part of the block's bytes.
    pub fn encoded(&self, n: usize) -> &[u8] {
        let end = self.records.get(n + 1).map_or(self.bytes.len(), |next| next.start as usize);
        &self.bytes[self.records[n].start as usize..end]
    }

    /// The memory that it takes, in bytes.
    pub fn weight(&self) -> u64 {
        let heap = if self.owned { self.bytes.len() } else { 0 };
        (heap + size_of::<Block>() + size_of_val(&*self.records)) as u64
    }
}
