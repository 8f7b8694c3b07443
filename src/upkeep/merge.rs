//! Merging: turning neighbouring sealed files of one kind into one.
//!
//! Invariants:
//! * M2. Only neighbours are merged, so that version ranges keep ascending.
//! * M3. Of what fills merges, a message is written at most three times: to the log, by sealing, and by one merge. Outputs
//!   far below the cap may merge again; and what erasures go from, or half of it, is written anew without that.

use std::ops::Range;
use std::time::Duration;

use super::dead::Dead;
use super::files::{Pace, Upkeep};
use super::recovery::latest_time;
use super::step::Done;
use super::tombstones::{self, SendsOver};
use super::withheld::Withheld;
use crate::env::fault;
use crate::error::{Error, Result};
use crate::files::manifest::{FileEntry, Manifest};
use crate::files::record::Record;
use crate::files::sealed::Kind;
use crate::files::segment::Ask;
use crate::files::{segment, table};
use crate::kernel::{FileSet, Part};

/// So many neighbouring runs of about one size make a merge.
const RUNS: usize = 4;
/// Runs up to this size in bytes count as equally small.
const SMALL_RUN: u64 = 64 << 10;
/// So many segments that were never merged make a merge, however small they are.
const SEGMENTS: usize = 32;

/// Which merges are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merges {
    /// Those that pay for what they write.
    Worthwhile,
    /// All that leave fewer files, as somebody asked for that.
    Any,
}

impl Merges {
    /// The least number of neighbours that are merged, where `usual` would be worthwhile.
    fn least(self, usual: usize) -> usize {
        if self == Merges::Any { 2 } else { usual }
    }
}

impl Upkeep {
    /// Does one merge of runs, if one is due, and tells whether it did.
    pub fn merge_runs(&self, due: Merges, pace: &mut Pace<'_>) -> Result<bool> {
        let _alone = self.merging_runs.lock();
        self.check()?;
        let since = self.now();
        let (files, manifest) = self.lists();
        let entries = &manifest.runs[..files.runs.len()];
        let Some(range) = due_runs(entries, due, |entry| self.is_damaged(entry)) else { return Ok(false) };
        let inputs = &manifest.runs[range.clone()];
        let (key, store) = (files.key, manifest.store);
        // Without the oldest run a tombstone still hides an older row.
        let oldest = range.start == 0 || fault(90);
        let (window, now) = (self.options.window(), self.durable_time(&files)?);
        // What a replica answers must not depend on which tombstones its merges found.
        let keep = (!self.options.replica).then(|| self.options.keep(now));
        // What is sealed is durable, so that no later version is below it.
        let sealed = inputs[inputs.len() - 1].versions.1;
        let sends = SendsOver { window, last: sealed, now };
        let dead = Dead::upto(&self.kernel, sealed);
        let mut filters = |number| if oldest { tombstones::filter(number, keep, sends, &dead) } else { None };
        let gone = |table: u8, entry: &table::RunEntry<'_>| dead.has(table, entry);
        let runs = &files.runs[range.clone()];
        let write = |id| table::merge(&*self.disk, (store, key), id, runs, &mut filters, &gone, pace);
        let merged = self.merged(Kind::Run, inputs, write)?;
        let _ = fault(31).then(|| inputs.iter().for_each(|entry| self.discard(Kind::Run, entry.id)));
        let Some(entry) = merged else { return Ok(true) };
        let install = || {
            let run = self.open_run(entry, runs)?;
            self.edit(
                |manifest| {
                    manifest.totals.merged += entry.len;
                    manifest.runs.splice(range.clone(), [entry]);
                },
                |files| drop(files.runs.splice(range.clone(), [run])),
            )
        };
        install().inspect_err(|error| self.discard_refused(error, Kind::Run, Some(entry)))?;
        self.replaced(Kind::Run, inputs, entry, since);
        Ok(true)
    }

