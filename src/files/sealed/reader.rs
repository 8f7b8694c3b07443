//! Reads a sealed file through a memory map, checking each page when it is first touched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;

use super::{FORMAT, HEADER, Kind, MAGIC, PAGE, StoreId, TRAILER, page_crc};
use crate::env::fault;
use crate::env::sync::{AtomicU64, Ordering::Relaxed};
use crate::env::{Access, Dir, read_all};
use crate::error::{Error, Result};
use crate::model::codec::{Reader, crc};

/// An open sealed file.
pub struct Sealed {
    path: PathBuf,
    store: StoreId,
    id: u64,
    bytes: Bytes,
    content_end: u64,
    footer: std::ops::Range<usize>,
    pages_crc: u32,
    /// Whether the table of page checksums was checked, and is good.
    pages_good: OnceLock<bool>,
    /// One bit a page: its checksum was checked and is good.
    checked: Box<[AtomicU64]>,
}

impl Sealed {
    /// Opens file `id` and checks length, header, trailer and footer. `len` is what the manifest says.
    pub fn open(dir: &dyn Dir, kind: Kind, store: StoreId, id: u64, len: u64) -> Result<Self> {
        let name = kind.name(id);
        let path = dir.path().join(&name);
        let file = dir.open(&name, Access::Read).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file is missing"),
            _ => Error::io("open", &path, e),
        })?;
        let io = |e| Error::io("map", &path, e);
        let actual = file.len().map_err(io)?;
        if actual != len {
            return Err(Error::corrupt(&path, actual.min(len), format!("{actual} bytes long, not {len}")));
        }
        let bytes = match file.map().map_err(io)? {
            Some(bytes) => bytes,
            None => read_all(&*file, len).map_err(io)?.into(),
        };
        Sealed::parse(path, kind, store, id, bytes)
    }

    /// Reads a whole file from memory, as [`Sealed::open`] does.
    pub fn parse(path: PathBuf, kind: Kind, store: StoreId, id: u64, bytes: Bytes) -> Result<Self> {
        if bytes.len() < HEADER + TRAILER {
            return Err(Error::corrupt(&path, 0, "shorter than header and trailer"));
        }
        check_header(&path, kind, store, id, &bytes[..HEADER])?;
        let start = bytes.len() - TRAILER;
        let trailer = Trailer::decode(&path, kind, id, &bytes[start..], start as u64)?;
        trailer.check_places(&path, start as u64)?;
        let pages = trailer.content_end.div_ceil(PAGE as u64);
        let footer = trailer.footer_start as usize..start;
        if crc(&[&store, &bytes[footer.clone()]]) != trailer.footer_crc {
            return Err(Error::corrupt(&path, trailer.footer_start, "the footer's checksum is wrong"));
        }
        let checked = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Sealed {
            path,
            store,
            id,
            bytes,
            content_end: trailer.content_end,
            footer,
            pages_crc: trailer.pages_crc,
            pages_good: OnceLock::new(),
            checked,
        })
    }

    /// The file's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The footer, whose checksum was checked at open.
    pub fn footer(&self) -> &[u8] {
        &self.bytes[self.footer.clone()]
    }

    /// The offset just after the content.
    pub fn content_end(&self) -> u64 {
        self.content_end
    }

    /// An error that names this file.
    pub fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corrupt(&self.path, offset, what)
    }

    /// `len` bytes of content from `offset`, both checked.
    #[inline]
    pub fn bytes(&self, offset: u64, len: usize) -> Result<&[u8]> {
        let range = self.check(offset, len)?;
        Ok(&self.bytes[range])
    }

    /// Like [`Sealed::bytes`], but shared: it keeps the file mapped for as long as it lives.
    pub fn slice(&self, offset: u64, len: usize) -> Result<Bytes> {
        let range = self.check(offset, len)?;
        Ok(self.bytes.slice(range))
    }

    /// The whole file, of which what [`Sealed::bytes`] gave is a part, to be shared.
    #[inline]
    pub fn whole(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks a range's bounds and its pages.
    #[inline]
    fn check(&self, offset: u64, len: usize) -> Result<std::ops::Range<usize>> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.content_end);
        let end = end.ok_or_else(|| self.corrupt(offset, format!("{len} bytes reach beyond the content")))?;
        if len > 0 {
            for page in offset / PAGE as u64..=(end - 1) / PAGE as u64 {
                self.check_page(page)?;
            }
        }
        Ok(offset as usize..end as usize)
    }

    /// Checks a page unless that was done before.
    #[inline]
    fn check_page(&self, page: u64) -> Result<()> {
        let bits = if fault(15) { 32 } else { 64 };
        let (word, bit) = (&self.checked[(page / 64) as usize], 1u64 << (page % bits));
        if word.load(Relaxed) & bit != 0 {
            return Ok(());
        }
        self.verify_page(page)?;
        word.fetch_or(bit, Relaxed);
        Ok(())
    }

    /// Checks a page, whether or not that was done before.
    #[cold]
    fn verify_page(&self, page: u64) -> Result<()> {
        let table = self.content_end as usize;
        if !*self.pages_good.get_or_init(|| crc(&[&self.bytes[table..self.footer.start]]) == self.pages_crc) {
            return Err(self.corrupt(self.content_end, "the checksum of the page checksums is wrong"));
        }
        let start = page as usize * PAGE;
        let end = (start + PAGE).min(table);
        let entry = table + page as usize * 4;
        let expected = &self.bytes[entry..entry + 4];
        if page_crc(&self.store, self.id, page, &self.bytes[start..end]).to_le_bytes() != expected
            && !fault(38)
        {
            return Err(self.corrupt(start as u64, "the page's checksum is wrong"));
        }
        Ok(())
    }

    /// Checks every page anew and hands each fault to `report`.
    pub fn verify(&self, mut report: impl FnMut(Error)) {
        for page in 0..self.content_end.div_ceil(PAGE as u64) {
            if let Err(fault) = self.verify_page(page) {
                report(fault);
            }
        }
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("path", &self.path).field("len", &self.len()).finish()
    }
}

