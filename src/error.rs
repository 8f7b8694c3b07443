//! Errors. Each tells what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of nearly everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed, and by that what to do next.
///
/// Errors are cheap to clone, because one failed sync answers every commit that waited for it.
///
/// ```
/// use chanlog::{Error, advise};
/// # mod chanlog { pub use ::chanlog::*; pub fn advise(e: &Error) -> &'static str {
/// # match e { Error::OutOfSpace { .. } => "free some space and try again", _ => "" } } }
/// let full = Error::OutOfSpace { path: "log".into() };
/// assert_eq!(advise(&full), "free some space and try again");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's input is not valid. Nothing was written; mend the input.
    #[error("{what}{}", Place(*op))]
    InvalidArgument {
        /// What is wrong.
        what: String,
        /// The operation of the batch at fault, counted from 0.
        op: Option<usize>,
    },
    /// A mark, hide or activate for a user who is no member. Nothing was written; join first, or drop the operation.
    #[error("not a member{}", Place(Some(*op)))]
    NotMember {
        /// The operation of the batch at fault, counted from 0.
        op: usize,
    },
    /// A payload or a batch is larger than the store's limits. Nothing was written; send less.
    #[error("{what} of {len} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The disk is full. Nothing of the commit is visible; free some space and try again. Only a crash before what the
    /// failed write left is cleaned away can make it a whole commit after all.
    #[error("no space left for {}", path.display())]
    OutOfSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so the writer has stopped. Whether the commit survives a restart is unknown.
    /// Reads go on. Open the store again to write.
    #[error("the writer has stopped, the outcome is unknown: {cause}")]
    Poisoned {
        /// The failure that stopped it.
        cause: Arc<Error>,
    },
    /// A file operation failed.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written there. Nothing was changed; restore the file, or read around it.
    #[error("{} is corrupt at offset {offset}: {what}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage was noticed, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file was written by a newer release. Nothing was changed; use that release.
    #[error("{} has format {version}, which this release does not know", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// Another handle, here or in another process, has the store open. Close it, then try again.
    #[error("{} is open elsewhere", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The directory holds something that is no chanlog store. Nothing was changed; choose another directory.
    #[error("{} is not a chanlog store: it holds {entry:?}", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// An entry that does not belong to a store.
        entry: String,
    },
    /// The store was closed by this or another handle.
    #[error("the store is closed")]
    Closed,
}

/// Formats the place of an operation in its batch.
struct Place(Option<usize>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(op) => write!(f, " (operation {op})"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// An invalid argument outside any batch.
    pub(crate) fn invalid(what: impl Into<String>) -> Error {
        Error::InvalidArgument { what: what.into(), op: None }
    }

    /// Wraps a failed file operation. A full disk becomes `OutOfSpace`.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::OutOfSpace { path: path.into() }
            }
            _ => Error::Io { op, path: path.into(), source: Arc::new(source) },
        }
    }

    /// Bytes of `file` at `offset` are wrong.
    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corruption { file: file.into(), offset, what: what.into() }
    }

    /// The answer to everybody who writes after `self` happened.
    pub(crate) fn poison(self) -> Error {
        match self {
            Error::Poisoned { .. } => self,
            cause => Error::Poisoned { cause: Arc::new(cause) },
        }
    }
}
