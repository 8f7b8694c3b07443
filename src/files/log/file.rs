//! One log segment's file.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::frame::{self, Binding};
use super::header::{self, HEADER, Header};
use super::pages::Pages;
use crate::env::sync::{Arc, Mutex};
use crate::env::{Access, Dir, File};
use crate::env::{fault, unless};
use crate::error::{Error, Result};
use crate::files::disk::{Disk, Health};
use crate::files::record::{self, Record};
use crate::files::sealed::{PAGE, StoreId};

/// No segment is longer, so that an offset fits 32 bits.
const MAX_LEN: u64 = 1 << 32;

/// An open log segment.
pub struct LogFile {
    /// Names the file in errors.
    pub path: PathBuf,
    /// What the file says of itself.
    pub header: Header,
    /// What the frames' checksums are bound to.
    pub binding: Binding,
    file: Arc<dyn File>,
    map: Option<Bytes>,
    pages: Pages,
    health: Arc<Health>,
    /// The right to sync, until somebody takes it.
    right: Mutex<Option<SyncRight>>,
}

/// The right to sync a log segment. There is one for each, so that of two syncs none can take the error that the system
/// tells only once away from the other.
pub struct SyncRight(());

/// The proof that all that was written to a segment before is durable.
#[must_use]
pub struct Synced(());

impl LogFile {
    /// Makes a segment as `header` says, with a durable header and name.
    ///
    /// # Errors
    /// Until the file gets its name nothing has changed. A failure from there on poisons the store: whether the name stands
    /// is unknown, and the segment before must not go on, as this header states where it ends.
    pub fn create(disk: &Disk, store: StoreId, header: Header) -> Result<LogFile> {
        let name = super::name(header.segment);
        let temporary = format!("{name}.tmp");
        let path = disk.path().join(&name);
        let io = |op| {
            let path = disk.path().join(&temporary);
            move |e| Error::io(op, &path, e)
        };
        let file = disk.create(&temporary).map_err(io("create"))?;
        let written = file.allocate(header.capacity).and_then(|()| {
            file.write_at(&header::encode(&store, &header), 0)?;
            unless(75, || file.sync())
        });
        if let Err(error) = written {
            // Gives the space back; an open would remove the file too.
            let _ = disk.remove(&temporary);
            return Err(io("allocate")(error));
        }
        let log = LogFile::with(disk, path, store, header, file)?;
        if let Err(error) = disk.rename(&temporary, &name).and_then(|()| unless(25, || disk.sync())) {
            let cause = Error::Io { op: "name", path: log.path.clone(), source: Arc::new(error) };
            return Err(disk.health().poison(cause));
        }
        Ok(log)
    }

