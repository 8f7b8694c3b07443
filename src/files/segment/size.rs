//! How far back the last bytes of a channel reach, from what directory and index say.

use std::ops::Range;

use super::directory::Entry;
use super::format::Key;
use super::reader::Segment;
use crate::error::Result;

impl Segment {
    /// The seq after which its records of a channel take at least `keep` bytes, and at most a block more. They must take so many
    /// together. Reads the last block, which may hold others' records too, and no other; and not that if the seq is at most
    /// `floor` in any case.
    pub fn beyond(&self, entry: &Entry, keep: u64, floor: u64) -> Result<u64> {
        let tail = entry.tail.map_or(0, |tail| u64::from(tail.len));
        if keep <= tail {
            return Ok(entry.extent.last_seq - 1);
        }
        let keep = keep - tail;
        let all = entry.extent.first_seq - 1;
        let Some((first, last)) = entry.blocks() else { return Ok(all) };
        let (first, last) = ((entry.channel, first), (entry.channel, last));
        let blocks = self.blocks(first, last)?;
        let (oldest, newest) = (blocks.start, blocks.end.saturating_sub(1).max(blocks.start));
        // At most all of the last block is this channel's.
        let most = u64::from(self.handle(newest)?.raw_len);
        if keep > most {
            let greatest = self.beyond_blocks(oldest..newest, keep - most, all)?;
            if greatest <= floor {
                return Ok(greatest);
            }
        }
        let mut left = keep;
        let block = self.load(newest)?;
        for record in block.range(first, last).rev() {
            let len = block.encoded(record).len() as u64;
            if left <= len {
                return Ok(block.key(record).1 - 1);
            }
            left -= len;
        }
        self.beyond_blocks(oldest..newest, left, all)
    }

    /// The same for blocks of which all but the first hold this channel alone; `all` if the first is needed too.
    fn beyond_blocks(&self, blocks: Range<u64>, mut keep: u64, all: u64) -> Result<u64> {
        for n in (blocks.start + 1..blocks.end).rev() {
            let handle = self.handle(n)?;
            let (_, first_seq): Key = handle.first;
            if keep <= u64::from(handle.raw_len) {
                return Ok(first_seq.saturating_sub(1).max(all));
            }
            keep -= u64::from(handle.raw_len);
        }
        Ok(all)
    }
}
