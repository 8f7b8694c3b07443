//! What the fuzz targets in `fuzz/` and the test `tests/fuzz.rs` call: one function for each decoder of bytes from disk.
//!
//! A decoder sits behind a checksum that random bytes never pass. So each function computes the checksums anew over what
//! the fuzzer made, by the crate's own functions, and reads the result in every way there is. Most begin with a valid
//! file and change it as the input says, so that short inputs get deep.
//!
//! Each function panics if the crate does, or if what was read does not read back the same. Memory is watched from
//! outside, by the fuzzer's limit on single allocations. No part of the public API; nothing here is stable.

mod batch;
mod file;
mod input;
mod log;
mod ops;
mod row;
mod store;

pub use batch::batch;
pub use file::{run, sealed, segment};
pub use log::log;
pub use ops::ops;
pub use row::image;
pub use store::store;

use std::path::Path;

use crate::files::change::Change;
use crate::files::manifest::{FileEntry, Manifest, Session, Totals};
use crate::files::record::{self, Record};
use crate::model::codec::{Put, Reader, crc};
use crate::model::head::Loss;
use crate::read::{Continuation, SyncToken};
use input::{Input, mutate};

/// One message record, with the length that it says and with the length that it has.
pub fn record(data: &[u8]) {
    round_trip_record(data);
    let mut sized = Vec::new();
    sized.put_varint(data.len() as u64);
    sized.put(data);
    round_trip_record(&sized);
}

fn round_trip_record(bytes: &[u8]) {
    let Some((record, len)) = Record::read(bytes) else { return };
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!((again.len(), record::len(bytes)), (record.encoded_len(), Some(len)));
    assert_eq!(again, bytes[..len]);
}

/// The body of a commit frame.
pub fn change(data: &[u8]) {
    let mut reader = Reader::new(data);
    while let Some(change) = Change::decode(&mut reader) {
        let mut again = Vec::new();
        change.encode(&mut again);
        assert_eq!(Change::decode(&mut Reader::new(&again)), Some(change));
    }
}

/// A manifest with its checksum put right: the input's bytes, or a valid one's changed by them.
pub fn manifest(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bytes = match input.u8() % 2 {
        0 => input.rest().to_vec(),
        _ => {
            let valid = example().encode();
            mutate(valid[..valid.len() - 4].into(), &mut input)
        }
    };
    let crc = crc(&[&bytes]);
    bytes.put_u32(crc);
    let path = Path::new("manifest");
    if let Ok(manifest) = Manifest::decode(path, &bytes) {
        let again = Manifest::decode(path, &manifest.encode());
        assert_eq!(again.expect("an encoded manifest decodes"), manifest);
    }
}

fn example() -> Manifest {
    let entry = |id, first, last| FileEntry { id, versions: (first, last), len: 1000, level: 0 };
    Manifest {
        required: 1,
        next_file: 5,
        first_log: 3,
        totals: Totals { logged: 9000, sealed: 5000, merged: 0, user: 4000, messages: 80 },
        sessions: vec![Session { id: 77, last: 30 }, Session { id: 78, last: 60 }],
        losses: vec![Loss { version: 60, channels: 3, session: 9 }],
        segments: vec![entry(1, 1, 50), entry(3, 51, 90)],
        runs: vec![entry(2, 1, 50), entry(4, 51, 90)],
        ..Manifest::default()
    }
}

/// A token and a continuation: the input as text, and its bytes as the text of bytes with the right checksum.
pub fn token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        round_trip_token(text);
    }
    let sum = crc(&[data]).to_le_bytes();
    let digits = data.iter().chain(&sum).map(|byte| format!("{byte:02x}"));
    round_trip_token(&digits.collect::<String>());
}

fn round_trip_token(text: &str) {
    if let Ok(token) = text.parse::<SyncToken>() {
        assert_eq!(token.to_string().parse::<SyncToken>().expect("a token's text is a token"), token);
    }
    if let Ok(next) = text.parse::<Continuation>() {
        let again = next.to_string().parse::<Continuation>();
        assert_eq!(again.expect("a continuation's text is a continuation"), next);
    }
}
