//! Names of channels or of users, and their ids: one contiguous range of ids.
//!
//! ```text
//! heap      the names in byte order, and those of one name by id, each: len u8, id u32, the name's bytes
//! samples   8 B for every 16th name: its offset u64
//! offsets   8 B a name, by id: its offset u64
//! slots     8 B each, a power of two of them, at most 3/4 in use: the top 24 bits of the name's hash and its offset, 40
//!           bits; 0 = free
//! ```
//!
//! Offsets are of the file. A name's slot is the first free one from the one that the low bits of its hash name; it is
//! never further than `PROBES` away. Hashes are SipHash-1-3 under the store's key. A name that has several ids, as what had it
//! was deleted, has one slot, for the greatest of them. Invariants: pairs of name and id strictly ascend; no name is empty;
//! every id of the range stands in the heap once.

use std::hash::Hasher;
use std::ops::Bound;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use super::HashKey;
use super::output::Output;
use crate::error::{Error, Result};
use crate::files::sealed::Sealed;
use crate::model::codec::{Put, Reader};
use crate::model::ids::MAX_NAME;

/// The bytes of a heap entry before the name.
const LEAD: usize = 5;
/// How many names one sample stands for.
const SAMPLE: u32 = 16;
/// How many slots a look-up tries. A good table needs about 400 for the unluckiest of 10,000,000 names.
const PROBES: u64 = 4096;
/// The bits of a slot that hold an offset.
const OFFSET_BITS: u32 = 40;

/// The hash by which names are found.
pub fn hash(key: &HashKey, name: &[u8]) -> u64 {
    SipHasher13::new_with_key(key).hash(name)
}

/// The hash of some parts, one after another.
pub fn hash_parts(key: &HashKey, parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

/// How many slots there are for so many names.
fn slots_for(count: u32) -> u64 {
    if count == 0 { 0 } else { (u64::from(count) * 4 / 3 + 1).next_power_of_two() }
}

/// What a slot holds for a name.
fn slot_of(hash: u64, offset: u64) -> u64 {
    (hash >> OFFSET_BITS << OFFSET_BITS) | offset
}

/// Where names lie in their file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesPlace {
    heap: u64,
    heap_len: u64,
    /// The least id.
    pub first: u32,
    /// How many names, and so ids, there are.
    pub count: u32,
}

impl NamesPlace {
    /// Appends it to a footer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.heap_len);
        out.put_u32(self.first);
        out.put_u32(self.count);
    }

    /// Reads it from a footer, for names that begin at `start`.
    pub fn decode(r: &mut Reader<'_>, start: u64) -> Option<NamesPlace> {
        let place = NamesPlace { heap: start, heap_len: r.u64()?, first: r.u32()?, count: r.u32()? };
        place.first.checked_add(place.count)?;
        Some(place)
    }

    /// The offset just behind the names, unless that is beyond any file.
    pub fn end(&self) -> Option<u64> {
        let words = u64::from(self.samples()) + u64::from(self.count) + slots_for(self.count);
        self.heap.checked_add(self.heap_len)?.checked_add(8 * words)
    }

    fn samples(&self) -> u32 {
        self.count.div_ceil(SAMPLE)
    }

    fn heap_end(&self) -> u64 {
        self.heap + self.heap_len
    }

    fn sample_at(&self, number: u32) -> u64 {
        self.heap_end() + 8 * u64::from(number)
    }

    fn offset_at(&self, id: u32) -> u64 {
        self.sample_at(self.samples()) + 8 * u64::from(id - self.first)
    }

    fn slot_at(&self, number: u64) -> u64 {
        self.sample_at(self.samples()) + 8 * u64::from(self.count) + 8 * number
    }
}

/// Writes names, fed in byte order, and those of one name by id. It holds 19 to 30 bytes a name, whatever the names' length.
pub struct NamesWriter {
    key: HashKey,
    heap: u64,
    first: u32,
    pushed: u32,
    last: Vec<u8>,
    /// Where the last one stands, and its id.
    last_at: (u64, u32),
    samples: Vec<u64>,
    /// By id; 0 for those that are still to come.
    offsets: Vec<u64>,
    slots: Vec<u64>,
}

impl NamesWriter {
    /// Names for the `count` ids from `first` on.
    pub fn new(out: &Output<'_>, key: HashKey, first: u32, count: u32) -> Result<Self> {
        if first.checked_add(count).is_none() {
            return Err(Error::invalid("there are no ids left"));
        }
        Ok(NamesWriter {
            key,
            heap: out.position(),
            first,
            pushed: 0,
            last: Vec::new(),
            last_at: (0, 0),
            samples: Vec::with_capacity(count.div_ceil(SAMPLE) as usize),
            offsets: vec![0; count as usize],
            slots: vec![0; slots_for(count) as usize],
        })
    }

