//! Sealed files: written once, front to back, and never changed. Message segments and table runs are such files.
//!
//! Layout, all integers little-endian:
//!
//! ```text
//! header   64 B   magic "chanlog\0", kind u32, format u32, store id 16 B, file id u64, zeros, crc u32 of the 60 before
//! content  any    what the kind puts there; pages of 4 KiB are counted from the file's first byte
//! pages    4 B a page of header and content: crc u32 of (store id, file id, page number, the page's bytes)
//! footer   any    what the kind needs in order to read its content
//! trailer  64 B   content end u64, footer start u64, footer len u32, crc u32 of the pages, crc u32 of the footer, kind
//!                 u32, format u32, file id u64, zeros, magic "chanlog\0", crc u32 of the 60 before
//! ```
//!
//! Invariants: a byte of content is handed out only after the checksum of its page was checked; every checksum is bound
//! to the store, the file and the place, so that no page can stand in for another. A file can be read by byte ranges from
//! its trailer, so that it may one day lie in an object store.

mod reader;
mod scrub;
mod writer;

pub use reader::Sealed;
pub use scrub::scrub;
pub use writer::SealedWriter;

use crate::model::codec::crc;

/// What all files of one store are bound to.
pub type StoreId = [u8; 16];

/// The page size of the checksums, in bytes.
pub const PAGE: usize = 4096;
/// The length of the header, and so the offset of the first byte of content.
pub const HEADER: usize = 64;
/// The length of the trailer.
pub const TRAILER: usize = 64;
/// The only format that this release writes and reads.
pub const FORMAT: u32 = 2;
const MAGIC: &[u8; 8] = b"chanlog\0";

/// Which kind of sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages, sorted by channel and seq.
    Segment = 1,
    /// Rows, members, heads and names.
    Run = 2,
}

impl Kind {
    /// What users call it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Segment => "segments",
            Kind::Run => "runs",
        }
    }

    /// The name of file `id` of this kind in a store's directory.
    pub fn name(self, id: u64) -> String {
        match self {
            Kind::Segment => format!("seg-{id:016x}"),
            Kind::Run => format!("run-{id:016x}"),
        }
    }
}

/// The checksum of page `number` of a file.
fn page_crc(store: &StoreId, file: u64, number: u64, page: &[u8]) -> u32 {
    crc(&[store, &file.to_le_bytes(), &number.to_le_bytes(), page])
}

#[cfg(test)]
mod tests;
