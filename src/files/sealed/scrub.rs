//! Reads a sealed file again, from front to back, and checks everything that has a checksum.
//!
//! By ordinary reads, not through a map: a sector that can't be read is an error then, and ends no process. What the content
//! means is not looked at, as every byte of it is under a checksum.

use std::io;
use std::path::Path;

use super::reader::{Trailer, check_header};
use super::{HEADER, Kind, PAGE, StoreId, TRAILER, page_crc};
use crate::env::{Access, Dir, File};
use crate::error::{Error, Result};
use crate::model::codec::crc;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * PAGE;

/// A sealed file that is read again.
struct Scrub<'a> {
    path: &'a Path,
    file: &'a dyn File,
    /// Called with the bytes read since its last call. An error from it ends the work.
    pace: &'a mut dyn FnMut(u64) -> Result<()>,
}

/// Reads file `id`, of the length that the manifest says, and hands each fault to `report`. `pace` is called with the bytes
/// read since its last call; an error from it ends the work.
pub fn scrub(
    dir: &dyn Dir,
    (kind, id, len): (Kind, u64, u64),
    store: &StoreId,
    pace: &mut dyn FnMut(u64) -> Result<()>,
    report: &mut dyn FnMut(Error),
) -> Result<()> {
    let name = kind.name(id);
    let path = dir.path().join(&name);
    let file = match dir.open(&name, Access::Read).and_then(|file| Ok((file.len()?, file))) {
        Ok((actual, file)) if actual == len && len >= (HEADER + TRAILER) as u64 => file,
        Ok((actual, _)) => {
            report(Error::corrupt(&path, actual.min(len), format!("{actual} bytes long, not {len}")));
            return Ok(());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            report(Error::corrupt(&path, 0, "the file is missing"));
            return Ok(());
        }
        Err(e) => {
            report(Error::io("open", &path, e));
            return Ok(());
        }
    };
    let mut scrub = Scrub { path: &path, file: &*file, pace };
    match scrub.outside(kind, id, store, len)? {
        Ok((content_end, table)) => scrub.pages((store, id), content_end, &table, report),
        Err(fault) => {
            report(fault);
            Ok(())
        }
    }
}

impl Scrub<'_> {
    fn read(&mut self, offset: u64, len: u64) -> Result<Result<Vec<u8>>> {
        (self.pace)(len)?;
        // The file is at least that long.
        let mut bytes = vec![0; len as usize];
        let read = self.file.read_at(&mut bytes, offset);
        Ok(read.map(|()| bytes).map_err(|e| Error::io("read", self.path, e)))
    }

    /// Checks all but the content. The inner result has where the content ends, and the checksums of its pages.
    fn outside(&mut self, kind: Kind, id: u64, store: &StoreId, len: u64) -> Result<Result<(u64, Vec<u8>)>> {
        let start = len - TRAILER as u64;
        let (header, trailer) = (self.read(0, HEADER as u64)?, self.read(start, TRAILER as u64)?);
        let trailer = header
            .and_then(|header| check_header(self.path, kind, *store, id, &header))
            .and_then(|()| Trailer::decode(self.path, kind, id, &trailer?, start));
        let trailer =
            match trailer.and_then(|trailer| trailer.check_places(self.path, start).map(|()| trailer)) {
                Ok(trailer) => trailer,
                Err(fault) => return Ok(Err(fault)),
            };
        let (end, footer) = (trailer.content_end, trailer.footer_start);
        let (table, footer) = (self.read(end, footer - end)?, self.read(footer, start - footer)?);
        let good = |bytes: Result<Vec<u8>>, expected: u32, bound: &[u8], at: u64| {
            let bytes = bytes?;
            match crc(&[bound, &bytes]) == expected {
                true => Ok(bytes),
                false => Err(Error::corrupt(self.path, at, "a checksum behind the content is wrong")),
            }
        };
        let footer = good(footer, trailer.footer_crc, store, trailer.footer_start);
        Ok(footer.and_then(|_| good(table, trailer.pages_crc, &[], end)).map(|table| (end, table)))
    }

    fn pages(
        &mut self,
        (store, id): (&StoreId, u64),
        content_end: u64,
        table: &[u8],
        report: &mut dyn FnMut(Error),
    ) -> Result<()> {
        let mut expected = table.chunks_exact(4);
        for start in (0..content_end).step_by(CHUNK) {
            let content = self.read(start, (content_end - start).min(CHUNK as u64))?;
            let content = match content {
                Ok(content) => content,
                Err(fault) => {
                    report(fault);
                    expected.by_ref().take(CHUNK / PAGE).for_each(drop);
                    continue;
                }
            };
            for (number, page) in (start / PAGE as u64..).zip(content.chunks(PAGE)) {
                let good = expected.next() == Some(&page_crc(store, id, number, page).to_le_bytes()[..]);
                if !good {
                    let offset = number * PAGE as u64;
                    report(Error::corrupt(self.path, offset, "the page's checksum is wrong"));
                }
            }
        }
        Ok(())
    }
}
