//! How long things took: what recorders hold, and what they tell.
//!
//! A recorder counts durations in buckets, four to each power of two, so that a percentile is told within a quarter of what
//! it is. Recording takes no lock and touches two or three counters, of one of several rows of them: threads that record at
//! the same time seldom share one.

use std::time::Duration;

use crate::env::sync::Arc;
use crate::env::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Durations below 2^FIRST ns share a bucket.
const FIRST: u32 = 8;
/// The buckets: up to about 16 minutes, and one for all beyond.
const BUCKETS: usize = 128;
/// Rows of counters of a recorder.
const ROWS: usize = 4;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub enum Measured {
    /// A commit, from its submission to its acknowledgement.
    Commit,
    /// A sync of the log.
    Sync,
    /// Sealing a log segment.
    Seal,
    /// A merge.
    Merge,
    /// A conversation list.
    List,
    /// What changed in one.
    Since,
    /// A page of a history.
    History,
}

/// One recorder for all that is measured.
#[derive(Clone, Default)]
pub struct Measures(Arc<[Recorder; 7]>);

/// Counts durations.
struct Recorder {
    rows: [Row; ROWS],
}

/// The counters that one thread in `ROWS` uses; none shares a line of the processor's cache with another row's.
#[repr(align(128))]
struct Row {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    most: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { rows: std::array::from_fn(|_| Row::default()) }
    }
}

impl Default for Row {
    fn default() -> Self {
        Row {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            most: AtomicU64::new(0),
        }
    }
}

/// The row of the calling thread.
fn own_row() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Relaxed) % ROWS;
    }
    OWN.try_with(|own| *own).unwrap_or(0)
}

fn bucket(ns: u64) -> usize {
    if ns < 1 << FIRST {
        return 0;
    }
    let log = ns.ilog2();
    let quarter = ns >> (log - 2) & 3;
    (((log - FIRST) * 4) as usize + quarter as usize + 1).min(BUCKETS - 1)
}

/// The first duration beyond a bucket.
fn bound(bucket: usize) -> u64 {
    match bucket {
        0 => 1 << FIRST,
        _ if bucket == BUCKETS - 1 => u64::MAX,
        _ => {
            let log = FIRST + (bucket as u32 - 1) / 4;
            (1 << log) + ((bucket as u64 - 1) % 4 + 1) * (1 << (log - 2))
        }
    }
}

impl Measures {
    /// Records how long something took.
    pub fn record(&self, what: Measured, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let row = &self.0[what as usize].rows[own_row()];
        row.buckets[bucket(ns)].fetch_add(1, Relaxed);
        row.sum.fetch_add(ns, Relaxed);
        if row.most.load(Relaxed) < ns {
            row.most.fetch_max(ns, Relaxed);
        }
    }

    /// What was recorded by now.
    pub fn latencies(&self) -> Latencies {
        let [commit, sync, seal, merge, list, since, history] = &*self.0;
        Latencies {
            commit: commit.histogram(),
            sync: sync.histogram(),
            seal: seal.histogram(),
            merge: merge.histogram(),
            list: list.histogram(),
            since: since.histogram(),
            history: history.histogram(),
        }
    }
}

impl Recorder {
    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for at in 0..BUCKETS {
            let count = self.rows.iter().map(|row| row.buckets[at].load(Relaxed)).sum();
            if count > 0 {
                histogram.count += count;
                histogram.buckets.push((bound(at), count));
            }
        }
        for row in &self.rows {
            histogram.sum_ns = histogram.sum_ns.saturating_add(row.sum.load(Relaxed));
            histogram.max_ns = histogram.max_ns.max(row.most.load(Relaxed));
        }
        histogram
    }
}

/// How long the operations of a store took since it was opened.
///
/// Calls that fail count too, but commits that fail or change nothing do not. Reads through a [`View`](crate::View) count
/// as those of the store do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Latencies {
    /// Commits, from [`Store::submit`](crate::Store::submit) to their acknowledgement.
    pub commit: Histogram,
    /// Syncs of the log.
    pub sync: Histogram,
    /// Sealing a log segment.
    pub seal: Histogram,
    /// Merges, with the rests in them.
    pub merge: Histogram,
    /// [`Conversations::list`](crate::Conversations::list).
    pub list: Histogram,
    /// [`Conversations::since`](crate::Conversations::since).
    pub since: Histogram,
    /// [`History::list`](crate::History::list) and [`History::last`](crate::History::last).
    pub history: Histogram,
}

impl Latencies {
    /// All of them, by name.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &Histogram); 7] {
        [
            ("commit", &self.commit),
            ("sync", &self.sync),
            ("seal", &self.seal),
            ("merge", &self.merge),
            ("list", &self.list),
            ("since", &self.since),
            ("history", &self.history),
        ]
    }
}

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// Their sum, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// The buckets that hold any, ascending: durations in nanoseconds below the first number and not below that of the bucket
    /// before; and how many.
    pub buckets: Vec<(u64, u64)>,
}

impl Histogram {
    /// A duration that so many of them, of 100, do not exceed, told up to a quarter too long; zero if there are none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = chanlog::Store::open(dir.path())?;
    /// # use chanlog::{Batch, Draft};
    /// store.commit(Batch::new().append("general", Draft::new("alice", 0, "hi")))?;
    /// let commit = store.stat()?.latencies.commit;
    /// println!("{} commits, 99 of 100 within {:?}", commit.count, commit.percentile(99.0));
    /// assert!(commit.percentile(50.0) <= commit.percentile(99.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut below = 0;
        let bound = self.buckets.iter().find_map(|(bound, count)| {
            below += count;
            (below >= rank).then_some(*bound)
        });
        Duration::from_nanos(bound.unwrap_or(self.max_ns).min(self.max_ns))
    }

    /// Their mean; zero if there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.checked_div(self.count).unwrap_or(0))
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_in_its_bucket_and_buckets_follow_each_other() {
        for ns in (0..2000).chain((0..64).flat_map(|log| [(1 << log) - 1, 1 << log, (1 << log) + 1])) {
            let at = bucket(ns);
            assert!(ns < bound(at) || at == BUCKETS - 1, "{ns} in {at}");
            assert!(at == 0 || ns >= bound(at - 1), "{ns} in {at}");
        }
        assert!((1..BUCKETS).all(|at| bound(at - 1) < bound(at)));
        assert!((1..BUCKETS - 1).all(|at| bound(at) * 4 <= bound(at - 1) * 5), "within a quarter");
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let measures = Measures::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let measures = &measures;
                scope.spawn(move || {
                    let ms = (1..=1000).filter(|ms| ms % 4 == thread);
                    ms.for_each(|ms| measures.record(Measured::List, Duration::from_millis(ms)));
                });
            }
        });
        let list = measures.latencies().list;
        assert_eq!((list.count, list.max()), (1000, Duration::from_secs(1)));
        assert_eq!(list.mean(), Duration::from_micros(500_500));
        for percent in [1.0, 50.0, 90.0, 99.0, 100.0] {
            let (told, exact) = (list.percentile(percent).as_secs_f64(), percent / 100.0);
            assert!(told >= exact && told <= exact * 1.25, "{percent}: {told}");
        }
        assert_eq!(measures.latencies().commit, Histogram::default());
        assert_eq!(Histogram::default().percentile(50.0), Duration::ZERO);
        measures.record(Measured::Seal, Duration::MAX);
        assert_eq!(measures.latencies().seal.percentile(50.0), Duration::from_nanos(u64::MAX));
    }
}