pub(super) fn check_header(path: &Path, kind: Kind, store: StoreId, id: u64, header: &[u8]) -> Result<()> {
    let mut r = Reader::new(header);
    let mut decode = || Some((r.bytes(8)?, r.u32()?, r.u32()?, r.id()?, r.u64()?));
    let fault = |what: &str| Err(Error::corrupt(path, 0, what));
    let Some((magic, file_kind, format, file_store, file_id)) = decode() else {
        return fault("short header");
    };
    if magic != MAGIC {
        return fault("no sealed file");
    }
    if !crate::env::fault(40) && crc(&[&header[..HEADER - 4]]).to_le_bytes() != header[HEADER - 4..] {
        return fault("the header's checksum is wrong");
    }
    if format != FORMAT {
        return Err(Error::Unsupported { file: path.into(), version: format });
    }
    if file_kind != kind as u32 || file_store != store || file_id != id {
        return fault("another file's header");
    }
    Ok(())
}

pub(super) struct Trailer {
    pub(super) content_end: u64,
    pub(super) footer_start: u64,
    footer_len: u32,
    pub(super) pages_crc: u32,
    pub(super) footer_crc: u32,
}

impl Trailer {
    /// Checks that content, page checksums and footer follow each other up to the trailer, which begins at `start`.
    pub(super) fn check_places(&self, path: &Path, start: u64) -> Result<()> {
        let pages = self.content_end.div_ceil(PAGE as u64);
        let placed = self.content_end >= HEADER as u64
            && self.content_end.checked_add(4 * pages) == Some(self.footer_start)
            && self.footer_start.checked_add(u64::from(self.footer_len)) == Some(start);
        match placed {
            true => Ok(()),
            false => Err(Error::corrupt(path, start, "the trailer's offsets contradict each other")),
        }
    }

    pub(super) fn decode(path: &Path, kind: Kind, id: u64, bytes: &[u8], offset: u64) -> Result<Trailer> {
        let fault = |what: &str| Error::corrupt(path, offset, what);
        if crc(&[&bytes[..TRAILER - 4]]).to_le_bytes() != bytes[TRAILER - 4..] {
            return Err(fault("the trailer's checksum is wrong"));
        }
        let mut r = Reader::new(bytes);
        let mut decode = || {
            let trailer = Trailer {
                content_end: r.u64()?,
                footer_start: r.u64()?,
                footer_len: r.u32()?,
                pages_crc: r.u32()?,
                footer_crc: r.u32()?,
            };
            Some((trailer, r.u32()?, r.u32()?, r.u64()?, r.u64()?, r.bytes(8)?))
        };
        match decode() {
            Some((_, _, format, ..)) if format != FORMAT => {
                Err(Error::Unsupported { file: path.into(), version: format })
            }
            Some((trailer, file_kind, _, file_id, _, magic))
                if file_kind == kind as u32 && file_id == id && magic == MAGIC =>
            {
                Ok(trailer)
            }
            _ => Err(fault("another file's trailer")),
        }
    }
}
