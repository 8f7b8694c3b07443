//! What a member hid of a channel from themself: ranges of seqs, beside the membership.
//!
//! The membership tells the greatest seq that was hidden, so that this row is read only where it matters. It ends with the
//! membership: a row that is left from an earlier one is not looked at, and is replaced by the next hiding.
//!
//! ```text
//! ranges   from the first to the last, each: the mark before it, then its last mark; of each mark: seq v, ordinal v, as
//!          differences to the mark before
//! ```
//!
//! Invariant: ranges ascend and do not touch. The marks tell by a subtraction how many messages in a range counted when they
//! were sent.

use bytes::Bytes;

use super::codec::{Put, Reader};
use super::head::Head;
use super::image::{Field, Patch, Value, image};
use super::key::UserChannel;
use super::mark::Mark;

image! {
    /// What a member hid of a channel.
    pub struct Forgotten: table 10 by UserChannel;
    marks {}
    fields {
        /// The ranges.
        ranges: HiddenRanges = 1,
        /// In patches only: a range that is to be one of them, so that the log does not hold them all with each.
        added: HiddenRanges = 2,
        /// In patches only: what lies up to here need not be kept.
        floor: u64 = 3,
    }
    beside {}
    tombstone |_| false;
    changed |row, _| row.unite();
}

/// The most ranges that a user can have hidden in a channel.
pub const MAX_RANGES: usize = 1024;

/// Ranges of seqs, packed. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HiddenRanges(Bytes);

/// What lies after the first mark, up to and with the second.
type Hidden = (Mark, Mark);

/// Reads the next range, which lies after `last` and does not touch it.
fn take(r: &mut Reader<'_>, last: Option<Mark>) -> Option<Hidden> {
    let mut before = last.unwrap_or_default();
    let mut mark = |least: u64| {
        let (seq, ordinal) = (r.varint()?, r.varint()?);
        let mark = Mark { seq: before.seq.checked_add(seq)?, ordinal: before.ordinal.checked_add(ordinal)? };
        before = mark;
        (seq >= least && mark.ordinal <= mark.seq).then_some(mark)
    };
    Some((mark(last.is_some().into())?, mark(1)?))
}

impl HiddenRanges {
    fn pack(ranges: &[Hidden]) -> HiddenRanges {
        let mut out = Vec::with_capacity(4 * ranges.len());
        let mut before = Mark::default();
        for mark in ranges.iter().flat_map(|range| [range.0, range.1]) {
            out.put_varint(mark.seq - before.seq);
            out.put_varint(mark.ordinal - before.ordinal);
            before = mark;
        }
        HiddenRanges(out.into())
    }

    /// The ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Hidden> {
        let (mut r, mut last) = (Reader::new(&self.0), None);
        std::iter::from_fn(move || {
            let range = Some(&mut r).filter(|r| !r.is_empty()).and_then(|r| take(r, last))?;
            last = Some(range.1);
            Some(range)
        })
    }

    /// These and one more, without what is not above `floor`; `None` if it is among them already.
    pub(crate) fn with(&self, new: Hidden, floor: u64) -> Option<Vec<Hidden>> {
        let (mut ranges, mut new): (Vec<Hidden>, _) = (Vec::new(), new);
        for range in self.iter() {
            if range.0.seq <= new.0.seq && new.1.seq <= range.1.seq {
                return None;
            }
            match range.0.seq <= new.1.seq && new.0.seq <= range.1.seq {
                true => {
                    let first = if range.0.seq < new.0.seq { range.0 } else { new.0 };
                    new = (first, new.1.max(range.1));
                }
                false => ranges.push(range),
            }
        }
        let at = ranges.partition_point(|range| range.0.seq < new.0.seq);
        ranges.insert(at, new);
        ranges.retain(|range| range.1.seq > floor);
        Some(ranges)
    }

    /// How many messages in them and after a mark counted when they were sent.
    pub(crate) fn counted_after(&self, mark: Mark) -> u64 {
        let after = |(first, last): Hidden| last.ordinal.saturating_sub(first.max(mark).ordinal);
        self.iter().filter(|range| range.1.seq > mark.seq).map(after).sum()
    }

    /// The mark before the range that holds a seq.
    pub(crate) fn before(&self, seq: u64) -> Option<Mark> {
        self.iter().find(|range| range.0.seq < seq && seq <= range.1.seq).map(|range| range.0)
    }
}

