//! Reads and checks every byte of a store.

use std::path::Path;

use crate::error::{Error, Result};
use crate::options::Options;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of an unfinished commit at the log's end. A crash leaves them, and they are no fault.
    pub torn_bytes: u64,
    /// What is wrong, each with file and offset.
    pub faults: Vec<Error>,
}

/// Reads and checks every byte of the store in `dir`, changing nothing. The store must not be open.
pub fn verify(dir: impl AsRef<Path>, options: &Options) -> Result<Verification> {
    let _ = (dir, options);
    todo!()
}
