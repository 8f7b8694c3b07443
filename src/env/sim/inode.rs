//! One file of the simulated disk. Owns its bytes twice, as the page cache shows them and as the disk holds them, and
//! what may become of the difference.
//!
//! Invariants: the disk's image changes only by a sync, a loss of power or a test's own hand. Bytes of an image behind
//! its length are zero or absent, so that a file that grows again shows zeros. A map shows what the page cache shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;

use super::loss::{self, Dice, Unsynced};
use crate::env::map::Shared;
use crate::env::sync::Arc;

/// The smallest sector: bytes are kept and lost by as many at least.
pub const SECTOR: usize = 512;

/// The longest file, in bytes. It bounds the memory that a wild offset could ask for.
pub const MAX_LEN: u64 = 1 << 34;

/// A sector's bytes, shared by all versions and copies that have them. `None` is all zeros.
type Sector = Option<Arc<[u8; SECTOR]>>;

/// A file's content at one time.
#[derive(Clone, Debug, Default)]
struct FileImage {
    sectors: Vec<Sector>,
    len: u64,
}

impl FileImage {
    fn new(bytes: &[u8]) -> Self {
        let sector = |part: &[u8]| {
            let mut sector = [0; SECTOR];
            sector[..part.len()].copy_from_slice(part);
            Some(Arc::new(sector))
        };
        FileImage { sectors: bytes.chunks(SECTOR).map(sector).collect(), len: bytes.len() as u64 }
    }

    fn get(&self, index: usize) -> Sector {
        self.sectors.get(index).cloned().flatten()
    }

    fn set(&mut self, index: usize, sector: Sector) {
        if index >= self.sectors.len() {
            self.sectors.resize(index + 1, None);
        }
        self.sectors[index] = sector;
    }

    /// Sets the length, and clears what lies behind it.
    fn cut(&mut self, len: u64) {
        self.sectors.truncate(len.div_ceil(SECTOR as u64) as usize);
        let (last, tail) = ((len / SECTOR as u64) as usize, (len % SECTOR as u64) as usize);
        if let Some(Some(sector)) = self.sectors.get_mut(last)
            && sector[tail..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(sector)[tail..].fill(0);
        }
        self.len = len;
    }

    /// Copies bytes from `offset` on. The caller has checked the length.
    fn read(&self, mut out: &mut [u8], mut offset: u64) {
        while !out.is_empty() {
            let (index, start) = place(offset);
            let (now, later) = out.split_at_mut(out.len().min(SECTOR - start));
            match self.sectors.get(index) {
                Some(Some(sector)) => now.copy_from_slice(&sector[start..start + now.len()]),
                _ => now.fill(0),
            }
            offset += now.len() as u64;
            out = later;
        }
    }
}

/// Bytes that could not be written back, which the system tells once for each open file.
#[derive(Clone, Copy, Debug, Default)]
struct WriteBack {
    /// How often that happened.
    count: u64,
    kind: Option<io::ErrorKind>,
    /// Whether any open file was told of the last one.
    told: bool,
}

/// The sector of an offset, and the place in it.
fn place(offset: u64) -> (usize, usize) {
    ((offset / SECTOR as u64) as usize, (offset % SECTOR as u64) as usize)
}

/// A file, by whatever names it goes.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    cache: FileImage,
    disk: FileImage,
    sectors: BTreeMap<usize, Unsynced<Sector>>,
    len: Unsynced<u64>,
    /// The number of writes and changes of the length so far.
    writes: u64,
    /// Sectors that can't be read.
    bad: BTreeSet<usize>,
    /// Failures of writing back that are told once for each open file.
    failed: WriteBack,
    /// What maps of it share.
    shared: Option<Arc<Shared>>,
    /// Cloned by each open handle.
    open: Arc<()>,
}

impl Inode {
    /// The length that readers see.
    pub fn len(&self) -> u64 {
        self.cache.len
    }

    /// Fills `out` from `offset` on, or tells that the file ends before.
    #[must_use]
    pub fn read(&self, out: &mut [u8], offset: u64) -> bool {
        let end = offset.checked_add(out.len() as u64);
        let fits = out.is_empty() || end.is_some_and(|end| end <= self.cache.len);
        if fits {
            self.cache.read(out, offset);
        }
        fits
    }

