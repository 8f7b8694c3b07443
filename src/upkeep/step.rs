//! What a step of upkeep did. It is noted where it was done, and told to subscribers of `tracing` once no lock is held: a
//! subscriber may do what it likes (EVENTS.md lists what is told).

use std::time::Duration;

use crate::error::Error;
use crate::files::sealed::Kind;
use crate::kernel::measures::Measured;

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// A log segment became sealed files, of so many bytes.
    Sealed { segment: u64, messages: u64, bytes: u64 },
    /// Files of a kind became one.
    Merged { kind: Kind, files: usize, bytes: u64 },
    /// A message segment of which nothing was left was removed.
    Dropped { file: u64, messages: u64 },
    /// A message segment was written anew, without what nobody reads.
    Rewritten { file: u64 },
    /// A sealed file was read again.
    Scrubbed { file: u64, kind: Kind, bytes: u64 },
    /// A sealed file turned out to be damaged, and is left alone from now on.
    Damaged { fault: Error },
}

impl Done {
    /// As what its time counts.
    pub fn measured(&self) -> Option<Measured> {
        match self {
            Done::Sealed { .. } => Some(Measured::Seal),
            Done::Merged { .. } | Done::Rewritten { .. } => Some(Measured::Merge),
            Done::Dropped { .. } | Done::Scrubbed { .. } | Done::Damaged { .. } => None,
        }
    }

    /// Tells subscribers.
    pub fn tell(&self, took: Duration) {
        let ms = took.as_millis() as u64;
        match self {
            Done::Sealed { segment, messages, bytes } => {
                tracing::debug!(name: "seal", target: "chanlog", segment, messages, bytes, ms, "a log segment was sealed");
            }
            Done::Merged { kind, files, bytes } => {
                let kind = kind.word();
                tracing::debug!(name: "merge", target: "chanlog", kind, files, bytes, ms, "files were merged");
            }
            Done::Dropped { file, messages } => {
                tracing::debug!(name: "trim", target: "chanlog", file, messages, "a message segment was removed");
            }
            Done::Rewritten { file } => {
                tracing::debug!(name: "erase", target: "chanlog", file, ms, "a segment was written anew without what nobody reads");
            }
            Done::Scrubbed { file, kind, bytes } => {
                let kind = kind.word();
                tracing::debug!(name: "scrub", target: "chanlog", file, kind, bytes, ms, "a sealed file was read again");
            }
            Done::Damaged { fault } => {
                tracing::error!(name: "damage", target: "chanlog", %fault, "a sealed file is damaged, merges leave it alone");
            }
        }
    }
}