    /// Appends a name, which must be greater than the last one, or have a greater id.
    pub fn push(&mut self, out: &mut Output<'_>, name: &[u8], id: u32) -> Result<()> {
        if name.is_empty() || name.len() > MAX_NAME || (name, id) <= (&self.last[..], self.last_at.1) {
            return Err(Error::invalid("a name of a run is empty, too long, or there already"));
        }
        let offset = out.position();
        match id.checked_sub(self.first).and_then(|place| self.offsets.get_mut(place as usize)) {
            Some(place) if *place == 0 => *place = offset,
            _ => return Err(Error::invalid("the id of a name is out of range, or there already")),
        }
        let replaced = if name == &self.last[..] { self.last_at.0 } else { 0 };
        self.put_slot(hash(&self.key, name), offset, replaced)?;
        if self.pushed.is_multiple_of(SAMPLE) {
            self.samples.push(offset);
        }
        self.pushed += 1;
        self.last.clear();
        self.last.put(name);
        self.last_at = (offset, id);
        out.write(&[name.len() as u8])?;
        out.write(&id.to_le_bytes())?;
        out.write(name)
    }

    /// Fills the first free slot, or the one of an offset that is replaced, if that is not 0.
    fn put_slot(&mut self, hash: u64, offset: u64, replaced: u64) -> Result<()> {
        if offset >> OFFSET_BITS != 0 {
            return Err(Error::invalid("a run of more than a tebibyte"));
        }
        let mask = self.slots.len() as u64 - 1;
        let wanted = if replaced == 0 { 0 } else { slot_of(hash, replaced) };
        let mut places = (0..PROBES).map(|probe| (hash.wrapping_add(probe) & mask) as usize);
        let free = places.find(|&i| self.slots[i] == wanted);
        // With a key that nobody knows, this fails less often than memory does.
        let free = free.ok_or_else(|| Error::invalid("the hashes of names collide"))?;
        self.slots[free] = slot_of(hash, offset);
        Ok(())
    }

    /// Writes what stands behind the heap. All ids must have come.
    pub fn finish(self, out: &mut Output<'_>) -> Result<NamesPlace> {
        let count = self.offsets.len() as u32;
        if self.pushed != count {
            return Err(Error::invalid("an id has no name"));
        }
        let heap_len = out.position() - self.heap;
        out.write_u64s(&self.samples)?;
        out.write_u64s(&self.offsets)?;
        out.write_u64s(&self.slots)?;
        Ok(NamesPlace { heap: self.heap, heap_len, first: self.first, count })
    }
}

/// A name in the heap.
struct NameEntry<'a> {
    id: u32,
    name: &'a [u8],
}

/// Reads names.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    file: &'a Sealed,
    place: NamesPlace,
}

impl<'a> Names<'a> {
    /// The names at `place`, which must lie within the file's content.
    pub fn new(file: &'a Sealed, place: NamesPlace) -> Self {
        Names { file, place }
    }

    /// The least id.
    pub fn first(&self) -> u32 {
        self.place.first
    }

    /// How many names, and so ids, there are.
    pub fn count(&self) -> u32 {
        self.place.count
    }

    /// The greatest id of a name whose [`hash`] is known.
    pub fn find(&self, name: &[u8], hash: u64) -> Result<Option<u32>> {
        let slots = slots_for(self.place.count);
        for probe in 0..slots.min(PROBES) {
            let slot = self.word(self.place.slot_at(hash.wrapping_add(probe) & (slots - 1)))?;
            if slot == 0 {
                break;
            }
            if slot >> OFFSET_BITS == hash >> OFFSET_BITS {
                let entry = self.entry(slot & ((1 << OFFSET_BITS) - 1))?;
                if entry.name == name {
                    return Ok(Some(entry.id));
                }
            }
        }
        Ok(None)
    }

    /// The name of an id.
    pub fn get(&self, id: u32) -> Result<Option<Bytes>> {
        if id.checked_sub(self.place.first).is_none_or(|place| place >= self.place.count) {
            return Ok(None);
        }
        let offset = self.word(self.place.offset_at(id))?;
        let entry = self.entry(offset)?;
        if entry.id != id {
            return Err(self.file.corrupt(self.place.offset_at(id), "the offset is another name's"));
        }
        Ok(Some(self.file.whole().slice_ref(entry.name)))
    }