impl Field for HiddenRanges {
    fn value(&self) -> Value<'_> {
        Value::Bytes(&self.0)
    }

    fn take(&mut self, value: Value<'_>) -> Option<()> {
        let Value::Bytes(bytes) = value else { return None };
        let (mut r, mut last) = (Reader::new(bytes), None);
        while !r.is_empty() {
            last = Some(take(&mut r, last)?.1);
        }
        self.0 = Bytes::copy_from_slice(bytes);
        Some(())
    }

    fn heap(&self) -> usize {
        self.0.len()
    }
}

impl Forgotten {
    /// A patch of a row after which it holds only this range.
    pub(crate) fn begin(new: Hidden) -> Patch {
        Patch::reset().set(field::ranges, HiddenRanges::pack(&[new]))
    }

    /// A patch of a row after which it holds this range too, and none up to `floor`.
    pub(crate) fn add(new: Hidden, floor: u64) -> Patch {
        Patch::new().set(field::added, HiddenRanges::pack(&[new])).set(field::floor, floor)
    }

    /// Takes what a patch added.
    fn unite(&mut self) {
        let (added, floor) = (std::mem::take(&mut self.added), std::mem::take(&mut self.floor));
        for new in added.iter() {
            if let Some(ranges) = self.ranges.with(new, floor) {
                self.ranges = HiddenRanges::pack(&ranges);
            }
        }
    }

    /// Whether the row can stand in a channel with this head, whatever changed it.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        self.ranges.iter().all(|range| range.1.within(head.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn mark(seq: u64) -> Mark {
        Mark { seq, ordinal: seq / 2 }
    }

    proptest! {
        #[test]
        fn ranges_are_the_union_of_what_was_added(added in proptest::collection::vec((1u64..60, 0u64..9), 0..20), floor in 0u64..20, at in 0u64..70) {
            let (mut packed, mut set) = (HiddenRanges::default(), BTreeSet::new());
            for (from, more) in added {
                let new: Vec<u64> = (from..=from + more).collect();
                let known = new.iter().all(|seq| set.contains(seq));
                let united = packed.with((mark(from - 1), mark(from + more)), 0);
                prop_assert_eq!(united.is_none(), known);
                set.extend(new);
                if let Some(ranges) = united {
                    packed = HiddenRanges::pack(&ranges);
                    let mut read = HiddenRanges::default();
                    prop_assert_eq!(read.take(packed.value()), Some(()));
                    prop_assert_eq!(&read, &packed);
                }
            }
            let hidden: BTreeSet<u64> = packed.iter().flat_map(|range| range.0.seq + 1..=range.1.seq).collect();
            prop_assert_eq!(&hidden, &set);
            let counted = set.iter().filter(|seq| **seq > at && **seq % 2 == 0).count() as u64;
            prop_assert_eq!(packed.counted_after(mark(at)), counted);
            prop_assert_eq!(packed.before(at).is_some(), set.contains(&at));
            let above = packed.with((mark(99), mark(100)), floor).unwrap();
            prop_assert!(above.iter().all(|range| range.1.seq > floor));
        }

        #[test]
        fn any_bytes_are_ranges_or_none(bytes: Vec<u8>) {
            let mut read = HiddenRanges::default();
            if read.take(Value::Bytes(&bytes)).is_some() {
                let ranges: Vec<Hidden> = read.iter().collect();
                prop_assert!(ranges.is_sorted_by(|a, b| a.1.seq < b.0.seq) && ranges.iter().all(|r| r.0.seq < r.1.seq));
                prop_assert_eq!(HiddenRanges::pack(&ranges), read);
            }
        }
    }
}
