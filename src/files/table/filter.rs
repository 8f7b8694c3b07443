//! A filter over the keys of a section: a look-up of a key that is not there reads nothing but memory, but for one in
//! 65,536.
//!
//! ```text
//! parts    one for each 16,384 keys of the section, which are 1,024 blocks, each:
//!   seed u32, third u32    third is the number of slots in each of three thirds; 0 = this part may hold any key
//!   slots                  3 * third times u16
//! ```
//!
//! A part is an xor filter: a key has a slot in each third, and the three slots together give its fingerprint of 16 bits
//! ("Xor Filters", Graf and Lemire, 2020). It takes 2.5 bytes a key, and is made from the hashes of one part at a time, so
//! that a merge needs 100 bytes for each of at most 16,384 keys. The filter is read into memory when its run is opened, if
//! it fits into the share that is left; else it is read through the map.
//!
//! Invariant: a filter never denies a key that the section holds.

use crate::env::fault;
use crate::error::Result;
use crate::files::sealed::Sealed;
use crate::model::codec::{Put, Reader};
use crate::model::key::Key;

/// How many keys a part covers.
pub const PART: usize = 1024 * 16;
/// The length of what stands before the slots of a part.
const LEAD: usize = 8;
/// So many seeds are tried. One does for nine parts of ten.
const SEEDS: u32 = 100;

/// A filter in the making.
#[derive(Default)]
pub struct FilterWriter {
    /// The hashes of the keys of the present part.
    hashes: Vec<u64>,
    bytes: Vec<u8>,
}

impl FilterWriter {
    /// Adds the section's next key.
    pub fn add(&mut self, key: Key) {
        self.hashes.push(hash(key));
        if self.hashes.len() == PART {
            self.end_part();
        }
    }

    fn end_part(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        let third = self.hashes.len() * 41 / 100 + 8;
        let built = (0..SEEDS).find_map(|seed| Some((seed, build(&self.hashes, seed, third)?)));
        let (seed, slots) = built.unwrap_or_default();
        self.bytes.put_u32(seed);
        self.bytes.put_u32(slots.len() as u32 / 3);
        slots.iter().for_each(|slot| self.bytes.put_u16(*slot));
        self.hashes.clear();
    }

    /// The bytes of the whole filter.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.hashes.is_empty() {
            self.end_part();
        }
        self.bytes
    }
}

/// The slots for hashes under a seed; `None` if that seed does not do.
fn build(hashes: &[u64], seed: u32, third: usize) -> Option<Vec<u16>> {
    // For each slot: how many hashes have it, and all of those, one xor the other.
    let mut users = vec![(0u32, 0u64); 3 * third];
    for hash in hashes.iter().map(|hash| seeded(*hash, seed)) {
        places(hash, third).into_iter().for_each(|at| users[at] = (users[at].0 + 1, users[at].1 ^ hash));
    }
    let mut alone: Vec<usize> = (0..users.len()).filter(|at| users[*at].0 == 1).collect();
    let mut order = Vec::with_capacity(hashes.len());
    while let Some(at) = alone.pop() {
        let (1, hash) = users[at] else { continue };
        order.push((hash, at));
        for at in places(hash, third) {
            users[at] = (users[at].0 - 1, users[at].1 ^ hash);
            if users[at].0 == 1 {
                alone.push(at);
            }
        }
    }
    if order.len() < hashes.len() {
        return None;
    }
    let mut slots = vec![0u16; 3 * third];
    for (hash, at) in order.into_iter().rev() {
        slots[at] = places(hash, third).into_iter().fold(fingerprint(hash), |rest, at| rest ^ slots[at]);
    }
    Some(slots)
}

/// The hash of a key. Keys whose owners could choose them hold a keyed hash already.
fn hash(key: Key) -> u64 {
    mix(key.c ^ mix(key.b ^ mix(key.a.into())))
}

fn seeded(hash: u64, seed: u32) -> u64 {
    mix(hash ^ u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Spreads the bits of a number: the end of splitmix64, which gives no two numbers the same one.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The slots of a hash, one in each third.
fn places(hash: u64, third: usize) -> [usize; 3] {
    let place = |bits: u64| ((bits & 0xffff_ffff) as usize * third) >> 32;
    [place(hash), third + place(hash.rotate_left(21)), 2 * third + place(hash.rotate_left(42))]
}

fn fingerprint(hash: u64) -> u16 {
    (hash ^ (hash >> 32)) as u16
}

/// A filter of an open run.
#[derive(Debug)]
pub struct RunFilter {
    /// The first key of each part, the part's seed, the size of its thirds, and where its slots begin.
    parts: Vec<(Key, u32, usize, u64)>,
    /// The whole filter, if it is held in memory.
    held: Option<Box<[u8]>>,
    /// Where it begins in the file.
    start: u64,
}

impl RunFilter {
    /// The filter at `start`, of `len` bytes. `first` tells the first key of a part. It is held if it has at most `memory` bytes.
    pub fn open(
        file: &Sealed,
        (start, len): (u64, u64),
        parts: u64,
        first: impl Fn(u64) -> Result<Key>,
        memory: u64,
    ) -> Result<RunFilter> {
        let bad = || file.corrupt(start, "a filter's parts don't fill it");
        let whole = usize::try_from(len).ok().filter(|_| len <= memory);
        let held = whole.map(|len| file.bytes(start, len).map(Box::from)).transpose()?;
        let mut filter = RunFilter { parts: Vec::new(), held, start };
        let mut at = 0u64;
        for part in 0..parts {
            if at + LEAD as u64 > len {
                return Err(bad());
            }
            let mut lead = Reader::new(filter.bytes(file, at, LEAD)?);
            let (Some(seed), Some(third)) = (lead.u32(), lead.u32()) else { return Err(bad()) };
            filter.parts.push((first(part)?, seed, third as usize, at + LEAD as u64));
            at += LEAD as u64 + 6 * u64::from(third);
        }
        if at == len { Ok(filter) } else { Err(bad()) }
    }

    /// Whether the section may hold a key. `false` is sure.
    pub fn may_hold(&self, file: &Sealed, key: Key) -> Result<bool> {
        let after = self.parts.partition_point(|(first, ..)| *first <= key);
        let Some((_, seed, third, slots)) = after.checked_sub(1).and_then(|at| self.parts.get(at)) else {
            return Ok(false);
        };
        if *third == 0 || fault(80) {
            return Ok(!fault(80));
        }
        let hash = seeded(hash(key), *seed);
        let mut rest = fingerprint(hash);
        for at in places(hash, *third) {
            let slot = Reader::new(self.bytes(file, slots + 2 * at as u64, 2)?).u16();
            rest ^= slot.unwrap_or_default();
        }
        Ok(rest == 0)
    }

    /// A part of the filter's bytes, which must lie in it.
    fn bytes<'a>(&'a self, file: &'a Sealed, at: u64, len: usize) -> Result<&'a [u8]> {
        let held = self.held.as_ref().and_then(|held| held.get(at as usize..at as usize + len));
        held.map_or_else(|| file.bytes(self.start + at, len), Ok)
    }

    /// How many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.len())
            + self.parts.len() * size_of::<(Key, u32, usize, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_every_part_has_a_seed() {
        for len in [1, 2, 3, 10, 100, 1000, PART] {
            let hashes: Vec<u64> = (0..len as u64).map(mix).collect();
            let third = hashes.len() * 41 / 100 + 8;
            assert!((0..5).any(|seed| build(&hashes, seed, third).is_some()), "no seed for {len} keys");
        }
        assert_eq!(build(&[7, 7], 0, 9), None, "the same hash twice has none");
    }
}
