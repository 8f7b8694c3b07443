//! Writes a sealed file front to back.

use std::path::PathBuf;

use super::{FORMAT, HEADER, Kind, MAGIC, PAGE, StoreId, page_crc};
use crate::env::sync::Arc;
use crate::env::unless;
use crate::env::{Dir, File};
use crate::error::{Error, Result};
use crate::model::codec::{Put, crc};

/// How much is gathered before it is written, in bytes.
const BUFFER: usize = 64 * PAGE;

/// A sealed file in the making. Until [`SealedWriter::finish`] it is an orphan that the next open removes.
pub struct SealedWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    store: StoreId,
    kind: Kind,
    id: u64,
    /// Starts at a page's first byte, at file offset `flushed`.
    buffer: Vec<u8>,
    flushed: u64,
    pages: Vec<u8>,
}

impl SealedWriter {
    /// Makes the file and writes its header.
    pub fn create(dir: &dyn Dir, kind: Kind, store: StoreId, id: u64) -> Result<Self> {
        let name = kind.name(id);
        let path = dir.path().join(&name);
        let file = dir.create(&name).map_err(|e| Error::io("create", &path, e))?;
        let mut buffer = Vec::with_capacity(BUFFER + PAGE);
        buffer.put(MAGIC);
        buffer.put_u32(kind as u32);
        buffer.put_u32(FORMAT);
        buffer.put(&store);
        buffer.put_u64(id);
        buffer.resize(HEADER - 4, 0);
        buffer.put_u32(crc(&[&buffer]));
        Ok(SealedWriter { file, path, store, kind, id, buffer, flushed: 0, pages: Vec::new() })
    }

    /// The offset in the file of the next byte.
    pub fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Appends content.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = BUFFER.saturating_sub(self.buffer.len()).max(1);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= BUFFER {
                self.flush_pages()?;
            }
        }
        Ok(())
    }

    /// Writes the whole pages of the buffer and notes their checksums.
    fn flush_pages(&mut self) -> Result<()> {
        let whole = self.buffer.len() / PAGE * PAGE;
        self.note_pages(whole);
        self.write_out(whole)
    }

    fn note_pages(&mut self, len: usize) {
        let first = self.flushed / PAGE as u64;
        for (number, page) in (first..).zip(self.buffer[..len].chunks(PAGE)) {
            self.pages.put_u32(page_crc(&self.store, self.id, number, page));
        }
    }

    fn write_out(&mut self, len: usize) -> Result<()> {
        let done = self.file.write_at(&self.buffer[..len], self.flushed);
        done.map_err(|e| Error::io("write", &self.path, e))?;
        self.buffer.drain(..len);
        self.flushed += len as u64;
        Ok(())
    }

    /// Writes page checksums, footer and trailer, and syncs the file. Returns its length. The name becomes durable when the
    /// caller syncs the directory.
    pub fn finish(mut self, footer: &[u8]) -> Result<u64> {
        let content_end = self.position();
        self.note_pages(self.buffer.len());
        let pages = std::mem::take(&mut self.pages);
        self.buffer.put(&pages);
        let footer_start = self.position();
        let len = u32::try_from(footer.len()).map_err(|_| Error::invalid("a footer of more than 4 GiB"))?;
        self.buffer.put(footer);
        let trailer = self.buffer.len();
        self.buffer.put_u64(content_end);
        self.buffer.put_u64(footer_start);
        self.buffer.put_u32(len);
        self.buffer.put_u32(crc(&[&pages]));
        self.buffer.put_u32(crc(&[&self.store, footer]));
        self.buffer.put_u32(self.kind as u32);
        self.buffer.put_u32(FORMAT);
        self.buffer.put_u64(self.id);
        self.buffer.put_u64(0);
        self.buffer.put(MAGIC);
        self.buffer.put_u32(crc(&[&self.buffer[trailer..]]));
        self.write_out(self.buffer.len())?;
        unless(28, || self.file.sync().map_err(|e| Error::io("sync", &self.path, e)))?;
        Ok(self.flushed)
    }
}