    /// The names in byte order, from a bound on.
    pub fn iter(&self, from: Bound<&[u8]>) -> Result<NamesCursor<'a>> {
        let mut cursor = NamesCursor { names: *self, next: self.place.heap, last: (&[], 0) };
        let (Bound::Included(name) | Bound::Excluded(name)) = from else { return Ok(cursor) };
        cursor.next = self.locate(name)?;
        while cursor.next < self.place.heap_end() {
            let entry = self.entry(cursor.next)?;
            if entry.name > name || (entry.name == name && matches!(from, Bound::Included(_))) {
                break;
            }
            cursor.step()?;
        }
        Ok(cursor)
    }

    /// The offset of the last sampled name that is less than `name`, or of the first name.
    fn locate(&self, name: &[u8]) -> Result<u64> {
        let (mut low, mut high) = (0, self.place.samples());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(self.word(self.place.sample_at(middle))?)?.name < name {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        if low == 0 { Ok(self.place.heap) } else { self.word(self.place.sample_at(low - 1)) }
    }

    /// Checks everything; the first fault ends it.
    pub fn verify(&self, key: &HashKey) -> Result<()> {
        let mut cursor = self.iter(Bound::Unbounded)?;
        let mut count = 0u32;
        loop {
            let offset = cursor.next;
            let Some(entry) = cursor.step()? else { break };
            let fault = |what| Err(self.file.corrupt(offset, what));
            if self.word(self.place.offset_at(entry.id))? != offset {
                return fault("another name has the same id");
            }
            // The greatest id of a name is found.
            if cursor.peek()?.is_none_or(|next| next.name != entry.name)
                && self.find(entry.name, hash(key, entry.name))? != Some(entry.id)
            {
                return fault("the name is not found by its hash");
            }
            if count.is_multiple_of(SAMPLE) {
                let sample = count / SAMPLE;
                if sample >= self.place.samples() || self.word(self.place.sample_at(sample))? != offset {
                    return fault("the name's sample is wrong");
                }
            }
            count += 1;
        }
        match count == self.place.count {
            true => Ok(()),
            false => {
                Err(self.file.corrupt(self.place.heap, format!("{count} names, not {}", self.place.count)))
            }
        }
    }

    fn word(&self, at: u64) -> Result<u64> {
        let word = Reader::new(self.file.bytes(at, 8)?).u64();
        word.ok_or_else(|| self.file.corrupt(at, "short word"))
    }

    fn entry(&self, offset: u64) -> Result<NameEntry<'a>> {
        let heap = self.place.heap..self.place.heap_end();
        let fault = || self.file.corrupt(offset, "no valid name");
        if !heap.contains(&offset) || heap.end - offset < LEAD as u64 {
            return Err(fault());
        }
        let mut r = Reader::new(self.file.bytes(offset, LEAD)?);
        let (len, id) = r.u8().zip(r.u32()).ok_or_else(fault)?;
        let known = id.checked_sub(self.place.first).is_some_and(|place| place < self.place.count);
        if !known || len == 0 || heap.end - offset - (LEAD as u64) < u64::from(len) {
            return Err(fault());
        }
        Ok(NameEntry { id, name: self.file.bytes(offset + LEAD as u64, usize::from(len))? })
    }
}

/// Walks over names in byte order, and those of one name by id. They strictly ascend, whatever the file holds.
pub struct NamesCursor<'a> {
    names: Names<'a>,
    next: u64,
    last: (&'a [u8], u32),
}

impl<'a> NamesCursor<'a> {
    /// The next name and its id.
    pub fn next(&mut self) -> Result<Option<(Bytes, u32)>> {
        let offset = self.next + LEAD as u64;
        let Some(entry) = self.step()? else { return Ok(None) };
        Ok(Some((self.names.file.slice(offset, entry.name.len())?, entry.id)))
    }

    fn step(&mut self) -> Result<Option<NameEntry<'a>>> {
        if self.next >= self.names.place.heap_end() {
            return Ok(None);
        }
        let offset = std::mem::replace(&mut self.next, u64::MAX);
        let entry = self.names.entry(offset)?;
        if (entry.name, entry.id) <= self.last && !self.last.0.is_empty() {
            return Err(self.names.file.corrupt(offset, "a name is out of order"));
        }
        self.next = offset + (LEAD + entry.name.len()) as u64;
        self.last = (entry.name, entry.id);
        Ok(Some(entry))
    }

    /// The next entry, which stays the next.
    fn peek(&self) -> Result<Option<NameEntry<'a>>> {
        match self.next < self.names.place.heap_end() {
            true => self.names.entry(self.next).map(Some),
            false => Ok(None),
        }
    }
}
