//! Reading and writing integers in byte buffers. Owns the rule that no read goes past its buffer: every read is an
//! `Option`, and nothing here allocates by a length that it was told.

use crate::env::fault;

/// A cursor over bytes from disk.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// How many bytes there were to begin with.
    len: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, len: bytes.len() }
    }

    /// How many bytes were read.
    #[inline]
    pub fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that are left.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all was read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(part)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*part)
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little-endian.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes, little-endian.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next eight bytes, little-endian, signed.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next sixteen bytes.
    pub fn id(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    /// A variable-length integer: seven bits a byte, low bits first, at most ten bytes. Only the shortest form of a value
    /// is one, so that what was read is written with the same bytes.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (first, rest) = self.rest.split_first()?;
        if *first < 0x80 {
            self.rest = rest;
            return Some(u64::from(*first));
        }
        let (value, len) = varint_of_word(self.rest).or_else(|| varint_of_bytes(self.rest))?;
        self.rest = &self.rest[len..];
        Some(value)
    }

    /// A variable-length integer that must fit 32 bits.
    #[inline]
    pub fn varint32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A variable-length signed integer, small magnitudes short (zigzag).
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }
}

/// The varint of two to eight bytes at the start of at least eight, and its length: without a branch for each byte.
#[inline]
fn varint_of_word(bytes: &[u8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let len = ends.trailing_zeros() / 8 + 1;
    let bits = word & (u64::MAX >> (64 - 8 * len)) & 0x7f7f_7f7f_7f7f_7f7f;
    // Eight groups of 7 bits become four of 14, two of 28, one of 56.
    let bits = (bits & 0x007f_007f_007f_007f) | ((bits & 0x7f00_7f00_7f00_7f00) >> 1);
    let bits = (bits & 0x0000_3fff_0000_3fff) | ((bits & 0x3fff_0000_3fff_0000) >> 2);
    let value = (bits & 0x0fff_ffff) | ((bits & 0x0fff_ffff_0000_0000) >> 4);
    (value >> (7 * (len - 1)) != 0).then_some((value, len as usize))
}

/// Any varint at the start of `bytes`, and its length.
fn varint_of_bytes(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let last = byte & 0x80 == 0;
        let longer_than_needed = last && bits == 0 && index > 0 && !fault(58);
        if longer_than_needed || (index == 9 && bits > 1) {
            return None;
        }
        value |= bits << (7 * index);
        if last {
            return Some((value, index + 1));
        }
    }
    None
}

/// The length of a variable-length integer.
pub fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// The length of a signed variable-length integer.
pub fn signed_len(value: i64) -> usize {
    varint_len(zigzag(value))
}

/// Small magnitudes become small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Appends integers to a buffer, in the form that [`Reader`] reads.
pub trait Put {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8);

    /// Appends two bytes, little-endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// Appends four bytes, little-endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian, signed.
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a variable-length integer.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Appends a signed variable-length integer.
    fn put_signed(&mut self, value: i64) {
        self.put_varint(zigzag(value));
    }
}

impl Put for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
}

impl<A: smallvec::Array<Item = u8>> Put for smallvec::SmallVec<A> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
}

/// The checksum of `parts`, one after another: CRC-32 (IEEE), as `crc32fast` computes it.
pub fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(values: Vec<u64>) {
            // Also small ones, as most of `any` are not.
            let small = values.iter().enumerate().map(|(index, v)| v >> (index % 64));
            let values: Vec<u64> = values.iter().copied().chain(small).collect();
            let mut buffer = Vec::new();
            let mut len = 0;
            for v in &values {
                buffer.put_varint(*v);
                buffer.put_signed(*v as i64);
                len += varint_len(*v) + signed_len(*v as i64);
            }
            prop_assert_eq!(buffer.len(), len);
            let mut reader = Reader::new(&buffer);
            for v in &values {
                prop_assert_eq!(reader.varint(), Some(*v));
                prop_assert_eq!(reader.signed(), Some(*v as i64));
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.varint().is_some() {}
            let mut reader = Reader::new(&bytes);
            while reader.u64().is_some() {}
            prop_assert!(reader.remaining() < 8);
        }
    }

    #[test]
    fn a_varint_longer_than_needed_is_refused() {
        for bytes in [&[0x80, 0][..], &[0xff, 0], &[0x81, 0x80, 0x80, 0], &[0x80, 0, 1, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(Reader::new(bytes).varint(), None);
        }
        let mut long = [0xff; 10];
        long[9] = 0;
        assert_eq!(Reader::new(&long).varint(), None);
        assert_eq!(Reader::new(&[0]).varint(), Some(0));
    }

    #[test]
    fn a_varint_that_overflows_is_refused() {
        assert_eq!(Reader::new(&[0xff; 10]).varint(), None);
        assert_eq!(Reader::new(&[0xff; 9]).varint(), None);
        let mut max = Vec::new();
        max.put_varint(u64::MAX);
        assert_eq!(Reader::new(&max).varint(), Some(u64::MAX));
    }
}