    /// Does one merge of segments, if one is due, and tells whether it did. `sync` makes durable what was published: what made
    /// a payload withheld that the merge leaves out.
    pub fn merge_segments(
        &self,
        due: Merges,
        sync: impl FnOnce() -> Result<()>,
        pace: &mut Pace<'_>,
    ) -> Result<bool> {
        let _alone = self.merging_segments.lock();
        self.check()?;
        let since = self.now();
        let (files, manifest) = self.lists();
        let cap = self.options.message_segment;
        let Some(range) = due_segments(&files.segments, cap, due, |entry| self.is_damaged(entry)) else {
            return Ok(false);
        };
        let inputs = &manifest.segments[range.clone()];
        let open = files.segments[range.clone()].iter().map(|part| part.segment.clone());
        let open: Vec<_> = open.collect::<Result<_>>()?;
        let is_last = |channel, seq| self.kernel.newest_head(channel).last.seq == seq;
        let withheld = Withheld::new(&self.kernel);
        let is_withheld = |channel, seqs| withheld.holds(channel, seqs);
        let is_erased = |record: &Record<'_>| withheld.is_erased(record);
        let ask = Ask {
            is_last: &is_last,
            is_withheld: &is_withheld,
            is_erased: &is_erased,
            erased_upto: withheld.erased_upto(),
        };
        let write = |id| segment::merge(&*self.disk, manifest.store, id, &open, ask, pace);
        let merged = self.merged(Kind::Segment, inputs, write)?;
        let Some(entry) = merged else { return Ok(true) };
        let install = || {
            if withheld.any() && !fault(89) {
                sync()?;
            }
            let part = self.open_part(entry)?;
            self.edit(
                |manifest| {
                    manifest.totals.merged += entry.len;
                    manifest.segments.splice(range.clone(), [entry]);
                },
                |files| drop(files.segments.splice(range.clone(), [part])),
            )
        };
        install().inspect_err(|error| self.discard_refused(error, Kind::Segment, Some(entry)))?;
        self.replaced(Kind::Segment, inputs, entry, since);
        Ok(true)
    }

    /// The time, in Unix milliseconds: the clock's, or the latest that no loss of power takes back from a replica.
    fn durable_time(&self, files: &FileSet) -> Result<i64> {
        match self.options.replica {
            true => files.runs.iter().try_fold(0, |latest, run| Ok(latest_time(run)?.max(latest))),
            false => Ok(self.options.env.unix_ms()),
        }
    }

    /// The files and the manifest. In this order: the manifest may by now hold more than the files, at the end of its
    /// lists, but never less.
    fn lists(&self) -> (std::sync::Arc<FileSet>, Manifest) {
        let files = self.kernel.moment().files.clone();
        (files, self.manifest())
    }

