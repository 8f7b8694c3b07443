//! Makes one run of several neighbouring ones. All is streamed in the order of its keys; only names take memory, see
//! `NamesWriter`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::builder::RunBuilder;
use super::list::Key;
use super::names::Names;
use super::run::Run;
use super::{FLOOR, HashKey};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sealed::StoreId;
use crate::types::{ChannelId, Row, UserId};

/// Which tombstones a merge drops.
#[derive(Clone, Copy, Debug)]
pub struct Tombstones {
    /// Those of users who left then or before, in Unix milliseconds.
    pub before_ms: i64,
    /// Those beyond the newest so many of a user.
    pub keep: usize,
}

/// Writes run `id`, which holds what `inputs` hold together, oldest first. Returns its length.
///
/// With `tombstones`, which needs the oldest run of the store among the inputs, rows and members who left are dropped;
/// the greatest version of a user's dropped rows becomes the user's [`FLOOR`]. `pace` is told of written bytes; its
/// error stops the merge.
#[expect(clippy::too_many_arguments, reason = "what makes a file, and what goes into it")]
pub fn merge(
    env: &dyn Env,
    dir: &Path,
    store: StoreId,
    id: u64,
    key: HashKey,
    inputs: &[Arc<Run>],
    tombstones: Option<Tombstones>,
    pace: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let (Some(oldest), Some(newest)) = (inputs.first(), inputs.last()) else {
        return Err(Error::invalid("a merge of no runs"));
    };
    if inputs.windows(2).any(|pair| pair[0].versions().1 >= pair[1].versions().0) {
        return Err(Error::invalid("a merge of runs that are not in order"));
    }
    let mut out = RunBuilder::create(env, dir, store, id, key, pace)?;
    let merged = merge_sections(&mut out, inputs, tombstones);
    // The builder was fed from the inputs only, so that what it refuses is their fault.
    merged.map_err(|error| match error {
        Error::InvalidArgument { what, .. } => oldest.corrupt(format!("can't be merged: {what}")),
        error => error,
    })?;
    out.finish((oldest.versions().0, newest.versions().1))
}

fn merge_sections(
    out: &mut RunBuilder<'_>,
    inputs: &[Arc<Run>],
    tombstones: Option<Tombstones>,
) -> Result<()> {
    match tombstones {
        Some(tombstones) => trim_rows(out, inputs, tombstones)?,
        None => {
            let mut rows = rows(inputs)?;
            while let Some(((user, channel), row)) = rows.next()? {
                out.row(UserId(user), ChannelId(channel), &row)?;
            }
        }
    }
    let mut members = Merge::new(inputs.iter().map(|run| {
        let mut members = run.all_members();
        move || members.next()
    }))?;
    while let Some(((channel, user), present)) = members.next()? {
        if present || tombstones.is_none() {
            out.member(ChannelId(channel), UserId(user), present)?;
        }
    }
    let mut heads = Merge::new(inputs.iter().map(|run| {
        let mut heads = run.all_heads();
        move || heads.next()
    }))?;
    while let Some((channel, head)) = heads.next()? {
        out.head(channel, &head)?;
    }
    let (first, count, mut names) = merge_names(inputs.iter().map(|run| run.channel_names()).collect())?;
    out.sorted_channels(first, count, &mut || names.next())?;
    let (first, count, mut names) = merge_names(inputs.iter().map(|run| run.user_names()).collect())?;
    out.sorted_users(first, count, &mut || names.next())
}

/// Gives entries in the order of their keys, and then `None`.
type Source<'a, K, V> = Box<dyn FnMut() -> Result<Option<(K, V)>> + 'a>;

/// Several sources as one, each key once: of those with the same key the last source's, the newest.
struct Merge<'a, K, V> {
    sources: Vec<Source<'a, K, V>>,
    /// The next entry of each source.
    heads: Vec<Option<(K, V)>>,
}

impl<'a, K: Ord, V> Merge<'a, K, V> {
    fn new<S: FnMut() -> Result<Option<(K, V)>> + 'a>(sources: impl Iterator<Item = S>) -> Result<Self> {
        let mut sources: Vec<_> = sources.map(|source| Box::new(source) as Source<'a, K, V>).collect();
        let heads = sources.iter_mut().map(|source| source()).collect::<Result<_>>()?;
        Ok(Merge { sources, heads })
    }

