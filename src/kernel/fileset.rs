//! The files of a store at one moment, and the frozen layers. Immutable; replaced as a whole when one of them comes or goes.
//!
//! Invariants:
//! * V2. The active layer is newer than frozen ones, a later frozen one newer than an earlier, and all are newer than every
//!   run; runs ascend. The newest source that has a key is right.
//! * V3. The version ranges of segments and layers ascend and don't overlap, so that a version tells the file where its
//!   message lies.

use bytes::Bytes;

use super::layer::Layer;
use crate::env::sync::Arc;
use crate::error::{Error, Result};
use crate::files::manifest::FileEntry;
use crate::files::segment::Segment;
use crate::files::table::{self, HashKey, Names, Run};
use crate::model::head::Loss;
use crate::model::ids::Named;

/// Sealed files and frozen layers, oldest first, as all lists here.
#[derive(Clone, Debug, Default)]
pub struct FileSet {
    /// Table runs.
    pub runs: Vec<Arc<Run>>,
    /// Message segments.
    pub segments: Vec<Part>,
    /// Layers that nothing is put into any more, until they are sealed.
    pub frozen: Vec<Arc<Layer>>,
    /// Ends that may have taken buffered messages.
    pub losses: Arc<[Loss]>,
    /// The key of the hashes of names in runs.
    pub key: HashKey,
}

/// A message segment, or what stands for one that can't be opened: the rest of the store stays readable.
#[derive(Clone, Debug)]
pub struct Part {
    /// What the manifest says of it.
    pub entry: FileEntry,
    /// The open file.
    pub segment: Result<Arc<Segment>>,
}

/// A source of messages other than the active layer.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A frozen layer.
    Frozen(&'a Arc<Layer>),
    /// A message segment, and its place in the list.
    Sealed(usize, &'a Part),
}

impl FileSet {
    /// The id of a name in the runs.
    pub fn find_sealed(&self, named: Named, name: &[u8]) -> Result<Option<u32>> {
        if self.runs.is_empty() {
            return Ok(None);
        }
        let hash = table::hash(&self.key, name);
        for run in self.runs.iter().rev() {
            if let Some(id) = names(run, named).find(name, hash)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The name of an id in the runs.
    pub fn sealed_name(&self, named: Named, id: u32) -> Result<Bytes> {
        let after = self.runs.partition_point(|run| names(run, named).first() <= id);
        for run in self.runs[..after].iter().rev() {
            if let Some(name) = names(run, named).get(id)? {
                return Ok(name);
            }
        }
        // An id stands only in records that were written after its name.
        let path = self.runs.last().map(|run| run.path().to_path_buf()).unwrap_or_default();
        Err(Error::corrupt(&path, 0, format!("no name for {} {id}", named.word())))
    }

    /// Where the message of a version lies, if not in the active layer.
    pub fn locate(&self, version: u64) -> Option<Place<'_>> {
        let first = self.frozen.first().map_or(u64::MAX, |frozen| frozen.start.version + 1);
        if version >= first {
            let after = self.frozen.partition_point(|frozen| frozen.start.version < version);
            return self.frozen[..after].last().map(Place::Frozen);
        }
        let after = self.segments.partition_point(|part| part.entry.versions.0 <= version);
        let at = after.checked_sub(1)?;
        let part = &self.segments[at];
        (version <= part.entry.versions.1).then_some(Place::Sealed(at, part))
    }
}

/// The names of a kind in a run.
pub fn names(run: &Run, named: Named) -> Names<'_> {
    match named {
        Named::Channel => run.channel_names(),
        Named::User => run.user_names(),
    }
}

/// The memory that filters of runs take, in bytes.
pub fn filters(runs: &[Arc<Run>]) -> u64 {
    runs.iter().map(|run| run.filter_memory() as u64).sum()
}