    /// Writes a merge. `None` if an input is damaged: it is remembered, and the rest goes on.
    fn merged(
        &self,
        kind: Kind,
        inputs: &[FileEntry],
        write: impl FnOnce(u64) -> Result<u64>,
    ) -> Result<Option<FileEntry>> {
        match self.write(kind, write) {
            Ok((id, len)) => {
                let level = inputs.iter().map(|entry| entry.level).max().unwrap_or(0).saturating_add(1);
                let versions = (inputs[0].versions.0, inputs[inputs.len() - 1].versions.1);
                Ok(Some(FileEntry { id, versions, len, level }))
            }
            Err(error @ Error::Corruption { .. }) if self.note_damage(&error, kind, inputs) => {
                self.did(Done::Damaged { fault: error }, self.now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn replaced(&self, kind: Kind, inputs: &[FileEntry], output: FileEntry, since: Duration) {
        inputs.iter().for_each(|entry| self.discard(kind, entry.id));
        self.did(Done::Merged { kind, files: inputs.len(), bytes: output.len }, since);
    }
}

/// The segments to merge next: neighbours that were never merged, enough of them to reach `cap` together, or many.
fn due_segments(
    parts: &[Part],
    cap: u64,
    due: Merges,
    damaged: impl Fn(&FileEntry) -> bool,
) -> Option<Range<usize>> {
    // One that fills the cap by itself is left alone, and what many small ones made may merge again while it is small.
    let fresh = |part: &Part| {
        let small = part.entry.level == 0 && part.entry.len < cap || part.entry.len < cap / SEGMENTS as u64;
        part.segment.is_ok() && small && !damaged(&part.entry)
    };
    let sizes: Vec<_> = parts.iter().map(|part| fresh(part).then_some(part.entry.len)).collect();
    due_neighbours(&sizes, cap, due)
}

fn due_neighbours(sizes: &[Option<u64>], cap: u64, due: Merges) -> Option<Range<usize>> {
    let (mut start, mut sum) = (0, 0);
    for (index, size) in sizes.iter().enumerate() {
        let Some(size) = size else {
            (start, sum) = (index + 1, 0);
            continue;
        };
        sum += size;
        let last = sizes.get(index + 1).is_none_or(Option::is_none);
        let many = if last { due.least(SEGMENTS) } else { SEGMENTS };
        if sum >= cap && index > start || index - start + 1 >= many {
            return Some(start..index + 1);
        }
    }
    None
}

/// The runs to merge next: the newest and its neighbours that are not of a larger tier. So a row is rewritten about once
/// for each factor of four by which the table grows, and there are at most three runs of each tier. A damaged run parts its
/// neighbours.
fn due_runs(
    entries: &[FileEntry],
    due: Merges,
    damaged: impl Fn(&FileEntry) -> bool,
) -> Option<Range<usize>> {
    let tier =
        |entry: &FileEntry| (entry.len / SMALL_RUN).checked_ilog(RUNS as u64).map_or(0, |tier| tier + 1);
    let newest = entries.last().filter(|entry| !damaged(entry)).map(tier)?;
    let mergeable = |entry: &&FileEntry| (due == Merges::Any || tier(entry) <= newest) && !damaged(entry);
    let count = entries.iter().rev().take_while(mergeable).count();
    (count >= due.least(RUNS)).then(|| entries.len() - count..entries.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(lens: &[u64], level: u32) -> Vec<FileEntry> {
        let entry = |(id, len): (usize, &u64)| FileEntry {
            id: id as u64,
            versions: (id as u64, id as u64),
            len: *len,
            level,
        };
        lens.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn segments_wait_until_they_fill_a_merge() {
        let due = |sizes: &[u64]| {
            due_neighbours(&sizes.iter().copied().map(Some).collect::<Vec<_>>(), 200, Merges::Worthwhile)
        };
        assert_eq!(due(&[60, 60]), None);
        assert_eq!(due(&[60, 60, 60, 60, 60]), Some(0..4));
        assert_eq!(due(&[1; SEGMENTS]), Some(0..SEGMENTS));
        let parted = [Some(150), None, Some(150), Some(60)];
        assert_eq!(due_neighbours(&parted, 200, Merges::Worthwhile), Some(2..4));
        assert_eq!(due_neighbours(&[None; 9], 200, Merges::Worthwhile), None);
    }

    #[test]
    fn who_asks_gets_all_that_leave_fewer_files() {
        let due = |sizes: &[Option<u64>]| due_neighbours(sizes, 200, Merges::Any);
        assert_eq!(due(&[Some(60), Some(60)]), Some(0..2));
        assert_eq!(due(&[Some(60); 5]), Some(0..4));
        assert_eq!(due(&[Some(60), None, Some(60)]), None);
        assert_eq!(due(&[None, Some(6), Some(6), None, Some(60), Some(6)]), Some(1..3));
        let runs = entries(&[SMALL_RUN << 9, 1], 0);
        assert_eq!(due_runs(&runs, Merges::Worthwhile, |_| false), None);
        assert_eq!(due_runs(&runs, Merges::Any, |_| false), Some(0..2));
        assert_eq!(due_runs(&runs[..1], Merges::Any, |_| false), None);
    }

    #[test]
    fn a_damaged_run_parts_its_neighbours() {
        let runs = entries(&[1; 9], 0);
        assert_eq!(due_runs(&runs, Merges::Worthwhile, |_| false), Some(0..9));
        assert_eq!(due_runs(&runs, Merges::Worthwhile, |entry| entry.id == 4), Some(5..9));
        assert_eq!(due_runs(&runs, Merges::Worthwhile, |entry| entry.id == 8), None);
    }

    #[test]
    fn runs_stay_few_and_are_seldom_rewritten() {
        let mut runs: Vec<u64> = Vec::new();
        let (mut written, mut most) = (0, 0);
        for _ in 0..4096 {
            runs.push(SMALL_RUN);
            while let Some(range) = due_runs(&entries(&runs, 0), Merges::Worthwhile, |_| false) {
                let sum = runs[range.clone()].iter().sum();
                written += sum;
                runs.splice(range, [sum]);
            }
            most = most.max(runs.len());
        }
        assert!(most <= 24, "{most} runs at once");
        assert!(written <= 7 * 4096 * SMALL_RUN, "each row is written {} times", written / 4096 / SMALL_RUN);
    }

    #[test]
    fn a_level_has_an_end() {
        let sim = crate::env::SimEnv::new(0);
        let open = || crate::Options::new().env(sim.clone()).background(false).open("/store").unwrap();
        let store = open();
        for _ in 0..RUNS {
            store.commit(crate::Batch::new().append("c", crate::Draft::new("u", 0, "x"))).unwrap();
            store.seal().unwrap();
        }
        store.close().unwrap();
        drop(store);
        let dir = crate::env::Env::open_dir(&*sim, std::path::Path::new("/store"), false).unwrap();
        let disk = crate::files::disk::Disk::new(dir);
        let mut manifest = Manifest::load(&disk).unwrap().unwrap();
        manifest.runs.iter_mut().for_each(|run| run.level = u32::MAX);
        manifest.store(&disk).unwrap();
        let store = open();
        while store.maintain().unwrap() {}
        assert_eq!(store.stat().unwrap().runs.count, 1);
        let level = Manifest::load(&disk).unwrap().unwrap().runs[0].level;
        assert_eq!(level, u32::MAX);
    }
}
