//! The fuzzer's bytes, read as choices.

use crate::model::codec::{Put, Reader};

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 16] = [
    0x7f,
    0x80,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    1 << 24,
    i32::MAX as u64,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Reads choices from bytes. What is missing reads as zero, so that every input means something.
pub struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    /// Starts at the first of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Input(Reader::new(data))
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.0.u8().unwrap_or(0)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    /// One of `count` places.
    pub fn below(&mut self, count: usize) -> usize {
        let choice = if count <= 256 { self.u8().into() } else { self.u16() };
        if count == 0 { 0 } else { usize::from(choice) % count }
    }

    /// A number: mostly a small one, or an edge, or any.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            small @ 0..=191 => u64::from(small % 24),
            edge @ 192..=239 => EDGES[usize::from(edge) % EDGES.len()],
            _ => self.0.u64().unwrap_or(0),
        }
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        self.0.bytes(len.min(self.0.remaining())).unwrap_or_default()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}

/// Changes bytes step by step, until the input ends or says so.
pub fn mutate(mut bytes: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    while !input.is_empty() {
        let choice = input.u8();
        if choice == 0 {
            break;
        }
        let at = usize::from(input.u16()) % (bytes.len() + 1);
        let new = match choice % 7 {
            0 => vec![input.u8()],
            1 => vec![bytes.get(at).copied().unwrap_or(0).wrapping_add(input.u8())],
            2 => (input.number() as u32).to_le_bytes().into(),
            3 => input.number().to_le_bytes().into(),
            4 => {
                let mut varint = Vec::new();
                varint.put_varint(input.number());
                varint
            }
            5 => {
                let from = usize::from(input.u16()) % (bytes.len() + 1);
                let len = input.u8().into();
                bytes[from..].iter().copied().take(len).collect()
            }
            _ => {
                resize(&mut bytes, at, input);
                continue;
            }
        };
        for (old, new) in bytes[at..].iter_mut().zip(new) {
            *old = new;
        }
    }
    bytes
}

/// Removes bytes, or puts some between others.
fn resize(bytes: &mut Vec<u8>, at: usize, input: &mut Input<'_>) {
    let len = input.u8();
    let count = usize::from(len / 2);
    if len.is_multiple_of(2) {
        bytes.drain(at..(at + count).min(bytes.len()));
    } else {
        bytes.splice(at..at, std::iter::repeat_n(input.u8(), count));
    }
}
