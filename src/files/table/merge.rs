//! Makes one run of several neighbouring ones. All is streamed in the order of its keys, images as they are; only names
//! take memory, see `NamesWriter`.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::HashKey;
use super::builder::RunBuilder;
use super::cursor::Cursor;
use super::names::{Names, NamesCursor};
use super::run::Run;
use super::section::RunEntry;
use crate::env::Dir;
use crate::env::fault;
use crate::error::{Error, Result};
use crate::files::sealed::StoreId;
use crate::model::image::TOMBSTONE;
use crate::model::key::Key;

/// Decides which tombstones of a table a merge drops.
///
/// Entries with the same first part of their keys are a group. A merge looks at each group in turn: first it shows the
/// group's tombstones to [`Filter::group`], then it asks [`Filter::keep`] about each of them in the same order, then it
/// asks for [`Filter::last`]. So a group can be judged as a whole, and none is ever held: there may be a million in it.
pub trait Filter {
    /// Begins a group. Who does not need the group's tombstones as a whole leaves them unread, which costs nothing. `None`
    /// if an image is not valid: then the merge fails.
    fn group<'a>(&mut self, tombstones: &mut dyn Iterator<Item = RunEntry<'a>>) -> Option<()>;

    /// Whether a tombstone of the group stays, or another entry that the filter minds. `None` if its image is not valid.
    fn keep(&mut self, tombstone: &RunEntry<'_>) -> Option<bool>;

    /// Whether an entry that is no tombstone may go too.
    fn minds(&self, _entry: &RunEntry<'_>) -> bool {
        false
    }

    /// Ends a group, and may append an entry to it, whose key must be above those that stayed.
    fn last(&mut self) -> Option<Last> {
        None
    }
}

/// An entry that a [`Filter`] appends to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its key.
    pub key: Key,
    /// Its tag.
    pub tag: u8,
    /// Its version.
    pub version: u64,
    /// Its image.
    pub image: Vec<u8>,
}

/// Gives the filter of a table; `None` for one that keeps all its tombstones.
pub type Filters<'f> = dyn FnMut(u8) -> Option<Box<dyn Filter + 'f>> + 'f;

/// Tells entries of a table that nobody reads any more, nor ever will. They are left out of any merge, as if they had never
/// been.
pub type Gone<'g> = dyn Fn(u8, &RunEntry<'_>) -> bool + Sync + 'g;

/// Writes run `id`, which holds what `inputs` hold together, oldest first: of several entries with a key the newest input's.
/// Returns its length.
///
/// `filters` may drop tombstones only if the oldest run of the store is among the inputs; otherwise they still hide what
/// is older; what is `gone` goes from any. `pace` is told of written bytes; its error stops the merge.
pub fn merge(
    dir: &dyn Dir,
    (store, key): (StoreId, HashKey),
    id: u64,
    inputs: &[Arc<Run>],
    filters: &mut Filters<'_>,
    gone: &Gone<'_>,
    pace: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let (Some(oldest), Some(newest)) = (inputs.first(), inputs.last()) else {
        return Err(Error::invalid("a merge of no runs"));
    };
    if inputs.windows(2).any(|pair| pair[0].versions().1 >= pair[1].versions().0) {
        return Err(Error::invalid("a merge of runs that are not in order"));
    }
    let mut out = RunBuilder::create(dir, store, id, key, pace)?;
    let merged = merge_parts(&mut out, inputs, filters, gone);
    // The builder was fed from the inputs only, so that what it refuses is their fault.
    merged.map_err(|error| match error {
        Error::InvalidArgument { what, .. } => oldest.corrupt(format!("can't be merged: {what}")),
        error => error,
    })?;
    out.finish((oldest.versions().0, newest.versions().1))
}

