//! Checksums of the pages of an unsealed log segment, kept in memory: made while writing or replaying, looked at when a
//! complete page is first read. So damage is noticed here as it is in sealed files. Once the system failed to write back, it may
//! drop pages at any time: then each read looks at them anew, also at the page in the making.

use crate::env::sync::Mutex;
use crate::env::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::files::sealed::PAGE;

/// The checksums of one segment: 4 bytes and two bits for each 4 KiB.
pub struct Pages {
    sums: Box<[AtomicU32]>,
    /// One bit a page: its checksum is known.
    known: Box<[AtomicU64]>,
    /// One bit a page: it was read, and its checksum was right.
    checked: Box<[AtomicU64]>,
    /// The page in the making.
    open: Mutex<Open>,
}

struct Open {
    /// Where the next byte goes.
    end: u64,
    hasher: crc32fast::Hasher,
}

impl Pages {
    /// For a segment of `capacity` bytes, whose content begins at `start`, the start of a page.
    pub fn new(capacity: u64, start: u64) -> Pages {
        let pages = capacity.div_ceil(PAGE as u64);
        let bits = || (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Pages {
            sums: (0..pages).map(|_| AtomicU32::new(0)).collect(),
            known: bits(),
            checked: bits(),
            open: Mutex::new(Open { end: start, hasher: crc32fast::Hasher::new() }),
        }
    }

    /// Notes bytes at the content's end. Bytes elsewhere are ignored.
    pub fn append(&self, mut bytes: &[u8], offset: u64) {
        let mut open = self.open.lock();
        if offset != open.end {
            return;
        }
        while !bytes.is_empty() {
            let room = PAGE - (open.end % PAGE as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            open.hasher.update(now);
            open.end += now.len() as u64;
            bytes = later;
            if now.len() == room {
                let hasher = std::mem::take(&mut open.hasher);
                self.complete(open.end / PAGE as u64 - 1, hasher.finalize());
            }
        }
    }

    fn complete(&self, page: u64, sum: u32) {
        let (Some(place), Some(word)) = (self.sums.get(page as usize), self.known.get((page / 64) as usize))
        else {
            return;
        };
        place.store(sum, Ordering::Relaxed);
        word.fetch_or(1 << (page % 64), Ordering::Release);
    }

    /// The first page of a range of bytes that has to be checked and is not right. `right` looks at so many bytes of a page. With
    /// `anew` it does not count that a page was checked before.
    pub fn check<E>(
        &self,
        (offset, len): (u64, usize),
        anew: bool,
        mut right: impl FnMut(u64, usize, u32) -> Result<bool, E>,
    ) -> Result<Option<u64>, E> {
        let last = (offset + (len as u64).max(1) - 1) / PAGE as u64;
        for page in offset / PAGE as u64..=last {
            let (word, bit) = ((page / 64) as usize, 1u64 << (page % 64));
            let known = self.known.get(word).is_some_and(|known| known.load(Ordering::Acquire) & bit != 0);
            if !known {
                match anew.then(|| self.in_the_making(page)).flatten() {
                    Some((len, sum)) if !right(page, len, sum)? => return Ok(Some(page)),
                    _ => continue,
                }
            }
            if !anew && self.checked[word].load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            if !right(page, PAGE, self.sums[page as usize].load(Ordering::Relaxed))? {
                return Ok(Some(page));
            }
            self.checked[word].fetch_or(bit, Ordering::Relaxed);
        }
        Ok(None)
    }

    /// How many bytes there are of a page in the making, and their checksum.
    fn in_the_making(&self, page: u64) -> Option<(usize, u32)> {
        let open = self.open.lock();
        let len = (open.end % PAGE as u64) as usize;
        (page == open.end / PAGE as u64).then(|| (len, open.hasher.clone().finalize()))
    }
}