    /// Opens segment `id` and checks its header.
    pub fn open(disk: &Disk, store: StoreId, id: u64, access: Access) -> Result<LogFile> {
        let name = super::name(id);
        let path = disk.path().join(&name);
        let file = disk.open(&name, access).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the log segment is missing"),
            _ => Error::io("open", &path, e),
        })?;
        let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
        if len < HEADER {
            return Err(Error::corrupt(&path, 0, "shorter than its header"));
        }
        if len > MAX_LEN {
            return Err(Error::corrupt(&path, MAX_LEN, "longer than any segment"));
        }
        let mut bytes = [0; header::FIELDS];
        file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
        let header = header::decode(&path, store, id, &bytes)?;
        if header.capacity < HEADER {
            return Err(Error::corrupt(&path, 0, "a length within the header"));
        }
        // Commits may have gone with the bytes that are missing, and no frame before them can tell.
        if len < header.capacity && !fault(37) {
            let what = format!("{len} bytes long, not {}", header.capacity);
            return Err(Error::corrupt(&path, len, what));
        }
        LogFile::with(disk, path, store, header, file)
    }

    fn with(
        disk: &Disk,
        path: PathBuf,
        store: StoreId,
        header: Header,
        file: Arc<dyn File>,
    ) -> Result<LogFile> {
        let map = file.map().map_err(|e| Error::io("map", &path, e))?;
        let binding = Binding { store, segment: header.segment, salt: header.salt };
        let pages = Pages::new(header.capacity, HEADER);
        let right = Mutex::new(Some(SyncRight(())));
        let health = disk.health().clone();
        Ok(LogFile { path, header, binding, file, map, pages, health, right })
    }

    /// Takes the right to sync this segment; `None` if somebody has it.
    pub fn take_right(&self) -> Option<SyncRight> {
        self.right.lock().take()
    }

    /// Gives the right back.
    pub fn give_right(&self, right: SyncRight) {
        *self.right.lock() = Some(right);
    }

    /// What stands for a segment that can't be opened, where the rest of the store is to be read.
    pub fn absent(disk: &Disk, store: StoreId) -> LogFile {
        let header = Header {
            segment: 0,
            salt: 0,
            session: 0,
            buffered: false,
            base_version: 0,
            channels: 0,
            users: 0,
            previous_end: 0,
            capacity: 0,
        };
        LogFile {
            path: disk.path().to_path_buf(),
            binding: Binding { store, segment: 0, salt: 0 },
            header,
            file: Arc::new(Absent),
            map: None,
            pages: Pages::new(0, HEADER),
            health: disk.health().clone(),
            right: Mutex::new(None),
        }
    }

    /// Appends bytes at the end of what was written. Any failure but a full disk poisons the store.
    pub fn append(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write(bytes, offset)?;
        self.pages.append(bytes, offset);
        Ok(())
    }

    /// Writes bytes that are no part of the content, such as zeros over what a failed write left.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match self.file.write_at(bytes, offset).map_err(|e| Error::io("write", &self.path, e)) {
            Ok(()) => Ok(()),
            Err(full @ Error::OutOfSpace { .. }) => Err(full),
            Err(error) => Err(if fault(42) { error } else { self.health.poison(error) }),
        }
    }

    /// Writes the frames from `offset` to `end` again, if they can still be read whole.
    pub fn write_again(&self, offset: u64, end: u64) -> Result<()> {
        let bytes = self.read_all()?;
        let mut at = offset;
        while at < end {
            let frame = frame::read(&bytes, at, &self.binding);
            at = frame.ok_or_else(|| self.corrupt(at, "what was written here is gone"))?.end;
        }
        // A copy, as a map would change under the write.
        let frames = bytes[offset as usize..end as usize].to_vec();
        self.write(&frames, offset)
    }

    /// Makes what was written durable. A failure poisons the store: it is never tried again, and what was written is
    /// unknown from then on.
    pub fn sync(&self, _right: &SyncRight) -> Result<Synced> {
        match unless(24, || self.file.sync()) {
            Ok(()) => Ok(Synced(())),
            // A full disk is told from here as any other failure: pages that could not be written back are lost.
            Err(error) => {
                let cause = Error::Io { op: "sync", path: self.path.clone(), source: Arc::new(error) };
                Err(if fault(43) { cause } else { self.health.poison(cause) })
            }
        }
    }

    /// Notes bytes that were found at the end of the content so far, so that later reads are checked against them.
    pub fn note(&self, bytes: &[u8], offset: u64) {
        self.pages.append(bytes, offset);
    }

    /// `len` bytes at `offset`, unchecked, shared with the map where there is one.
    pub fn raw(&self, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.header.capacity);
        let end = end.ok_or_else(|| self.corrupt(offset, "reaches beyond the end"))?;
        if let Some(map) = &self.map {
            return Ok(map.slice(offset as usize..end as usize));
        }
        let mut bytes = vec![0; len];
        self.file.read_at(&mut bytes, offset).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(bytes.into())
    }

    /// `len` bytes at `offset`. Complete pages are checked when they are first touched.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        let bytes = self.raw(offset, len)?;
        self.check(offset, len)?;
        Ok(bytes)
    }

    /// Checks the complete pages of a range that were not read before; all of them once something could not be written back.
    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let failed = self.health.check().is_err() && !fault(76);
        let wrong = self.pages.check((offset, len), failed, |page, len, sum| {
            let page = self.raw(page * PAGE as u64, len)?;
            Ok::<_, Error>(crc32fast::hash(&page) == sum || fault(39))
        })?;
        match wrong {
            Some(page) => Err(self.corrupt(page * PAGE as u64, "the page's checksum is wrong")),
            None => Ok(()),
        }
    }

    /// The whole file, unchecked.
    pub fn read_all(&self) -> Result<Bytes> {
        self.raw(0, self.header.capacity as usize)
    }

    /// Shows the record at `offset`, which an index gave, and bytes of which it borrows a part.
    pub fn record<R>(&self, offset: u64, see: impl FnOnce(&Bytes, &Record<'_>) -> Result<R>) -> Result<R> {
        let none = || self.corrupt(offset, "a record does not decode");
        if let Some(map) = &self.map {
            let rest = map.get(offset as usize..self.header.capacity as usize).ok_or_else(none)?;
            let encoded = record::len(rest).and_then(|len| rest.get(..len)).ok_or_else(none)?;
            self.check(offset, encoded.len())?;
            return see(map, &Record::decode(encoded).ok_or_else(none)?);
        }
        let lead = self.header.capacity.saturating_sub(offset).min(record::LEAD as u64);
        let len = record::len(&self.raw(offset, lead as usize)?);
        let bytes = self.read(offset, len.ok_or_else(none)?)?;
        see(&bytes, &Record::decode(&bytes).ok_or_else(none)?)
    }

    /// An error that names this file.
    pub fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corrupt(&self.path, offset, what)
    }
}

/// A file that can't be opened.
struct Absent;

impl File for Absent {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn map(&self) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile").field("path", &self.path).finish_non_exhaustive()
    }
}