fn merge_parts(
    out: &mut RunBuilder<'_>,
    inputs: &[Arc<Run>],
    filters: &mut Filters<'_>,
    gone: &Gone<'_>,
) -> Result<()> {
    let mut tables: Vec<u8> = inputs.iter().flat_map(|run| run.tables()).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        out.section(table, inputs.iter().any(|run| run.section(table).is_wide()))?;
        if inputs.iter().any(|run| run.section(table).is_filtered()) {
            out.filtered();
        }
        match filters(table) {
            Some(mut filter) => put_filtered(out, inputs, table, (&mut *filter, gone))?,
            None => {
                let mut entries = Merge::new(inputs, table, gone)?;
                while let Some((_, entry)) = entries.next()? {
                    out.put(entry)?;
                }
            }
        }
    }
    let (first, count, mut names) = merge_names(inputs.iter().map(|run| run.channel_names()).collect())?;
    out.sorted_channels(first, count, &mut || names.next())?;
    let (first, count, mut names) = merge_names(inputs.iter().map(|run| run.user_names()).collect())?;
    out.sorted_users(first, count, &mut || names.next())
}

/// The section of a table in several inputs as one, each key once: of those with the same key the last input's, the
/// newest.
pub struct Merge<'a> {
    sources: Vec<SectionInput<'a>>,
    table: u8,
    /// What is left out.
    gone: &'a Gone<'a>,
}

/// A section of one input, and its next entry.
struct SectionInput<'a> {
    cursor: Cursor<'a>,
    head: Option<RunEntry<'a>>,
}

impl<'a> Merge<'a> {
    /// The table of the inputs, oldest first, without what is gone.
    pub fn new(inputs: &'a [Arc<Run>], table: u8, gone: &'a Gone<'a>) -> Result<Self> {
        let open = |run: &'a Arc<Run>| {
            let mut cursor = run.section(table).all();
            Ok(SectionInput { head: cursor.next()?, cursor })
        };
        let mut merge = Merge { sources: inputs.iter().map(open).collect::<Result<_>>()?, table, gone };
        merge.skip_gone()?;
        Ok(merge)
    }

    /// The place of the input that has the next entry, and its key. A merge has few inputs, so that a scan of them is as
    /// good as a heap.
    fn least(&self) -> Option<(usize, Key)> {
        let mut least: Option<(usize, Key)> = None;
        for (place, source) in self.sources.iter().enumerate() {
            let Some(head) = &source.head else { continue };
            if least.is_none_or(|(_, key)| head.key < key || head.key == key && !fault(57)) {
                least = Some((place, head.key));
            }
        }
        least
    }

    /// The next entry, and the place of the input that has it.
    pub fn next(&mut self) -> Result<Option<(usize, RunEntry<'a>)>> {
        let Some((newest, key)) = self.least() else { return Ok(None) };
        let entry = self.sources[newest].head;
        self.pass(key)?;
        self.skip_gone()?;
        Ok(entry.map(|entry| (newest, entry)))
    }

    /// Steps over all entries of a key.
    fn pass(&mut self, key: Key) -> Result<()> {
        for source in &mut self.sources {
            if source.head.is_some_and(|head| head.key == key) {
                source.head = source.cursor.next()?;
            }
        }
        Ok(())
    }

    /// Steps over entries that are left out, so that none is ever next.
    fn skip_gone(&mut self) -> Result<()> {
        while let Some((newest, key)) = self.least()
            && self.sources[newest].head.is_some_and(|entry| (self.gone)(self.table, &entry))
        {
            self.pass(key)?;
        }
        Ok(())
    }

    /// The next entry if it is of a group.
    fn next_of(&mut self, group: u32) -> Result<Option<(usize, RunEntry<'a>)>> {
        if self.least().is_some_and(|(_, key)| key.a == group) { self.next() } else { Ok(None) }
    }

    /// Goes forward to the first entry at or after `key`.
    fn seek(&mut self, key: Key) -> Result<()> {
        for source in &mut self.sources {
            if source.head.is_some_and(|head| head.key < key) {
                source.cursor.seek(key)?;
                source.head = source.cursor.next()?;
            }
        }
        self.skip_gone()
    }
}

