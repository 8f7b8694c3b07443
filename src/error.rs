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
/// use chanlog::Error;
///
/// fn advise(error: &Error) -> &'static str {
///     match error {
///         Error::NotMember { .. } => "tell the sender to join first",
///         Error::OutOfSpace { .. } => "free some space and try again",
///         Error::Poisoned { .. } => "open the store again; the commit may or may not be there",
///         _ => "write it to the log of the server",
///     }
/// }
/// # let dir = tempfile::tempdir()?;
/// # let store = chanlog::Store::open(dir.path())?;
/// let refused = store.commit(chanlog::Batch::new().read("general", "nobody", 1)).unwrap_err();
/// assert_eq!(advise(&refused), "tell the sender to join first");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's input is not valid. Nothing was written; mend the input.
    #[error("{what}{}", OpPlace(*op))]
    #[non_exhaustive]
    InvalidArgument {
        /// What is wrong.
        what: String,
        /// The operation of the batch at fault, counted from 0.
        op: Option<usize>,
    },
    /// An operation on the membership of a user who is no member. Nothing was written; join first, or drop the operation.
    #[error("the user is not a member{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    NotMember {
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A condition of the batch does not hold ([`Batch::require_channel`](crate::Batch::require_channel) and its kin).
    /// Nothing was written; read what the condition is about again, and decide anew.
    #[error("the condition does not hold{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    ConditionFailed {
        /// The condition that does not hold: its place in the batch, counted from 0.
        op: usize,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A message that was sent before with another content: by its client id, which its sender used in the channel, or by its
    /// seq ([`Batch::append_at`](crate::Batch::append_at)). Nothing was written. Either the client gave an id twice, or it
    /// changed a message between two tries.
    #[error("message {seq} was sent before, with another content{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    Conflict {
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The seq of the message that was sent before.
        seq: u64,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A message for a seq ([`Batch::append_at`](crate::Batch::append_at)) that is not the channel's next one: some before it are
    /// missing. Nothing was written; send those first.
    #[error("message {seq} does not follow {last}, the last one{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    Gap {
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The seq.
        seq: u64,
        /// The seq of the channel's last message, or 0.
        last: u64,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A message with a unique id that another message has. Nothing was written. Give each message an id of its own.
    #[error("the id is that of message {seq} in channel \"{}\"{}, as of version {version}", channel.escape_ascii(), OpPlace(Some(*op)))]
    #[non_exhaustive]
    IdTaken {
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The name of the channel of the message that has the id; empty if that is in the same batch, or can't be read.
        channel: bytes::Bytes,
        /// The seq of the message that has the id.
        seq: u64,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A position of a log that does not follow the one that was applied last. Nothing was written. At or below that one it was
    /// applied before; beyond it, entries are missing; if it `diverged`, another entry was applied under its index.
    #[error("position {index} of log {log} does not follow {applied}{}{}, as of version {version}", if *diverged { ", which was another" } else { "" }, OpPlace(Some(*op)))]
    #[non_exhaustive]
    OutOfOrder {
        /// The number of the log.
        log: u32,
        /// The index that was given.
        index: u64,
        /// The index that was applied last.
        applied: u64,
        /// Whether the entry that was applied last has this index and another tag.
        diverged: bool,
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A commit without a position, to a replica ([`Options::replica`](crate::Options::replica)). Nothing was written; use
    /// [`Store::apply`](crate::Store::apply).
    #[error("the store is a replica, and the commit has no position in a log")]
    NoPosition,
    /// An operation on a message that is not there: the channel has none of this seq. Nothing was written; drop the operation.
    #[error("there is no message {seq}{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    NoMessage {
        /// The seq.
        seq: u64,
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// An edit of a message that was retracted. Nothing was written; drop the operation.
    #[error("message {seq} was retracted{}, as of version {version}", OpPlace(Some(*op)))]
    #[non_exhaustive]
    Retracted {
        /// The seq of the message.
        seq: u64,
        /// The operation of the batch at fault, counted from 0.
        op: usize,
        /// The version of the state in which that was so.
        version: u64,
    },
    /// A payload or a batch is larger than the store's limits. Nothing was written; send less.
    #[error("{what} is {len}, above the limit of {limit}{}", OpPlace(*op))]
    #[non_exhaustive]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        len: u64,
        /// The limit.
        limit: u64,
        /// The operation of the batch at fault, counted from 0; `None` if it is the batch.
        op: Option<usize>,
    },
    /// The disk is full. Nothing of the commit is visible; free some space and try again: trims, erasures, deletions and policies are
    /// still accepted ([`Options::headroom`](crate::Options::headroom)). Only a crash before what the
    /// failed write left is cleaned away can make it a whole commit after all.
    #[error("no space left for {}", path.display())]
    #[non_exhaustive]
    OutOfSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so the writer has stopped. Whether the commit survives a restart is unknown.
    /// Reads go on. Open the store again to write.
    #[error("the writer has stopped, the outcome is unknown: {source}")]
    #[non_exhaustive]
    Poisoned {
        /// The failure that stopped it.
        source: Arc<Error>,
    },
    /// A file operation failed.
    #[error("{op} {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer, a [`std::io::Error`].
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written there. Nothing was changed; restore the file, or read around it.
    #[error("{} is corrupt at offset {offset}: {what}", file.display())]
    #[non_exhaustive]
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
    #[non_exhaustive]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// Another handle, here or in another process, has the store open. Close it, then try again.
    #[error("{} is open elsewhere", dir.display())]
    #[non_exhaustive]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The directory holds something that is no chanlog store. Nothing was changed; choose another directory.
    #[error("{} is not a chanlog store: {}", dir.display(), Reason(entry.as_deref()))]
    #[non_exhaustive]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// An entry that does not belong to a store; `None` if a manifest is missing.
        entry: Option<String>,
    },
    /// A view was held for longer than its memory bound allows. Take a new one.
    #[error("the view is too old: what it needs is no longer kept")]
    ViewExpired,
    /// A thread of the store ended by a fault of the program. Open the store again to write.
    #[error("a thread of the store panicked: {what}")]
    #[non_exhaustive]
    Panicked {
        /// The thread's work.
        what: &'static str,
    },
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// The store was closed by this or another handle.
    #[error("the store is closed")]
    Closed,
}

/// Formats why a directory is no store.
struct Reason<'a>(Option<&'a str>);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(entry) => write!(f, "it holds {entry:?}"),
            None => write!(f, "it has no manifest"),
        }
    }
}

/// Formats the place of an operation in its batch.
struct OpPlace(Option<usize>);

impl std::fmt::Display for OpPlace {
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

    /// Whether a rule refused the batch: another state may allow it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::NotMember { .. }
                | Error::ConditionFailed { .. }
                | Error::NoMessage { .. }
                | Error::OutOfOrder { .. }
                | Error::Retracted { .. }
                | Error::Conflict { .. }
                | Error::Gap { .. }
                | Error::IdTaken { .. }
                | Error::InvalidArgument { .. }
                | Error::TooLarge { .. }
        )
    }

    /// Names the operation of the batch that is at fault.
    pub(crate) fn at(mut self, index: usize) -> Error {
        if let Error::InvalidArgument { op, .. } | Error::TooLarge { op, .. } = &mut self {
            op.get_or_insert(index);
        }
        self
    }

    /// Wraps a failed file operation. A full disk becomes `OutOfSpace`.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Error {
        // What a guarded directory refused says itself why.
        if let Some(error) = source.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return error.clone();
        }
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
            cause => Error::Poisoned { source: Arc::new(cause) },
        }
    }
}
