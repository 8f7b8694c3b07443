//! One log segment's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::frame::Binding;
use crate::codec::{Put, Reader, crc};
use crate::env::{Access, Env, File};
use crate::error::{Error, Result};
use crate::record;
use crate::sealed::StoreId;

/// The length of the header, and so the offset of the first frame.
pub const HEADER: u64 = 4096;
/// The length of the header's fields; zeros follow.
pub const FIELDS: usize = 72;
/// No segment is longer, so that an offset fits 32 bits.
const MAX_LEN: u64 = 1 << 32;
const MAGIC: &[u8; 8] = b"chanlog\0";
const KIND: u32 = 3;
const FORMAT: u32 = 1;

/// An open log segment.
pub struct LogFile {
    /// Names the file in errors.
    pub path: PathBuf,
    /// The number in the file's name. Segments are numbered without gaps.
    pub id: u64,
    /// What the frames' checksums are bound to.
    pub binding: Binding,
    /// The version of the last change before this segment.
    pub base_version: u64,
    /// Where the segment before ends; 0 if there was none.
    pub previous_end: u64,
    /// The allocated length.
    pub capacity: u64,
    file: Arc<dyn File>,
    map: Option<Bytes>,
}

impl LogFile {
    /// Makes segment `id`, `capacity` bytes long, with a durable header and name.
    pub fn create(
        env: &dyn Env,
        dir: &Path,
        store: StoreId,
        id: u64,
        versions: (u64, u64),
        capacity: u64,
    ) -> Result<LogFile> {
        let (base_version, previous_end) = versions;
        let path = super::path(dir, id);
        let temporary = path.with_extension("tmp");
        let mut salt = [0; 8];
        env.random(&mut salt).map_err(|e| Error::io("draw a salt for", &path, e))?;
        let binding = Binding { store, segment: id, salt: u64::from_le_bytes(salt) };
        let header = encode_header(&binding, base_version, previous_end, capacity);
        let write = |file: &dyn File| {
            file.allocate(capacity)?;
            file.write_at(&header, 0)?;
            file.sync()
        };
        let file = env.create(&temporary).map_err(|e| Error::io("create", &temporary, e))?;
        if let Err(error) = write(&*file) {
            // Gives the space back; an open would remove the file too.
            let _ = env.remove(&temporary);
            return Err(Error::io("allocate", &temporary, error));
        }
        let named = env.rename(&temporary, &path).and_then(|()| env.sync_dir(dir));
        // Whether the name stands is unknown now. A full disk is no exception: the caller must not go on with the
        // segment before, whose end this header states.
        named.map_err(|e| Error::Io { op: "name", path: path.clone(), source: Arc::new(e) })?;
        LogFile::with(path, id, binding, (base_version, previous_end), file)
    }

    /// Opens segment `id` and checks its header.
    pub fn open(env: &dyn Env, dir: &Path, store: StoreId, id: u64, access: Access) -> Result<LogFile> {
        let path = super::path(dir, id);
        let file = env.open(&path, access).map_err(|e| Error::io("open", &path, e))?;
        let mut header = [0; FIELDS];
        let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
        if len < HEADER {
            return Err(Error::corrupt(&path, 0, "shorter than its header"));
        }
        if len > MAX_LEN {
            return Err(Error::corrupt(&path, MAX_LEN, "longer than any segment"));
        }
        file.read_at(&mut header, 0).map_err(|e| Error::io("read", &path, e))?;
        let (binding, base_version, previous_end, capacity) = decode_header(&path, store, id, &header)?;
        // Commits may have gone with the bytes that are missing, and no frame before them can tell.
        if len < capacity {
            return Err(Error::corrupt(&path, len, format!("{len} bytes long, not {capacity}")));
        }
        LogFile::with(path, id, binding, (base_version, previous_end), file)
    }

    fn with(
        path: PathBuf,
        id: u64,
        binding: Binding,
        versions: (u64, u64),
        file: Arc<dyn File>,
    ) -> Result<LogFile> {
        let (base_version, previous_end) = versions;
        let capacity = file.len().map_err(|e| Error::io("measure", &path, e))?;
        let map = file.map().map_err(|e| Error::io("map", &path, e))?;
        Ok(LogFile { path, id, binding, base_version, previous_end, capacity, file, map })
    }

    /// Writes bytes.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes what was written durable. After a failure nothing is known, and it must not be tried again.
    pub fn sync(&self) -> Result<()> {
        // A full disk is told from here as any other failure: pages that could not be written back are lost.
        self.file.sync().map_err(|e| Error::Io { op: "sync", path: self.path.clone(), source: Arc::new(e) })
    }

    /// `len` bytes at `offset`, shared with the map where there is one.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.capacity);
        let end = end.ok_or_else(|| self.corrupt(offset, "reaches beyond the end"))?;
        if let Some(map) = &self.map {
            return Ok(map.slice(offset as usize..end as usize));
        }
        let mut bytes = vec![0; len];
        self.file.read_at(&mut bytes, offset).map_err(|e| Error::io("read", &self.path, e))?;
        Ok(bytes.into())
    }

    /// The whole file.
    pub fn read_all(&self) -> Result<Bytes> {
        self.read(0, self.capacity as usize)
    }

    /// The record at `offset`, which an index gave.
    pub fn record(&self, offset: u64) -> Result<Bytes> {
        let len = record::len(&self.read(offset, record::HEADER)?);
        self.read(offset, len.ok_or_else(|| self.corrupt(offset, "no record"))?)
    }

    /// An error that names this file.
    pub fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corrupt(&self.path, offset, what)
    }
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn encode_header(binding: &Binding, base_version: u64, previous_end: u64, capacity: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER as usize);
    header.put(MAGIC);
    header.put_u32(KIND);
    header.put_u32(FORMAT);
    header.put(&binding.store);
    header.put_u64(binding.segment);
    header.put_u64(binding.salt);
    header.put_u64(base_version);
    header.put_u32(previous_end as u32);
    header.put_u64(capacity);
    header.put_u32(crc(&[&header]));
    header.resize(HEADER as usize, 0);
    header
}

fn decode_header(
    path: &Path,
    store: StoreId,
    id: u64,
    header: &[u8; FIELDS],
) -> Result<(Binding, u64, u64, u64)> {
    let mut r = Reader::new(header);
    let mut decode =
        || Some((r.bytes(8)?, r.u32()?, r.u32()?, r.id()?, r.u64()?, r.u64()?, r.u64()?, r.u32()?, r.u64()?));
    let fields = decode().filter(|fields| fields.0 == MAGIC && fields.1 == KIND);
    let Some((_, _, format, file_store, segment, salt, base_version, previous_end, capacity)) = fields else {
        return Err(Error::corrupt(path, 0, "no log segment"));
    };
    if crc(&[&header[..FIELDS - 4]]).to_le_bytes() != header[FIELDS - 4..] {
        return Err(Error::corrupt(path, 0, "the header's checksum is wrong"));
    }
    if format > FORMAT {
        return Err(Error::Unsupported { file: path.into(), version: format });
    }
    if file_store != store || segment != id {
        return Err(Error::corrupt(path, 0, "another segment's header"));
    }
    Ok((Binding { store, segment, salt }, base_version, u64::from(previous_end), capacity))
}
