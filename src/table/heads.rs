//! The heads of the channels that were touched.
//!
//! ```text
//! 32 B each, by channel: channel u32, members u32, seq u64, lag u64 (seq - ordinal), version u64
//! ```
//!
//! Invariant: channels strictly ascend.

use super::output::Output;
use super::value::valid;
use crate::codec::{Put, Reader};
use crate::error::{Error, Result};
use crate::sealed::Sealed;
use crate::types::{ChannelId, Head, Mark};

const ENTRY: usize = 32;

/// Where the heads lie in their file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    start: u64,
    /// How many there are.
    pub entries: u64,
}

impl Place {
    /// Appends it to a footer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.entries);
    }

    /// Reads it from a footer, for heads that begin at `start`.
    pub fn decode(r: &mut Reader<'_>, start: u64) -> Option<Place> {
        Some(Place { start, entries: r.u64()? })
    }

    /// The offset just behind them, unless that is beyond any file.
    pub fn end(&self) -> Option<u64> {
        self.start.checked_add(self.entries.checked_mul(ENTRY as u64)?)
    }
}

/// Writes heads, one by one.
#[derive(Default)]
pub struct HeadsWriter {
    last: Option<ChannelId>,
    entries: u64,
}

impl HeadsWriter {
    /// Appends a head, whose channel must be greater than the last one's.
    pub fn push(&mut self, out: &mut Output<'_>, channel: ChannelId, head: &Head) -> Result<()> {
        if self.last >= Some(channel) || !valid(head.last) {
            return Err(Error::invalid("a head of a run is out of order, or not valid"));
        }
        self.last = Some(channel);
        self.entries += 1;
        let mut entry = Vec::with_capacity(ENTRY);
        entry.put_u32(channel.0);
        entry.put_u32(head.members);
        entry.put_u64(head.last.seq);
        entry.put_u64(head.last.seq - head.last.ordinal);
        entry.put_u64(head.version);
        out.write(&entry)
    }

    /// The place of the heads, right behind the last one.
    pub fn finish(&self, out: &Output<'_>) -> Place {
        Place { start: out.position() - self.entries * ENTRY as u64, entries: self.entries }
    }
}

/// Walks over the heads. Channels strictly ascend, whatever the file holds.
pub struct HeadCursor<'a> {
    file: &'a Sealed,
    place: Place,
    next: u64,
    last: Option<ChannelId>,
}

impl<'a> HeadCursor<'a> {
    /// The heads at `place`, which must lie within the file's content.
    pub fn new(file: &'a Sealed, place: Place) -> Self {
        HeadCursor { file, place, next: 0, last: None }
    }

    /// The next head.
    pub fn next(&mut self) -> Result<Option<(ChannelId, Head)>> {
        if self.next >= self.place.entries {
            return Ok(None);
        }
        let at = self.place.start + self.next * ENTRY as u64;
        let entry = decode(self.file.bytes(at, ENTRY)?).filter(|(channel, _)| Some(*channel) > self.last);
        self.next = if entry.is_some() { self.next + 1 } else { self.place.entries };
        self.last = entry.map(|(channel, _)| channel);
        match entry {
            Some(entry) => Ok(Some(entry)),
            None => Err(self.file.corrupt(at, "no valid head, or one out of order")),
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(ChannelId, Head)> {
    let mut r = Reader::new(bytes);
    let (channel, members) = (ChannelId(r.u32()?), r.u32()?);
    let (seq, lag, version) = (r.u64()?, r.u64()?, r.u64()?);
    Some((channel, Head { last: Mark { seq, ordinal: seq.checked_sub(lag)? }, version, members }))
}
