//! What a log segment says of itself, durable before its first frame.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::sealed::StoreId;
use crate::model::codec::{Put, Reader, crc};

/// The length of the header, and so the offset of the first frame.
pub const HEADER: u64 = 4096;
/// The length of the header's fields; zeros follow.
pub const FIELDS: usize = 96;
const MAGIC: &[u8; 8] = b"chanlog\0";
const KIND: u32 = 3;
const FORMAT: u32 = 2;
/// The flag of a segment whose commits may be acknowledged before they are durable.
const BUFFERED: u32 = 1;

/// The header of a log segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number in the file's name. Segments are numbered without gaps.
    pub segment: u64,
    /// Random and never shown, so that no payload can pass for a frame.
    pub salt: u64,
    /// The session that writes this segment: a random number. A segment has one session only.
    pub session: u64,
    /// Whether commits may be acknowledged before they are durable.
    pub buffered: bool,
    /// The version of the last change before this segment.
    pub base_version: u64,
    /// How many channels were named before this segment.
    pub channels: u32,
    /// How many users were named before this segment.
    pub users: u32,
    /// Where the segment before ends; 0 if there was none.
    pub previous_end: u64,
    /// The file's length; a shorter file is damaged.
    pub capacity: u64,
}

/// The bytes of a header.
pub fn encode(store: &StoreId, header: &Header) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER as usize);
    out.put(MAGIC);
    out.put_u32(KIND);
    out.put_u32(FORMAT);
    out.put(store);
    out.put_u64(header.segment);
    out.put_u64(header.salt);
    out.put_u64(header.session);
    out.put_u32(u32::from(header.buffered) * BUFFERED);
    out.put_u32(header.previous_end as u32);
    out.put_u64(header.base_version);
    out.put_u32(header.channels);
    out.put_u32(header.users);
    out.put_u64(header.capacity);
    out.resize(FIELDS - 4, 0);
    let crc = crc(&[&out]);
    out.put_u32(crc);
    out.resize(HEADER as usize, 0);
    out
}

/// Reads and checks the header of segment `id`; `path` names it in errors.
pub fn decode(path: &Path, store: StoreId, id: u64, bytes: &[u8; FIELDS]) -> Result<Header> {
    let fault = |what: &str| Err(Error::corrupt(path, 0, what));
    let mut r = Reader::new(bytes);
    if r.bytes(8) != Some(MAGIC) || r.u32() != Some(KIND) {
        return fault("no log segment");
    }
    let format = r.u32().unwrap_or(0);
    // Format 1 had its checksum elsewhere.
    if format < FORMAT {
        return Err(Error::Unsupported { file: path.into(), version: format });
    }
    if !crate::env::fault(78) && crc(&[&bytes[..FIELDS - 4]]).to_le_bytes() != bytes[FIELDS - 4..] {
        return fault("the header's checksum is wrong");
    }
    if format > FORMAT {
        return Err(Error::Unsupported { file: path.into(), version: format });
    }
    match fields(&mut r) {
        Some((file_store, header)) if file_store == store && header.segment == id => Ok(header),
        _ => fault("another segment's header"),
    }
}

fn fields(r: &mut Reader<'_>) -> Option<(StoreId, Header)> {
    let store = r.id()?;
    let (segment, salt, session) = (r.u64()?, r.u64()?, r.u64()?);
    let flags = r.u32()?;
    let previous_end = u64::from(r.u32()?);
    let base_version = r.u64()?;
    let (channels, users) = (r.u32()?, r.u32()?);
    let capacity = r.u64()?;
    let buffered = flags & BUFFERED != 0;
    let header =
        Header { segment, salt, session, buffered, base_version, channels, users, previous_end, capacity };
    Some((store, header))
}