    /// The whole content.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.cache.len as usize];
        self.cache.read(&mut bytes, 0);
        bytes
    }

    /// Whether a range of bytes can be read.
    pub fn is_readable(&self, offset: u64, len: u64) -> bool {
        self.bad.is_empty() || len == 0 || {
            let (first, last) = (place(offset).0, place(offset.saturating_add(len - 1)).0);
            self.bad.range(first..=last).next().is_none()
        }
    }

    /// Whether a range of bytes can be written: a sector that can't be read has to be written whole.
    pub fn is_writable(&self, offset: u64, len: u64) -> bool {
        let edge = |at: u64| at.is_multiple_of(SECTOR as u64) || self.is_readable(at, 1);
        edge(offset) && edge(offset.saturating_add(len))
    }

    /// Makes the sector of an offset unreadable until it is written as a whole.
    pub fn spoil(&mut self, offset: u64) {
        self.bad.insert(place(offset).0);
    }

    /// The whole content as memory, in which later writes show up.
    pub fn map(&mut self) -> io::Result<Bytes> {
        if self.shared.is_none() {
            let shared = Arc::new(Shared::new(self.cache.len)?);
            shared.put(&self.bytes(), 0);
            self.shared = Some(shared);
        }
        self.shared.as_ref().map_or(Ok(Bytes::new()), |shared| shared.map())
    }

    /// Shows a sector of the cache in maps.
    fn show(&self, index: usize) {
        if let Some(shared) = &self.shared {
            let sector = self.cache.get(index).map_or([0; SECTOR], |sector| *sector);
            shared.put(&sector, (index * SECTOR) as u64);
        }
    }

    /// The bytes that its sectors take, however long it is.
    pub fn allocated(&self) -> u64 {
        (self.cache.sectors.iter().flatten().count() * SECTOR) as u64
    }

    /// How much of a write finds room where only `room` bytes are left and sectors get theirs when they are written.
    pub fn fitting(&self, offset: u64, len: u64, mut room: u64) -> u64 {
        let mut done = 0;
        while done < len {
            let (index, start) = place(offset + done);
            if self.cache.get(index).is_none() {
                let Some(left) = room.checked_sub(SECTOR as u64) else { break };
                room = left;
            }
            done += (SECTOR - start) as u64;
        }
        done.min(len)
    }

    /// Writes into the cache. The caller has checked that the end stays below [`MAX_LEN`].
    pub fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.writes += 1;
        while !bytes.is_empty() {
            let (index, start) = place(offset);
            let (now, later) = bytes.split_at(bytes.len().min(SECTOR - start));
            let mut sector = self.cache.get(index).map_or([0; SECTOR], |sector| *sector);
            sector[start..start + now.len()].copy_from_slice(now);
            self.put(index, Some(Arc::new(sector)));
            offset += now.len() as u64;
            bytes = later;
        }
        self.grow(offset);
    }

    fn put(&mut self, index: usize, sector: Sector) {
        self.bad.remove(&index);
        self.cache.set(index, sector.clone());
        self.sectors.entry(index).or_default().push(self.writes, sector);
        self.show(index);
    }

    /// Makes the file at least `len` bytes long.
    pub fn grow(&mut self, len: u64) {
        self.writes += 1;
        self.set_len(len.max(self.cache.len));
    }

    /// Sets the length. One that a failed sync gave up is to be written again, as the whole inode is.
    fn set_len(&mut self, len: u64) {
        if len != self.cache.len || self.len.is_given_up() {
            self.cache.len = len;
            self.len.push(self.writes, len);
        }
    }

    /// Empties the file. Until the next sync the disk may show old bytes, zeros, or new ones, at any of the lengths.
    pub fn truncate(&mut self) {
        self.writes += 1;
        for index in 0..self.cache.sectors.len() {
            if self.cache.sectors[index].is_some() {
                self.put(index, None);
            }
        }
        self.set_len(0);
    }

    /// Makes everything durable that no failed sync gave up.
    pub fn sync(&mut self) {
        self.sectors.retain(|index, pending| {
            if let Some(sector) = pending.sync() {
                self.disk.set(*index, sector);
            }
            !pending.is_empty()
        });
        let len = self.len.sync().unwrap_or(self.disk.len);
        self.disk.cut(len);
    }

    /// Whether there is anything that a sync would write.
    pub fn is_dirty(&self) -> bool {
        self.len.is_dirty() || self.sectors.values().any(Unsynced::is_dirty)
    }

    /// Bytes that could not be written back: the cache still shows them, but forgets that it has to write them. With dice it
    /// drops them, and shows what the disk has, old or new by chance.
    pub fn fail_sync(&mut self, kind: io::ErrorKind, drop: Option<&mut Dice<'_>>) {
        self.failed = WriteBack { count: self.failed.count + 1, kind: Some(kind), told: false };
        self.sectors.values_mut().for_each(Unsynced::give_up);
        self.len.give_up();
        if let Some(dice) = drop {
            for index in self.settle(dice) {
                self.cache.set(index, self.disk.get(index));
                self.show(index);
            }
        }
    }

    /// How many of its sectors, of so many units each, and lengths are not durable.
    pub fn unsynced(&self, unit: usize) -> usize {
        let sectors: BTreeSet<usize> = self.sectors.keys().map(|index| index / unit).collect();
        sectors.len() + usize::from(!self.len.is_empty())
    }

    /// How many failures of writing back there were.
    pub fn failures(&self) -> u64 {
        self.failed.count
    }

    /// How many of them a file that is opened now need not be told of.
    pub fn known_failures(&self) -> u64 {
        self.failed.count - u64::from(self.failed.count > 0 && !self.failed.told)
    }

    /// A failure that an open file was not told of, which knows of so many.
    pub fn untold(&mut self, known: u64) -> Option<io::ErrorKind> {
        let kind = self.failed.kind.filter(|_| known < self.failed.count)?;
        self.failed.told = true;
        Some(kind)
    }

    /// Decides what the disk has of each unsynced sector; returns all of which that was in question.
    fn settle(&mut self, dice: &mut Dice<'_>) -> Vec<usize> {
        let mut pending = std::mem::take(&mut self.sectors);
        let changed = pending.keys().copied().collect();
        while let Some(first) = pending.keys().next().map(|index| index / dice.unit * dice.unit) {
            let later = pending.split_off(&(first + dice.unit));
            self.settle_sector(first, &std::mem::replace(&mut pending, later), dice);
        }
        changed
    }

    /// Decides about the parts of one sector, which begins at `first`.
    fn settle_sector(
        &mut self,
        first: usize,
        parts: &BTreeMap<usize, Unsynced<Sector>>,
        dice: &mut Dice<'_>,
    ) {
        let Some(write) = loss::survivor(parts.values(), dice) else { return };
        let tear = dice.tear(dice.unit * SECTOR);
        for index in first..first + dice.unit {
            let old = self.disk.get(index);
            let new = parts.get(&index).and_then(|part| part.at(write)).unwrap_or_else(|| old.clone());
            let start = (index - first) * SECTOR;
            let sector = match tear.map(|at| at.saturating_sub(start).min(SECTOR)) {
                Some(at) if at < SECTOR => torn(&new, &old, at, dice.garbage(SECTOR)),
                _ => new,
            };
            self.disk.set(index, sector);
        }
    }

    /// A loss of power.
    pub fn lose(&mut self, dice: &mut Dice<'_>) {
        self.settle(dice);
        let len = std::mem::take(&mut self.len).survivor(dice).unwrap_or(self.disk.len);
        self.disk.cut(len);
        self.cache = self.disk.clone();
        self.failed = WriteBack::default();
    }

    /// Replaces the content, durably.
    pub fn replace(&mut self, bytes: &[u8]) {
        self.disk = FileImage::new(bytes);
        self.cache = self.disk.clone();
        self.sectors.clear();
        self.len = Unsynced::default();
        self.bad.clear();
        (0..self.cache.sectors.len()).for_each(|index| self.show(index));
    }

    /// Flips bits of one byte below the length. Its sector becomes durable as it is then.
    pub fn corrupt(&mut self, offset: u64, xor: u8) {
        let (index, start) = place(offset);
        let mut sector = self.cache.get(index).map_or([0; SECTOR], |sector| *sector);
        sector[start] ^= xor;
        self.cache.set(index, Some(Arc::new(sector)));
        self.disk.set(index, self.cache.get(index));
        self.disk.cut(self.disk.len);
        self.sectors.remove(&index);
        self.show(index);
    }

    /// What a handle keeps for as long as it is open.
    pub fn hold(&self) -> Arc<()> {
        self.open.clone()
    }

    /// Whether any handle is open.
    pub fn is_open(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    /// Forgets handles, whose process has ended.
    pub fn release(&mut self) {
        self.open = Arc::default();
        self.shared = None;
    }
}

/// A sector whose first `at` bytes are new; what follows is old or garbage.
fn torn(new: &Sector, old: &Sector, at: usize, garbage: Option<Vec<u8>>) -> Sector {
    let mut sector = old.as_ref().map_or([0; SECTOR], |sector| **sector);
    if let Some(garbage) = garbage {
        sector.copy_from_slice(&garbage);
    }
    let new = new.as_ref().map_or([0; SECTOR], |sector| **sector);
    sector[..at].copy_from_slice(&new[..at]);
    Some(Arc::new(sector))
}