    /// A merge has few sources, so that a scan of them is as good as a heap.
    fn next(&mut self) -> Result<Option<(K, V)>> {
        let keys =
            self.heads.iter().enumerate().filter_map(|(i, head)| Some((&head.as_ref()?.0, Reverse(i))));
        let Some((_, Reverse(newest))) = keys.min() else { return Ok(None) };
        let next = (self.sources[newest])()?;
        let entry = std::mem::replace(&mut self.heads[newest], next);
        for (source, head) in self.sources.iter_mut().zip(&mut self.heads) {
            if head.as_ref().map(|(key, _)| key) == entry.as_ref().map(|(key, _)| key) {
                *head = source()?;
            }
        }
        Ok(entry)
    }
}

/// All rows of the inputs.
fn rows(inputs: &[Arc<Run>]) -> Result<Merge<'_, Key, Row>> {
    Merge::new(inputs.iter().map(|run| {
        let mut rows = run.all_rows();
        move || rows.next()
    }))
}

/// The names of the inputs, with their first id and their number. Their ranges of ids must follow one another.
fn merge_names(inputs: Vec<Names<'_>>) -> Result<(u32, u32, Merge<'_, Bytes, u32>)> {
    let first = inputs.iter().find(|names| names.count() > 0).or(inputs.last()).map_or(0, Names::first);
    let mut end = first;
    for names in inputs.iter().filter(|names| names.count() > 0) {
        if names.first() != end {
            return Err(Error::invalid("the ids of names have a gap, or overlap"));
        }
        end = names.first() + names.count();
    }
    let cursors = inputs.iter().map(|names| names.iter(Bound::Unbounded)).collect::<Result<Vec<_>>>()?;
    let sources = cursors.into_iter().map(|mut cursor| move || cursor.next());
    Ok((first, end - first, Merge::new(sources)?))
}

/// Writes the inputs' rows without the tombstones that `limits` drop.
///
/// Which ones are beyond the newest of a user is known after all of the user's rows only. So each user's rows are read
/// twice, rather than held: there may be a million.
fn trim_rows(out: &mut RunBuilder<'_>, inputs: &[Arc<Run>], limits: Tombstones) -> Result<()> {
    let mut ahead = rows(inputs)?;
    let mut ahead_row = ahead.next()?;
    let mut rows = rows(inputs)?;
    let mut row = rows.next()?;
    while let Some(((user, _), _)) = row {
        let mut surplus = Surplus::new(limits.keep);
        while let Some((key, row)) = ahead_row.filter(|(key, _)| key.0 == user) {
            if key.1 != FLOOR.0 && !row.present() {
                surplus.add(row.version);
            }
            ahead_row = ahead.next()?;
        }
        let mut floor = None;
        while let Some((key, value)) = row.filter(|(key, _)| key.0 == user) {
            let dropped =
                value.left_at.is_some_and(|at| at <= limits.before_ms || surplus.holds(value.version));
            // The floor of an earlier merge counts as dropped, and so lives on in the new one.
            if dropped || key.1 == FLOOR.0 {
                floor = floor.max(Some(value.version));
            } else {
                out.row(UserId(user), ChannelId(key.1), &value)?;
            }
            row = rows.next()?;
        }
        if let Some(version) = floor {
            out.row(UserId(user), FLOOR, &Row { version, left_at: Some(i64::MIN), ..Row::default() })?;
        }
    }
    Ok(())
}

/// Tells which of many versions are beyond the newest few.
struct Surplus {
    keep: usize,
    newest: BinaryHeap<Reverse<u64>>,
    /// The greatest one that is beyond them.
    bound: Option<u64>,
}

impl Surplus {
    fn new(keep: usize) -> Self {
        Surplus { keep, newest: BinaryHeap::new(), bound: None }
    }

    fn add(&mut self, version: u64) {
        self.newest.push(Reverse(version));
        if self.newest.len() > self.keep {
            let oldest = self.newest.pop().map(|Reverse(oldest)| oldest);
            self.bound = self.bound.max(oldest);
        }
    }

    fn holds(&self, version: u64) -> bool {
        Some(version) <= self.bound
    }
}
