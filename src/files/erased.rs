//! The note of how far the bytes of erased messages are gone from the files, and since when others wait.
//!
//! ```text
//! version u64, since i64 (Unix milliseconds, or 0 if none waits), crc u32 of the store's id and these 16 bytes
//! ```
//!
//! Written in place, never synced, and never needed: without it the files are looked through once more.
//!
//! Invariant: all up to the version is durable when a note says that it is gone, so that no later erasure gets such a version.

use super::disk::Disk;
use super::sealed::StoreId;
use crate::env::{Access, Dir};
use crate::model::codec::{Put, Reader, crc};

/// The file's name.
pub const NAME: &str = "chanlog.erased";
const LEN: usize = 20;

/// How far erased bytes are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// What was erased up to this version is in no file.
    pub version: u64,
    /// When the oldest of what was erased since was erased, in Unix milliseconds; 0 if nothing was.
    pub since: i64,
}

impl Gone {
    fn encode(&self, store: &StoreId) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.put_u64(self.version);
        out.put_i64(self.since);
        let crc = crc(&[store, &out]);
        out.put_u32(crc);
        out
    }

    fn decode(bytes: &[u8; LEN], store: &StoreId) -> Option<Gone> {
        let mut r = Reader::new(bytes);
        let gone = Gone { version: r.u64()?, since: r.i64()? };
        (crc(&[store, &bytes[..LEN - 4]]) == r.u32()?).then_some(gone)
    }

    /// The note in a directory, if there is a whole one of the store's.
    pub fn read(disk: &Disk, store: &StoreId) -> Option<Gone> {
        let file = disk.open(NAME, Access::Read).ok()?;
        let mut bytes = [0; LEN];
        file.read_at(&mut bytes, 0).ok()?;
        Gone::decode(&bytes, store)
    }

    /// Writes it. A failure means another look.
    pub fn write(&self, disk: &Disk, store: &StoreId) {
        if let Ok(file) = disk.create(NAME) {
            let _ = file.write_at(&self.encode(store), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_round_trips_and_a_torn_one_or_another_stores_is_none() {
        let (gone, store) = (Gone { version: 9, since: 1_700_000_000_000 }, [7; 16]);
        let bytes: [u8; LEN] = gone.encode(&store).try_into().unwrap();
        assert_eq!(Gone::decode(&bytes, &store), Some(gone));
        assert_eq!(Gone::decode(&bytes, &[8; 16]), None);
        for bit in 0..LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Gone::decode(&bad, &store), None, "bit {bit}");
        }
    }
}
