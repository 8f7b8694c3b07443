//! One file of the simulated disk. Owns its bytes twice, as the page cache shows them and as the disk holds them, and
//! what may become of the difference.
//!
//! Invariants: the disk's image changes only by a sync, a loss of power or a test's own hand. Bytes of an image behind
//! its length are zero or absent, so that a file that grows again shows zeros.

use std::collections::BTreeMap;

use super::loss::{Dice, Unsynced};
use crate::env::sync::Arc;

/// What a disk writes at once.
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

    /// Writes into the cache. The caller has checked that the end stays below [`MAX_LEN`].
    pub fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        if bytes.is_empty() {
            return;
        }
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
        self.cache.set(index, sector.clone());
        self.sectors.entry(index).or_default().push(sector);
    }

    /// Makes the file at least `len` bytes long.
    pub fn grow(&mut self, len: u64) {
        self.set_len(len.max(self.cache.len));
    }

    /// Sets the length. One that a failed sync gave up is to be written again, as the whole inode is.
    fn set_len(&mut self, len: u64) {
        if len != self.cache.len || self.len.is_given_up() {
            self.cache.len = len;
            self.len.push(len);
        }
    }

    /// Empties the file. Until the next sync the disk may show old bytes, zeros, or new ones, at any of the lengths.
    pub fn truncate(&mut self) {
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

    /// A sync that failed: the cache still shows the bytes, but forgets that it has to write them.
    pub fn fail_sync(&mut self) {
        self.sectors.values_mut().for_each(Unsynced::give_up);
        self.len.give_up();
    }

    /// A loss of power.
    pub fn lose(&mut self, dice: &mut Dice<'_>) {
        for (index, pending) in std::mem::take(&mut self.sectors) {
            let Some(new) = pending.survivor(dice) else { continue };
            let sector = match dice.tear(SECTOR) {
                Some(at) => torn(&new, &self.disk.get(index), at),
                None => new,
            };
            self.disk.set(index, sector);
        }
        let len = std::mem::take(&mut self.len).survivor(dice).unwrap_or(self.disk.len);
        self.disk.cut(len);
        self.cache = self.disk.clone();
    }

    /// Replaces the content, durably.
    pub fn replace(&mut self, bytes: &[u8]) {
        self.disk = FileImage::new(bytes);
        self.cache = self.disk.clone();
        self.sectors.clear();
        self.len = Unsynced::default();
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
    }
}

/// A sector whose first `at` bytes are new.
fn torn(new: &Sector, old: &Sector, at: usize) -> Sector {
    let mut sector = old.as_ref().map_or([0; SECTOR], |sector| **sector);
    let new = new.as_ref().map_or([0; SECTOR], |sector| **sector);
    sector[..at].copy_from_slice(&new[..at]);
    Some(Arc::new(sector))
}
