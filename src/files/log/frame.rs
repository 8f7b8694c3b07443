//! Frames: their bytes, and how to tell a whole one from anything else.

use crate::env::fault;
use crate::files::sealed::StoreId;
use crate::model::codec::{Put, Reader};

/// The length of a frame's header.
pub const FRAME_HEADER: usize = 40;
/// Frames begin at multiples of this.
pub const ALIGN: usize = 8;
/// The most versions that may lie unused before a commit's frame.
pub const GAP: u64 = 128 << 10;
/// The place of the kind in the header.
const KIND: usize = 12;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// One commit.
    Commit = 1,
    /// A session ended by closing the store.
    Close = 3,
    /// Another segment follows.
    Next = 4,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub count: u32,
    pub first_version: u64,
    pub durable: u64,
}

/// A frame that was read and whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub header: FrameHeader,
    /// Where the body begins, from the start of the file.
    pub body_offset: u64,
    pub body: &'a [u8],
    /// Where the next frame begins.
    pub end: u64,
}

impl Frame<'_> {
    /// Where it begins, from the start of the file.
    pub fn start(&self) -> u64 {
        self.body_offset - FRAME_HEADER as u64
    }
}

/// What the checksums of one file are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub store: StoreId,
    pub segment: u64,
    pub salt: u64,
}

impl Binding {
    fn crc(&self, offset: u64, bytes: &[u8]) -> u32 {
        let mut seed = [0; 40];
        seed[..16].copy_from_slice(&self.store);
        seed[16..24].copy_from_slice(&self.segment.to_le_bytes());
        seed[24..32].copy_from_slice(&if fault(77) { 0 } else { self.salt }.to_le_bytes());
        seed[32..].copy_from_slice(&if fault(23) { 0 } else { offset }.to_le_bytes());
        crate::model::codec::crc(&[&seed, bytes])
    }
}

/// Reserves a frame's header in `out`; its body follows. Returns the place to hand to [`finish`].
pub fn start(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + FRAME_HEADER, 0);
    at
}

/// Completes the frame that begins at `at` in `out` and will lie at `offset` in the file.
pub fn finish(out: &mut Vec<u8>, at: usize, binding: &Binding, offset: u64, header: &FrameHeader) {
    let len = out.len() - at - FRAME_HEADER;
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let body_crc = binding.crc(offset, &out[at + FRAME_HEADER..]);
    let mut fields = Vec::with_capacity(FRAME_HEADER);
    fields.put_u32(body_crc);
    fields.put_u32(len as u32);
    fields.put_u8(header.kind as u8);
    fields.put_u8(0);
    fields.put_u16(0);
    fields.put_u64(header.first_version);
    fields.put_u64(header.durable);
    fields.put_u32(header.count);
    fields.put_u32(0);
    out[at..at + 4].copy_from_slice(&binding.crc(offset, &fields).to_le_bytes());
    out[at + 4..at + FRAME_HEADER].copy_from_slice(&fields);
}

/// Reads the frame at `offset` of a file's bytes; `None` if there is no whole, valid one.
pub fn read<'a>(file: &'a [u8], offset: u64, binding: &Binding) -> Option<Frame<'a>> {
    let bytes = file.get(usize::try_from(offset).ok()?..)?;
    let fields = bytes.get(4..FRAME_HEADER)?;
    if fields[KIND - 4] == 0 {
        return None; // Zeros, which is what most of a segment's end is.
    }
    let mut r = Reader::new(bytes);
    // The header's own checksum comes first: a hostile payload in a torn tail may look like many headers of long frames,
    // and none of them may cost more than its header.
    if r.u32()? != binding.crc(offset, fields) {
        return None;
    }
    let (body_crc, len, kind, _) = (r.u32()?, r.u32()? as usize, r.u8()?, r.u8()?);
    let (_, first_version, durable, count) = (r.u16()?, r.u64()?, r.u64()?, r.u32()?);
    let kind = match kind {
        1 => FrameKind::Commit,
        3 => FrameKind::Close,
        4 => FrameKind::Next,
        _ => return None,
    };
    let whole = (FRAME_HEADER + len).next_multiple_of(ALIGN);
    let padded = bytes.get(FRAME_HEADER..whole)?;
    if durable > offset || count as usize > len || binding.crc(offset, padded) != body_crc {
        return None;
    }
    let body = &padded[..len];
    let header = FrameHeader { kind, count, first_version, durable };
    let body_offset = offset + FRAME_HEADER as u64;
    Some(Frame { header, body_offset, body, end: offset + whole as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding = Binding { store: [1; 16], segment: 2, salt: 3 };
    const HEADER: FrameHeader =
        FrameHeader { kind: FrameKind::Commit, count: 1, first_version: 7, durable: 8 };

    fn frame(offset: u64) -> Vec<u8> {
        let mut out = vec![0; offset as usize];
        let at = start(&mut out);
        out.put(b"hello");
        finish(&mut out, at, &BINDING, offset, &HEADER);
        out
    }

    #[test]
    fn a_frame_round_trips() {
        let bytes = frame(16);
        let read = read(&bytes, 16, &BINDING).unwrap();
        assert_eq!((read.header, read.body, read.end), (HEADER, &b"hello"[..], bytes.len() as u64));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = frame(16);
        for bit in 16 * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, 16, &BINDING).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_bound_to_its_place() {
        let bytes = frame(16);
        let mut moved = bytes.clone();
        moved.splice(0..0, [0; 8]);
        assert!(read(&moved, 24, &BINDING).is_none());
        assert!(read(&bytes, 16, &Binding { salt: 4, ..BINDING }).is_none());
        assert!(read(&bytes, 16, &Binding { segment: 3, ..BINDING }).is_none());
        assert!(read(&bytes[..bytes.len() - 1], 16, &BINDING).is_none());
    }
}