/// Writes a table without the tombstones that its filter drops.
///
/// What becomes of one may depend on its whole group. So each group's tombstones are read twice, rather than held.
fn put_filtered(
    out: &mut RunBuilder<'_>,
    inputs: &[Arc<Run>],
    table: u8,
    (filter, gone): (&mut dyn Filter, &Gone<'_>),
) -> Result<()> {
    let mut ahead = Merge::new(inputs, table, gone)?;
    let mut entries = Merge::new(inputs, table, gone)?;
    let bad = |input: usize| inputs[input].corrupt("a tombstone without a valid image");
    while let Some((_, Key { a, .. })) = entries.least() {
        let mut group = TombstoneGroup { ahead: &mut ahead, a, input: None, fault: None };
        let judged = filter.group(&mut group);
        group.fault.map_or(Ok(()), Err)?;
        judged.ok_or_else(|| bad(group.input.unwrap_or(0)))?;
        while let Some((input, entry)) = entries.next_of(a)? {
            let asked = entry.tag & TOMBSTONE != 0 || filter.minds(&entry);
            if !asked || filter.keep(&entry).ok_or_else(|| bad(input))? {
                out.put(entry)?;
            }
        }
        if let Some(Last { key, tag, version, image }) = filter.last() {
            out.put(RunEntry { key, tag, version, image: &image })?;
        }
    }
    Ok(())
}

/// The tombstones of a group, ahead of the merge.
struct TombstoneGroup<'m, 'a> {
    ahead: &'m mut Merge<'a>,
    a: u32,
    /// The place of the input of the last tombstone that was read.
    input: Option<usize>,
    /// Why there are no more, if the group is not at its end.
    fault: Option<Error>,
}

impl<'a> TombstoneGroup<'_, 'a> {
    fn try_next(&mut self) -> Result<Option<RunEntry<'a>>> {
        if self.input.is_none() {
            // Groups whose tombstones nobody read lie between.
            self.ahead.seek(Key { a: self.a, ..Key::default() })?;
        }
        while let Some((input, entry)) = self.ahead.next_of(self.a)? {
            if entry.tag & TOMBSTONE != 0 {
                self.input = Some(input);
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for TombstoneGroup<'_, 'a> {
    type Item = RunEntry<'a>;

    fn next(&mut self) -> Option<RunEntry<'a>> {
        if self.fault.is_some() {
            return None;
        }
        self.try_next().unwrap_or_else(|fault| {
            self.fault = Some(fault);
            None
        })
    }
}

/// The names of several inputs as one list.
struct MergeNames<'a> {
    sources: Vec<(NamesCursor<'a>, Option<(Bytes, u32)>)>,
}

impl MergeNames<'_> {
    /// The next name and its id. One that two inputs have comes twice.
    fn next(&mut self) -> Result<Option<(Bytes, u32)>> {
        let heads = self.sources.iter_mut().filter(|(_, head)| head.is_some());
        match heads.min_by(|(_, one), (_, two)| one.cmp(two)) {
            Some((cursor, head)) => Ok(std::mem::replace(head, cursor.next()?)),
            None => Ok(None),
        }
    }
}

/// The names of the inputs, with their first id and their number. Their ranges of ids must follow one another.
fn merge_names(inputs: Vec<Names<'_>>) -> Result<(u32, u32, MergeNames<'_>)> {
    let first = inputs.iter().find(|names| names.count() > 0).or(inputs.last()).map_or(0, Names::first);
    let mut end = first;
    for names in inputs.iter().filter(|names| names.count() > 0) {
        if names.first() != end {
            return Err(Error::invalid("the ids of names have a gap, or overlap"));
        }
        end = names.first() + names.count();
    }
    let mut sources = Vec::with_capacity(inputs.len());
    for names in inputs {
        let mut cursor = names.iter(Bound::Unbounded)?;
        let head = cursor.next()?;
        sources.push((cursor, head));
    }
    Ok((first, end - first, MergeNames { sources }))
}
