//! Numbers about a store.

use crate::env::sync::Arc;
use crate::files::manifest::{FileEntry, Manifest};
use crate::kernel::fileset::filters;
use crate::kernel::layer::Content;
use crate::kernel::measures::Latencies;
use crate::kernel::{Layer, Moment};

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the store was made by this open.
    pub created: bool,
    /// Whether the last session ended with a close. Beside a writer it may still go on.
    pub clean: bool,
    /// Unsealed log segments that were read.
    pub log_segments: u64,
    /// Bytes of log that were read.
    pub log_bytes: u64,
    /// Commits that were read from the log.
    pub commits: u64,
    /// Bytes at the log's end that were no whole commit and were cut away.
    pub torn_bytes: u64,
    /// Whether buffered messages may have been lost, so that channels go on beyond the window. Beside a writer that notes how
    /// far it is, its own session has lost nothing.
    pub gap: bool,
    /// How many ends there were in the life of the store that may have taken buffered messages.
    pub losses: u64,
    /// Files of unfinished work that were removed.
    pub orphans: u64,
    /// Message segments that could not be opened; what lies in them answers with an error.
    pub damaged: u64,
}

/// Counts and sizes of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stat {
    /// The version of the last change.
    pub version: u64,
    /// Channels that were ever made.
    pub channels: u64,
    /// Users that were ever made.
    pub users: u64,
    /// Messages.
    pub messages: u64,
    /// Log segments, and their bytes on disk.
    pub logs: Files,
    /// Message segments, and their bytes on disk.
    pub segments: Files,
    /// Table runs, and their bytes on disk.
    pub runs: Files,
    /// Bytes of payloads, client ids and ids that were ever appended.
    pub user_bytes: u64,
    /// Bytes that were ever written to the log.
    pub log_bytes: u64,
    /// Bytes that were ever written by sealing.
    pub sealed_bytes: u64,
    /// Bytes that were ever written by merging.
    pub merged_bytes: u64,
    /// The memory that filters of runs take, in bytes: 2.5 for each client id and each user in a set.
    pub filters: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// Commits since then that were made ready before they had the log to themselves, and written as they were: nothing else
    /// was committed meanwhile.
    pub adopted: u64,
    /// The memory of layers, in bytes: rows, names and indexes of what is not sealed.
    pub layers: u64,
    /// The memory of channels' heads, in bytes: about 40 a channel, whatever the settings.
    pub heads: u64,
    /// What filters, the block cache, views and feeds may take together, in bytes ([`Options::memory`](crate::Options::memory)).
    pub budget: u64,
    /// What waits, and what is held for readers, at the moment.
    pub queues: Queues,
    /// The cache of decompressed blocks.
    pub cache: CacheUse,
    /// What scrubbing found.
    pub scrubbed: Scrubbed,
    /// The room on the disk that is kept for emptying it ([`Options::headroom`](crate::Options::headroom)), in bytes; 0 before the
    /// first commit, and while the disk is full and sends are refused.
    pub headroom: u64,
    /// How long commits, syncs, seals, merges and reads took since the store was opened.
    pub latencies: Latencies,
}

/// What reading sealed files again found since the store was opened ([`Options::scrub_interval`](crate::Options::scrub_interval)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Scrubbed {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files in which something was wrong.
    pub damaged: u64,
    /// The first faults, each with file and offset: at most 16.
    pub faults: Vec<String>,
}

/// What waits in a store, and what is held for readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Queues {
    /// Batches that were submitted and are not written.
    pub unwritten: u64,
    /// Commits that are written and not yet acknowledged.
    pub unacknowledged: u64,
    /// Threads and tasks that wait for commits.
    pub waiters: u64,
    /// Full log segments that await sealing. Writers wait when they are [`Options::unsealed`](crate::Options::unsealed).
    pub unsealed: u64,
    /// Views that callers hold.
    pub views: u64,
    /// Feeds that callers hold.
    pub feeds: u64,
    /// The memory of what feeds noted and did not tell yet, in bytes.
    pub feed_memory: u64,
    /// The memory of what readers may still look at though it was replaced, in bytes: at most
    /// [`Options::view_memory`](crate::Options::view_memory).
    pub view_memory: u64,
}

/// How a cache is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheUse {
    /// How often something was asked for and there, since the store was opened.
    pub hits: u64,
    /// How often it was not there, and had to be read and decompressed.
    pub misses: u64,
    /// The memory in use, in bytes.
    pub bytes: u64,
    /// How much it may become.
    pub capacity: u64,
}

/// A number of files and the sum of their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Files {
    /// How many.
    pub count: u64,
    /// The sum of their lengths, in bytes.
    pub bytes: u64,
}

impl Stat {
    /// Bytes written in all for each byte that the log was given: 1 is the log alone.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        let all = self.log_bytes + self.sealed_bytes + self.merged_bytes;
        if self.log_bytes == 0 { 1.0 } else { all as f64 / self.log_bytes as f64 }
    }
}

/// The numbers of a store at a moment. What is sealed meanwhile counts once, by the log segment's number.
pub(crate) fn stat(manifest: &Manifest, moment: &Moment, end: u64, (syncs, adopted): (u64, u64)) -> Stat {
    let layers = || moment.files.frozen.iter().chain([&moment.active]);
    let live = |layer: &&Arc<Layer>| layer.log.header.segment >= manifest.first_log;
    let logs = || moment.full().map(|layers| &layers[0]).chain([&moment.active]);
    let ends = logs().skip(1).map(|layer| layer.log.header.previous_end).chain([end]);
    let logged = logs().zip(ends).filter(|(layer, _)| live(layer)).map(|(_, end)| end).sum::<u64>();
    let unsealed =
        |pick: fn(&Content) -> u64| layers().filter(live).map(|layer| layer.look(pick)).sum::<u64>();
    let files = |entries: &[FileEntry]| Files {
        count: entries.len() as u64,
        bytes: entries.iter().map(|entry| entry.len).sum(),
    };
    Stat {
        version: moment.counts.version,
        channels: moment.counts.channels.into(),
        users: moment.counts.users.into(),
        messages: manifest.totals.messages + unsealed(|content| content.chains.messages()),
        logs: Files {
            count: logs().count() as u64,
            bytes: logs().map(|layer| layer.log.header.capacity).sum(),
        },
        segments: files(&manifest.segments),
        runs: files(&manifest.runs),
        user_bytes: manifest.totals.user + unsealed(|content| content.user_bytes),
        log_bytes: manifest.totals.logged + logged,
        sealed_bytes: manifest.totals.sealed,
        merged_bytes: manifest.totals.merged,
        filters: filters(&moment.files.runs),
        syncs,
        adopted,
        layers: layers().map(|layer| layer.memory() as u64).sum(),
        ..Stat::default()
    }
}
